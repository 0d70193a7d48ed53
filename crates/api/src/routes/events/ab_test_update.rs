//! `POST /events/ab-test-update`.

use std::collections::HashMap;

use actix_web::{HttpResponse, post, web};
use plimsoll_core_domain::stream::EventKind;
use serde::Deserialize;
use serde_json::Value;
use utoipa::ToSchema;

use super::{Published, check_word, publish, wrong_field};
use crate::body::{Body, NoQuery};
use crate::caller::Publisher;
use crate::idempotent::OptionalKey;
use crate::problem::Problem;
use crate::schema;
use crate::state::AppState;

/// Most arms of a test.
const MAX_ARMS: usize = 100;

/// One arm of an A/B test; any further fields are passed on.
#[derive(Debug, Deserialize, ToSchema)]
pub struct Arm {
    /// 1 to 200 characters.
    name: String,
    /// Trades so far.
    #[expect(dead_code, reason = "only that it is a count is looked at")]
    trades: u64,
    /// Profit so far: a decimal as text, or a number.
    #[schema(value_type = String)]
    pnl: Value,
    #[serde(flatten)]
    #[schema(value_type = Object)]
    #[expect(dead_code, reason = "passed on as it came")]
    more: HashMap<String, Value>,
}

/// Where an outside A/B test stands.
#[derive(Debug, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct AbTestUpdate {
    /// What the test is called: 1 to 200 characters.
    test: String,
    /// A word for where it stands: 1 to 200 characters.
    status: String,
    /// 1 to 100 arms.
    #[schema(min_items = 1, max_items = 100)]
    arms: Vec<Arm>,
    /// What it came to: 1 to 200 characters.
    verdict: Option<String>,
}

/// Publishes the state of an outside A/B test to the caller's stream, as an `ab_test_update` event whose data is the body.
#[utoipa::path(
    params(("Idempotency-Key" = Option<String>, Header)),
    request_body = AbTestUpdate,
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
#[post("/events/ab-test-update")]
pub async fn ab_test_update(
    state: web::Data<AppState>,
    caller: Publisher,
    key: OptionalKey,
    _: web::Query<NoQuery>,
    body: Body<AbTestUpdate>,
) -> Result<HttpResponse, Problem> {
    let update = &body.value;
    let mut wrong = Vec::new();
    wrong.extend(check_word("/test", &update.test).err());
    wrong.extend(check_word("/status", &update.status).err());
    wrong.extend(update.verdict.as_deref().and_then(|verdict| check_word("/verdict", verdict).err()));
    if !(1..=MAX_ARMS).contains(&update.arms.len()) {
        wrong.push(wrong_field("/arms", "out_of_range", format!("must be 1 to {MAX_ARMS} arms")));
    }
    for (number, arm) in update.arms.iter().take(MAX_ARMS).enumerate() {
        wrong.extend(check_word(&format!("/arms/{number}/name"), &arm.name).err());
        if !is_amount(&arm.pnl) {
            let detail = "must be a decimal as text, or a number";
            wrong.push(wrong_field(format!("/arms/{number}/pnl"), "invalid", detail));
        }
    }
    if !wrong.is_empty() {
        return Err(Problem::invalid(wrong));
    }
    let at = ("POST /events/ab-test-update", "/events/ab-test-update");
    publish(&state, &caller, key, at, EventKind::AbTestUpdate, &body.raw).await
}

fn is_amount(value: &Value) -> bool {
    match value {
        Value::Number(_) => true,
        Value::String(text) => plimsoll_core_domain::money::parse_decimal(text).is_ok(),
        _ => false,
    }
}
