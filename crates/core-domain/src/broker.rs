//! The port to a broker. An adapter speaks the broker's protocol; this module says what the platform relies on.

use std::future::Future;
use std::pin::Pin;
use std::time::Duration;

use chrono::{DateTime, NaiveDate, Utc};
use rust_decimal::Decimal;

use crate::ids::{BrokerOrderId, ClientOrderId, Symbol};
use crate::money::{Price, Quantity};
use crate::order::{LegRole, NewOrder, OrderClass, OrderStatus, OrderType, Side, TimeInForce, Trail};

/// A future that can be kept behind a `dyn` port.
pub type BoxFuture<'a, T> = Pin<Box<dyn Future<Output = T> + Send + 'a>>;

/// Why a call brought no answer that can be used, and what follows from it.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum BrokerError {
    /// The broker refused: final, nothing was done.
    #[error("refused by the broker ({status}): {message}")]
    Refused {
        /// HTTP status or the protocol's counterpart.
        status: u16,
        /// The broker's own code.
        code: Option<i64>,
        /// The broker's own words, at most 500 characters.
        message: String,
    },
    /// The client order id is taken already: look the order up, do not send again.
    #[error("the client order id is taken at the broker")]
    DuplicateClientOrderId,
    /// The keys are wrong or not for this environment: stop trading with them.
    #[error("the broker does not accept the credentials: {0}")]
    Unauthorized(String),
    /// The order, position or asset is not there.
    #[error("not found at the broker")]
    NotFound,
    /// Not processed because of the rate limit: the same request may be sent after the time.
    #[error("throttled by the broker, free again in {retry_after:?}")]
    Throttled {
        /// When to send again.
        retry_after: Duration,
    },
    /// Nothing was sent (no connection): as if it had not been tried.
    #[error("the broker cannot be reached: {0}")]
    Unreachable(String),
    /// The broker answered a question, and the answer does not read: nothing was done. It says nothing about other
    /// questions, nor about other accounts.
    #[error("the broker's answer cannot be read: {0}")]
    Unreadable(String),
    /// It was sent and no clear answer came (time-out, reset, 5xx, unreadable): it may have been done.
    #[error("no clear answer from the broker: {0}")]
    Ambiguous(String),
}

impl BrokerError {
    /// Sent, and perhaps done: the outcome must be looked up.
    #[must_use]
    pub const fn is_ambiguous(&self) -> bool {
        matches!(self, Self::Ambiguous(_))
    }
}

/// An order's state in the broker's words; unknown words are carried through.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum BrokerStatus {
    /// A word that has a counterpart here.
    Known(OrderStatus),
    /// A word that has none: the order's state here stays.
    Other(String),
}

/// An order as the broker shows it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct BrokerOrder {
    /// The broker's id.
    pub id: BrokerOrderId,
    /// Ours, or whatever another client chose.
    pub client_order_id: String,
    /// What is traded.
    pub symbol: String,
    /// Which way; `None` where the broker has another word.
    pub side: Option<Side>,
    /// Its type; `None` where the broker has another word.
    pub order_type: Option<OrderType>,
    /// How long it stands; `None` where the broker has another word.
    pub time_in_force: Option<TimeInForce>,
    /// Its class; `None` where the broker has another word.
    pub class: Option<OrderClass>,
    /// Its role in its group, where the broker tells it.
    pub role: Option<LegRole>,
    /// Units ordered; `None` for an order by amount.
    pub qty: Option<Decimal>,
    /// Amount ordered.
    pub notional: Option<Decimal>,
    /// Limit price.
    pub limit_price: Option<Decimal>,
    /// Stop price; moves on a trailing stop.
    pub stop_price: Option<Decimal>,
    /// Trailing distance in currency.
    pub trail_price: Option<Decimal>,
    /// Trailing distance in per cent.
    pub trail_percent: Option<Decimal>,
    /// Whether it trades outside regular hours.
    pub extended_hours: bool,
    /// Its state.
    pub status: BrokerStatus,
    /// Units filled so far.
    pub filled_qty: Decimal,
    /// Average over all fills so far.
    pub filled_avg_price: Option<Decimal>,
    /// By the broker's clock.
    pub submitted_at: Option<DateTime<Utc>>,
    /// By the broker's clock; moves with every change.
    pub updated_at: DateTime<Utc>,
    /// The order that it replaces.
    pub replaces: Option<BrokerOrderId>,
    /// The order that replaced it.
    pub replaced_by: Option<BrokerOrderId>,
    /// Its legs, where the answer nests them.
    pub legs: Vec<BrokerOrder>,
}

/// What is sent: the order and the id under which the broker will know it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SubmitOrder {
    /// The effect's id: the broker refuses a second order under it.
    pub client_order_id: ClientOrderId,
    /// The order.
    pub order: NewOrder,
}

