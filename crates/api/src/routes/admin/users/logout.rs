//! `POST /admin/users/{id}/logout`.

use actix_web::{HttpResponse, post, web};
use plimsoll_auth::admin;

use super::{no_user, user_id};
use crate::body::NoQuery;
use crate::caller::AdminSteppedUp;
use crate::problem::Problem;
use crate::schema;
use crate::state::AppState;

/// Ends every session of a user; sockets close. API tokens stay.
#[utoipa::path(
    params(("id" = String, Path, description = "The user's id.")),
    responses(
        (status = 204),
        (status = 401, body = schema::ProblemDetails, content_type = "application/problem+json"),
        (status = 403, body = schema::ProblemDetails, content_type = "application/problem+json"),
        (status = 404, body = schema::ProblemDetails, content_type = "application/problem+json"),
        (status = 429, body = schema::ProblemDetails, content_type = "application/problem+json"),
        (status = 503, body = schema::ProblemDetails, content_type = "application/problem+json"),
    ),
    tag = "admin",
    security(("bearer" = []))
)]
#[post("/admin/users/{id}/logout")]
pub async fn logout(
    state: web::Data<AppState>,
    caller: AdminSteppedUp,
    path: web::Path<String>,
    _: web::Query<NoQuery>,
) -> Result<HttpResponse, Problem> {
    let user = user_id(&path)?;
    let (by, act) = (Some(caller.user), caller.act(&state));
    let ended = state.db.run(move |tx| admin::logout(tx, &act, by, user)).await?;
    ended.ok_or_else(no_user)?;
    state.session_cache.forget_user(user);
    Ok(HttpResponse::NoContent().finish())
}
