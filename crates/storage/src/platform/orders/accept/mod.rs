//! Accepting an order: two statements in one transaction.
//!
//! The first claims the idempotency key and locks and reads everything that the second needs; the second writes
//! everything. With BEGIN and COMMIT that is four round trips, and a test counts them. The order of the locks is the
//! order of the joins: key, account, stream head, audit head.
//!
//! What jobs and signals accept has no idempotency key: an order that has the derived client order id already is the one
//! they want.

mod keys;
mod read;
mod risk;
mod twin;
mod write;

use chrono::{DateTime, TimeDelta, Utc};
use plimsoll_core_domain::audit::AuditEntry;
use plimsoll_core_domain::order::{
    Environment, LegRole, NewOrder, Order, OrderSource, OrderStatus, OrderType, SubmitNotes,
};
use plimsoll_core_domain::risk::{RiskRefusal, Unclear};
use plimsoll_core_domain::{AccountId, ClientOrderId, OrderId, Price, StoreError, StoreErrorKind, UserId};
pub use plimsoll_crypto::OrderOrigin;
use plimsoll_reliability::idempotency::{Fingerprint, IdempotencyKey, StoredReply};
use rust_decimal::Decimal;

pub use self::read::Opened;
use self::read::Read;
use self::risk::Held;
pub(crate) use self::twin::IMPORTED;
use self::write::Heads;
pub use self::write::Settles;
use crate::db::Tx;
use crate::platform::risk::{halts_of, limits_of};

/// Derives the id under which the broker will know an order.
pub trait ClientOrderIds: Send + Sync {
    /// The same for the same account, user and origin, for ever.
    fn derive(&self, account: AccountId, user: UserId, origin: OrderOrigin<'_>) -> ClientOrderId;
}

/// A request's claim of its idempotency key.
#[derive(Clone, Debug)]
pub struct RequestKey {
    /// The caller's key.
    pub key: IdempotencyKey,
    /// The route's pattern.
    pub route: &'static str,
    /// Of the request.
    pub fingerprint: Fingerprint,
    /// For how long a twin is told that this request still runs, by the database's clock.
    pub in_flight: TimeDelta,
    /// The 202 is the final reply: the caller does not wait for the broker's verdict.
    pub answered_at_once: bool,
}

/// What makes an order the platform's own, once for ever: its client order id follows from it, in a name space that no
/// request reaches.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum InternalKey {
    /// The id of a stored signal, in its text form.
    Signal(String),
    /// What a job does, with the name of the job's task first.
    Job(String),
}

/// What an order is accepted under.
#[derive(Clone, Debug)]
pub enum AcceptKey {
    /// A request's key: claimed with the order, and answered from for a week.
    Request(RequestKey),
    /// The platform's own. No row stands for it: an order that has the derived client order id already is its twin.
    Internal(InternalKey),
}

impl AcceptKey {
    /// What the client order id follows from.
    #[must_use]
    pub fn origin(&self) -> OrderOrigin<'_> {
        match self {
            Self::Request(request) => OrderOrigin::IdempotencyKey(request.key.as_str()),
            Self::Internal(InternalKey::Signal(id)) => OrderOrigin::Signal(id),
            Self::Internal(InternalKey::Job(what)) => OrderOrigin::Job(what),
        }
    }
}

/// An order to accept, with what it is accepted under.
#[derive(Clone, Debug)]
pub struct AcceptOrder {
    /// The order's id, should it be new.
    pub id: OrderId,
    /// Whose.
    pub user: UserId,
    /// The one account that it is meant for; `None`: wherever the user trades.
    pub account: Option<AccountId>,
    /// What makes it the same order when it is accepted again.
    pub key: AcceptKey,
    /// What the symbol trades at, as the broker said within the last minute; never what the order's sender says.
    pub reference_price: Option<Price>,
    /// It may only make the position smaller: open orders on its side count as if they had filled.
    pub closes: bool,
    /// What was asked for.
    pub terms: NewOrder,
    /// From where.
    pub source: OrderSource,
    /// Who acts, for the audit entry.
    pub audit: AuditEntry,
    /// A market order is not sent later than this after now; the first is for market orders, the second for all others.
    pub submit_within: (TimeDelta, TimeDelta),
    /// Now.
    pub now: DateTime<Utc>,
}

