//! The decision log as its owner reads it.

use chrono::{DateTime, Utc};
use diesel::sql_types::{BigInt, Binary, Bool, Nullable, Numeric, Text, Timestamptz, Uuid as SqlUuid};
use diesel::{QueryableByName, RunQueryDsl};
use plimsoll_core_domain::{StoreError, UserId};
use rust_decimal::Decimal;
use uuid::Uuid;

use super::SignalVerdict;
use crate::db::Tx;
use crate::db::errors::StoreResult;
use crate::db::prepared::prepared;

/// A delivery, and what was made of it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SignalRow {
    /// Its id.
    pub id: Uuid,
    /// When it came.
    pub received_at: DateTime<Utc>,
    /// What was made of it.
    pub verdict: SignalVerdict,
    /// The reason's code.
    pub reason: Option<String>,
    /// A sentence.
    pub detail: Option<String>,
    /// Something is still to come.
    pub pending: bool,
    /// Bytes.
    pub size_bytes: i64,
    /// Of the body.
    pub sha256: Vec<u8>,
    /// The JSON text without secrets.
    pub body: Option<String>,
    /// From where.
    pub ip: Option<String>,
    /// The symbol.
    pub symbol: Option<String>,
    /// The action's word.
    pub action: Option<String>,
    /// When the sender sent it.
    pub sent_at: Option<DateTime<Utc>>,
    /// The position that it is to lead to.
    pub target: Option<Decimal>,
    /// Its order.
    pub order_id: Option<Uuid>,
    /// The second order of a reversal.
    pub next_order_id: Option<Uuid>,
    /// The signal that came first.
    pub duplicate_of: Option<Uuid>,
    /// When it was decided on.
    pub decided_at: Option<DateTime<Utc>>,
}

#[derive(QueryableByName)]
struct Row {
    #[diesel(sql_type = SqlUuid)]
    id: Uuid,
    #[diesel(sql_type = Timestamptz)]
    received_at: DateTime<Utc>,
    #[diesel(sql_type = Text)]
    verdict: String,
    #[diesel(sql_type = Nullable<Text>)]
    reason: Option<String>,
    #[diesel(sql_type = Nullable<Text>)]
    detail: Option<String>,
    #[diesel(sql_type = Bool)]
    pending: bool,
    #[diesel(sql_type = BigInt)]
    size_bytes: i64,
    #[diesel(sql_type = Binary)]
    sha256: Vec<u8>,
    #[diesel(sql_type = Nullable<Text>)]
    body: Option<String>,
    #[diesel(sql_type = Nullable<Text>)]
    ip: Option<String>,
    #[diesel(sql_type = Nullable<Text>)]
    symbol: Option<String>,
    #[diesel(sql_type = Nullable<Text>)]
    action: Option<String>,
    #[diesel(sql_type = Nullable<Timestamptz>)]
    sent_at: Option<DateTime<Utc>>,
    #[diesel(sql_type = Nullable<Numeric>)]
    target: Option<Decimal>,
    #[diesel(sql_type = Nullable<SqlUuid>)]
    order_id: Option<Uuid>,
    #[diesel(sql_type = Nullable<SqlUuid>)]
    next_order_id: Option<Uuid>,
    #[diesel(sql_type = Nullable<SqlUuid>)]
    duplicate_of: Option<Uuid>,
    #[diesel(sql_type = Nullable<Timestamptz>)]
    decided_at: Option<DateTime<Utc>>,
}

impl TryFrom<Row> for SignalRow {
    type Error = StoreError;
    fn try_from(row: Row) -> Result<Self, StoreError> {
        let bad = |why: &str| StoreError::inconsistent("signals", "verdict", row.id, why);
        Ok(Self {
            id: row.id,
            received_at: row.received_at,
            verdict: row.verdict.parse().map_err(bad)?,
            reason: row.reason,
            detail: row.detail,
            pending: row.pending,
            size_bytes: row.size_bytes,
            sha256: row.sha256,
            body: row.body,
            ip: row.ip,
            symbol: row.symbol,
            action: row.action,
            sent_at: row.sent_at,
            target: row.target.map(|target| target.normalize()),
            order_id: row.order_id,
            next_order_id: row.next_order_id,
            duplicate_of: row.duplicate_of,
            decided_at: row.decided_at,
        })
    }
}

impl Tx<'_> {
    /// A hook's signals, newest first, after the one with this id.
    ///
    /// # Errors
    /// The store's own.
    pub fn signals_of(
        &mut self,
        user: UserId,
        hook: Uuid,
        after: Option<Uuid>,
        limit: i64,
    ) -> Result<Vec<SignalRow>, StoreError> {
        prepared(
            "SELECT id, received_at, verdict, reason, detail, pending, size_bytes, sha256, body, ip, symbol, action, sent_at, \
               target, order_id, next_order_id, duplicate_of, decided_at FROM signals \
             WHERE user_id = ? AND hook_id = ? AND id < ? ORDER BY id DESC LIMIT ?",
        )
        .bind::<BigInt, _>(user.0)
        .bind::<SqlUuid, _>(hook)
        .bind::<SqlUuid, _>(after.unwrap_or(Uuid::max()))
        .bind::<BigInt, _>(limit)
        .load::<Row>(self.conn())
        .store()?
        .into_iter()
        .map(SignalRow::try_from)
        .collect()
    }
}
