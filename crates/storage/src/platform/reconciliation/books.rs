//! Reading an account's side of a comparison, and taking over what only the broker has.

use std::collections::{HashMap, HashSet};

use chrono::{DateTime, Utc};
use diesel::sql_types::{Array, BigInt, Bool, Integer, Nullable, Text, Timestamptz, Uuid as SqlUuid};
use diesel::{QueryableByName, RunQueryDsl};
use plimsoll_core_domain::broker::BrokerOrder;
use plimsoll_core_domain::order::{Environment, External, Order};
use plimsoll_core_domain::stream::{EventKind, StreamId};
use plimsoll_core_domain::views::{OrderView, json};
use plimsoll_core_domain::{AccountId, BrokerOrderId, OrderId, Quantity, StoreError, UserId};
use plimsoll_reliability::reconcile::{Adopted, Applied as Folded, Lack, Missing, OrderNews, Snapshot};
use uuid::{Builder, Uuid};

use crate::db::Tx;
use crate::db::errors::StoreResult;
use crate::db::prepared::prepared;
use crate::platform::orders::{Applied, ApplyError, IMPORTED, OrderReport, event};

/// The name space of the ids of orders that were taken over (RFC 9562 version 5): the same one has one id.
const EXTERNAL: Uuid = Uuid::from_u128(0x7d1e_6c0a_41fb_4a52_9c3e_20b5_8d4f_6e13);

/// Whose account, and with whose money.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct AccountOwner {
    /// The account.
    pub account: AccountId,
    /// Whose.
    pub user: UserId,
    /// With whose money.
    pub environment: Environment,
}

/// A UUIDv7 that follows from the order alone, so that taking it over twice is the same.
fn external_id(account: AccountId, seen: &BrokerOrder) -> OrderId {
    let hash = Uuid::new_v5(&EXTERNAL, format!("{account}/{}", seen.id).as_bytes());
    let mut random = [0u8; 10];
    random.copy_from_slice(&hash.as_bytes()[..10]);
    let at = seen.submitted_at.unwrap_or(seen.updated_at);
    let millis = u64::try_from(at.timestamp_millis()).unwrap_or_default();
    OrderId(Builder::from_unix_timestamp_millis(millis, &random).into_uuid())
}

