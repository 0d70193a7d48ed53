//! `GET /webhooks/inbound/{id}`.

use actix_web::{HttpResponse, get, web};

use super::{InboundWebhook, hook_id, none, view};
use crate::body::NoQuery;
use crate::caller::Caller;
use crate::problem::Problem;
use crate::schema;
use crate::state::AppState;

/// A hook; never its secret.
#[utoipa::path(
    params(("id" = String, Path, description = "The hook's id.")),
    responses(
        (status = 200, body = InboundWebhook),
        (status = 401, body = schema::ProblemDetails, content_type = "application/problem+json"),
        (status = 403, body = schema::ProblemDetails, content_type = "application/problem+json"),
        (status = 404, body = schema::ProblemDetails, content_type = "application/problem+json"),
        (status = 503, body = schema::ProblemDetails, content_type = "application/problem+json"),
    ),
    tag = "webhooks",
    security(("bearer" = []))
)]
#[get("/webhooks/inbound/{id}")]
pub async fn get(
    state: web::Data<AppState>,
    caller: Caller,
    path: web::Path<String>,
    _: web::Query<NoQuery>,
) -> Result<HttpResponse, Problem> {
    let (user, id) = (caller.user, hook_id(&path)?);
    let hook = state.db.read(move |tx| tx.hook(user, id)).await?.ok_or_else(none)?;
    Ok(HttpResponse::Ok().json(view(&state.settings.public_url, &hook)))
}