/// What became of it.
#[derive(Clone, Debug)]
pub enum Accepted {
    /// On disk, with the 202 that a retry would get.
    New {
        /// As it stands.
        order: Box<Order>,
        /// The provisional reply.
        reply: StoredReply,
    },
    /// The key was used before.
    Key(KeyState),
    /// An internal key was used before, for this order.
    Twin(OrderId),
    /// A limit, a halt or an open discrepancy is in the way.
    Risk(RiskRefusal),
    /// The user has no broker account.
    NoAccount,
    /// The user trades in another account than the one that it is meant for.
    OtherAccount,
    /// The account takes no orders.
    AccountDisabled,
    /// It would be real money, which the account's owner has not allowed.
    LiveDisabled,
    /// It was to close more than open orders leave of the position.
    TooMuch {
        /// What they leave; zero or below when nothing is left.
        closable: Decimal,
    },
}

/// What is on record under a key that was used before.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum KeyState {
    /// The reply, to be sent again byte for byte.
    Replay(StoredReply),
    /// The request that claimed it still runs.
    InFlight,
    /// The request that claimed it never stored its final reply; its order has the outcome.
    Unanswered(Option<OrderId>),
    /// It belongs to another request.
    Reused,
}

impl Tx<'_> {
    /// Accepts an order: its row, history, submit job, stream event, audit entry and provisional reply, or nothing. A
    /// refusal leaves nothing behind but, where a limit or a halt is in the way, an audit entry; the transaction may go on.
    ///
    /// # Errors
    /// Kind `Contention` when a twin holds the key, or another order of the account its locks, right now (anything later
    /// in the way is `Unavailable`); kind `Duplicate` when an order has the derived client order id already (the key was
    /// used before and has expired); the store's own.
    pub fn accept_order(
        &mut self,
        accept: &AcceptOrder,
        ids: &dyn ClientOrderIds,
    ) -> Result<Accepted, StoreError> {
        let read = self.read_for_order(accept).map_err(|error| {
            let deadlock = error.to_string().contains("deadlock detected");
            if deadlock { no_twin(error) } else { error }
        })?;
        if let (0, AcceptKey::Request(request)) = (read.fresh, &accept.key) {
            let state = self.key_state(accept.user, &request.key, &request.fingerprint)?;
            let gone = || StoreError::new(StoreErrorKind::Contention, "the taken key was released meanwhile");
            return state.map(Accepted::Key).ok_or_else(gone);
        }
        self.accept_locked(accept, ids, read, None).map_err(no_twin)
    }

    /// Accepts the order of a signal, and writes with it how the decision on the signal ended. A signal that was kept in
    /// this transaction (`opened`) has no twin, and everything is locked and read.
    ///
    /// # Errors
    /// As [`accept_order`](Self::accept_order).
    pub fn accept_order_of_signal(
        &mut self,
        accept: &AcceptOrder,
        ids: &dyn ClientOrderIds,
        opened: Option<Opened>,
        settles: &Settles,
    ) -> Result<Accepted, StoreError> {
        let is_first = opened.is_some();
        let read = match opened {
            Some(opened) => opened.read,
            None => self.read_for_order(accept)?,
        };
        self.accept_locked(accept, ids, read, Some((settles, is_first))).map_err(no_twin)
    }

    /// With the key claimed and everything locked. `signal`: how its decision ends, and whether it was kept just now.
    fn accept_locked(
        &mut self,
        accept: &AcceptOrder,
        ids: &dyn ClientOrderIds,
        read: Read,
        signal: Option<(&Settles, bool)>,
    ) -> Result<Accepted, StoreError> {
        let (Some(account), Some(environment), Some(state)) = (read.account_id, read.environment, read.state)
        else {
            if self.account_of_user(accept.user)?.is_some() {
                let moved = "the user trades in another environment since a moment ago";
                return Err(StoreError::new(StoreErrorKind::Contention, moved));
            }
            return self.withdraw_key(accept).map(|()| Accepted::NoAccount);
        };
        let account = AccountId(account);
        if accept.account.is_some_and(|meant| meant != account) {
            return self.withdraw_key(accept).map(|()| Accepted::OtherAccount);
        }
        let client_order_id = ids.derive(account, accept.user, accept.key.origin());
        let may_have_twin = !signal.is_some_and(|(_, is_first)| is_first);
        if let AcceptKey::Internal(_) = accept.key
            && may_have_twin
            && let Some(twin) = self.twin(account, &client_order_id)?
        {
            return Ok(Accepted::Twin(twin));
        }
        if state != "active" {
            return self.withdraw_key(accept).map(|()| Accepted::AccountDisabled);
        }
        let environment: Environment = environment
            .parse()
            .map_err(|why| StoreError::inconsistent("accounts", "environment", account, why))?;
        if environment == Environment::Live && read.live_enabled != Some(true) {
            return self.withdraw_key(accept).map(|()| Accepted::LiveDisabled);
        }
        let halts = halts_of(account, read.halt_user.as_deref(), read.halt_global.as_deref())?;
        let limits = limits_of(account, read.risk_limits.as_deref())?;
        let unclear = Unclear::new(read.entries_blocked.unwrap_or_default());
        let looks = accept.closes || halts.level().is_some() || limits.looks_at_orders();
        if looks || unclear.of(&accept.terms.symbol).is_some() {
            match self.hold_against(accept, account, &limits, halts, &unclear)? {
                Held::Passes => {}
                Held::TooMuch { closable } => {
                    return self.withdraw_key(accept).map(|()| Accepted::TooMuch { closable });
                }
                Held::Refused(refusal) if refusal.is_momentary() => {
                    return self.withdraw_key(accept).map(|()| Accepted::Risk(refusal));
                }
                Held::Refused(refusal) => return self.refuse(accept, refusal),
            }
        }
        let missing =
            |table: &str| StoreError::inconsistent(table, "id", accept.user, "the user's row is missing");
        let (Some(epoch), Some(head)) = (read.epoch, read.head) else { return Err(missing("stream_head")) };
        let (Some(seq), Some(mac)) = (read.seq, read.mac) else { return Err(missing("audit_head")) };
        let order = new_order(accept, account, environment, client_order_id);
        let settles = signal.map(|(settles, _)| settles);
        let view = self.write_order(accept, &order, &Heads { epoch, head, seq, mac }, settles)?;
        let reply = StoredReply { status: 202, body: view.as_bytes().to_vec() };
        Ok(Accepted::New { order: Box::new(order), reply })
    }
}

