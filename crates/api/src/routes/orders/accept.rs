//! Accepting an order and answering with what becomes of it.

use std::time::{Duration, Instant};

use actix_web::HttpResponse;
use chrono::TimeDelta;
use plimsoll_auth::vault::{CredentialState, list};
use plimsoll_core_domain::audit::AuditOutcome;
use plimsoll_core_domain::order::{
    Environment, NewOrder, Order, OrderClass, OrderSize, OrderSource, OrderStatus, SourceKind,
};
use plimsoll_core_domain::stream::StreamId;
use plimsoll_core_domain::views::{OrderView, json};
use plimsoll_core_domain::{OrderId, StoreError, StoreErrorKind, UserId};
use plimsoll_reliability::idempotency::{Fingerprint, IdempotencyKey, StoredReply};
use plimsoll_storage::Tx;
use plimsoll_storage::platform::orders::{AcceptKey, AcceptOrder, Accepted, KeyState, RequestKey};

use super::{came_back, load};
use crate::caller::Caller;
use crate::gateway::{GatewayError, Trading};
use crate::idempotent::{in_flight, reused, send};
use crate::problem::Problem;
use crate::state::AppState;
use crate::waiters::Waiter;

/// How often a group's legs are looked for while its request waits.
const LEGS_EVERY: Duration = Duration::from_millis(100);

/// A request under its idempotency key.
pub(crate) struct Keyed {
    pub(crate) key: IdempotencyKey,
    /// Its route's pattern.
    pub(crate) route: &'static str,
    pub(crate) fingerprint: Fingerprint,
}

/// What an order is for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Intent {
    /// Whatever it says.
    Trade,
    /// It may only make a position smaller.
    Close,
}

/// Accepts an order under a key, waits for the broker's verdict, stores the reply and sends it.
pub(crate) async fn accept(
    state: &AppState,
    caller: &Caller,
    keyed: Keyed,
    terms: NewOrder,
    intent: Intent,
    wait: Duration,
) -> Result<HttpResponse, Problem> {
    let Keyed { key, route, fingerprint } = keyed;
    if let Err(refusal) = may_take(state, caller.user, &terms).await {
        // A retry of an order that was taken is answered from its key, whatever would be refused by now.
        return replay(state, caller.user, &key, fingerprint).await?.ok_or(refusal);
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
        account: None,
        key: AcceptKey::Request(RequestKey {
            key: key.clone(),
            route,
            fingerprint,
            in_flight: TimeDelta::from_std(wait).unwrap_or_default() + TimeDelta::seconds(5),
            answered_at_once: wait.is_zero(),
        }),
        reference_price: state.gateway.price_seen(caller.user, &terms.symbol),
        closes: intent == Intent::Close,
        terms,
        source: OrderSource { kind: SourceKind::Api, id: None },
        audit: caller.audit("order.create", AuditOutcome::Success, now, serde_json::json!({})),
        submit_within: state.settings.submit_within,
        now,
    };
    let mut accepted = try_accept(state, accept.clone()).await;
    if let Ok(Accepted::Risk(refusal)) = &accepted
        && refusal.price_unknown()
        && let Some(price) = state.gateway.quote(caller.user, &accept.terms.symbol).await
    {
        // The refusal stays in the audit log, before what comes of the order now.
        accepted = try_accept(state, AcceptOrder { reference_price: Some(price), ..accept.clone() }).await;
    }
    match accepted {
        Ok(Accepted::New { reply, .. }) => {
            // Without a wait the 202 was stored as the final reply with the order.
            let Some((waiter, _watch)) = waiter else { return Ok(send(reply, false)) };
            let reply = verdict(state, caller.user, id, &waiter, wait).await?.unwrap_or(reply);
            drop(waiter);
            finish(state, caller.user, &key, fingerprint, reply).await
        }
        Ok(Accepted::Key(known)) => answer(state, caller.user, &key, fingerprint, known).await,
        Ok(Accepted::Twin(_)) => Err(Problem::internal("a request's order has no twin")),
        Ok(Accepted::Risk(refusal)) => Err(refusal.into()),
        Ok(Accepted::NoAccount | Accepted::OtherAccount) => {
            Err(Problem::new("not_found", "no broker account is connected"))
        }
        Ok(Accepted::TooMuch { closable }) => {
            let left = closable.max(rust_decimal::Decimal::ZERO);
            let detail = format!("open orders leave {left} of the position to be closed");
            Err(Problem::new("business_rule", detail))
        }
        Ok(Accepted::LiveDisabled) => Err(live_disabled()),
        Ok(Accepted::AccountDisabled) => Err(Problem::new("business_rule", "the broker account is disabled")),
        // Its order is on record and the key is not: it had expired, or its row was lost.
        Err(error) if error.kind() == StoreErrorKind::Duplicate => {
            came_back::answer(state, caller, Keyed { key, route, fingerprint }, accept.terms).await
        }
        Err(error) => Err(match error.kind() {
            StoreErrorKind::Contention => in_flight(),
            _ => error.into(),
        }),
    }
}

