//! `DELETE /auth/sessions`.

use actix_web::{HttpResponse, delete, web};
use plimsoll_auth::sessions;

use crate::caller::SteppedUp;
use crate::problem::Problem;
use crate::schema;
use crate::state::AppState;

/// Ends every session of the caller but the one that the request came with; their sockets close.
#[utoipa::path(
    responses(
        (status = 204),
        (status = 401, body = schema::ProblemDetails, content_type = "application/problem+json"),
        (status = 403, body = schema::ProblemDetails, content_type = "application/problem+json"),
        (status = 503, body = schema::ProblemDetails, content_type = "application/problem+json"),
    ),
    tag = "auth",
    security(("bearer" = []))
)]
#[delete("/auth/sessions")]
pub async fn revoke_others(state: web::Data<AppState>, caller: SteppedUp) -> Result<HttpResponse, Problem> {
    let (user, current, act) = (caller.user, caller.signed_in.session.id, caller.act(&state));
    let ended = state.db.run(move |tx| sessions::revoke_others(tx, user, current, &act)).await?;
    for session in ended {
        state.session_cache.forget_session(session);
        (state.on_logout)(user, session);
    }
    Ok(HttpResponse::NoContent().finish())
}
