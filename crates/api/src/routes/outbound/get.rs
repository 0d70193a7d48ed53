//! `GET /webhooks/outbound/{id}`.

use actix_web::{HttpResponse, get, web};

use super::{OutboundWebhook, hook_id, none};
use crate::body::NoQuery;
use crate::caller::Caller;
use crate::problem::Problem;
use crate::schema;
use crate::state::AppState;

/// One of the caller's webhooks, without its secret.
#[utoipa::path(
    params(("id" = String, Path, description = "The webhook's id.")),
    responses(
        (status = 200, body = OutboundWebhook),
        (status = 401, body = schema::ProblemDetails, content_type = "application/problem+json"),
        (status = 403, body = schema::ProblemDetails, content_type = "application/problem+json"),
        (status = 404, body = schema::ProblemDetails, content_type = "application/problem+json"),
        (status = 422, body = schema::ProblemDetails, content_type = "application/problem+json"),
        (status = 503, body = schema::ProblemDetails, content_type = "application/problem+json"),
    ),
    tag = "webhooks",
    security(("bearer" = []))
)]
#[get("/webhooks/outbound/{id}")]
pub async fn get(
    state: web::Data<AppState>,
    caller: Caller,
    path: web::Path<String>,
    _: web::Query<NoQuery>,
) -> Result<HttpResponse, Problem> {
    let (user, hook) = (caller.user, hook_id(&path)?);
    let hook = state.db.read(move |tx| tx.outbound_hook(user, hook)).await?.ok_or_else(none)?;
    Ok(HttpResponse::Ok().json(OutboundWebhook::from(&hook)))
}
