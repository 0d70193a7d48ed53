//! Accepting an order and answering with what becomes of it.

use std::time::{Duration, Instant};

use actix_web::HttpResponse;
use chrono::TimeDelta;
use plimsoll_core_domain::audit::AuditOutcome;
use plimsoll_core_domain::order::{NewOrder, Order, OrderSize, OrderSource, OrderStatus, SourceKind};
use plimsoll_core_domain::stream::StreamId;
use plimsoll_core_domain::views::{OrderView, json};
use plimsoll_core_domain::{OrderId, StoreErrorKind, UserId};
use plimsoll_reliability::idempotency::{Fingerprint, IdempotencyKey, StoredReply};
use plimsoll_storage::platform::orders::{AcceptOrder, Accepted, KeyState};

use super::load;
use crate::caller::Caller;
use crate::gateway::GatewayError;
use crate::idempotent::{in_flight, reused, send};
use crate::problem::Problem;
use crate::state::AppState;
use crate::waiters::Waiter;

/// Accepts an order under a key, waits for the broker's verdict, stores the reply and sends it.
pub(crate) async fn accept(
    state: &AppState,
    caller: &Caller,
    key: IdempotencyKey,
    route: &'static str,
    fingerprint: Fingerprint,
    terms: NewOrder,
    wait: Duration,
) -> Result<HttpResponse, Problem> {
    check_instrument(state, caller.user, &terms).await?;
    if !state.gateway.may_trade(caller.user) {
        let detail = "the account is being compared with the broker; it takes orders when that is done";
        return Err(Problem::new("reconciling", detail).retry_after(2));
    }
    let now = state.clock.now();
    let id = state.ids.order_id();
    // Registered before the commit: the verdict may come right after it.
    let waiter = (!wait.is_zero()).then(|| {
        // Watched, so that an event of another instance is read here too.
        (state.waiters.register(caller.user, id), state.hub.watch(StreamId::User(caller.user)))
    });
    let accept = AcceptOrder {
        id,
        user: caller.user,
        key: key.clone(),
        route,
        fingerprint,
        in_flight: TimeDelta::from_std(wait).unwrap_or_default() + TimeDelta::seconds(5),
        answered_at_once: wait.is_zero(),
        terms,
        source: OrderSource { kind: SourceKind::Api, id: None },
        audit: caller.origin.audit(
            "order.create",
            AuditOutcome::Success,
            Some(caller.user),
            now,
            serde_json::Value::Null,
        ),
        submit_within: state.settings.submit_within,
        now,
    };
    let ids = state.client_order_ids.clone();
    let accepted = state.db.run(move |tx| tx.accept_order(&accept, &*ids)).await;
    match accepted {
        Ok(Accepted::New { reply, .. }) => {
            // Without a wait the 202 was stored as the final reply with the order.
            let Some((waiter, _watch)) = waiter else { return Ok(send(reply, false)) };
            let reply = verdict(state, caller.user, id, &waiter, wait).await?.unwrap_or(reply);
            drop(waiter);
            finish(state, caller.user, key, reply).await
        }
        Ok(Accepted::Key(KeyState::Replay(reply))) => Ok(send(reply, true)),
        Ok(Accepted::Key(KeyState::InFlight)) => Err(in_flight()),
        Ok(Accepted::Key(KeyState::Reused)) => Err(reused()),
        Ok(Accepted::Key(KeyState::Unanswered(order))) => late(state, caller.user, key, order).await,
        Ok(Accepted::NoAccount) => Err(Problem::new("not_found", "no broker account is connected")),
        Ok(Accepted::AccountDisabled) => Err(Problem::new("business_rule", "the broker account is disabled")),
        Err(error) => Err(match error.kind() {
            StoreErrorKind::Contention => in_flight(),
            // The key had expired, and its order is still on record.
            StoreErrorKind::Duplicate => reused(),
            _ => error.into(),
        }),
    }
}

/// The broker must trade the instrument; while it cannot be asked, it will say so itself.
async fn check_instrument(state: &AppState, user: UserId, terms: &NewOrder) -> Result<(), Problem> {
    let refuse =
        |code: &str, detail: &str| Err(Problem::field("/symbol", code, format!("{} {detail}", terms.symbol)));
    match state.gateway.asset(user, &terms.symbol).await {
        Ok(asset) if !asset.tradable => refuse("not_tradable", "is not traded at the moment"),
        Ok(asset) => {
            let by_part = match terms.size {
                OrderSize::Notional(_) => true,
                OrderSize::Qty(qty) => !qty.is_whole(),
            };
            if by_part && !asset.fractionable && asset.class != "crypto" {
                return Err(Problem::field(
                    "/qty",
                    "not_fractionable",
                    format!("{} trades in whole units", terms.symbol),
                ));
            }
            Ok(())
        }
        Err(GatewayError::NotFound) => refuse("unknown_symbol", "is not known to the broker"),
        Err(GatewayError::NoAccount) => Err(Problem::new("not_found", "no broker account is connected")),
        Err(GatewayError::Unavailable { .. } | GatewayError::Refused(_)) => Ok(()),
    }
}