impl Tx<'_> {
    /// Whose an account is.
    ///
    /// # Errors
    /// The store's own.
    pub fn account_owner(&mut self, account: AccountId) -> Result<Option<AccountOwner>, StoreError> {
        #[derive(QueryableByName)]
        struct Row {
            #[diesel(sql_type = BigInt)]
            user_id: i64,
            #[diesel(sql_type = Text)]
            environment: String,
        }
        let row = prepared("SELECT user_id, environment FROM accounts WHERE id = ?")
            .bind::<BigInt, _>(account.0)
            .load::<Row>(self.conn())
            .store()?
            .into_iter()
            .next();
        row.map(|row| {
            let environment = row
                .environment
                .parse()
                .map_err(|why| StoreError::inconsistent("accounts", "environment", account, why))?;
            Ok(AccountOwner { account, user: UserId(row.user_id), environment })
        })
        .transpose()
    }

    /// As [`claim_broker_account`](Self::claim_broker_account); an account that is another one at the broker by now is
    /// compared from the beginning.
    ///
    /// # Errors
    /// The store's own.
    pub fn claim_for_comparison(&mut self, account: AccountId, number: &str) -> Result<bool, StoreError> {
        prepared(
            "UPDATE accounts SET reconciled_at = NULL, cash_base = NULL WHERE id = ? AND broker_account <> ? \
             AND reconciled_at IS NOT NULL",
        )
        .bind::<BigInt, _>(account.0)
        .bind::<Text, _>(number)
        .execute(self.conn())
        .store()?;
        self.claim_broker_account(account, number)
    }

    /// What is here of an account before it is compared.
    ///
    /// # Errors
    /// The store's own.
    pub fn comparison_snapshot(&mut self, account: AccountId) -> Result<Snapshot, StoreError> {
        #[derive(QueryableByName)]
        struct Last {
            #[diesel(sql_type = Nullable<Timestamptz>)]
            reconciled_at: Option<DateTime<Utc>>,
            #[diesel(sql_type = Bool)]
            opening: bool,
        }
        #[derive(QueryableByName)]
        struct Noted {
            #[diesel(sql_type = SqlUuid)]
            order_id: Uuid,
            #[diesel(sql_type = Timestamptz)]
            first_seen_at: DateTime<Utc>,
            #[diesel(sql_type = Integer)]
            looks: i32,
        }
        let last = prepared("SELECT reconciled_at, cash_base IS NULL AS opening FROM accounts WHERE id = ?")
            .bind::<BigInt, _>(account.0)
            .get_result::<Last>(self.conn())
            .store()?;
        let noted = prepared(
            "SELECT order_id, first_seen_at, looks FROM discrepancies WHERE account_id = ? AND kind = 'missing_order' \
             AND resolved_at IS NULL AND order_id IS NOT NULL",
        )
        .bind::<BigInt, _>(account.0)
        .load::<Noted>(self.conn())
        .store()?;
        let missing = |row: Noted| {
            let looks = u32::try_from(row.looks).unwrap_or_default();
            (OrderId(row.order_id), Missing { since: row.first_seen_at, looks })
        };
        Ok(Snapshot {
            open: self.open_orders(account)?,
            last_execution: self.last_execution(account)?,
            opening: last.opening,
            missing: noted.into_iter().map(missing).collect(),
            compared_at: last.reconciled_at,
        })
    }

    /// Of these orders at the broker those that are not on record under either id.
    ///
    /// # Errors
    /// The store's own.
    pub fn orders_not_on_record(
        &mut self,
        account: AccountId,
        ids: &[(BrokerOrderId, String)],
    ) -> Result<HashSet<BrokerOrderId>, StoreError> {
        #[derive(QueryableByName)]
        struct Unknown {
            #[diesel(sql_type = Text)]
            id: String,
        }
        let rows = prepared(
            "SELECT t.id FROM unnest(?, ?) AS t(id, client) WHERE NOT EXISTS (SELECT 1 FROM orders o \
             WHERE o.account_id = ? AND o.broker_order_id = t.id) \
             AND NOT EXISTS (SELECT 1 FROM orders o WHERE o.account_id = ? AND o.client_order_id = t.client)",
        )
        .bind::<Array<Text>, _>(ids.iter().map(|(id, _)| id.as_str()).collect::<Vec<_>>())
        .bind::<Array<Text>, _>(ids.iter().map(|(_, client)| client.as_str()).collect::<Vec<_>>())
        .bind::<BigInt, _>(account.0)
        .bind::<BigInt, _>(account.0)
        .load::<Unknown>(self.conn())
        .store()?;
        Ok(rows.into_iter().filter_map(|row| BrokerOrderId::new(row.id).ok()).collect())
    }

    /// Of these orders, with the cumulative quantities of their fills at the broker, those that are not complete here. A
    /// fill that is inferred lacks the real one.
    ///
    /// # Errors
    /// The store's own.
    pub fn orders_lacking_fills(
        &mut self,
        account: AccountId,
        fills: &[(BrokerOrderId, Vec<Quantity>)],
    ) -> Result<HashMap<BrokerOrderId, Lack>, StoreError> {
        #[derive(QueryableByName)]
        struct Lacking {
            #[diesel(sql_type = Text)]
            id: String,
            #[diesel(sql_type = Bool)]
            known: bool,
        }
        let (mut ids, mut sums) = (Vec::new(), Vec::new());
        for (id, of) in fills {
            for sum in of {
                ids.push(id.as_str());
                sums.push(sum.get());
            }
        }
        let rows = prepared(
            "SELECT t.id, bool_and(o.id IS NOT NULL) AS known FROM unnest(?, ?) AS t(id, sum) \
             LEFT JOIN orders o ON o.account_id = ? AND o.broker_order_id = t.id \
             WHERE o.id IS NULL OR NOT EXISTS (SELECT 1 FROM fills f WHERE f.account_id = o.account_id \
               AND f.order_id = o.id AND f.cum_qty >= t.sum AND f.cum_qty - f.qty < t.sum AND f.source <> 'inferred') \
             GROUP BY t.id",
        )
        .bind::<Array<Text>, _>(ids)
        .bind::<Array<diesel::sql_types::Numeric>, _>(sums)
        .bind::<BigInt, _>(account.0)
        .load::<Lacking>(self.conn())
        .store()?;
        Ok(rows
            .into_iter()
            .filter_map(|row| {
                let lack = if row.known { Lack::Fills } else { Lack::Order };
                Some((BrokerOrderId::new(row.id).ok()?, lack))
            })
            .collect())
    }

    /// Folds a report in, and tells what that changed.
    ///
    /// # Errors
    /// As [`apply_report`](Self::apply_report).
    pub fn reconcile_report(
        &mut self,
        account: AccountId,
        report: &OrderReport,
        now: DateTime<Utc>,
    ) -> Result<Folded, ApplyError> {
        let found = self.order_id_at_broker(account, &report.seen.id, &report.seen.client_order_id)?;
        let Some(before) = found.map(|id| self.lock_order(account, id)).transpose()?.flatten() else {
            return Ok(Folded::Unknown);
        };
        let inferred = if before.filled_qty.is_zero() { 0 } else { self.inferred_fills(&before)? };
        let Applied::Known { unbooked, .. } = self.apply_report(account, report, now)? else {
            return Ok(Folded::Unknown);
        };
        let Some(after) = self.order(account, before.id)? else { return Ok(Folded::Unknown) };
        let replaced = match inferred {
            0 => 0,
            _ if report.executions.is_empty() => 0,
            before => before - self.inferred_fills(&after)?.min(before),
        };
        Ok(Folded::Known(Box::new(OrderNews {
            id: before.id,
            symbol: before.terms.symbol,
            from: before.status,
            to: after.status,
            filled: (before.filled_qty, after.filled_qty),
            unbooked,
            replaced: u32::try_from(replaced).unwrap_or_default(),
        })))
    }

    /// Takes an order of the broker over.
    ///
    /// # Errors
    /// The store's own.
    pub fn adopt_order(
        &mut self,
        of: AccountOwner,
        seen: &BrokerOrder,
        ours: bool,
        now: DateTime<Utc>,
    ) -> Result<Adopted, StoreError> {
        // An order with the same client order id may be accepted right now.
        self.lock_account(of.account)?;
        if self.order_id_at_broker(of.account, &seen.id, &seen.client_order_id)?.is_some() {
            return Ok(Adopted::Known);
        }
        let external = External {
            id: external_id(of.account, seen),
            account_id: of.account,
            user_id: of.user,
            environment: of.environment,
            ours,
        };
        let mut order = match Order::external(external, seen, now) {
            Ok(order) => order,
            Err(what) => return Ok(Adopted::Unreadable(what.to_owned())),
        };
        if let Some(old) = &seen.replaces {
            order.replaces = self.order_id_at_broker(of.account, old, "")?;
        }
        self.insert_order_row(&order, if ours { IMPORTED } else { "external" })?;
        let created = event(EventKind::OrderCreated, json(&OrderView::new(&order, &[])));
        self.append_events(StreamId::User(of.user), &[created], now)?;
        Ok(Adopted::Taken(order.id))
    }
}
