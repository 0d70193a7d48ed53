//! Accepting an order: two statements in one transaction.
//!
//! The first claims the idempotency key and locks and reads everything that the second needs; the second writes
//! everything. With BEGIN and COMMIT that is four round trips, and a test counts them. The order of the locks is the
//! order of the joins: key, account, stream head, audit head.

use std::sync::Arc;

use chrono::{DateTime, TimeDelta, Utc};
use diesel::result::{DatabaseErrorKind, Error};
use diesel::sql_types::{
    BigInt, Binary, Bool, Integer, Jsonb, Nullable, Numeric, SmallInt, Text, Timestamptz, Uuid as SqlUuid,
};
use diesel::{OptionalExtension, QueryableByName, RunQueryDsl};
use plimsoll_core_domain::audit::AuditEntry;
use plimsoll_core_domain::order::{
    Environment, LegRole, NewOrder, Order, OrderSource, OrderStatus, OrderType, SubmitNotes,
};
use plimsoll_core_domain::stream::{EventKind, StreamEvent, StreamId};
use plimsoll_core_domain::views::{OrderView, json};
use plimsoll_core_domain::{AccountId, ClientOrderId, OrderId, StoreError, StoreErrorKind, UserId};
use plimsoll_reliability::idempotency::{Fingerprint, IdempotencyKey, StoredReply};
use plimsoll_reliability::jobs::job_topic;
use plimsoll_reliability::submit::{BROKER_QUEUE, SubmitPayload};
use rust_decimal::Decimal;
use uuid::Uuid;

use super::write::{bind_order, insert_columns, insert_places};
use crate::db::errors::{StoreResult, store_error};
use crate::db::prepared::prepared;
use crate::db::{CommitNote, Tx};
use crate::platform::audit::{audit_row_bytes, next_mac};

/// Derives the id under which the broker will know an order.
pub trait ClientOrderIds: Send + Sync {
    /// The same for the same account, user and key, for ever.
    fn derive(
        &self,
        account: AccountId,
        user: UserId,
        source: &OrderSource,
        key: &IdempotencyKey,
    ) -> ClientOrderId;
}

