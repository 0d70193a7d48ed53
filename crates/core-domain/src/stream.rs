//! The one design for all events: a stream is a dense sequence of offsets 1..head under an epoch.

use std::fmt;
use std::str::FromStr;
use std::sync::Arc;

use chrono::{DateTime, Utc};
use serde::{Deserialize, Serialize};
use uuid::Uuid;

use crate::ids::UserId;

/// Whose events a stream holds.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum StreamId {
    /// Alerts to everyone.
    Broadcast,
    /// What concerns one user.
    User(UserId),
}

impl StreamId {
    /// The number that stands for the stream in the store: 0 is the broadcast, a user's stream has the user's id.
    #[must_use]
    pub fn key(self) -> i64 {
        match self {
            Self::Broadcast => 0,
            Self::User(user) => user.0,
        }
    }

    /// The stream of a [`key`](Self::key).
    #[must_use]
    pub fn from_key(key: i64) -> Self {
        if key == 0 { Self::Broadcast } else { Self::User(UserId(key)) }
    }
}

impl fmt::Display for StreamId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Broadcast => f.write_str("broadcast"),
            Self::User(user) => write!(f, "user:{user}"),
        }
    }
}

impl FromStr for StreamId {
    type Err = &'static str;
    fn from_str(text: &str) -> Result<Self, Self::Err> {
        if text == "broadcast" {
            return Ok(Self::Broadcast);
        }
        match text.strip_prefix("user:").and_then(|id| id.parse::<i64>().ok()) {
            Some(id) if id > 0 => Ok(Self::User(UserId(id))),
            _ => Err("a stream is `broadcast` or `user:<id>`"),
        }
    }
}

/// The kinds of durable events and of price ticks; the wire names are the API's.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum EventKind {
    /// An order was accepted; data: the order.
    OrderCreated,
    /// An order changed in any other way; data: the order.
    OrderUpdated,
    /// The final fill; data: the order.
    OrderFilled,
    /// An order was canceled; data: the order.
    OrderCancelled,
    /// A position changed; data: the position.
    PositionUpdated,
    /// Profit and loss changed; data: the `/pnl` body.
    PnlUpdated,
    /// A fill; data: the fill.
    TradeExecuted,
    /// A message from the operator or the server itself.
    SystemAlert,
    /// Progress of an outside optimiser.
    OptimizationProgress,
    /// State of an outside A/B test.
    AbTestUpdate,
    /// Cash or buying power changed; data: the `/account` body.
    AccountUpdated,
    /// A reconciliation run ended.
    ReconciliationFinished,
}

impl EventKind {
    /// Every kind.
    pub const ALL: [EventKind; 12] = [
        Self::OrderCreated,
        Self::OrderUpdated,
        Self::OrderFilled,
        Self::OrderCancelled,
        Self::PositionUpdated,
        Self::PnlUpdated,
        Self::TradeExecuted,
        Self::SystemAlert,
        Self::OptimizationProgress,
        Self::AbTestUpdate,
        Self::AccountUpdated,
        Self::ReconciliationFinished,
    ];

    /// The name on the wire and in the store.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Self::OrderCreated => "order_created",
            Self::OrderUpdated => "order_updated",
            Self::OrderFilled => "order_filled",
            Self::OrderCancelled => "order_cancelled",
            Self::PositionUpdated => "position_updated",
            Self::PnlUpdated => "pnl_updated",
            Self::TradeExecuted => "trade_executed",
            Self::SystemAlert => "system_alert",
            Self::OptimizationProgress => "optimization_progress",
            Self::AbTestUpdate => "ab_test_update",
            Self::AccountUpdated => "account_updated",
            Self::ReconciliationFinished => "reconciliation_finished",
        }
    }
}

impl FromStr for EventKind {
    type Err = &'static str;
    fn from_str(text: &str) -> Result<Self, Self::Err> {
        Self::ALL.into_iter().find(|kind| kind.as_str() == text).ok_or("not an event type")
    }
}

/// Where a stream stands: its epoch and its last offset.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct StreamHead {
    /// Changes when history was lost or replaced (a restore, a failover).
    pub epoch: Uuid,
    /// The offset of the last event; 0 for none.
    pub head: i64,
}

/// One event with its place in its stream.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct StreamEvent {
    /// Whose event.
    pub stream: StreamId,
    /// The stream's epoch when it was written.
    pub epoch: Uuid,
    /// Dense: each stream's offsets are 1, 2, 3, … without a hole.
    pub offset: i64,
    /// What happened.
    pub kind: EventKind,
    /// The event's `data`, JSON text, encoded once.
    pub data: Arc<str>,
    /// When, by the writer's clock.
    pub at: DateTime<Utc>,
}

/// An event about to be written: it has no offset yet.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct NewEvent {
    /// What happened.
    pub kind: EventKind,
    /// JSON text.
    pub data: Arc<str>,
}
