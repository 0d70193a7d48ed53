//! `GET /health/live`, `/health/ready`, `/health/quick`.

use actix_web::{HttpResponse, get, web};
use serde::Serialize;
use utoipa::ToSchema;

use crate::schema;
use crate::state::AppState;

/// A probe's answer.
#[derive(Serialize, ToSchema)]
pub struct Probe {
    /// `ok` or `unavailable`.
    status: &'static str,
    /// What is missing.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    reasons: Vec<String>,
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
