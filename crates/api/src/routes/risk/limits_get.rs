//! `GET /risk/limits`.

use actix_web::{HttpResponse, get, web};

use super::limits_view;
use crate::body::NoQuery;
use crate::caller::Caller;
use crate::problem::Problem;
use crate::schema;
use crate::state::AppState;

/// The caller's risk limits; null is no limit.
#[utoipa::path(
    responses(
        (status = 200, body = schema::RiskLimits),
        (status = 401, body = schema::ProblemDetails, content_type = "application/problem+json"),
        (status = 422, body = schema::ProblemDetails, content_type = "application/problem+json"),
        (status = 503, body = schema::ProblemDetails, content_type = "application/problem+json"),
    ),
    tag = "risk",
    security(("bearer" = []))
)]
#[get("/risk/limits")]
pub async fn get(
    state: web::Data<AppState>,
    caller: Caller,
    _: web::Query<NoQuery>,
) -> Result<HttpResponse, Problem> {
    let user = caller.user;
    let stored = state.db.read(move |tx| tx.risk_limits(user)).await?;
    Ok(HttpResponse::Ok().json(limits_view(&stored)))
}
