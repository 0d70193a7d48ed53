//! The row of an order, and its way to and from the domain.

use chrono::{DateTime, Utc};
use diesel::Queryable;
use diesel::sql_types::{BigInt, Bool, Integer, Nullable, Numeric, Text, Timestamptz, Uuid as SqlUuid};
use plimsoll_core_domain::order::{
    BrokerView, NewOrder, Order, OrderSize, OrderSource, OrderType, Pricing, StopLoss, SubmitNotes, Trail,
};
use plimsoll_core_domain::{AccountId, OrderId, Price, Quantity, StoreError, Symbol, UserId};
use rust_decimal::Decimal;
use uuid::Uuid;

/// The columns of [`OrderRow`], for a SELECT from `orders` under the alias `o`.
macro_rules! order_columns {
    () => {
        "o.account_id, o.id, o.user_id, o.client_order_id, o.broker_order_id, o.symbol, o.side, o.type AS order_type, \
         o.time_in_force, o.order_class, o.qty, o.notional, o.limit_price, o.stop_price, o.trail_price, \
         o.trail_percent, o.extended_hours, o.take_profit_limit, o.stop_loss_stop, o.stop_loss_limit, o.parent_id, \
         o.role, o.status, o.status_reason, o.filled_qty, o.filled_value, o.broker_status, o.broker_updated_at, \
         o.broker_filled_qty, o.source_kind, o.source_id, o.environment, o.replaces, o.replaced_by, \
         o.submit_attempts, o.submit_deadline, o.submit_started_at, o.probe_count, o.submit_doubt, o.created_at, o.submitted_at, \
         o.updated_at, o.closed_at, o.version"
    };
}
pub(crate) use order_columns;

/// The types of [`order_columns`], in their order.
pub(crate) type OrderColumns = (
    BigInt,
    SqlUuid,
    BigInt,
    Text,
    Nullable<Text>,
    Text,
    Text,
    Text,
    Text,
    Text,
    Nullable<Numeric>,
    Nullable<Numeric>,
    Nullable<Numeric>,
    Nullable<Numeric>,
    Nullable<Numeric>,
    Nullable<Numeric>,
    Bool,
    Nullable<Numeric>,
    Nullable<Numeric>,
    Nullable<Numeric>,
    Nullable<SqlUuid>,
    Text,
    Text,
    Nullable<Text>,
    Numeric,
    Numeric,
    Nullable<Text>,
    Nullable<Timestamptz>,
    Nullable<Numeric>,
    Text,
    Nullable<Text>,
    Text,
    Nullable<SqlUuid>,
    Nullable<SqlUuid>,
    Integer,
    Timestamptz,
    Nullable<Timestamptz>,
    Integer,
    Bool,
    Timestamptz,
    Nullable<Timestamptz>,
    Timestamptz,
    Nullable<Timestamptz>,
    BigInt,
);

#[derive(Queryable, Debug)]
pub(crate) struct OrderRow {
    account_id: i64,
    pub(super) id: Uuid,
    user_id: i64,
    client_order_id: String,
    broker_order_id: Option<String>,
    symbol: String,
    side: String,
    order_type: String,
    time_in_force: String,
    order_class: String,
    qty: Option<Decimal>,
    notional: Option<Decimal>,
    limit_price: Option<Decimal>,
    stop_price: Option<Decimal>,
    trail_price: Option<Decimal>,
    trail_percent: Option<Decimal>,
    extended_hours: bool,
    take_profit_limit: Option<Decimal>,
    stop_loss_stop: Option<Decimal>,
    stop_loss_limit: Option<Decimal>,
    pub(super) parent_id: Option<Uuid>,
    role: String,
    status: String,
    status_reason: Option<String>,
    filled_qty: Decimal,
    filled_value: Decimal,
    broker_status: Option<String>,
    broker_updated_at: Option<DateTime<Utc>>,
    broker_filled_qty: Option<Decimal>,
    source_kind: String,
    source_id: Option<String>,
    environment: String,
    replaces: Option<Uuid>,
    replaced_by: Option<Uuid>,
    submit_attempts: i32,
    submit_deadline: DateTime<Utc>,
    submit_started_at: Option<DateTime<Utc>>,
    probe_count: i32,
    submit_doubt: bool,
    created_at: DateTime<Utc>,
    submitted_at: Option<DateTime<Utc>>,
    updated_at: DateTime<Utc>,
    closed_at: Option<DateTime<Utc>>,
    version: i64,
}

impl TryFrom<OrderRow> for Order {
    type Error = StoreError;

