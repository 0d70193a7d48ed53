//! The second statement: it writes everything that belongs to an order.

use std::sync::Arc;

use diesel::RunQueryDsl;
use diesel::result::{DatabaseErrorKind, Error};
use diesel::sql_types::{
    BigInt, Binary, Bool, Integer, Jsonb, Nullable, Numeric, Text, Timestamptz, Uuid as SqlUuid,
};
use plimsoll_core_domain::order::{NewOrder, Order, OrderSize};
use plimsoll_core_domain::stream::{EventKind, StreamEvent, StreamId};
use plimsoll_core_domain::views::{OrderView, json};
use plimsoll_core_domain::{OrderId, Price, StoreError, StoreErrorKind};
use plimsoll_reliability::jobs::job_topic;
use plimsoll_reliability::submit::{BROKER_QUEUE, SubmitPayload};
use rust_decimal::Decimal;
use uuid::Uuid;

use super::super::write::{bind_order, insert_columns, insert_places};
use super::{AcceptKey, AcceptOrder};
use crate::db::errors::store_error;
use crate::db::prepared::prepared;
use crate::db::{CommitNote, Tx};
use crate::platform::audit::{audit_row_bytes, next_mac};

/// The heads that the first statement locked, as they stand.
pub(super) struct Heads {
    pub(super) epoch: Uuid,
    pub(super) head: i64,
    pub(super) seq: i64,
    pub(super) mac: Vec<u8>,
}

/// How a decision on a signal ends with the order that is written.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Settles {
    /// The signal.
    pub signal: Uuid,
    /// Another order is still to come.
    pub pending: bool,
    /// The position that it leads to.
    pub target: Option<Decimal>,
    /// The order is the second one of a reversal, after this.
    pub first: Option<OrderId>,
}

macro_rules! written {
    ($last:literal) => {
        concat!(
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
             l AS (INSERT INTO audit_log (chain, seq, at, action, outcome, actor_id, subject_id, ip, user_agent, \
               request_id, detail, mac) VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?))",
            $last
        )
    };
}

const OF_REQUEST: &str = written!(
    ", n AS (UPDATE audit_head SET seq = ?, mac = ? WHERE chain = ?) \
     UPDATE idempotency_keys SET status = 202, body = ?, provisional = ? WHERE user_id = ? AND key = ?"
);

const OF_SIGNAL: &str = written!(
    ", s AS (UPDATE signals SET verdict = 'accepted', reason = NULL, detail = NULL, pending = ?, \
       target = coalesce(?, target), order_id = coalesce(order_id, ?), next_order_id = ?, \
       decided_at = coalesce(decided_at, ?) WHERE user_id = ? AND id = ?) \
     UPDATE audit_head SET seq = ?, mac = ? WHERE chain = ?"
);

const INTERNAL: &str = written!(" UPDATE audit_head SET seq = ?, mac = ? WHERE chain = ?");

impl Tx<'_> {
    /// Writes an order with its history, submit job, stream event, audit entry and, where a request asked for it, its
    /// provisional reply. Answers with the order's view.
    pub(super) fn write_order(
        &mut self,
        accept: &AcceptOrder,
        order: &Order,
        heads: &Heads,
        settles: Option<&Settles>,
    ) -> Result<Arc<str>, StoreError> {
        let user = accept.user.0;
        let Heads { epoch, head, seq, ref mac } = *heads;
        let view: Arc<str> = json(&OrderView::new(order, &[])).into();
        let mut audit = accept.audit.neutral();
        audit.subject_id = Some(accept.user);
        audit.detail = detail(order, &audit.detail);
        let row = audit_row_bytes(user, seq + 1, &audit);
        let audit_detail = audit.canonical_detail();
        let mac = next_mac(&self.platform_keys()?.audit, mac, &row)?;
        let job = SubmitPayload::job(order);
        let text = match (&accept.key, settles) {
            (AcceptKey::Request(_), _) => OF_REQUEST,
            (AcceptKey::Internal(_), Some(_)) => OF_SIGNAL,
            (AcceptKey::Internal(_), None) => INTERNAL,
        };
        let mut statement = bind_order(prepared(text), order)
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
            .bind::<Binary, _>(mac.as_slice());
        if let (AcceptKey::Internal(_), Some(settles)) = (&accept.key, settles) {
            statement = statement
                .bind::<Bool, _>(settles.pending)
                .bind::<Nullable<Numeric>, _>(settles.target)
                .bind::<SqlUuid, _>(settles.first.unwrap_or(order.id).0)
                .bind::<Nullable<SqlUuid>, _>(settles.first.map(|_| order.id.0))
                .bind::<Timestamptz, _>(accept.now)
                .bind::<BigInt, _>(user)
                .bind::<SqlUuid, _>(settles.signal);
        }
        statement =
            statement.bind::<BigInt, _>(seq + 1).bind::<Binary, _>(mac.as_slice()).bind::<BigInt, _>(user);
        if let AcceptKey::Request(request) = &accept.key {
            statement = statement
                .bind::<Binary, _>(view.as_bytes())
                .bind::<Bool, _>(!request.answered_at_once)
                .bind::<BigInt, _>(user)
                .bind::<Text, _>(request.key.as_str());
        }
        if statement.execute(self.conn()).map_err(write_error)? != 1 {
            let gone = "the row of the key or of the audit head vanished inside its transaction";
            return Err(StoreError::new(StoreErrorKind::Other, gone));
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
        Ok(view)
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

/// What the audit entry of an order that was not taken says was asked for.
pub(super) fn detail_of_terms(terms: &NewOrder) -> serde_json::Value {
    let price = |price: Option<Price>| price.map(|price| price.to_string());
    let (qty, notional) = match terms.size {
        OrderSize::Qty(qty) => (Some(qty.to_string()), None),
        OrderSize::Notional(amount) => (None, Some(amount.to_string())),
    };
    serde_json::json!({
        "symbol": terms.symbol,
        "side": terms.side,
        "type": terms.pricing.order_type(),
        "time_in_force": terms.time_in_force,
        "qty": qty,
        "notional": notional,
        "limit_price": price(terms.pricing.limit_price()),
        "stop_price": price(terms.pricing.stop_price()),
        "order_class": terms.class,
    })
}
