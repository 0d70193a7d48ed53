//! `POST /hooks/{hook_id}`.

use actix_web::{HttpRequest, HttpResponse, post, web};

use super::SignalAnswer;
use crate::problem::Problem;
use crate::schema;
use crate::signals::receive::{To, receive};
use crate::state::AppState;

/// Takes a signal for a hook: with its secret in the body, or signed as Standard Webhooks says.
#[utoipa::path(
    params(("hook_id" = String, Path, description = "The hook's id.")),
    request_body(content = Object, description = "The signal: one JSON object, whatever the content type says; see docs/signals.md."),
    responses(
        (status = 200, body = SignalAnswer, description = "It came before."),
        (status = 202, body = SignalAnswer, description = "On disk."),
        (status = 400, body = schema::ProblemDetails, content_type = "application/problem+json"),
        (status = 401, body = schema::ProblemDetails, content_type = "application/problem+json"),
        (status = 408, body = schema::ProblemDetails, content_type = "application/problem+json"),
        (status = 413, body = schema::ProblemDetails, content_type = "application/problem+json"),
        (status = 422, body = schema::ProblemDetails, content_type = "application/problem+json"),
        (status = 429, body = schema::ProblemDetails, content_type = "application/problem+json"),
        (status = 503, body = schema::ProblemDetails, content_type = "application/problem+json"),
    ),
    tag = "signals"
)]
#[post("/hooks/{hook_id}")]
pub async fn hook(
    state: web::Data<AppState>,
    request: HttpRequest,
    path: web::Path<String>,
    payload: web::Payload,
) -> Result<HttpResponse, Problem> {
    // One answer for ids that no hook has and texts that are none.
    let to = path.parse().map_or(To::Nowhere, To::Hook);
    receive(&state, &request, payload, to).await
}