    fn try_from(row: OrderRow) -> Result<Self, StoreError> {
        let id = row.id;
        fn cell<T, E: std::fmt::Display>(
            id: Uuid,
            column: &str,
            value: Result<T, E>,
        ) -> Result<T, StoreError> {
            value.map_err(|why| StoreError::inconsistent("orders", column, id, why))
        }
        let word =
            |column: &'static str| StoreError::inconsistent("orders", column, id, "missing for its type");
        let price =
            |column: &str, value: Option<Decimal>| cell(id, column, value.map(Price::new).transpose());
        let limit = price("limit_price", row.limit_price)?;
        let stop = price("stop_price", row.stop_price)?;
        let pricing = match cell(id, "type", row.order_type.parse())? {
            OrderType::Market => Pricing::Market,
            OrderType::Limit => Pricing::Limit { limit: limit.ok_or_else(|| word("limit_price"))? },
            OrderType::Stop => Pricing::Stop { stop: stop.ok_or_else(|| word("stop_price"))? },
            OrderType::StopLimit => Pricing::StopLimit {
                stop: stop.ok_or_else(|| word("stop_price"))?,
                limit: limit.ok_or_else(|| word("limit_price"))?,
            },
            OrderType::TrailingStop => Pricing::TrailingStop {
                trail: match (
                    price("trail_price", row.trail_price)?,
                    price("trail_percent", row.trail_percent)?,
                ) {
                    (Some(by), _) => Trail::Price(by),
                    (None, Some(by)) => Trail::Percent(by),
                    (None, None) => return Err(word("trail_price")),
                },
            },
        };
        let size = match (row.qty, row.notional) {
            (Some(qty), _) => OrderSize::Qty(cell(id, "qty", Quantity::new(qty))?),
            (None, Some(amount)) => OrderSize::Notional(cell(id, "notional", Price::new(amount))?),
            (None, None) => return Err(word("qty")),
        };
        let stop_loss = match price("stop_loss_stop", row.stop_loss_stop)? {
            Some(stop) => Some(StopLoss { stop, limit: price("stop_loss_limit", row.stop_loss_limit)? }),
            None => None,
        };
        let broker = match (row.broker_status, row.broker_updated_at) {
            (Some(status), Some(updated_at)) => Some(BrokerView {
                status: cell(id, "broker_status", status.parse())?,
                updated_at,
                filled_qty: row.broker_filled_qty.unwrap_or_default().normalize(),
            }),
            _ => None,
        };
        Ok(Order {
            id: OrderId(id),
            account_id: AccountId(row.account_id),
            user_id: UserId(row.user_id),
            client_order_id: cell(id, "client_order_id", row.client_order_id.parse())?,
            broker_order_id: cell(
                id,
                "broker_order_id",
                row.broker_order_id.map(|id| id.parse()).transpose(),
            )?,
            terms: NewOrder {
                symbol: cell(id, "symbol", Symbol::new(row.symbol))?,
                side: cell(id, "side", row.side.parse())?,
                pricing,
                time_in_force: cell(id, "time_in_force", row.time_in_force.parse())?,
                size,
                extended_hours: row.extended_hours,
                class: cell(id, "order_class", row.order_class.parse())?,
                take_profit: price("take_profit_limit", row.take_profit_limit)?,
                stop_loss,
            },
            parent_id: row.parent_id.map(OrderId),
            role: cell(id, "role", row.role.parse())?,
            status: cell(id, "status", row.status.parse())?,
            status_reason: row.status_reason,
            filled_qty: row.filled_qty.normalize(),
            filled_value: row.filled_value.normalize(),
            broker,
            source: OrderSource {
                kind: cell(id, "source_kind", row.source_kind.parse())?,
                id: row.source_id,
            },
            environment: cell(id, "environment", row.environment.parse())?,
            replaces: row.replaces.map(OrderId),
            replaced_by: row.replaced_by.map(OrderId),
            submit: SubmitNotes {
                attempts: row.submit_attempts,
                deadline: row.submit_deadline,
                started_at: row.submit_started_at,
                probes: row.probe_count,
                doubt: row.submit_doubt,
            },
            created_at: row.created_at,
            submitted_at: row.submitted_at,
            updated_at: row.updated_at,
            closed_at: row.closed_at,
            version: row.version,
        })
    }
}

/// Orders from their rows.
pub(crate) fn orders(rows: Vec<OrderRow>) -> Result<Vec<Order>, StoreError> {
    rows.into_iter().map(Order::try_from).collect()
}
