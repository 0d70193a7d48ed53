//! `GET /health`, `/health/live`, `/health/ready`, `/health/quick`.

use std::time::Duration;

use actix_web::{FromRequest, HttpRequest, HttpResponse, get, web};
use plimsoll_observability::health::HealthReport;
use serde::Serialize;
use utoipa::ToSchema;

use crate::caller::AdminCaller;
use crate::schema;
use crate::state::AppState;

/// How long an administrator is waited for to be recognised; whoever is not, sees what everybody sees.
const RECOGNISED_WITHIN: Duration = Duration::from_millis(800);

/// A probe's answer.
#[derive(Serialize, ToSchema)]
pub struct Probe {
    /// `ok` or `unavailable`.
    status: &'static str,
    /// What is missing.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    reasons: Vec<String>,
}

/// All checks together. Without an administrator's credentials `checks` is empty.
#[utoipa::path(
    responses((status = 200, body = schema::Health), (status = 503, body = schema::Health)),
    tag = "operations",
    security((), ("bearer" = []))
)]
#[get("/health")]
pub async fn health(state: web::Data<AppState>, request: HttpRequest) -> HttpResponse {
    let admin = tokio::time::timeout(RECOGNISED_WITHIN, AdminCaller::extract(&request));
    let (report, admin) = futures_util::join!(state.health.report(state.clock.now()), admin);
    if matches!(admin, Ok(Ok(_))) { answer(&report) } else { answer(&report.public()) }
}

/// The answer that a report makes: 503 when something vital does not work.
#[must_use]
pub fn answer(report: &HealthReport) -> HttpResponse {
    let mut response =
        if report.is_serving() { HttpResponse::Ok() } else { HttpResponse::ServiceUnavailable() };
    response.json(report)
}

/// The process is alive. Touches nothing else.
#[utoipa::path(responses((status = 200, body = Probe)), tag = "operations")]
#[get("/health/live")]
pub async fn live() -> HttpResponse {
    HttpResponse::Ok().json(Probe { status: "ok", reasons: Vec::new() })
}

/// Whether requests may come: not while starting, draining, or without the database.
#[utoipa::path(responses((status = 200, body = Probe), (status = 503, body = Probe)), tag = "operations")]
#[get("/health/ready")]
pub async fn ready(state: web::Data<AppState>) -> HttpResponse {
    let report = state.readiness.report();
    if state.readiness.is_ready() {
        return HttpResponse::Ok().json(Probe { status: "ok", reasons: Vec::new() });
    }
    HttpResponse::ServiceUnavailable()
        .insert_header(("retry-after", "1"))
        .json(Probe { status: "unavailable", reasons: report.reasons })
}

/// Whether the database answers.
#[utoipa::path(
    responses(
        (status = 200, body = Probe),
        (status = 503, body = schema::ProblemDetails, content_type = "application/problem+json"),
    ),
    tag = "operations"
)]
#[get("/health/quick")]
pub async fn quick(state: web::Data<AppState>) -> Result<HttpResponse, crate::problem::Problem> {
    state.db.ping().await?;
    Ok(HttpResponse::Ok().json(Probe { status: "ok", reasons: Vec::new() }))
}
