//! The books: what a comparison reads and writes here.

use std::collections::{HashMap, HashSet};

use chrono::{DateTime, Utc};
use plimsoll_core_domain::broker::{AccountMovement, BoxFuture, BrokerOrder};
use plimsoll_core_domain::fill::Execution;
use plimsoll_core_domain::order::{Order, OrderStatus};
use plimsoll_core_domain::{BrokerOrderId, OrderId, Quantity, StoreError, Symbol};
use rust_decimal::Decimal;

/// How much is compared.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Scope {
    /// Open orders and fills.
    Orders,
    /// Orders, fills, positions, cash.
    Everything,
}

/// A difference that earlier runs noted and that is still open.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Missing {
    /// When it was first seen, by our own clock.
    pub since: DateTime<Utc>,
    /// In how many looks.
    pub looks: u32,
}

/// What was here when a run began.
#[derive(Clone, Debug, Default)]
pub struct Snapshot {
    /// Every order that is not final, oldest first.
    pub open: Vec<Order>,
    /// The broker's time of the execution that was booked last.
    pub last_execution: Option<DateTime<Utc>>,
    /// The account's positions and cash were never compared.
    pub opening: bool,
    /// Orders that were not found lately.
    pub missing: HashMap<OrderId, Missing>,
    /// When all open orders were last compared, by our own clock.
    pub compared_at: Option<DateTime<Utc>>,
}

/// What is held of a symbol.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Held {
    /// Of what.
    pub symbol: String,
    /// Units; negative when short.
    pub qty: Decimal,
    /// What they cost, with the sign of `qty`.
    pub cost_basis: Decimal,
}

/// Positions and cash at one moment.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Standing {
    /// Everything held, in any order; what is flat may be left out.
    pub held: Vec<Held>,
    /// What all fills together brought in, less what they cost.
    pub flow: Decimal,
    /// The last row of the ledger that is counted in.
    pub ledger: i64,
    /// The cash that should be there by the record; `None` before the first comparison.
    pub cash: Option<Decimal>,
}

/// What the broker shows of an order, and the executions that are known for it.
#[derive(Clone, Debug)]
pub struct Reported {
    /// The order.
    pub seen: BrokerOrder,
    /// Executions, in any order; those booked already are passed over.
    pub executions: Vec<Execution>,
}

/// What a report changed.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct OrderNews {
    /// The order.
    pub id: OrderId,
    /// Of what.
    pub symbol: Symbol,
    /// Its state before.
    pub from: OrderStatus,
    /// Its state after.
    pub to: OrderStatus,
    /// Units filled before and after.
    pub filled: (Decimal, Decimal),
    /// Units that the broker reports as filled and whose executions are not known yet.
    pub unbooked: Decimal,
    /// Inferred fills that made room for real ones.
    pub replaced: u32,
}

/// What became of a report.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Applied {
    /// No order here has either of its ids.
    Unknown,
    /// It was folded in.
    Known(Box<OrderNews>),
    /// It contradicts the record, which stays as it was.
    Contradiction {
        /// The order.
        order: OrderId,
        /// Of what.
        symbol: Symbol,
        /// Its state here.
        status: OrderStatus,
        /// In what.
        why: String,
    },
}

/// What is missing here of an order that has fills in the broker's book.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Lack {
    /// The whole order.
    Order,
    /// Some of its fills.
    Fills,
}

/// What became of an order that was to be taken over.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Adopted {
    /// It is on record now.
    Taken(OrderId),
    /// It came in the meantime.
    Known,
    /// It has a form that cannot be kept here.
    Unreadable(String),
}

/// Why the books do not answer.
#[derive(Debug, thiserror::Error)]
pub enum BooksError {
    /// The store's own.
    #[error(transparent)]
    Store(#[from] StoreError),
    /// Another instance has the account now.
    #[error("another instance has the account now")]
    Lost,
}

type Answer<'a, T> = BoxFuture<'a, Result<T, BooksError>>;

/// One account's books. Every call that writes is one transaction, under the account's fence.
pub trait Books: Send + Sync {
    /// The time here; ages and deadlines go by it, never by the broker's.
    fn now(&self) -> DateTime<Utc>;
    /// Whether the account is, or may become, the one with this number at the broker.
    fn claim<'a>(&'a self, number: &'a str) -> Answer<'a, bool>;
    /// What is here now.
    fn snapshot(&self) -> Answer<'_, Snapshot>;
    /// One order as it is now.
    fn order(&self, id: OrderId) -> Answer<'_, Option<Order>>;
    /// Of these orders at the broker, by its id and the client order id, those that are not on record.
    fn unknown(&self, ids: Vec<(BrokerOrderId, String)>) -> Answer<'_, HashSet<BrokerOrderId>>;
    /// Of these orders with the cumulative quantities of their fills, those that are not complete here.
    fn lacking(&self, fills: Vec<(BrokerOrderId, Vec<Quantity>)>)
    -> Answer<'_, HashMap<BrokerOrderId, Lack>>;
    /// Folds a report in.
    fn apply(&self, report: Reported) -> Answer<'_, Applied>;
    /// Takes an order of the broker over; `ours` when its client order id is one of ours.
    fn adopt<'a>(&'a self, seen: &'a BrokerOrder, ours: bool) -> Answer<'a, Adopted>;
    /// Whether a client order id is of the form that the platform makes.
    fn is_ours(&self, client_order_id: &str) -> bool;
    /// Leaves an order to a job of its own.
    fn leave_to_a_job(&self, order: OrderId) -> Answer<'_, ()>;
    /// Positions and cash as they are now.
    fn standing(&self) -> Answer<'_, Standing>;
    /// Takes positions over as they stood when the account was first compared: rows of the ledger.
    fn adopt_opening(&self, held: Vec<Held>) -> Answer<'_, ()>;
    /// Books movements that are not on record yet; the quantities of those that `moves` names by id change positions.
    fn book_movements(&self, rows: Vec<AccountMovement>, moves: HashSet<String>) -> Answer<'_, ()>;
    /// The broker's ids of movements that are on record, of these.
    fn known_movements(&self, ids: Vec<String>) -> Answer<'_, HashSet<String>>;
    /// The broker's cash agrees with this standing: what comes later is counted from here.
    fn settle_cash(&self, cash: Decimal, standing: Standing) -> Answer<'_, ()>;
}
