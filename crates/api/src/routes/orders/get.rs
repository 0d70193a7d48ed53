//! `GET /orders/{id}`.

use actix_web::{HttpResponse, get, web};
use plimsoll_core_domain::views::{FillView, HistoryView, OrderView};
use serde::Serialize;

use super::{no_order, order_id};
use crate::body::NoQuery;
use crate::caller::Caller;
use crate::problem::Problem;
use crate::schema;
use crate::state::AppState;

#[derive(Serialize)]
struct Whole<'a> {
    #[serde(flatten)]
    order: OrderView<'a>,
    fills: Vec<FillView<'a>>,
    history: Vec<HistoryView>,
}

/// An order with its fills and its history.
#[utoipa::path(
    params(("id" = String, Path, description = "The order's id.")),
    responses(
        (status = 200, body = schema::OrderWithHistory),
        (status = 401, body = schema::ProblemDetails, content_type = "application/problem+json"),
        (status = 404, body = schema::ProblemDetails, content_type = "application/problem+json"),
        (status = 503, body = schema::ProblemDetails, content_type = "application/problem+json"),
    ),
    tag = "orders",
    security(("bearer" = []))
)]
#[get("/orders/{id}")]
pub async fn get(
    state: web::Data<AppState>,
    caller: Caller,
    path: web::Path<String>,
    _: web::Query<NoQuery>,
) -> Result<HttpResponse, Problem> {
    let id = order_id(&path)?;
    let found = state
        .db
        .read_snapshot(move |tx| {
            let Some(account) = tx.account_with_order(caller.user, id)? else { return Err(no_order()) };
            let Some(order) = tx.order(account, id)? else { return Err(no_order()) };
            let (legs, fills) = (tx.legs_of(account, &[id])?, tx.fills_of(account, id)?);
            let history = tx.order_history(account, id)?;
            Ok((order, legs, fills, history))
        })
        .await?;
    let (order, legs, fills, history) = found;
    let whole = Whole {
        order: OrderView::new(&order, &legs),
        fills: fills.iter().map(FillView::from).collect(),
        history,
    };
    Ok(HttpResponse::Ok().json(whole))
}
