//! What an account holds and has open, and what its risk allows.

use chrono::{DateTime, TimeDelta, Utc};
use diesel::sql_types::{Array, BigInt, Bool, Nullable, Numeric, Text, Timestamptz, Uuid as SqlUuid};
use diesel::{QueryableByName, RunQueryDsl};
use plimsoll_core_domain::order::{NewOrder, Order, OrderSize, OrderStatus};
use plimsoll_core_domain::risk::{
    Candidate, Exposure, Halts, MAX_COUNT, RiskLimits, RiskRefusal, Unclear, check,
};
use plimsoll_core_domain::{AccountId, OrderId, Price, Quantity, StoreError};
use rust_decimal::Decimal;
use uuid::Uuid;

use super::enforce::RECENT;
use super::{halts_of, limits_of};
use crate::db::Tx;
use crate::db::errors::StoreResult;
use crate::db::prepared::prepared;

/// Whose exposure, and how an order would see it.
#[derive(Clone, Copy, Debug)]
pub struct ExposureQuery<'a> {
    /// The account.
    pub account: AccountId,
    /// The order: its symbol and side.
    pub terms: &'a NewOrder,
    /// What the symbol trades at, as the broker said within the last minute.
    pub reference: Option<Price>,
    /// Open orders that do not count.
    pub without: &'a [OrderId],
    /// Accepted orders that are younger and were not sent do not count.
    pub before: Option<OrderId>,
    /// At most so many orders of the last minute are counted; 0 counts none.
    pub last_minute: u32,
    /// Now.
    pub now: DateTime<Utc>,
}

#[derive(QueryableByName)]
struct Row {
    #[diesel(sql_type = Numeric)]
    position: Decimal,
    #[diesel(sql_type = Nullable<Numeric>)]
    last_price: Option<Decimal>,
    #[diesel(sql_type = Numeric)]
    open_units: Decimal,
    #[diesel(sql_type = Numeric)]
    open_value: Decimal,
    #[diesel(sql_type = Numeric)]
    open_amounts: Decimal,
    #[diesel(sql_type = Nullable<Numeric>)]
    open_dearest: Option<Decimal>,
    #[diesel(sql_type = Bool)]
    unpriced: bool,
    #[diesel(sql_type = BigInt)]
    open_orders: i64,
    #[diesel(sql_type = BigInt)]
    last_minute: i64,
}

/// One statement, so that a fill between two cannot be missed or counted twice. Legs that wait for their entry or for each
/// other (`held`) do not count as open on their side; legs whose entry the broker has not confirmed are counted with it.
/// What was filled of a final order and is not booked yet counts as open. Ids grow with time: the newest orders hold those
/// of the last minute.
const EXPOSURE: &str = "WITH p AS MATERIALIZED ( \
       SELECT (SELECT qty FROM positions WHERE account_id = ? AND symbol = ?) AS qty, \
         (SELECT max(price) FROM fills WHERE account_id = ? AND created_at > ? AND executed_at > ? AND symbol = ?) AS last_price), \
     r AS MATERIALIZED (SELECT greatest(?::numeric, last_price) AS mark FROM p), \
     n AS MATERIALIZED ( \
       SELECT symbol, side, status <> 'held' AS working, qty - filled_qty AS units, notional - filled_value AS amount, \
         limit_price, stop_price, \
         CASE WHEN parent_id IS NULL AND status IN ('pending_submit', 'submitting', 'unknown') THEN \
           CASE order_class WHEN 'bracket' THEN 3 WHEN 'oco' THEN 2 WHEN 'oto' THEN 2 ELSE 1 END ELSE 1 END AS orders \
       FROM orders WHERE account_id = ? AND closed_at IS NULL AND id <> ALL(?) AND NOT (status = 'pending_submit' AND id > ?) \
       UNION ALL \
       SELECT symbol, side, true, broker_filled_qty - filled_qty, NULL, limit_price, stop_price, 0 \
       FROM orders WHERE account_id = ? AND closed_at > ? AND broker_filled_qty > filled_qty AND source_kind <> 'external'), \
     o AS MATERIALIZED (SELECT symbol = ? AND side = ? AND working AS mine, units, amount, orders, \
         CASE WHEN side = 'buy' AND limit_price IS NOT NULL THEN limit_price \
           WHEN r.mark IS NOT NULL THEN greatest(limit_price, stop_price, r.mark) END AS price \
       FROM n, r) \
     SELECT coalesce((SELECT qty FROM p), 0) AS position, (SELECT last_price FROM p) AS last_price, \
       coalesce(sum(units) FILTER (WHERE mine), 0) AS open_units, \
       least(round(coalesce(sum(units * price) FILTER (WHERE mine), 0), 6), 1000000000000000000) AS open_value, \
       coalesce(sum(greatest(amount, 0)) FILTER (WHERE mine), 0) AS open_amounts, \
       max(price) FILTER (WHERE mine AND units > 0) AS open_dearest, \
       coalesce(bool_or(price IS NULL) FILTER (WHERE mine AND units > 0), false) AS unpriced, \
       coalesce(sum(orders), 0) AS open_orders, \
       (SELECT count(*) FROM (SELECT created_at FROM orders WHERE account_id = ? AND parent_id IS NULL \
          AND source_kind <> 'external' ORDER BY account_id DESC, id DESC LIMIT ?) n WHERE n.created_at > ?) AS last_minute \
     FROM o";

