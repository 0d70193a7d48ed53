//! `POST /orders/{id}/claim`.

use actix_web::{HttpResponse, post, web};
use plimsoll_core_domain::audit::AuditOutcome;
use plimsoll_core_domain::views::OrderView;
use plimsoll_storage::platform::orders::OrderClaim;
use serde_json::json;

use super::{no_order, order_id};
use crate::body::NoQuery;
use crate::caller::Caller;
use crate::problem::Problem;
use crate::schema;
use crate::state::AppState;

/// Claims an order that was placed outside the platform: with its group and its chain of replacements it is the caller's from
/// now on, its source is `api`, and halts cancel it and close what it filled like any other.
#[utoipa::path(
    params(("id" = String, Path, description = "The order's id.")),
    responses(
        (status = 200, body = schema::Order),
        (status = 401, body = schema::ProblemDetails, content_type = "application/problem+json"),
        (status = 403, body = schema::ProblemDetails, content_type = "application/problem+json"),
        (status = 404, body = schema::ProblemDetails, content_type = "application/problem+json"),
        (status = 409, body = schema::ProblemDetails, content_type = "application/problem+json"),
        (status = 422, body = schema::ProblemDetails, content_type = "application/problem+json"),
        (status = 429, body = schema::ProblemDetails, content_type = "application/problem+json"),
        (status = 503, body = schema::ProblemDetails, content_type = "application/problem+json"),
    ),
    tag = "orders",
    security(("bearer" = []))
)]
#[post("/orders/{id}/claim")]
pub async fn claim(
    state: web::Data<AppState>,
    caller: Caller,
    path: web::Path<String>,
    _: web::Query<NoQuery>,
) -> Result<HttpResponse, Problem> {
    state.count_order(caller.user)?;
    let id = order_id(&path)?;
    let now = state.clock.now();
    let seed = u64::from(now.timestamp_subsec_micros());
    let done = state
        .db
        .run_retrying(seed, move |tx| {
            let done = tx.claim_order(caller.user, id, now)?;
            if let OrderClaim::Done { order, all, .. } = &done {
                let detail = json!({ "order_id": id, "symbol": order.terms.symbol, "orders": all });
                let entry = caller.audit("order.claim", AuditOutcome::Success, now, detail);
                tx.append_audit(Some(caller.user), &entry)?;
            }
            Ok::<_, Problem>(done)
        })
        .await?;
    match done {
        OrderClaim::NoOrder => Err(no_order()),
        OrderClaim::NotOutside => {
            Err(Problem::new("duplicate", "the order was placed here, or is claimed already"))
        }
        OrderClaim::Done { order, legs, .. } => Ok(HttpResponse::Ok().json(OrderView::new(&order, &legs))),
    }
}
