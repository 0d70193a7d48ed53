//! A request whose order outlived its own row: the database lost it, and the broker told of it again.

use std::sync::Arc;

use actix_web::HttpResponse;
use actix_web::http::header::HeaderValue;
use plimsoll_core_domain::audit::AuditOutcome;
use plimsoll_core_domain::order::NewOrder;
use plimsoll_core_domain::views::{OrderView, json};
use plimsoll_reliability::idempotency::StoredReply;

use super::accept::Keyed;
use super::account_of;
use crate::caller::Caller;
use crate::idempotent::{REPLAYED, reused, run_once};
use crate::problem::Problem;
use crate::state::AppState;

/// Answers with the order, and keeps that answer under the key: 200, and replayed. Without such an order, or for another one,
/// the key was used for something else.
pub(super) async fn answer(
    state: &AppState,
    caller: &Caller,
    keyed: Keyed,
    terms: NewOrder,
) -> Result<HttpResponse, Problem> {
    let Keyed { key, route, fingerprint } = keyed;
    let (user, now, caller) = (caller.user, state.clock.now(), caller.clone());
    let (ids, of) = (Arc::clone(&state.client_order_ids), key.clone());
    let mut response = run_once(state, user, key, route, fingerprint, move |tx| {
        let account = account_of(tx, user)?;
        let found = tx.imported_order(account, user, &of, &*ids)?;
        let order = found.filter(|order| {
            order.terms.symbol == terms.symbol
                && order.terms.side == terms.side
                && order.terms.size == terms.size
                && order.terms.pricing.order_type() == terms.pricing.order_type()
        });
        let order = order.ok_or_else(reused)?;
        let legs = tx.legs_of(account, &[order.id])?;
        // The entry of the first request was lost with its row.
        let detail = serde_json::json!({ "order_id": order.id, "came_back": true });
        tx.append_audit(Some(user), &caller.audit("order.create", AuditOutcome::Success, now, detail))?;
        Ok(StoredReply { status: 200, body: json(&OrderView::new(&order, &legs)).into_bytes() })
    })
    .await?;
    response.headers_mut().insert(REPLAYED, HeaderValue::from_static("true"));
    Ok(response)
}
