//! `GET /positions/{symbol}`.

use actix_web::{HttpResponse, get, web};
use plimsoll_core_domain::views::PositionView;

use super::holdings;
use crate::body::NoQuery;
use crate::caller::Caller;
use crate::problem::Problem;
use crate::schema;
use crate::state::AppState;

/// What the caller holds of one symbol; flat when it was held and is not any more.
#[utoipa::path(
    params(("symbol" = String, Path, description = "A pair's slash is written %2F.")),
    responses(
        (status = 200, body = schema::Position),
        (status = 401, body = schema::ProblemDetails, content_type = "application/problem+json"),
        (status = 404, body = schema::ProblemDetails, content_type = "application/problem+json"),
        (status = 503, body = schema::ProblemDetails, content_type = "application/problem+json"),
    ),
    tag = "portfolio",
    security(("bearer" = []))
)]
#[get("/positions/{symbol}")]
pub async fn get(
    state: web::Data<AppState>,
    caller: Caller,
    path: web::Path<String>,
    _: web::Query<NoQuery>,
) -> Result<HttpResponse, Problem> {
    let symbol = path.into_inner();
    let holdings = holdings(&state, caller.user).await?;
    match holdings.iter().find(|holding| holding.symbol.as_str() == symbol) {
        Some(holding) => Ok(HttpResponse::Ok().json(PositionView::from(holding))),
        None => Err(Problem::new("not_found", "position not found")),
    }
}
