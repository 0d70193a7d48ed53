//! What a store keeps, and what a stream sends.
//!
//! Every mutation of the exchange appends [`Change`]s, in order. A store writes the [`Record`]s (the newest of
//! an order or account wins, executions only ever grow) and the stream sends the [`TradeUpdate`]s. The records
//! alone restore the exchange: positions, cash and equity follow from accounts and executions.

use chrono::{DateTime, NaiveDate, Utc};
use rust_decimal::Decimal;
use serde::{Deserialize, Serialize};
use uuid::Uuid;

use crate::account::{AccountId, Configurations};
use crate::order::{Order, OrderId, Side};

/// One thing that happened.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Change {
    /// A row to keep.
    Record(Record),
    /// A message to send.
    Update(TradeUpdate),
}

/// A row to keep.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
#[expect(clippy::large_enum_variant, reason = "short-lived, and nearly all are orders")]
pub enum Record {
    /// The exchange's own row; one per store, the newest wins.
    Exchange(ExchangeRecord),
    /// An account; the newest of an id wins.
    Account(AccountRecord),
    /// An order; the newest of an id wins.
    Order(OrderRecord),
    /// An execution; never changes.
    Execution(Execution),
}

/// The exchange's own row.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct ExchangeRecord {
    /// Counter behind all ids; grows with every change.
    pub seq: u64,
    /// All ids and random choices follow from it.
    pub seed: u64,
    /// The trading day that shows the first day of every symbol's recorded data.
    pub epoch: NaiveDate,
    /// Simulator time when the row was written.
    pub now: DateTime<Utc>,
}

/// An account's row.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct AccountRecord {
    /// Counter when the row was written.
    pub seq: u64,
    /// The account's id.
    pub id: AccountId,
    /// The number shown to people (`PA3…`).
    pub number: String,
    /// When it was opened.
    pub created_at: DateTime<Utc>,
    /// Dollars it was opened with.
    pub deposit: Decimal,
    /// Its owner's settings.
    pub configurations: Configurations,
}

/// An order's row: what the client sees and what the engine needs besides.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct OrderRecord {
    /// Counter when the row was written.
    pub seq: u64,
    /// Counter when the order was made: the order of submission.
    pub number: u64,
    /// Whose it is.
    pub account: AccountId,
    /// The client's view; `legs` is `None`.
    pub order: Order,
    /// The engine's own state.
    pub working: Working,
}

/// The engine's own state of an order.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Working {
    /// The group's top order, for its legs.
    pub parent: Option<OrderId>,
    /// The replacement that waits to take over.
    pub successor: Option<OrderId>,
    /// Taken by the exchange: it is matched, or (a held stop leg) its stop is watched.
    pub live: bool,
    /// Limit that a market or stop buy is held under.
    pub collar: Option<Decimal>,
    /// A stop that was reached.
    pub triggered: bool,
    /// Dollars spent or raised so far.
    pub spent: Decimal,
    /// Number of fills so far.
    pub fills: u32,
    /// When the exchange takes the order (or the cancel or replacement asked for).
    pub due: Option<DateTime<Utc>>,
    /// When a part-filled order is tried again, besides at every print.
    pub retry_at: Option<DateTime<Utc>>,
    /// The minute that `minute_qty` counts.
    pub minute: Option<DateTime<Utc>>,
    /// Shares filled in that minute, against the volume share.
    pub minute_qty: Decimal,
}

/// One execution.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Execution {
    /// Counter when it happened; unique.
    pub seq: u64,
    /// Its id; the stream's `execution_id` of the same fill.
    pub id: Uuid,
    /// Whose it is.
    pub account: AccountId,
    /// The order filled.
    pub order_id: OrderId,
    /// The order's client id.
    pub client_order_id: String,
    /// The order's symbol.
    pub symbol: String,
    /// The order's side.
    pub side: Side,
    /// Shares of this execution.
    pub qty: Decimal,
    /// Dollars a share.
    pub price: Decimal,
    /// The order's filled quantity after it.
    pub cum_qty: Decimal,
    /// What is left of the order after it (0 for a notional order that is done).
    pub leaves_qty: Decimal,
    /// The account's position after it, signed.
    pub position_qty: Decimal,
    /// When it happened.
    pub at: DateTime<Utc>,
}

/// A message for the account's order stream.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct TradeUpdate {
    /// Counter of the message; unique and growing.
    pub seq: u64,
    /// Whose stream.
    pub account: AccountId,
    /// The message's `data`.
    pub data: TradeEvent,
}

/// The `data` of a `trade_updates` message; serialises to the wire form.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct TradeEvent {
    /// What happened.
    pub event: EventKind,
    /// New for each event; `None` on `pending_new`.
    pub execution_id: Option<Uuid>,
    /// The order after the event, `legs` `None`.
    pub order: Order,
    /// When it happened.
    pub timestamp: DateTime<Utc>,
    /// Price of this execution.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub price: Option<Decimal>,
    /// Shares of this execution.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub qty: Option<Decimal>,
    /// The position after it, signed.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub position_qty: Option<Decimal>,
    /// A code that says why.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub reason: Option<String>,
}

/// The `event` of a `trade_updates` message.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
#[expect(missing_docs, reason = "each is the broker's own event name")]
pub enum EventKind {
    Accepted,
    PendingNew,
    New,
    PartialFill,
    Fill,
    Canceled,
    Expired,
    Rejected,
    Replaced,
    PendingCancel,
    PendingReplace,
    OrderCancelRejected,
    OrderReplaceRejected,
}
