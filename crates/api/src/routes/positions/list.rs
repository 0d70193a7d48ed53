//! `GET /positions`.

use actix_web::{HttpRequest, HttpResponse, get, web};
use plimsoll_core_domain::views::{PositionView, json};

use super::holdings;
use crate::body::NoQuery;
use crate::caller::Caller;
use crate::page::page;
use crate::problem::Problem;
use crate::schema;
use crate::state::AppState;

/// What the caller holds, by symbol; all in one page.
#[utoipa::path(
    responses(
        (status = 200, body = schema::PositionList),
        (status = 401, body = schema::ProblemDetails, content_type = "application/problem+json"),
        (status = 503, body = schema::ProblemDetails, content_type = "application/problem+json"),
    ),
    tag = "portfolio",
    security(("bearer" = []))
)]
#[get("/positions")]
pub async fn list(
    state: web::Data<AppState>,
    caller: Caller,
    request: HttpRequest,
    _: web::Query<NoQuery>,
) -> Result<HttpResponse, Problem> {
    let holdings = holdings(&state, caller.user).await?;
    let rows: Vec<String> = holdings
        .iter()
        .filter(|holding| !holding.position.qty.is_zero())
        .map(|holding| json(&PositionView::from(holding)))
        .collect();
    Ok(page("/positions", request.query_string(), &rows, None))
}
