//! Orders in the broker's own vocabulary: what a client sends and what it is shown.
//!
//! Field names, order and text forms are those of the Trading API (v2), so that serialising an [`Order`] gives
//! the very object a client of that API expects: decimals as strings, absent values as `null`.

mod kind;
mod query;
mod request;

use chrono::{DateTime, Utc};
use rust_decimal::Decimal;
use serde::{Deserialize, Serialize};
use uuid::Uuid;

pub use kind::{
    AssetClass, GroupRole, OrderClass, OrderStatus, OrderType, PositionIntent, Side, TimeInForce,
};
pub use query::{CancelOutcome, CloseAmount, CloseOutcome, Direction, OrderQuery, StatusFilter};
pub use request::{NewOrder, Replacement, StopLoss, TakeProfit};

/// Identifies an order; a replacement has an id of its own.
pub type OrderId = Uuid;

/// An order as a client sees it.
///
/// `qty` is `None` for notional orders, also after the fill; `notional` is `None` for all others. Prices are US
/// dollars a share (a coin for crypto), quantities are shares or coins, `trail_percent` is in percent (`10` = 10 %).
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Order {
    /// The broker's id.
    pub id: OrderId,
    /// The client's id, unique per account for ever.
    pub client_order_id: String,
    /// When the broker made the row; simulator time, as all times here.
    pub created_at: DateTime<Utc>,
    /// Moves with every change.
    pub updated_at: DateTime<Utc>,
    /// Strictly increasing over all orders of an exchange.
    pub submitted_at: DateTime<Utc>,
    /// When the last fill completed the order.
    pub filled_at: Option<DateTime<Utc>>,
    /// When it expired.
    pub expired_at: Option<DateTime<Utc>>,
    /// When it was canceled.
    pub canceled_at: Option<DateTime<Utc>>,
    /// When it was rejected.
    pub failed_at: Option<DateTime<Utc>>,
    /// When its replacement took over.
    pub replaced_at: Option<DateTime<Utc>>,
    /// The order that took over.
    pub replaced_by: Option<OrderId>,
    /// The order that this one took over from.
    pub replaces: Option<OrderId>,
    /// The asset's id.
    pub asset_id: Uuid,
    /// The asset's symbol.
    pub symbol: String,
    /// Stock or crypto.
    pub asset_class: AssetClass,
    /// Dollars to spend or to raise.
    pub notional: Option<Decimal>,
    /// Shares wanted in total.
    pub qty: Option<Decimal>,
    /// Shares filled so far; never falls, never exceeds `qty`.
    pub filled_qty: Decimal,
    /// Average price over all fills so far.
    pub filled_avg_price: Option<Decimal>,
    /// Group shape; a leg shows its group's.
    pub order_class: OrderClass,
    /// Repeats `type` (a deprecated field of the wire form).
    pub order_type: OrderType,
    /// The type that was sent, also where the exchange treats it as another one (collared market buys).
    #[serde(rename = "type")]
    pub kind: OrderType,
    /// Buy or sell.
    pub side: Side,
    /// Opening or closing; inferred at submission where the client did not say.
    pub position_intent: PositionIntent,
    /// How long it lives.
    pub time_in_force: TimeInForce,
    /// Limit price.
    pub limit_price: Option<Decimal>,
    /// Stop price; moves in a trailing stop.
    pub stop_price: Option<Decimal>,
    /// Where it is in its life.
    pub status: OrderStatus,
    /// Also works before 09:30 and after 16:00 New York time.
    pub extended_hours: bool,
    /// Children, only in nested views; `None` in stream messages and flat lists.
    pub legs: Option<Vec<Order>>,
    /// Distance of a trailing stop in percent of its high-water mark.
    pub trail_percent: Option<Decimal>,
    /// Distance of a trailing stop in dollars.
    pub trail_price: Option<Decimal>,
    /// Best price since a trailing stop was accepted.
    pub hwm: Option<Decimal>,
    /// Always `None` here.
    pub subtag: Option<String>,
    /// Always `None` here.
    pub source: Option<String>,
    /// When the exchange ends it by itself.
    pub expires_at: Option<DateTime<Utc>>,
    /// One id for all members of a bracket, oco or oto, kept across replacements.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub group_id: Option<Uuid>,
    /// What this member does in its group.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub group_role: Option<GroupRole>,
}

impl Order {
    /// Shares still to be filled; `None` for a notional order.
    pub fn remaining_qty(&self) -> Option<Decimal> {
        self.qty.map(|qty| qty - self.filled_qty)
    }
}
