//! Recorded prices, replayed as a pure function of simulator time.
//!
//! [`MarketData`] holds what was recorded; [`Market`] maps it to simulator time and makes quotes of it:
//!
//! - Each symbol has a list of recorded days, finer data first, then by date. Day 0 plays on the exchange's epoch,
//!   the following days on the following trading days. After the last day the list starts anew; every second pass is
//!   mirrored (price p becomes c/p, high and low swap), which makes the level end where it started, so it neither
//!   jumps at the seam nor drifts away over many passes.
//! - Between recorded days of more than ten calendar days' distance, or of different files or grain, the later level is
//!   multiplied so that it opens where the earlier closed. Splits listed in `corporate_actions.csv` are taken out
//!   before; cash dividends are left alone.
//! - A minute bar prints four prices, 15 seconds apart: open, the nearer of high and low, the other, close. A daily
//!   bar walks the same four corners in three equal parts of the session, one print a minute. A trade prints itself.
//! - The last print is the mid. Distance of bid and ask: the larger of a least amount and some basis points, rounded
//!   up to the price step. A fixed price has none.
//! - Price steps are $0.01 from $1.00 and $0.0001 below.

mod bundled;
mod csv;
mod data;
mod path;
mod replay;

use chrono::{DateTime, Utc};
use rust_decimal::Decimal;
use serde::{Deserialize, Serialize};

pub use csv::MarketDataError;
pub use data::MarketData;
pub use replay::Market;

/// Bid and ask of an instant.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Quote {
    /// The symbol.
    pub symbol: String,
    /// Where a seller is filled.
    pub bid: Decimal,
    /// Where a buyer is filled.
    pub ask: Decimal,
    /// The last print.
    pub last: Decimal,
    /// When it printed.
    pub at: DateTime<Utc>,
}

/// A print of a symbol.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Print {
    /// When.
    pub at: DateTime<Utc>,
    /// At what price.
    pub price: Decimal,
    /// Recorded volume of the minute it belongs to; `None` where no volume bounds fills.
    pub minute_volume: Option<Decimal>,
}

/// The price step of a price.
pub(crate) fn price_step(price: Decimal) -> Decimal {
    if price >= Decimal::ONE { Decimal::new(1, 2) } else { Decimal::new(1, 4) }
}
