//! Writing an order: all its columns at insert, what can change at update, and its history.

use chrono::{DateTime, Utc};
use diesel::RunQueryDsl;
use diesel::sql_types::{BigInt, Bool, Integer, Nullable, Numeric, Text, Timestamptz, Uuid as SqlUuid};
use plimsoll_core_domain::order::{Order, OrderSize, OrderStatus, Trail};
use plimsoll_core_domain::{Price, Quantity, StoreError};
use rust_decimal::Decimal;

use crate::db::Tx;
use crate::db::errors::StoreResult;
use crate::db::prepared::{Prepared, prepared};

/// The columns of an insert into `orders`, in the order of [`bind_order`].
macro_rules! insert_columns {
    () => {
        "account_id, id, user_id, client_order_id, broker_order_id, symbol, side, type, time_in_force, order_class, \
         qty, notional, limit_price, stop_price, trail_price, trail_percent, extended_hours, take_profit_limit, \
         stop_loss_stop, stop_loss_limit, parent_id, role, status, status_reason, filled_qty, filled_value, \
         broker_status, broker_updated_at, broker_filled_qty, source_kind, source_id, environment, replaces, \
         replaced_by, submit_attempts, submit_deadline, submit_started_at, probe_count, created_at, submitted_at, \
         updated_at, closed_at, version"
    };
}
pub(crate) use insert_columns;

/// The places for [`bind_order`].
macro_rules! insert_places {
    () => {
        "?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, \
         ?, ?, ?, ?, ?, ?, ?"
    };
}
pub(crate) use insert_places;

/// Binds every column of an order.
pub(crate) fn bind_order<'a>(statement: Prepared<'a>, order: &'a Order) -> Prepared<'a> {
    let terms = &order.terms;
    let number = |price: Option<Price>| price.map(Price::get);
    let (qty, notional) = match terms.size {
        OrderSize::Qty(qty) => (Some(qty.get()), None),
        OrderSize::Notional(amount) => (None, Some(amount.get())),
    };
    let (trail_price, trail_percent) = match terms.pricing.trail() {
        Some(Trail::Price(by)) => (Some(by.get()), None),
        Some(Trail::Percent(by)) => (None, Some(by.get())),
        None => (None, None),
    };
    statement
        .bind::<BigInt, _>(order.account_id.0)
        .bind::<SqlUuid, _>(order.id.0)
        .bind::<BigInt, _>(order.user_id.0)
        .bind::<Text, _>(order.client_order_id.as_str())
        .bind::<Nullable<Text>, _>(order.broker_order_id.as_ref().map(|id| id.as_str()))
        .bind::<Text, _>(terms.symbol.as_str())
        .bind::<Text, _>(terms.side.as_str())
        .bind::<Text, _>(terms.pricing.order_type().as_str())
        .bind::<Text, _>(terms.time_in_force.as_str())
        .bind::<Text, _>(terms.class.as_str())
        .bind::<Nullable<Numeric>, Option<Decimal>>(qty)
        .bind::<Nullable<Numeric>, Option<Decimal>>(notional)
        .bind::<Nullable<Numeric>, _>(number(terms.pricing.limit_price()))
        .bind::<Nullable<Numeric>, _>(number(terms.pricing.stop_price()))
        .bind::<Nullable<Numeric>, Option<Decimal>>(trail_price)
        .bind::<Nullable<Numeric>, Option<Decimal>>(trail_percent)
        .bind::<Bool, _>(terms.extended_hours)
        .bind::<Nullable<Numeric>, _>(number(terms.take_profit))
        .bind::<Nullable<Numeric>, _>(terms.stop_loss.map(|exit| exit.stop.get()))
        .bind::<Nullable<Numeric>, _>(terms.stop_loss.and_then(|exit| number(exit.limit)))
        .bind::<Nullable<SqlUuid>, _>(order.parent_id.map(|id| id.0))
        .bind::<Text, _>(order.role.as_str())
        .bind::<Text, _>(order.status.as_str())
        .bind::<Nullable<Text>, _>(order.status_reason.as_deref())
        .bind::<Numeric, _>(order.filled_qty)
        .bind::<Numeric, _>(order.filled_value)
        .bind::<Nullable<Text>, _>(order.broker.map(|view| view.status.as_str()))
        .bind::<Nullable<Timestamptz>, _>(order.broker.map(|view| view.updated_at))
        .bind::<Nullable<Numeric>, _>(order.broker.map(|view| view.filled_qty))
        .bind::<Text, _>(order.source.kind.as_str())
        .bind::<Nullable<Text>, _>(order.source.id.as_deref())
        .bind::<Text, _>(order.environment.as_str())
        .bind::<Nullable<SqlUuid>, _>(order.replaces.map(|id| id.0))
        .bind::<Nullable<SqlUuid>, _>(order.replaced_by.map(|id| id.0))
        .bind::<Integer, _>(order.submit.attempts)
        .bind::<Timestamptz, _>(order.submit.deadline)
        .bind::<Nullable<Timestamptz>, _>(order.submit.started_at)
        .bind::<Integer, _>(order.submit.probes)
        .bind::<Timestamptz, _>(order.created_at)
        .bind::<Nullable<Timestamptz>, _>(order.submitted_at)
        .bind::<Timestamptz, _>(order.updated_at)
        .bind::<Nullable<Timestamptz>, _>(order.closed_at)
        .bind::<BigInt, _>(order.version)
}