async fn try_accept(state: &AppState, accept: AcceptOrder) -> Result<Accepted, StoreError> {
    let ids = state.client_order_ids.clone();
    let seed = accept.id.0.as_u64_pair().1;
    state.db.run_retrying(seed, move |tx| tx.accept_order(&accept, &*ids)).await
}

/// Answers a retry from what is on record under its key; `None` when no request has claimed it.
pub(crate) async fn replay(
    state: &AppState,
    user: UserId,
    key: &IdempotencyKey,
    fingerprint: Fingerprint,
) -> Result<Option<HttpResponse>, Problem> {
    let lookup = key.clone();
    match state.db.read(move |tx| tx.key_state(user, &lookup, &fingerprint)).await? {
        Some(known) => answer(state, user, key, fingerprint, known).await.map(Some),
        None => Ok(None),
    }
}

pub(super) async fn answer(
    state: &AppState,
    user: UserId,
    key: &IdempotencyKey,
    fingerprint: Fingerprint,
    known: KeyState,
) -> Result<HttpResponse, Problem> {
    match known {
        KeyState::Replay(reply) => Ok(send(reply, true)),
        KeyState::InFlight => Err(in_flight()),
        KeyState::Reused => Err(reused()),
        KeyState::Unanswered(order) => late(state, user, key, fingerprint, order).await,
    }
}

/// Whether a new order may be taken: the state of the account's credentials, its instrument, and whether the account is
/// compared with the broker.
async fn may_take(state: &AppState, user: UserId, terms: &NewOrder) -> Result<(), Problem> {
    let trading = match state.gateway.trading(user) {
        Trading::Open => Trading::Open,
        seen => as_stored(state, user, seen).await?,
    };
    let error = match trading {
        Trading::Open | Trading::Reconciling => None,
        Trading::NoAccount => Some(GatewayError::NoAccount),
        Trading::KeyRefused => Some(GatewayError::KeyRefused),
        Trading::KeyUnreadable => Some(GatewayError::KeyUnreadable),
        Trading::NotOffered => Some(GatewayError::NotOffered),
    };
    if let Some(error) = error {
        return Err(error.into());
    }
    check_instrument(state, user, terms).await?;
    if state.gateway.trading(user) == Trading::Open { Ok(()) } else { Err(reconciling()) }
}

fn reconciling() -> Problem {
    let detail = "the account is being compared with the broker; it takes orders when that is done";
    Problem::new("reconciling", detail).retry_after(2)
}

/// What stands in the way of orders, by what is stored at this moment: a key that was saved just now is being compared, and
/// to whoever has not allowed orders with real money anything else is of no interest.
async fn as_stored(state: &AppState, user: UserId, seen: Trading) -> Result<Trading, Problem> {
    let stored = move |tx: &mut Tx<'_>| Ok::<_, StoreError>((tx.account_of_user(user)?, list(tx, user)?));
    let (account, credentials) = state.db.read(stored).await?;
    let Some(account) = account else { return Ok(seen) };
    if account.environment == Environment::Live && !account.live_enabled {
        return Err(live_disabled());
    }
    let usable = credentials.iter().any(|credential| {
        credential.environment == account.environment && credential.state != CredentialState::Invalid
    });
    let outdated = matches!(seen, Trading::NoAccount | Trading::KeyRefused) && usable && account.active;
    Ok(if outdated { Trading::Reconciling } else { seen })
}

pub(crate) fn live_disabled() -> Problem {
    Problem::new(
        "live_trading_disabled",
        "orders with real money are not allowed: PUT /account/live allows them",
    )
}

/// How long the broker is asked for an instrument.
const INSTRUMENT_WITHIN: Duration = Duration::from_millis(500);

