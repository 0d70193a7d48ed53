//! `POST /webhook`.

use actix_web::{HttpRequest, HttpResponse, post, web};

use super::SignalAnswer;
use crate::problem::Problem;
use crate::schema;
use crate::signals::receive::{To, receive};
use crate::state::AppState;

/// Takes a signal with the server's own secret, for the user that the server's settings name.
#[utoipa::path(
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
#[post("/webhook")]
pub async fn webhook(
    state: web::Data<AppState>,
    request: HttpRequest,
    payload: web::Payload,
) -> Result<HttpResponse, Problem> {
    receive(&state, &request, payload, To::Builtin).await
}
