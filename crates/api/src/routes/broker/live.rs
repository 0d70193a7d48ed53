//! `PUT /account/live`.

use actix_web::{HttpResponse, put, web};
use plimsoll_auth::vault::{self, BrokerName, LiveChange};
use serde::Deserialize;
use serde_json::json;
use utoipa::ToSchema;

use crate::body::{Body, NoQuery};
use crate::caller::SteppedUp;
use crate::problem::Problem;
use crate::schema;
use crate::state::AppState;

/// Whether orders with real money are allowed.
#[derive(Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct PutLive {
    enabled: bool,
}

/// Allows or forbids the caller's orders with real money. Allowing them needs a second factor.
#[utoipa::path(
    request_body = PutLive,
    responses(
        (status = 200, body = schema::LiveTrading),
        (status = 400, body = schema::ProblemDetails, content_type = "application/problem+json"),
        (status = 401, body = schema::ProblemDetails, content_type = "application/problem+json"),
        (status = 403, body = schema::ProblemDetails, content_type = "application/problem+json"),
        (status = 413, body = schema::ProblemDetails, content_type = "application/problem+json"),
        (status = 415, body = schema::ProblemDetails, content_type = "application/problem+json"),
        (status = 422, body = schema::ProblemDetails, content_type = "application/problem+json"),
        (status = 503, body = schema::ProblemDetails, content_type = "application/problem+json"),
    ),
    tag = "broker",
    security(("bearer" = []))
)]
#[put("/account/live")]
pub async fn put(
    state: web::Data<AppState>,
    caller: SteppedUp,
    _: web::Query<NoQuery>,
    body: Body<PutLive>,
) -> Result<HttpResponse, Problem> {
    let enabled = body.value.enabled;
    let (user, act) = (caller.user, caller.act(&state));
    let changed =
        state.db.run(move |tx| vault::set_live(tx, user, BrokerName::Alpaca, enabled, &act)).await?;
    match changed {
        LiveChange::Done => Ok(HttpResponse::Ok().json(json!({ "enabled": enabled }))),
        LiveChange::NeedsSecondFactor => Err(Problem::new(
            "two_factor_enrolment_required",
            "real money needs a second factor: POST /auth/2fa/setup begins one",
        )),
    }
}