impl Tx<'_> {
    /// What an account holds and has open, seen from an order. Under the account's lock nothing is added to it.
    ///
    /// # Errors
    /// The store's own.
    pub fn exposure(&mut self, query: &ExposureQuery<'_>) -> Result<Exposure, StoreError> {
        let (account, symbol) = (query.account.0, query.terms.symbol.as_str());
        let minute_ago = query.now - TimeDelta::minutes(1);
        let row = prepared(EXPOSURE)
            .bind::<BigInt, _>(account)
            .bind::<Text, _>(symbol)
            .bind::<BigInt, _>(account)
            .bind::<Timestamptz, _>(minute_ago)
            .bind::<Timestamptz, _>(minute_ago)
            .bind::<Text, _>(symbol)
            .bind::<Nullable<Numeric>, _>(query.reference.map(Price::get))
            .bind::<BigInt, _>(account)
            .bind::<Array<SqlUuid>, _>(query.without.iter().map(|id| id.0).collect::<Vec<_>>())
            .bind::<SqlUuid, _>(query.before.map_or(Uuid::max(), |id| id.0))
            .bind::<BigInt, _>(account)
            .bind::<Timestamptz, _>(query.now - RECENT)
            .bind::<Text, _>(symbol)
            .bind::<Text, _>(query.terms.side.as_str())
            .bind::<BigInt, _>(account)
            .bind::<BigInt, _>(i64::from(query.last_minute.min(MAX_COUNT)))
            .bind::<Timestamptz, _>(minute_ago)
            .get_result::<Row>(self.conn())
            .store()?;
        let price = |column, value: Option<Decimal>| {
            value
                .map(Price::new)
                .transpose()
                .map_err(|why| StoreError::inconsistent("orders", column, query.account, why))
        };
        Ok(Exposure {
            position: row.position.normalize(),
            last_price: price("last_price", row.last_price)?,
            open_units: row.open_units.normalize(),
            open_value: row.open_value.normalize(),
            open_amounts: row.open_amounts.normalize(),
            open_dearest: price("price", row.open_dearest)?,
            unpriced: row.unpriced,
            open_orders: row.open_orders.try_into().unwrap_or(u32::MAX),
            last_minute: row.last_minute.try_into().unwrap_or(u32::MAX),
        })
    }

    /// Locks an account, and reads its owner's limits, what is halted, and what is unclear.
    pub(crate) fn lock_risk(
        &mut self,
        account: AccountId,
    ) -> Result<(RiskLimits, Halts, Unclear), StoreError> {
        #[derive(QueryableByName)]
        struct Risk {
            #[diesel(sql_type = Nullable<Text>)]
            risk_limits: Option<String>,
            #[diesel(sql_type = Nullable<Text>)]
            halt_user: Option<String>,
            #[diesel(sql_type = Nullable<Text>)]
            halt_global: Option<String>,
            #[diesel(sql_type = Nullable<Array<Text>>)]
            entries_blocked: Option<Vec<String>>,
        }
        let row = prepared(
            "SELECT risk_limits::text AS risk_limits, halt_user, halt_global, \
             CASE WHEN compare_after IS NULL THEN entries_blocked ELSE ARRAY['*'] END AS entries_blocked \
             FROM accounts WHERE id = ? FOR NO KEY UPDATE",
        )
        .bind::<BigInt, _>(account.0)
        .get_result::<Risk>(self.conn())
        .store()?;
        let halts = halts_of(account, row.halt_user.as_deref(), row.halt_global.as_deref())?;
        let unclear = Unclear::new(row.entries_blocked.unwrap_or_default());
        Ok((limits_of(account, row.risk_limits.as_deref())?, halts, unclear))
    }

    /// The halt that keeps an accepted order from being sent. Legs go out with their entry, and what is under way or final is
    /// past that.
    pub(crate) fn halted(&mut self, order: &Order, halts: Halts) -> Result<Option<RiskRefusal>, StoreError> {
        let waits = matches!(
            order.status,
            OrderStatus::PendingSubmit | OrderStatus::Submitting | OrderStatus::Unknown
        );
        if halts.level().is_none() || !waits || order.parent_id.is_some() {
            return Ok(None);
        }
        // A replacement takes the place of its old order, and may be what that one was.
        let old = match order.replaces {
            Some(old) => self.order(order.account_id, old)?,
            None => None,
        };
        let without: Vec<OrderId> = [Some(order.id), order.replaces].into_iter().flatten().collect();
        let exposure = self.exposure(&ExposureQuery {
            account: order.account_id,
            terms: &order.terms,
            reference: None,
            without: &without,
            before: Some(order.id),
            last_minute: 0,
            now: order.created_at,
        })?;
        let left = old.and_then(|old| old.open_qty()).and_then(|left| Quantity::new(left).ok());
        // Limits were held against it when it was accepted.
        let candidate = Candidate {
            terms: &order.terms,
            reference: None,
            closes: true,
            replaces: left.map(OrderSize::Qty),
        };
        Ok(check(&candidate, &RiskLimits::default(), halts, &exposure).err())
    }
}
