//! `DELETE /orders/{id}`.

use actix_web::{HttpResponse, delete, web};
use chrono::{DateTime, Utc};
use plimsoll_core_domain::audit::AuditOutcome;
use plimsoll_core_domain::order::Order;
use plimsoll_core_domain::views::{OrderView, json};
use plimsoll_core_domain::{AccountId, OrderId};
use plimsoll_reliability::idempotency::StoredReply;
use plimsoll_storage::Tx;
use plimsoll_storage::platform::orders::CancelWish;

use super::{account_of, no_order, order_id};
use crate::body::NoQuery;
use crate::caller::Caller;
use crate::idempotent::{RequiredKey, fingerprint, run_once};
use crate::problem::Problem;
use crate::schema;
use crate::state::AppState;

/// Asks for an order's cancel: 202 when the broker is asked, 200 when the order had not been sent and is canceled now.
///
/// An order that is asked to be canceled may still fill.
#[utoipa::path(
    params(("id" = String, Path, description = "The order's id."), ("Idempotency-Key" = String, Header)),
    responses(
        (status = 200, body = schema::Order),
        (status = 202, body = schema::Order),
        (status = 400, body = schema::ProblemDetails, content_type = "application/problem+json"),
        (status = 401, body = schema::ProblemDetails, content_type = "application/problem+json"),
        (status = 404, body = schema::ProblemDetails, content_type = "application/problem+json"),
        (status = 409, body = schema::ProblemDetails, content_type = "application/problem+json"),
        (status = 422, body = schema::ProblemDetails, content_type = "application/problem+json"),
        (status = 503, body = schema::ProblemDetails, content_type = "application/problem+json"),
    ),
    tag = "orders",
    security(("bearer" = []))
)]
#[delete("/orders/{id}")]
pub async fn cancel(
    state: web::Data<AppState>,
    caller: Caller,
    key: RequiredKey,
    path: web::Path<String>,
    _: web::Query<NoQuery>,
) -> Result<HttpResponse, Problem> {
    let id = order_id(&path)?;
    let fingerprint = fingerprint("DELETE", &format!("/orders/{id}"), b"")?;
    let (user, now) = (caller.user, state.clock.now());
    run_once(&state, user, key.0, "DELETE /orders/{id}", fingerprint, move |tx| {
        let account = account_of(tx, user)?;
        let (status, order) = wish(tx, account, id, now)?;
        audit(tx, &caller, &order, now)?;
        Ok(StoredReply { status, body: json(&OrderView::new(&order, &[])).into_bytes() })
    })
    .await
}

/// Takes the wish: 202 asked, 200 canceled already. Its audit entry is written by [`audit`], after the wishes for all
/// orders of the transaction: the audit chain is locked last.
pub(crate) fn wish(
    tx: &mut Tx<'_>,
    account: AccountId,
    id: OrderId,
    now: DateTime<Utc>,
) -> Result<(u16, Box<Order>), Problem> {
    match tx.wish_cancel(account, id, now)? {
        CancelWish::NoOrder => Err(no_order()),
        CancelWish::NotOpen(order) => {
            Err(Problem::new("order_not_open", format!("the order is {} already", order.status))
                .with("order_status", order.status.as_str()))
        }
        CancelWish::Withdrawn(order) => Ok((200, order)),
        CancelWish::Asked(order) => Ok((202, order)),
    }
}

/// What became of a wish: a status and the order, or why not.
type Wished = Result<(u16, Box<Order>), Problem>;

/// Takes the wish for every open order of an account, and says of each what became of it. Locks are taken as everywhere:
/// all orders by their ids, then what the wishes touch; entries of the audit log come after.
///
/// # Errors
/// What is not a refusal of one order.
pub(crate) fn wish_all(
    tx: &mut Tx<'_>,
    account: AccountId,
    now: DateTime<Utc>,
) -> Result<Vec<(OrderId, Wished)>, Problem> {
    let open = tx.lock_open_orders(account)?;
    open.into_iter()
        .map(|order| match wish(tx, account, order.id, now) {
            Err(problem) if !problem.status().is_client_error() => Err(problem),
            wished => Ok((order.id, wished)),
        })
        .collect()
}

/// Writes the audit entry of a wish that was taken.
pub(crate) fn audit(
    tx: &mut Tx<'_>,
    caller: &Caller,
    order: &Order,
    now: DateTime<Utc>,
) -> Result<(), Problem> {
    let detail = serde_json::json!({ "order_id": order.id, "symbol": order.terms.symbol });
    let entry = caller.audit("order.cancel", AuditOutcome::Success, now, detail);
    tx.append_audit(Some(caller.user), &entry)?;
    Ok(())
}
