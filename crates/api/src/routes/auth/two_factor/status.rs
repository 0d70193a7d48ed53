//! `GET /auth/2fa/status`.

use actix_web::{HttpResponse, get, web};
use plimsoll_auth::two_factor::status as status_of;
use plimsoll_core_domain::views::At;
use serde_json::json;

use crate::body::NoQuery;
use crate::caller::Caller;
use crate::problem::Problem;
use crate::schema;
use crate::state::AppState;

/// Whether the caller's second factor is on.
#[utoipa::path(
    responses(
        (status = 200, body = schema::TwoFactorStatus),
        (status = 401, body = schema::ProblemDetails, content_type = "application/problem+json"),
        (status = 403, body = schema::ProblemDetails, content_type = "application/problem+json"),
        (status = 503, body = schema::ProblemDetails, content_type = "application/problem+json"),
    ),
    tag = "auth",
    security(("bearer" = []))
)]
#[get("/auth/2fa/status")]
pub async fn status(
    state: web::Data<AppState>,
    caller: Caller,
    _: web::Query<NoQuery>,
) -> Result<HttpResponse, Problem> {
    let user = caller.user;
    let status = state.db.read(move |tx| status_of(tx, user)).await?;
    Ok(HttpResponse::Ok().json(json!({
        "enabled": status.enabled_at.is_some(),
        "enabled_at": status.enabled_at.map(At),
        "backup_codes_remaining": status.backup_codes_remaining,
        "last_used_at": status.last_used_at.map(At),
    })))
}