/// An order to accept, with the claim of its key.
#[derive(Clone, Debug)]
pub struct AcceptOrder {
    /// The order's id, should it be new.
    pub id: OrderId,
    /// Whose.
    pub user: UserId,
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
    /// The user has no broker account.
    NoAccount,
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

#[derive(QueryableByName)]
struct Read {
    #[diesel(sql_type = BigInt)]
    fresh: i64,
    #[diesel(sql_type = Nullable<BigInt>)]
    account_id: Option<i64>,
    #[diesel(sql_type = Nullable<Text>)]
    environment: Option<String>,
    #[diesel(sql_type = Nullable<Text>)]
    state: Option<String>,
    #[diesel(sql_type = Nullable<Bool>)]
    live_enabled: Option<bool>,
    #[diesel(sql_type = Nullable<SqlUuid>)]
    epoch: Option<Uuid>,
    #[diesel(sql_type = Nullable<BigInt>)]
    head: Option<i64>,
    #[diesel(sql_type = Nullable<BigInt>)]
    seq: Option<i64>,
    #[diesel(sql_type = Nullable<Binary>)]
    mac: Option<Vec<u8>>,
}

const READ: &str = "WITH k AS ( \
       INSERT INTO idempotency_keys (user_id, key, route, fingerprint, order_id, in_flight_until, expires_at) \
       VALUES (?, ?, ?, ?, ?, now() + ? * interval '1 millisecond', now() + interval '7 days') \
       ON CONFLICT (user_id, key) DO NOTHING RETURNING 1), \
     f AS MATERIALIZED (SELECT count(*) AS fresh FROM k), \
     a AS MATERIALIZED (SELECT id, environment, state, live_enabled FROM accounts \
       WHERE user_id = ? AND broker = 'alpaca' AND state <> 'inactive' FOR NO KEY UPDATE), \
     h AS MATERIALIZED (SELECT epoch, head FROM stream_head WHERE stream_id = ? FOR NO KEY UPDATE), \
     m AS MATERIALIZED (SELECT seq, mac FROM audit_head WHERE chain = ? FOR NO KEY UPDATE) \
     SELECT f.fresh, a.id AS account_id, a.environment, a.state, a.live_enabled, h.epoch, h.head, m.seq, m.mac \
     FROM f LEFT JOIN a ON true LEFT JOIN h ON true LEFT JOIN m ON true";

const WRITE: &str = concat!(
    "WITH o AS (INSERT INTO orders (",
    insert_columns!(),
    ") VALUES (",
    insert_places!(),
    ") RETURNING account_id, id, created_at), \
     y AS (INSERT INTO order_history (account_id, order_id, version, at, to_status, cause) \
       SELECT account_id, id, 1, created_at, 'pending_submit', 'accepted' FROM o), \
     j AS (INSERT INTO jobs (queue, kind, max_attempts, dedup_key, payload) VALUES (?, ?, ?, ?, ?)), \
     h AS (UPDATE stream_head SET head = ? WHERE stream_id = ?), \
     e AS (INSERT INTO stream_event (stream_id, off, epoch, kind, payload, at) VALUES (?, ?, ?, ?, ?, ?)), \
     n AS (UPDATE audit_head SET seq = ?, mac = ? WHERE chain = ?), \
     l AS (INSERT INTO audit_log (chain, seq, at, action, outcome, actor_id, subject_id, ip, user_agent, request_id, \
       detail, mac) VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?)) \
     UPDATE idempotency_keys SET status = 202, body = ?, provisional = ? WHERE user_id = ? AND key = ?"
);

impl Tx<'_> {
    /// Accepts an order: its row, history, submit job, stream event, audit entry and provisional reply, or nothing.
    ///
    /// # Errors
    /// Kind `Contention` when a twin holds the key right now; kind `Duplicate` when an order has the derived client
    /// order id already (the key was used before and has expired); the store's own.
    pub fn accept_order(
        &mut self,
        accept: &AcceptOrder,
        ids: &dyn ClientOrderIds,
    ) -> Result<Accepted, StoreError> {
        let user = accept.user.0;
        let read = prepared(READ)
            .bind::<BigInt, _>(user)
            .bind::<Text, _>(accept.key.as_str())
            .bind::<Text, _>(accept.route)
            .bind::<Binary, _>(accept.fingerprint.0.as_slice())
            .bind::<SqlUuid, _>(accept.id.0)
            .bind::<BigInt, _>(accept.in_flight.num_milliseconds())
            .bind::<BigInt, _>(user)
            .bind::<BigInt, _>(user)
            .bind::<BigInt, _>(user)
            .get_result::<Read>(self.conn())
            .store()?;
        if read.fresh == 0 {
            let state = self.key_state(accept.user, &accept.key, &accept.fingerprint)?;
            let gone = || StoreError::new(StoreErrorKind::Contention, "the taken key was released meanwhile");
            return state.map(Accepted::Key).ok_or_else(gone);
        }
        let (Some(account), Some(environment), Some(state)) = (read.account_id, read.environment, read.state)
        else {
            if self.account_of_user(accept.user)?.is_some() {
                let moved = "the user trades in another environment since a moment ago";
                return Err(StoreError::new(StoreErrorKind::Contention, moved));
            }
            return self.withdraw_key(accept).map(|()| Accepted::NoAccount);
        };
        if state != "active" {
            return self.withdraw_key(accept).map(|()| Accepted::AccountDisabled);
        }
        let environment: Environment = environment
            .parse()
            .map_err(|why| StoreError::inconsistent("accounts", "environment", account, why))?;
        if environment == Environment::Live && read.live_enabled != Some(true) {
            return self.withdraw_key(accept).map(|()| Accepted::LiveDisabled);
        }
        if accept.closes {
            let closable = self.closable(AccountId(account), &accept.terms)?;
            if accept.terms.qty().is_none_or(|qty| qty.get() > closable) {
                return self.withdraw_key(accept).map(|()| Accepted::TooMuch { closable });
            }
        }
        let missing = |table: &str| StoreError::inconsistent(table, "id", user, "the user's row is missing");
        let (Some(epoch), Some(head)) = (read.epoch, read.head) else { return Err(missing("stream_head")) };
        let (Some(seq), Some(mac)) = (read.seq, read.mac) else { return Err(missing("audit_head")) };

        let order = new_order(accept, AccountId(account), environment, ids);
        let view: Arc<str> = json(&OrderView::new(&order, &[])).into();
        let mut audit = accept.audit.neutral();
        audit.subject_id = Some(accept.user);
        audit.detail = detail(&order, &audit.detail);
        let row = audit_row_bytes(user, seq + 1, &audit);
        let audit_detail = audit.canonical_detail();
        let mac = next_mac(&self.platform_keys()?.audit, &mac, &row)?;
        let job = SubmitPayload::job(&order);
        let written = bind_order(prepared(WRITE), &order)
            .bind::<Text, _>(job.queue.as_str())
            .bind::<Text, _>(job.kind.as_str())
            .bind::<Integer, _>(i32::try_from(job.max_attempts).unwrap_or(i32::MAX))
            .bind::<Nullable<Text>, _>(job.dedup_key.as_deref())
            .bind::<Jsonb, _>(&job.payload)
            .bind::<BigInt, _>(head + 1)
            .bind::<BigInt, _>(user)
            .bind::<BigInt, _>(user)
            .bind::<BigInt, _>(head + 1)
            .bind::<SqlUuid, _>(epoch)
            .bind::<Text, _>(EventKind::OrderCreated.as_str())
            .bind::<Text, _>(&*view)
            .bind::<Timestamptz, _>(accept.now)
            .bind::<BigInt, _>(seq + 1)
            .bind::<Binary, _>(mac.as_slice())
            .bind::<BigInt, _>(user)
            .bind::<BigInt, _>(user)
            .bind::<BigInt, _>(seq + 1)
            .bind::<Timestamptz, _>(audit.at)
            .bind::<Text, _>(audit.action.as_str())
            .bind::<Text, _>(audit.outcome.as_str())
            .bind::<Nullable<BigInt>, _>(audit.actor_id.map(|id| id.0))
            .bind::<Nullable<BigInt>, _>(audit.subject_id.map(|id| id.0))
            .bind::<Nullable<Text>, _>(audit.ip.as_deref())
            .bind::<Nullable<Text>, _>(audit.user_agent.as_deref())
            .bind::<Nullable<SqlUuid>, _>(audit.request_id)
            .bind::<Text, _>(audit_detail.as_str())
            .bind::<Binary, _>(mac.as_slice())
            .bind::<Binary, _>(view.as_bytes())
            .bind::<Bool, _>(!accept.answered_at_once)
            .bind::<BigInt, _>(user)
            .bind::<Text, _>(accept.key.as_str())
            .execute(self.conn())
            .map_err(write_error)?;
        if written != 1 {
            return Err(StoreError::new(
                StoreErrorKind::Other,
                "the key's row vanished inside its transaction",
            ));
        }
        self.note(CommitNote::Stream(StreamEvent {
            stream: StreamId::User(accept.user),
            epoch,
            offset: head + 1,
            kind: EventKind::OrderCreated,
            data: Arc::clone(&view),
            at: accept.now,
        }));
        self.wake(job_topic(BROKER_QUEUE));
        let reply = StoredReply { status: 202, body: view.as_bytes().to_vec() };
        Ok(Accepted::New { order: Box::new(order), reply })
    }