/// The broker must trade the instrument; while it cannot be asked, it will say so itself.
async fn check_instrument(state: &AppState, user: UserId, terms: &NewOrder) -> Result<(), Problem> {
    let refuse =
        |code: &str, detail: &str| Err(Problem::field("/symbol", code, format!("{} {detail}", terms.symbol)));
    let asked = state.gateway.asset(user, &terms.symbol);
    let Ok(asset) = tokio::time::timeout(INSTRUMENT_WITHIN, asked).await else { return Ok(()) };
    match asset {
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
        Err(error @ (GatewayError::KeyUnreadable | GatewayError::NotOffered)) => Err(error.into()),
        // Nothing is known of the instrument: the account is not connected yet, or the broker cannot be asked.
        Err(
            GatewayError::NoAccount
            | GatewayError::KeyRefused
            | GatewayError::Unavailable { .. }
            | GatewayError::Refused(_),
        ) => Ok(()),
    }
}

/// Waits for the broker's verdict on an order; `None` when it does not come in time.
pub(super) async fn verdict(
    state: &AppState,
    user: UserId,
    id: OrderId,
    waiter: &Waiter,
    wait: Duration,
) -> Result<Option<StoredReply>, Problem> {
    let deadline = Instant::now() + wait;
    let mut grouped = false;
    loop {
        let left = deadline.saturating_duration_since(Instant::now());
        if left.is_zero() {
            return Ok(None);
        }
        // Legs come by a job of their own, whose events name the legs: they are looked for.
        match tokio::time::timeout(left.min(LEGS_EVERY), waiter.woken()).await {
            Ok(true) => {}
            Ok(false) => return Ok(None),
            Err(_) if !grouped => continue,
            Err(_) => {}
        }
        // A failure to look is no failure of the order: it is on disk, and its 202 says so.
        let Ok(Some((order, legs))) = load(state, user, id).await else { return Ok(None) };
        grouped = order.terms.class != OrderClass::Simple;
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
            let what = if order.replaces.is_some() { "replacement" } else { "order" };
            let problem = Problem::new("order_rejected", format!("the broker refused the {what}: {words}"))
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
        // A group is told whole.
        _ if order.terms.class != OrderClass::Simple && order.replaces.is_none() && legs.is_empty() => None,
        _ => Some(StoredReply { status: if order.replaces.is_some() { 200 } else { 201 }, body: body() }),
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
pub(super) async fn finish(
    state: &AppState,
    user: UserId,
    key: &IdempotencyKey,
    fingerprint: Fingerprint,
    reply: StoredReply,
) -> Result<HttpResponse, Problem> {
    match store(state, user, key, fingerprint, &reply).await? {
        // One that could not be stored is not sent: a retry would get the order as it is by then, which is another reply.
        None => Ok(send(reply, false)),
        Some(stored) => Ok(send(stored, true)),
    }
}

/// Stores a final reply; the one that is stored already, if there is one.
async fn store(
    state: &AppState,
    user: UserId,
    key: &IdempotencyKey,
    fingerprint: Fingerprint,
    reply: &StoredReply,
) -> Result<Option<StoredReply>, StoreError> {
    let (key, reply) = (key.clone(), reply.clone());
    let work = move |tx: &mut Tx<'_>| {
        if tx.finish_key(user, &key, &reply)? {
            return Ok(None);
        }
        Ok(match tx.key_state(user, &key, &fingerprint)? {
            Some(KeyState::Replay(stored)) => Some(stored),
            _ => None,
        })
    };
    state.db.read(work).await
}

/// Answers a retry whose first request ended between its commit and its reply.
async fn late(
    state: &AppState,
    user: UserId,
    key: &IdempotencyKey,
    fingerprint: Fingerprint,
    order: Option<OrderId>,
) -> Result<HttpResponse, Problem> {
    let missing = || Problem::internal("a key without reply names no order");
    let (order, legs) = load(state, user, order.ok_or_else(missing)?).await?.ok_or_else(missing)?;
    let reply = reply_for(&order, &legs).unwrap_or_else(|| StoredReply {
        status: 202,
        body: json(&OrderView::new(&order, &legs)).into_bytes(),
    });
    let stored = store(state, user, key, fingerprint, &reply).await?;
    Ok(send(stored.unwrap_or(reply), true))
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
