//! `GET /positions`.

use actix_web::{HttpRequest, HttpResponse, get, web};
use plimsoll_core_domain::StoreError;
use plimsoll_core_domain::views::{PositionView, json};

use super::refresh;
use crate::body::NoQuery;
use crate::caller::Caller;
use crate::follow::with_cursor;
use crate::page::page;
use crate::problem::Problem;
use crate::schema;
use crate::state::AppState;

/// What the caller holds, by symbol; all in one page. The header `Plimsoll-Cursor` is where a WebSocket goes on from it.
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
    let user = caller.user;
    let read =
        state.db.read_snapshot(move |tx| Ok::<_, StoreError>((tx.holdings(user)?, tx.heads_of(user)?)));
    let (mut holdings, at) = read.await?;
    refresh(&state, user, &mut holdings);
    let rows: Vec<String> = holdings
        .iter()
        .filter(|holding| !holding.position.qty.is_zero())
        .map(|holding| json(&PositionView::from(holding)))
        .collect();
    Ok(with_cursor(page("/positions", request.query_string(), &rows, None), user, at))
}
