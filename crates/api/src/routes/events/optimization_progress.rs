//! `POST /events/optimization-progress`.

use actix_web::{HttpResponse, post, web};
use plimsoll_core_domain::stream::EventKind;
use serde::Deserialize;
use serde_json::{Map, Value};
use utoipa::ToSchema;

use super::{Published, check_word, publish, wrong_field};
use crate::body::{Body, NoQuery};
use crate::caller::Publisher;
use crate::idempotent::OptionalKey;
use crate::problem::Problem;
use crate::schema;
use crate::state::AppState;

/// How far an outside optimiser is.
#[derive(Debug, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct OptimizationProgress {
    /// What is optimised: 1 to 200 characters.
    strategy: String,
    /// The trial that was finished last.
    trial: u64,
    /// How many trials there will be.
    total: u64,
    /// The best result so far.
    #[schema(value_type = Option<Object>)]
    #[expect(dead_code, reason = "any JSON will do, and it is passed on as it came")]
    best: Option<Value>,
    /// The parameters of the best result.
    #[schema(value_type = Option<Object>)]
    #[expect(dead_code, reason = "only that it is an object is looked at")]
    params: Option<Map<String, Value>>,
    /// A word for where it stands: 1 to 200 characters.
    status: Option<String>,
}

/// Publishes the progress of an outside optimiser to the caller's stream, as an `optimization_progress` event whose data
/// is the body.
#[utoipa::path(
    params(("Idempotency-Key" = Option<String>, Header)),
    request_body = OptimizationProgress,
    responses(
        (status = 201, body = Published),
        (status = 400, body = schema::ProblemDetails, content_type = "application/problem+json"),
        (status = 401, body = schema::ProblemDetails, content_type = "application/problem+json"),
        (status = 403, body = schema::ProblemDetails, content_type = "application/problem+json"),
        (status = 409, body = schema::ProblemDetails, content_type = "application/problem+json"),
        (status = 413, body = schema::ProblemDetails, content_type = "application/problem+json"),
        (status = 415, body = schema::ProblemDetails, content_type = "application/problem+json"),
        (status = 422, body = schema::ProblemDetails, content_type = "application/problem+json"),
        (status = 429, body = schema::ProblemDetails, content_type = "application/problem+json"),
        (status = 503, body = schema::ProblemDetails, content_type = "application/problem+json"),
    ),
    tag = "realtime",
    security(("bearer" = []))
)]
#[post("/events/optimization-progress")]
pub async fn optimization_progress(
    state: web::Data<AppState>,
    caller: Publisher,
    key: OptionalKey,
    _: web::Query<NoQuery>,
    body: Body<OptimizationProgress>,
) -> Result<HttpResponse, Problem> {
    let progress = &body.value;
    let mut wrong = Vec::new();
    wrong.extend(check_word("/strategy", &progress.strategy).err());
    wrong.extend(progress.status.as_deref().and_then(|status| check_word("/status", status).err()));
    if progress.trial > progress.total {
        wrong.push(wrong_field("/trial", "out_of_range", "must not be more than total"));
    }
    if !wrong.is_empty() {
        return Err(Problem::invalid(wrong));
    }
    let at = ("POST /events/optimization-progress", "/events/optimization-progress");
    publish(&state, &caller, key, at, EventKind::OptimizationProgress, &body.raw).await
}