/// What a replacement changes; `None` leaves it.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct ReplaceOrder {
    /// The effect's id: the replacement's client order id.
    pub client_order_id: Option<ClientOrderId>,
    /// The new total, not what is left.
    pub qty: Option<Quantity>,
    /// The new limit.
    pub limit_price: Option<Price>,
    /// The new stop.
    pub stop_price: Option<Price>,
    /// The new trailing distance, of the same kind as the old one.
    pub trail: Option<Trail>,
    /// How long it stands.
    pub time_in_force: Option<TimeInForce>,
}

/// A message of the broker's order stream.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct TradeUpdate {
    /// The broker's word for what happened.
    pub event: String,
    /// The broker's id of the event; repeats carry the same one, some events have none.
    pub event_id: Option<String>,
    /// The whole order after it.
    pub order: BrokerOrder,
    /// When, by the broker's clock.
    pub at: DateTime<Utc>,
    /// Of a fill: its own quantity and price.
    pub fill: Option<(Quantity, Price)>,
    /// The broker's reason, where it gives one.
    pub reason: Option<String>,
}

/// A row of the broker's book of fills.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct FillActivity {
    /// The row's id: the page token of what follows it.
    pub id: String,
    /// The order.
    pub order_id: BrokerOrderId,
    /// What was traded.
    pub symbol: String,
    /// Which way; `None` where the broker has another word.
    pub side: Option<Side>,
    /// Of this execution.
    pub qty: Quantity,
    /// Of this execution.
    pub price: Price,
    /// The order's filled quantity after it.
    pub cum_qty: Quantity,
    /// When, by the broker's clock.
    pub at: DateTime<Utc>,
}

/// Something that changed the account and was no trade: a dividend, a fee, a deposit, a split.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct AccountMovement {
    /// The broker's id of it.
    pub id: String,
    /// The broker's word for what it is, such as `DIV`, `FEE`, `CSD` or `SPLIT`.
    pub kind: String,
    /// Of which instrument, where it is about one.
    pub symbol: Option<String>,
    /// Units; what they mean depends on the kind.
    pub qty: Option<Decimal>,
    /// What came in; negative when it went out.
    pub amount: Decimal,
    /// When, by the broker's clock; midnight where the broker tells the day only.
    pub at: DateTime<Utc>,
}

/// A position as the broker shows it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct BrokerPosition {
    /// What is held.
    pub symbol: String,
    /// Units; negative when short.
    pub qty: Decimal,
    /// Average entry price.
    pub avg_entry_price: Decimal,
    /// The broker's last price.
    pub current_price: Option<Decimal>,
    /// The last session's closing price.
    pub lastday_price: Option<Decimal>,
}

/// The account as the broker shows it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct BrokerAccount {
    /// The broker's number of it.
    pub number: String,
    /// The broker's word for its state, such as `ACTIVE`.
    pub status: String,
    /// ISO 4217.
    pub currency: String,
    /// Cash; negative when borrowed.
    pub cash: Decimal,
    /// What new positions may cost.
    pub buying_power: Decimal,
    /// Cash and positions at market.
    pub equity: Decimal,
    /// Equity at the last session's close.
    pub last_equity: Decimal,
    /// No orders are taken.
    pub trading_blocked: bool,
}

/// An instrument that the broker trades.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct BrokerAsset {
    /// Its symbol.
    pub symbol: Symbol,
    /// The broker's word for its class, such as `us_equity` or `crypto`.
    pub class: String,
    /// Orders are taken.
    pub tradable: bool,
    /// Parts of a unit and orders by amount are taken.
    pub fractionable: bool,
    /// May be sold short.
    pub shortable: bool,
}

/// The broker's market clock.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct MarketClock {
    /// The broker's now.
    pub timestamp: DateTime<Utc>,
    /// Whether the regular session is on.
    pub is_open: bool,
    /// The next opening.
    pub next_open: DateTime<Utc>,
    /// The next close.
    pub next_close: DateTime<Utc>,
}

/// Which orders to list.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct OrderListQuery {
    /// Only those that are still open.
    pub open_only: bool,
    /// Submitted after it, by the broker's clock.
    pub after: Option<DateTime<Utc>>,
    /// The last row of the page before: rows after it, oldest first.
    pub after_order_id: Option<BrokerOrderId>,
    /// At most 500.
    pub limit: u16,
}

/// Which fills to list, oldest first.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct FillQuery {
    /// Executed after it, by the broker's clock.
    pub after: Option<DateTime<Utc>>,
    /// The last row of the page before.
    pub page_token: Option<String>,
    /// Of one order only.
    pub order_id: Option<BrokerOrderId>,
}

/// Which equity history to fetch; the words are the broker's own (`1M`, `1D`).
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct HistoryQuery {
    /// How far back.
    pub period: Option<String>,
    /// How far apart.
    pub timeframe: Option<String>,
    /// The last day.
    pub end: Option<NaiveDate>,
}

