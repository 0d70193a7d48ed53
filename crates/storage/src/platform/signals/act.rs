//! What a decision on a signal stands on, under the account's lock.

use chrono::{DateTime, Utc};
use diesel::sql_types::{BigInt, Bool, Nullable, Numeric, Text, Timestamptz, Uuid as SqlUuid};
use diesel::{OptionalExtension, QueryableByName, RunQueryDsl};
use plimsoll_core_domain::order::Environment;
use plimsoll_core_domain::signals::{Place, Reason};
use plimsoll_core_domain::stream::{EventKind, StreamId};
use plimsoll_core_domain::views::json;
use plimsoll_core_domain::{AccountId, OrderId, StoreError, Symbol, UserId};
use plimsoll_reliability::submit::CANCEL_ORDER;
use rust_decimal::Decimal;
use uuid::Uuid;

use crate::db::Tx;
use crate::db::errors::StoreResult;
use crate::db::prepared::prepared;
use crate::platform::orders::event;

/// How things stand for a symbol.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Ground {
    /// The account that the user trades with.
    pub account: AccountId,
    /// With whose money.
    pub environment: Environment,
    /// Units held; negative when short.
    pub held: Decimal,
    /// Market orders that are on their way to a fill.
    pub under_way: i64,
    /// The last signal of the hook and symbol that states a position, apart from the one in question.
    pub last: Option<Place>,
}

/// A signal whose decision, or second order, is still to come.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PendingSignal {
    /// The hook.
    pub hook: Uuid,
    /// When it came.
    pub received_at: DateTime<Utc>,
    /// The JSON text without secrets.
    pub body: String,
    /// From where it came.
    pub ip: Option<String>,
    /// The position that it is to lead to, once decided.
    pub target: Option<Decimal>,
    /// Its first order.
    pub order: Option<OrderId>,
    /// When that was accepted.
    pub ordered_at: Option<DateTime<Utc>>,
    /// When that ended.
    pub closed_at: Option<DateTime<Utc>>,
    /// Its owner is not disabled.
    pub user_active: bool,
}

#[derive(QueryableByName)]
struct GroundRow {
    #[diesel(sql_type = BigInt)]
    id: i64,
    #[diesel(sql_type = Text)]
    environment: String,
    #[diesel(sql_type = Numeric)]
    held: Decimal,
    #[diesel(sql_type = BigInt)]
    under_way: i64,
    #[diesel(sql_type = Bool)]
    has_last: bool,
    #[diesel(sql_type = Nullable<Timestamptz>)]
    sent_at: Option<DateTime<Utc>>,
    #[diesel(sql_type = Nullable<Numeric>)]
    stated_target: Option<Decimal>,
    #[diesel(sql_type = Nullable<Numeric>)]
    stated_previous: Option<Decimal>,
}

#[derive(QueryableByName)]
struct PendingRow {
    #[diesel(sql_type = SqlUuid)]
    hook_id: Uuid,
    #[diesel(sql_type = Timestamptz)]
    received_at: DateTime<Utc>,
    #[diesel(sql_type = Nullable<Text>)]
    body: Option<String>,
    #[diesel(sql_type = Nullable<Text>)]
    ip: Option<String>,
    #[diesel(sql_type = Nullable<Numeric>)]
    target: Option<Decimal>,
    #[diesel(sql_type = Nullable<SqlUuid>)]
    order_id: Option<Uuid>,
    #[diesel(sql_type = Nullable<Timestamptz>)]
    ordered_at: Option<DateTime<Utc>>,
    #[diesel(sql_type = Nullable<Timestamptz>)]
    closed_at: Option<DateTime<Utc>>,
    #[diesel(sql_type = Bool)]
    user_active: bool,
}