/// A line of an order's history.
#[derive(Clone, Debug)]
pub(crate) struct HistoryLine<'a> {
    pub(crate) version: i64,
    pub(crate) at: DateTime<Utc>,
    pub(crate) from: Option<OrderStatus>,
    pub(crate) to: OrderStatus,
    pub(crate) cause: &'a str,
    pub(crate) detail: Option<&'a str>,
}

impl Tx<'_> {
    /// Inserts an order with the first line of its history.
    pub(crate) fn insert_order_row(&mut self, order: &Order, cause: &str) -> Result<(), StoreError> {
        let insert =
            prepared(concat!("INSERT INTO orders (", insert_columns!(), ") VALUES (", insert_places!(), ")"));
        bind_order(insert, order).execute(self.conn()).store()?;
        let line = HistoryLine {
            version: order.version,
            at: order.updated_at,
            from: None,
            to: order.status,
            cause,
            detail: order.status_reason.as_deref(),
        };
        self.insert_history(order, &line)
    }

    pub(crate) fn insert_history(&mut self, order: &Order, line: &HistoryLine<'_>) -> Result<(), StoreError> {
        prepared(
            "INSERT INTO order_history (account_id, order_id, version, at, from_status, to_status, cause, detail) \
             VALUES (?, ?, ?, ?, ?, ?, ?, ?)",
        )
        .bind::<BigInt, _>(order.account_id.0)
        .bind::<SqlUuid, _>(order.id.0)
        .bind::<BigInt, _>(line.version)
        .bind::<Timestamptz, _>(line.at)
        .bind::<Nullable<Text>, _>(line.from.map(OrderStatus::as_str))
        .bind::<Text, _>(line.to.as_str())
        .bind::<Text, _>(line.cause)
        .bind::<Nullable<Text>, _>(line.detail)
        .execute(self.conn())
        .store()?;
        Ok(())
    }

    /// Writes what can change of an order that this transaction has locked.
    pub(crate) fn update_order_row(&mut self, order: &Order) -> Result<(), StoreError> {
        let changed = prepared(
            "UPDATE orders SET broker_order_id = ?, qty = ?, status = ?, status_reason = ?, filled_qty = ?, filled_value = ?, \
             broker_status = ?, broker_updated_at = ?, broker_filled_qty = ?, replaced_by = ?, submit_attempts = ?, \
             submit_deadline = ?, submit_started_at = ?, probe_count = ?, submit_doubt = ?, submitted_at = ?, updated_at = ?, \
             closed_at = ?, version = ? WHERE account_id = ? AND id = ?",
        )
        .bind::<Nullable<Text>, _>(order.broker_order_id.as_ref().map(|id| id.as_str()))
        .bind::<Nullable<Numeric>, _>(order.terms.qty().map(Quantity::get))
        .bind::<Text, _>(order.status.as_str())
        .bind::<Nullable<Text>, _>(order.status_reason.as_deref())
        .bind::<Numeric, _>(order.filled_qty)
        .bind::<Numeric, _>(order.filled_value)
        .bind::<Nullable<Text>, _>(order.broker.map(|view| view.status.as_str()))
        .bind::<Nullable<Timestamptz>, _>(order.broker.map(|view| view.updated_at))
        .bind::<Nullable<Numeric>, _>(order.broker.map(|view| view.filled_qty))
        .bind::<Nullable<SqlUuid>, _>(order.replaced_by.map(|id| id.0))
        .bind::<Integer, _>(order.submit.attempts)
        .bind::<Timestamptz, _>(order.submit.deadline)
        .bind::<Nullable<Timestamptz>, _>(order.submit.started_at)
        .bind::<Integer, _>(order.submit.probes)
        .bind::<Bool, _>(order.submit.doubt)
        .bind::<Nullable<Timestamptz>, _>(order.submitted_at)
        .bind::<Timestamptz, _>(order.updated_at)
        .bind::<Nullable<Timestamptz>, _>(order.closed_at)
        .bind::<BigInt, _>(order.version)
        .bind::<BigInt, _>(order.account_id.0)
        .bind::<SqlUuid, _>(order.id.0)
        .execute(self.conn())
        .store()?;
        match changed {
            1 => Ok(()),
            rows => Err(StoreError::inconsistent("orders", "id", order.id, format!("{rows} rows updated"))),
        }
    }
}