/// Equity over time; the vectors have one length.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct PortfolioHistory {
    /// UNIX seconds.
    pub timestamp: Vec<i64>,
    /// Equity at each.
    pub equity: Vec<Decimal>,
    /// Profit since the base value at each.
    pub profit_loss: Vec<Decimal>,
    /// Equity at the beginning.
    pub base_value: Decimal,
    /// How far apart.
    pub timeframe: String,
}

/// How long the broker refuses a second order under one client order id.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Dedupe {
    /// For ever: an order may be sent again under its id.
    Forever,
    /// Never: after the first try only looking is allowed.
    Never,
}

/// Takes what the order stream brings. Calls come one after another.
pub trait TradeSink: Send + Sync {
    /// The stream is on from now: fetch what was missed before. Updates wait until it returns.
    fn connected(&self) -> BoxFuture<'_, ()>;
    /// Something happened.
    fn update(&self, update: TradeUpdate) -> BoxFuture<'_, ()>;
    /// The stream is off; it will be tried again after `retry_in`.
    fn disconnected(&self, reason: String, retry_in: Duration) -> BoxFuture<'_, ()>;
}

/// What an instrument last traded at.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct LastTrade {
    /// Of one unit.
    pub price: Price,
    /// When, by the broker's clock.
    pub at: DateTime<Utc>,
}

/// Prices of the market, beside the broker itself: what fails here says nothing about it.
pub trait Quotes: Send + Sync {
    /// The last trade of an instrument. [`BrokerError::NotFound`]: none is known.
    fn last_trade<'a>(&'a self, symbol: &'a Symbol) -> BoxFuture<'a, Result<LastTrade, BrokerError>>;
}

/// A broker, for one account's credentials.
///
/// Every call has a time-out of its own and never sends anything twice by itself.
pub trait Broker: Send + Sync {
    /// How long client order ids are remembered.
    fn dedupe(&self) -> Dedupe;
    /// Sends an order once. An error other than [`BrokerError::Ambiguous`] means: not done.
    fn submit<'a>(&'a self, order: &'a SubmitOrder) -> BoxFuture<'a, Result<BrokerOrder, BrokerError>>;
    /// Looks an order up by our id, with its legs. [`BrokerError::NotFound`]: not there now.
    fn order_by_client_id<'a>(
        &'a self,
        id: &'a ClientOrderId,
    ) -> BoxFuture<'a, Result<BrokerOrder, BrokerError>>;
    /// Looks an order up by the broker's id, with its legs.
    fn order<'a>(&'a self, id: &'a BrokerOrderId) -> BoxFuture<'a, Result<BrokerOrder, BrokerError>>;
    /// Asks for a cancel; `Ok` means asked, not done.
    fn cancel<'a>(&'a self, id: &'a BrokerOrderId) -> BoxFuture<'a, Result<(), BrokerError>>;
    /// Asks for a replacement; the answer is the new order.
    fn replace<'a>(
        &'a self,
        id: &'a BrokerOrderId,
        change: &'a ReplaceOrder,
    ) -> BoxFuture<'a, Result<BrokerOrder, BrokerError>>;
    /// One page of orders, oldest first, legs nested.
    fn orders<'a>(
        &'a self,
        query: &'a OrderListQuery,
    ) -> BoxFuture<'a, Result<Vec<BrokerOrder>, BrokerError>>;
    /// One page of fills, oldest first; a page of fewer than 100 rows is the last.
    fn fills<'a>(&'a self, query: &'a FillQuery) -> BoxFuture<'a, Result<Vec<FillActivity>, BrokerError>>;
    /// What changed the account and was no trade since a day, oldest first, to the end.
    fn movements(&self, since: NaiveDate) -> BoxFuture<'_, Result<Vec<AccountMovement>, BrokerError>>;
    /// All positions.
    fn positions(&self) -> BoxFuture<'_, Result<Vec<BrokerPosition>, BrokerError>>;
    /// The account.
    fn account(&self) -> BoxFuture<'_, Result<BrokerAccount, BrokerError>>;
    /// An instrument.
    fn asset<'a>(&'a self, symbol: &'a Symbol) -> BoxFuture<'a, Result<BrokerAsset, BrokerError>>;
    /// The market clock.
    fn clock(&self) -> BoxFuture<'_, Result<MarketClock, BrokerError>>;
    /// Equity over time.
    fn portfolio_history<'a>(
        &'a self,
        query: &'a HistoryQuery,
    ) -> BoxFuture<'a, Result<PortfolioHistory, BrokerError>>;
    /// Prices of the market, where the broker has them.
    fn quotes(&self) -> Option<&dyn Quotes> {
        None
    }
    /// Follows the order stream, connecting again and again; ends only when dropped or when the credentials are refused.
    fn follow<'a>(&'a self, sink: &'a dyn TradeSink) -> BoxFuture<'a, BrokerError>;
}
