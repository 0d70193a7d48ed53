//! `GET /portfolio/history`.

use actix_web::{HttpResponse, get, web};
use plimsoll_core_domain::broker::HistoryQuery;
use plimsoll_core_domain::views::Dec;
use serde::{Deserialize, Serialize};
use utoipa::IntoParams;

use crate::caller::Caller;
use crate::problem::Problem;
use crate::schema;
use crate::state::AppState;

/// Which history.
#[derive(Debug, Deserialize, IntoParams)]
#[serde(deny_unknown_fields)]
pub struct History {
    /// How far back: a number and `D`, `W`, `M` or `A`, such as `1M`.
    period: Option<String>,
    /// How far apart: `1Min`, `5Min`, `15Min`, `1H` or `1D`.
    timeframe: Option<String>,
}

#[derive(Serialize)]
struct View {
    timestamp: Vec<i64>,
    equity: Vec<Dec>,
    profit_loss: Vec<Dec>,
    base_value: Dec,
    timeframe: String,
}

fn period(text: &str) -> bool {
    let digits = text.trim_end_matches(['D', 'W', 'M', 'A']);
    digits.len() + 1 == text.len() && digits.len() <= 3 && digits.parse::<u16>().is_ok_and(|n| n > 0)
}

/// Equity over time, from the broker.
#[utoipa::path(
    params(History),
    responses(
        (status = 200, body = schema::PortfolioHistory),
        (status = 401, body = schema::ProblemDetails, content_type = "application/problem+json"),
        (status = 404, body = schema::ProblemDetails, content_type = "application/problem+json"),
        (status = 422, body = schema::ProblemDetails, content_type = "application/problem+json"),
        (status = 503, body = schema::ProblemDetails, content_type = "application/problem+json"),
    ),
    tag = "portfolio",
    security(("bearer" = []))
)]
#[get("/portfolio/history")]
pub async fn history(
    state: web::Data<AppState>,
    caller: Caller,
    query: web::Query<History>,
) -> Result<HttpResponse, Problem> {
    let query = query.into_inner();
    if query.period.as_deref().is_some_and(|text| !period(text)) {
        return Err(Problem::field("?period", "invalid", "is a number and D, W, M or A, such as 1M"));
    }
    let frames = ["1Min", "5Min", "15Min", "1H", "1D"];
    if query.timeframe.as_deref().is_some_and(|text| !frames.contains(&text)) {
        return Err(Problem::field("?timeframe", "invalid", "is one of 1Min 5Min 15Min 1H 1D"));
    }
    let asked = HistoryQuery { period: query.period, timeframe: query.timeframe, end: None };
    let history = state.gateway.history(caller.user, &asked).await?;
    Ok(HttpResponse::Ok().json(View {
        timestamp: history.timestamp,
        equity: history.equity.into_iter().map(Dec).collect(),
        profit_loss: history.profit_loss.into_iter().map(Dec).collect(),
        base_value: Dec(history.base_value),
        timeframe: history.timeframe,
    }))
}