/// Waits for the broker's verdict on an order; `None` when it does not come in time.
async fn verdict(
    state: &AppState,
    user: UserId,
    id: OrderId,
    waiter: &Waiter,
    wait: Duration,
) -> Result<Option<StoredReply>, Problem> {
    let deadline = Instant::now() + wait;
    loop {
        let left = deadline.saturating_duration_since(Instant::now());
        if left.is_zero() {
            return Ok(None);
        }
        match tokio::time::timeout(left, waiter.woken()).await {
            Ok(true) => {}
            Ok(false) | Err(_) => return Ok(None),
        }
        // A failure to look is no failure of the order: it is on disk, and its 202 says so.
        let Ok(Some((order, legs))) = load(state, user, id).await else { return Ok(None) };
        if let Some(reply) = reply_for(&order, &legs) {
            return Ok(Some(reply));
        }
    }
}

/// The final reply for an order, once there is one.
fn reply_for(order: &Order, legs: &[Order]) -> Option<StoredReply> {
    use OrderStatus::{NotSent, PendingSubmit, Rejected, Submitting, Unknown};
    let body = || json(&OrderView::new(order, legs)).into_bytes();
    match order.status {
        PendingSubmit | Submitting | Unknown => None,
        Rejected => {
            let (code, words) = broker_words(order.status_reason.as_deref().unwrap_or("no reason given"));
            let problem = Problem::new("order_rejected", format!("the broker refused the order: {words}"))
                .with("broker_code", code)
                .with("broker_message", words)
                .with("order_id", order.id.to_string());
            Some(StoredReply { status: 422, body: problem.body().into_bytes() })
        }
        NotSent => {
            let problem = Problem::new("business_rule", "the order was not sent to the broker in time")
                .with("order_id", order.id.to_string());
            Some(StoredReply { status: 422, body: problem.body().into_bytes() })
        }
        _ => Some(StoredReply { status: 201, body: body() }),
    }
}

/// The broker's own code and words: a reason begins with the code where there is one.
fn broker_words(reason: &str) -> (Option<i64>, &str) {
    match reason.split_once(": ") {
        Some((code, words)) if code.len() == 8 => match code.parse() {
            Ok(code) => (Some(code), words),
            Err(_) => (None, reason),
        },
        _ => (None, reason),
    }
}

/// Stores the final reply, then sends it. A reply that was stored meanwhile (by a retry that came late) holds.
async fn finish(
    state: &AppState,
    user: UserId,
    key: IdempotencyKey,
    reply: StoredReply,
) -> Result<HttpResponse, Problem> {
    let kept = reply.clone();
    let stored = state.db.read(move |tx| tx.finish_key(user, &key, &kept)).await;
    if let Err(error) = stored {
        // Not stored, so a retry gets the order's outcome by then. What is answered now is true all the same.
        tracing::warn!(%error, "a final reply could not be stored");
    }
    Ok(send(reply, false))
}

/// Answers a retry whose first request ended between its commit and its reply.
async fn late(
    state: &AppState,
    user: UserId,
    key: IdempotencyKey,
    order: Option<OrderId>,
) -> Result<HttpResponse, Problem> {
    let missing = || Problem::internal("a key without reply names no order");
    let (order, legs) = load(state, user, order.ok_or_else(missing)?).await?.ok_or_else(missing)?;
    let reply = reply_for(&order, &legs).unwrap_or_else(|| StoredReply {
        status: 202,
        body: json(&OrderView::new(&order, &legs)).into_bytes(),
    });
    let kept = reply.clone();
    state.db.read(move |tx| tx.finish_key(user, &key, &kept)).await?;
    Ok(send(reply, true))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_brokers_code_stands_before_its_words() {
        assert_eq!(
            broker_words("40310000: insufficient buying power"),
            (Some(40_310_000), "insufficient buying power")
        );
        assert_eq!(broker_words("note: market is closed"), (None, "note: market is closed"));
        assert_eq!(broker_words("market is closed"), (None, "market is closed"));
    }
}