/// Only the first statement can wait for a twin: what is in the way after it says nothing of one.
fn no_twin(error: StoreError) -> StoreError {
    if error.kind() == StoreErrorKind::Contention {
        return StoreError::new(StoreErrorKind::Unavailable, "another transaction was in the way")
            .caused_by(error);
    }
    error
}

fn new_order(
    accept: &AcceptOrder,
    account: AccountId,
    environment: Environment,
    client_order_id: ClientOrderId,
) -> Order {
    let (market, other) = accept.submit_within;
    let within = if accept.terms.pricing.order_type() == OrderType::Market { market } else { other };
    Order {
        id: accept.id,
        account_id: account,
        user_id: accept.user,
        client_order_id,
        broker_order_id: None,
        terms: accept.terms.clone(),
        parent_id: None,
        role: LegRole::Entry,
        status: OrderStatus::PendingSubmit,
        status_reason: None,
        filled_qty: Decimal::ZERO,
        filled_value: Decimal::ZERO,
        broker: None,
        source: accept.source.clone(),
        environment,
        replaces: None,
        replaced_by: None,
        submit: SubmitNotes {
            attempts: 0,
            deadline: accept.now + within,
            started_at: None,
            probes: 0,
            doubt: false,
        },
        created_at: accept.now,
        submitted_at: None,
        updated_at: accept.now,
        closed_at: None,
        version: 1,
    }
}
