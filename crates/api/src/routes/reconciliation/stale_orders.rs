//! `GET /reconciliation/stale-orders`.

use actix_web::{HttpRequest, HttpResponse, get, web};
use plimsoll_core_domain::views::{OrderView, json};

use super::{AccountQuery, Whose};
use crate::page::page;
use crate::problem::Problem;
use crate::schema;
use crate::state::AppState;

/// Orders that were flagged by a comparison: on their way to the broker, to be canceled or to be replaced for longer than
/// `STALE_ORDER_AGE`, or live and not confirmed for as long. Oldest first, at most 500. A resting order that the broker
/// confirms is none, and none is canceled by itself.
#[utoipa::path(
    params(AccountQuery),
    responses(
        (status = 200, body = schema::OrderList),
        (status = 401, body = schema::ProblemDetails, content_type = "application/problem+json"),
        (status = 403, body = schema::ProblemDetails, content_type = "application/problem+json"),
        (status = 404, body = schema::ProblemDetails, content_type = "application/problem+json"),
        (status = 422, body = schema::ProblemDetails, content_type = "application/problem+json"),
        (status = 429, body = schema::ProblemDetails, content_type = "application/problem+json"),
        (status = 503, body = schema::ProblemDetails, content_type = "application/problem+json"),
    ),
    tag = "reconciliation",
    security(("bearer" = []))
)]
#[get("/reconciliation/stale-orders")]
pub async fn list(
    state: web::Data<AppState>,
    request: HttpRequest,
    query: web::Query<AccountQuery>,
) -> Result<HttpResponse, Problem> {
    let whose = Whose::of(&state, &request, query.account).await?;
    let user = whose.user;
    let orders = state.db.read(move |tx| tx.stale_orders(user)).await?;
    let wanted = orders.iter().filter(|order| whose.wants(order.account_id.0));
    let items: Vec<String> = wanted.map(|order| json(&OrderView::new(order, &[]))).collect();
    Ok(page("/reconciliation/stale-orders", request.query_string(), &items, None))
}
