//! `DELETE /auth/sessions/{id}`.

use actix_web::{HttpResponse, delete, web};
use plimsoll_auth::sessions;
use uuid::Uuid;

use crate::caller::SteppedUp;
use crate::problem::Problem;
use crate::schema;
use crate::state::AppState;

/// Ends one of the caller's sessions; its sockets close.
#[utoipa::path(
    params(("id" = Uuid, Path, description = "From the list of sessions")),
    responses(
        (status = 204),
        (status = 401, body = schema::ProblemDetails, content_type = "application/problem+json"),
        (status = 403, body = schema::ProblemDetails, content_type = "application/problem+json"),
        (status = 404, body = schema::ProblemDetails, content_type = "application/problem+json"),
        (status = 503, body = schema::ProblemDetails, content_type = "application/problem+json"),
    ),
    tag = "auth",
    security(("bearer" = []))
)]
#[delete("/auth/sessions/{id}")]
pub async fn revoke(
    state: web::Data<AppState>,
    caller: SteppedUp,
    id: web::Path<Uuid>,
) -> Result<HttpResponse, Problem> {
    let (user, id, act) = (caller.user, id.into_inner(), caller.act(&state));
    let ended = state.db.run(move |tx| sessions::revoke(tx, user, id, &act)).await?;
    if !ended {
        return Err(Problem::new("not_found", "there is no such session"));
    }
    state.session_cache.forget_session(id);
    (state.on_logout)(user, id);
    Ok(HttpResponse::NoContent().finish())
}
