use chrono::{DateTime, Utc};
use rust_decimal::Decimal;
use serde::{Deserialize, Serialize};

use super::{AssetClass, Order, OrderId, Side};
use crate::Refusal;

/// Which states a list shows.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum StatusFilter {
    /// Working or on the way.
    #[default]
    Open,
    /// Final states.
    Closed,
    /// Everything, held legs too.
    All,
}

/// Sort direction by `submitted_at` or activity time.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Direction {
    /// Oldest first.
    Asc,
    /// Newest first.
    #[default]
    Desc,
}

/// Query of `GET /v2/orders`.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct OrderQuery {
    /// States to show.
    pub status: StatusFilter,
    /// Rows, 1 to 500; `None` is 50.
    pub limit: Option<u32>,
    /// Only orders submitted later.
    pub after: Option<DateTime<Utc>>,
    /// Only orders submitted earlier.
    pub until: Option<DateTime<Utc>>,
    /// Sort direction.
    pub direction: Direction,
    /// Children inside their parents instead of on the top level.
    pub nested: bool,
    /// Only these; empty means all.
    pub symbols: Vec<String>,
    /// Only this side.
    pub side: Option<Side>,
    /// Only this class.
    pub asset_class: Option<AssetClass>,
    /// Only orders before that one.
    pub before_order_id: Option<OrderId>,
    /// Only orders after that one.
    pub after_order_id: Option<OrderId>,
}

/// One row of the answer to "cancel all".
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct CancelOutcome {
    /// The order tried.
    pub id: OrderId,
    /// `None` when the cancel was taken (row status 200).
    pub refusal: Option<Refusal>,
}

/// One row of the answer to "close all".
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct CloseOutcome {
    /// The position tried.
    pub symbol: String,
    /// The closing order (row status 200), or why there is none.
    pub result: Result<Box<Order>, Refusal>,
}

/// How much of a position to close.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum CloseAmount {
    /// The whole position.
    All,
    /// Shares.
    Qty(Decimal),
    /// Percent of the position, above 0 up to 100.
    Percentage(Decimal),
}