    /// What an order on this side can close of the position, when every open order on its side fills. A statement of its
    /// own, begun under the account's lock: it sees every order that was accepted before.
    fn closable(&mut self, account: AccountId, terms: &NewOrder) -> Result<Decimal, StoreError> {
        #[derive(QueryableByName)]
        struct Closable {
            #[diesel(sql_type = Numeric)]
            closable: Decimal,
        }
        let row = prepared(
            "SELECT coalesce((SELECT CASE WHEN ? = 'sell' THEN p.qty ELSE -p.qty END FROM positions p \
               WHERE p.account_id = ? AND p.symbol = ?), 0) \
             - coalesce((SELECT sum(o.qty - o.filled_qty) FROM orders o WHERE o.account_id = ? AND o.symbol = ? \
               AND o.side = ? AND o.closed_at IS NULL AND o.status <> 'held'), 0) AS closable",
        )
        .bind::<Text, _>(terms.side.as_str())
        .bind::<BigInt, _>(account.0)
        .bind::<Text, _>(terms.symbol.as_str())
        .bind::<BigInt, _>(account.0)
        .bind::<Text, _>(terms.symbol.as_str())
        .bind::<Text, _>(terms.side.as_str())
        .get_result::<Closable>(self.conn())
        .store()?;
        Ok(row.closable.normalize())
    }

    /// A refusal without an effect leaves no key behind.
    fn withdraw_key(&mut self, accept: &AcceptOrder) -> Result<(), StoreError> {
        prepared("DELETE FROM idempotency_keys WHERE user_id = ? AND key = ?")
            .bind::<BigInt, _>(accept.user.0)
            .bind::<Text, _>(accept.key.as_str())
            .execute(self.conn())
            .store()?;
        Ok(())
    }