impl Tx<'_> {
    /// Locks the account that a user trades with.
    ///
    /// # Errors
    /// The store's own.
    pub fn lock_trading_account(&mut self, user: UserId) -> Result<Option<AccountId>, StoreError> {
        #[derive(QueryableByName)]
        struct Id {
            #[diesel(sql_type = BigInt)]
            id: i64,
        }
        let row = prepared(
            "SELECT id FROM accounts WHERE user_id = ? AND broker = 'alpaca' AND state <> 'inactive' FOR NO KEY UPDATE",
        )
        .bind::<BigInt, _>(user.0)
        .get_result::<Id>(self.conn())
        .optional()
        .store()?;
        Ok(row.map(|row| AccountId(row.id)))
    }

    /// How things stand for a symbol at this moment; `None` without an account. After [`lock_trading_account`](Self::lock_trading_account) it holds
    /// until the transaction ends.
    ///
    /// # Errors
    /// The store's own.
    pub fn ground(
        &mut self,
        user: UserId,
        hook: Uuid,
        signal: Uuid,
        symbol: &Symbol,
    ) -> Result<Option<Ground>, StoreError> {
        let row = prepared(
            "SELECT a.id, a.environment, coalesce(p.qty, 0) AS held, \
               (SELECT count(*) FROM orders o WHERE o.account_id = a.id AND o.symbol = ? AND o.closed_at IS NULL \
                 AND o.role = 'entry' AND o.type = 'market') AS under_way, \
               l.id IS NOT NULL AS has_last, l.sent_at, l.stated_target, l.stated_previous \
             FROM accounts a LEFT JOIN positions p ON p.account_id = a.id AND p.symbol = ? \
             LEFT JOIN LATERAL (SELECT s.id, s.sent_at, s.stated_target, s.stated_previous FROM signals s \
               WHERE s.hook_id = ? AND s.id <> ? AND s.symbol = ? AND s.verdict = 'accepted' \
                 AND (s.stated_target IS NOT NULL OR s.target IS NOT NULL) ORDER BY s.id DESC LIMIT 1) l ON true \
             WHERE a.user_id = ? AND a.broker = 'alpaca' AND a.state <> 'inactive'",
        )
        .bind::<Text, _>(symbol.as_str())
        .bind::<Text, _>(symbol.as_str())
        .bind::<SqlUuid, _>(hook)
        .bind::<SqlUuid, _>(signal)
        .bind::<Text, _>(symbol.as_str())
        .bind::<BigInt, _>(user.0)
        .get_result::<GroundRow>(self.conn())
        .optional()
        .store()?;
        row.map(|row| {
            let bad = |why| StoreError::inconsistent("accounts", "environment", row.id, why);
            Ok(Ground {
                account: AccountId(row.id),
                environment: row.environment.parse().map_err(bad)?,
                held: row.held.normalize(),
                under_way: row.under_way,
                last: row.has_last.then_some(Place {
                    sent_at: row.sent_at,
                    target: row.stated_target.map(|target| target.normalize()),
                    previous: row.stated_previous.map(|previous| previous.normalize()),
                }),
            })
        })
        .transpose()
    }

    /// Ends what earlier signals of the hook and symbol have still to come: this one says where to stand. Under the account's
    /// lock.
    ///
    /// # Errors
    /// The store's own.
    pub fn supersede_signals(
        &mut self,
        user: UserId,
        hook: Uuid,
        signal: Uuid,
        symbol: &Symbol,
        now: DateTime<Utc>,
    ) -> Result<(), StoreError> {
        prepared(
            "UPDATE signals SET pending = false, reason = ?, decided_at = coalesce(decided_at, ?), \
               verdict = CASE WHEN order_id IS NULL THEN 'refused' ELSE verdict END \
             WHERE user_id = ? AND hook_id = ? AND id < ? AND symbol = ? AND pending",
        )
        .bind::<Text, _>(Reason::Superseded.as_str())
        .bind::<Timestamptz, _>(now)
        .bind::<BigInt, _>(user.0)
        .bind::<SqlUuid, _>(hook)
        .bind::<SqlUuid, _>(signal)
        .bind::<Text, _>(symbol.as_str())
        .execute(self.conn())
        .store()?;
        Ok(())
    }

    /// The open orders of a hook in a symbol that rest, by id and locked; with `legs`, those that ride on its entries as well.
    /// Beside each, whether its cancel is under way already.
    ///
    /// # Errors
    /// The store's own.
    pub fn resting_of_hook(
        &mut self,
        account: AccountId,
        hook: Uuid,
        symbol: &Symbol,
        legs: bool,
    ) -> Result<Vec<(OrderId, bool)>, StoreError> {
        #[derive(QueryableByName)]
        struct Resting {
            #[diesel(sql_type = SqlUuid)]
            id: Uuid,
            #[diesel(sql_type = Bool)]
            asked: bool,
        }
        let rows = prepared(
            "SELECT o.id, o.status = 'pending_cancel' OR EXISTS (SELECT FROM jobs j WHERE j.kind = ? \
               AND j.dedup_key = o.id::text AND j.state IN ('ready', 'leased', 'held')) AS asked \
             FROM orders o LEFT JOIN orders e ON e.account_id = o.account_id AND e.id = o.parent_id \
             WHERE o.account_id = ? AND o.symbol = ? AND o.closed_at IS NULL \
               AND coalesce(e.source_kind, o.source_kind) = 'webhook' AND coalesce(e.source_id, o.source_id) = ? \
               AND CASE WHEN o.role = 'entry' THEN o.type <> 'market' ELSE ? END ORDER BY o.id FOR UPDATE OF o",
        )
        .bind::<Text, _>(CANCEL_ORDER)
        .bind::<BigInt, _>(account.0)
        .bind::<Text, _>(symbol.as_str())
        .bind::<Text, _>(hook.to_string())
        .bind::<Bool, _>(legs)
        .load::<Resting>(self.conn())
        .store()?;
        Ok(rows.into_iter().map(|row| (OrderId(row.id), row.asked)).collect())
    }

    /// Whether exits of a hook's own entries are open in a symbol. Locks nothing.
    ///
    /// # Errors
    /// The store's own.
    pub fn has_exits_of_hook(
        &mut self,
        account: AccountId,
        hook: Uuid,
        symbol: &Symbol,
    ) -> Result<bool, StoreError> {
        #[derive(QueryableByName)]
        struct There {
            #[diesel(sql_type = Bool)]
            there: bool,
        }
        let row = prepared(
            "SELECT EXISTS (SELECT FROM orders o LEFT JOIN orders e ON e.account_id = o.account_id AND e.id = o.parent_id \
               WHERE o.account_id = ? AND o.symbol = ? AND o.closed_at IS NULL AND o.role <> 'entry' \
               AND coalesce(e.source_kind, o.source_kind) = 'webhook' AND coalesce(e.source_id, o.source_id) = ?) AS there",
        )
        .bind::<BigInt, _>(account.0)
        .bind::<Text, _>(symbol.as_str())
        .bind::<Text, _>(hook.to_string())
        .get_result::<There>(self.conn())
        .store()?;
        Ok(row.there)
    }

    /// Tells a hook's owner of a signal that was taken and then not followed, or not to its end.
    ///
    /// # Errors
    /// The store's own.
    pub fn tell_unfollowed(
        &mut self,
        user: UserId,
        message: &str,
        now: DateTime<Utc>,
    ) -> Result<(), StoreError> {
        let message: String = message.chars().take(500).collect();
        let data = serde_json::json!({ "message": message, "severity": "warning" });
        self.append_events(StreamId::User(user), &[event(EventKind::SystemAlert, json(&data))], now)?;
        Ok(())
    }

    /// A signal of which something is still to come; locked, so that one decides on it at a time.
    ///
    /// # Errors
    /// The store's own.
    pub fn pending_signal(
        &mut self,
        user: UserId,
        signal: Uuid,
    ) -> Result<Option<PendingSignal>, StoreError> {
        let row = prepared(
            "SELECT s.hook_id, s.received_at, s.body, s.ip, s.target, s.order_id, o.created_at AS ordered_at, \
               o.closed_at, u.state = 'active' AS user_active \
             FROM signals s JOIN users u ON u.id = s.user_id LEFT JOIN orders o ON o.id = s.order_id \
             WHERE s.user_id = ? AND s.id = ? AND s.pending FOR NO KEY UPDATE OF s",
        )
        .bind::<BigInt, _>(user.0)
        .bind::<SqlUuid, _>(signal)
        .get_result::<PendingRow>(self.conn())
        .optional()
        .store()?;
        Ok(row.map(|row| PendingSignal {
            hook: row.hook_id,
            received_at: row.received_at,
            body: row.body.unwrap_or_default(),
            ip: row.ip,
            target: row.target.map(|target| target.normalize()),
            order: row.order_id.map(OrderId),
            ordered_at: row.ordered_at,
            closed_at: row.closed_at,
            user_active: row.user_active,
        }))
    }
}