    /// What is on record under a key; `None` when no request has claimed it. In a statement of its own: the claim's
    /// does not see a twin that committed after it began.
    ///
    /// # Errors
    /// The store's own.
    pub fn key_state(
        &mut self,
        user: UserId,
        key: &IdempotencyKey,
        fingerprint: &Fingerprint,
    ) -> Result<Option<KeyState>, StoreError> {
        #[derive(QueryableByName)]
        struct Row {
            #[diesel(sql_type = Binary)]
            fingerprint: Vec<u8>,
            #[diesel(sql_type = Nullable<SmallInt>)]
            status: Option<i16>,
            #[diesel(sql_type = Nullable<Binary>)]
            body: Option<Vec<u8>>,
            #[diesel(sql_type = Bool)]
            provisional: bool,
            #[diesel(sql_type = Bool)]
            running: bool,
            #[diesel(sql_type = Nullable<SqlUuid>)]
            order_id: Option<Uuid>,
        }
        let row = prepared(
            "SELECT fingerprint, status, body, provisional, in_flight_until > clock_timestamp() AS running, order_id \
             FROM idempotency_keys WHERE user_id = ? AND key = ?",
        )
        .bind::<BigInt, _>(user.0)
        .bind::<Text, _>(key.as_str())
        .get_result::<Row>(self.conn())
        .optional()
        .store()?;
        let Some(row) = row else { return Ok(None) };
        if row.fingerprint != fingerprint.0 {
            return Ok(Some(KeyState::Reused));
        }
        Ok(Some(match (row.provisional, row.status, row.body) {
            (false, Some(status), Some(body)) => {
                let status = u16::try_from(status)
                    .map_err(|why| StoreError::inconsistent("idempotency_keys", "status", user, why))?;
                KeyState::Replay(StoredReply { status, body })
            }
            _ if row.running => KeyState::InFlight,
            _ => KeyState::Unanswered(row.order_id.map(OrderId)),
        }))
    }

    /// Stores a request's final reply before it is sent; `false` when one is stored already, which then holds.
    ///
    /// # Errors
    /// The store's own.
    pub fn finish_key(
        &mut self,
        user: UserId,
        key: &IdempotencyKey,
        reply: &StoredReply,
    ) -> Result<bool, StoreError> {
        let status = i16::try_from(reply.status)
            .map_err(|_| StoreError::new(StoreErrorKind::Other, "a status beyond 32767"))?;
        let changed = prepared(
            "UPDATE idempotency_keys SET status = ?, body = ?, provisional = false \
             WHERE user_id = ? AND key = ? AND provisional",
        )
        .bind::<SmallInt, _>(status)
        .bind::<Binary, _>(reply.body.as_slice())
        .bind::<BigInt, _>(user.0)
        .bind::<Text, _>(key.as_str())
        .execute(self.conn())
        .store()?;
        Ok(changed == 1)
    }
}

/// What the server names when an order with the same client order id is there already: the order's own constraint or,
/// while it is not sent yet, that of its submit job, whose deduplication key is the client order id.
const SAME_ORDER: [&str; 2] = ["orders_client_order_id_key", "jobs_dedup"];

/// Any other row that is there already (of a stream, of the audit chain) is a fault of the store's, not of the caller's.
fn write_error(error: Error) -> StoreError {
    match &error {
        Error::DatabaseError(DatabaseErrorKind::UniqueViolation, information)
            if !information.constraint_name().is_some_and(|name| SAME_ORDER.contains(&name)) =>
        {
            StoreError::new(StoreErrorKind::Other, "a row of the order exists already").caused_by(error)
        }
        _ => store_error(error),
    }
}

fn new_order(
    accept: &AcceptOrder,
    account: AccountId,
    environment: Environment,
    ids: &dyn ClientOrderIds,
) -> Order {
    let (market, other) = accept.submit_within;
    let within = if accept.terms.pricing.order_type() == OrderType::Market { market } else { other };
    Order {
        id: accept.id,
        account_id: account,
        user_id: accept.user,
        client_order_id: ids.derive(account, accept.user, &accept.source, &accept.key),
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
        submit: SubmitNotes { attempts: 0, deadline: accept.now + within, started_at: None, probes: 0 },
        created_at: accept.now,
        submitted_at: None,
        updated_at: accept.now,
        closed_at: None,
        version: 1,
    }
}

/// What the audit entry says of an order: what was asked for, nothing that changes later; and what the caller's entry says
/// besides, such as the session.
fn detail(order: &Order, given: &serde_json::Value) -> serde_json::Value {
    let view = OrderView::new(order, &[]);
    let mut detail = serde_json::json!({
        "order_id": order.id,
        "client_order_id": view.client_order_id,
        "symbol": view.symbol,
        "side": view.side,
        "type": view.order_type,
        "time_in_force": view.time_in_force,
        "qty": view.qty,
        "notional": view.notional,
        "limit_price": view.limit_price,
        "stop_price": view.stop_price,
        "order_class": view.order_class,
        "environment": view.environment,
    });
    if let (Some(fields), Some(given)) = (detail.as_object_mut(), given.as_object()) {
        for (name, value) in given {
            fields.entry(name).or_insert_with(|| value.clone());
        }
    }
    detail
}
