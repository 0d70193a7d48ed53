//! Settings of the exchange.

use chrono::TimeDelta;
use rust_decimal::Decimal;
use serde::{Deserialize, Serialize};

/// How the exchange behaves. The default is a calm day at a paper broker.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct ExchangeConfig {
    /// Dollars a new account gets where none are named.
    pub starting_cash: Decimal,
    /// Margin multiplier of accounts with at least $2 000 equity: 1, 2 or 4.
    pub multiplier: u8,
    /// Least distance of bid and ask in dollars.
    pub min_spread: Decimal,
    /// Distance of bid and ask in basis points of the price; the larger of both counts.
    pub spread_bp: Decimal,
    /// Basis points that market and stop fills are worse than the quote.
    pub slippage_bp: Decimal,
    /// Part of a minute's recorded volume that one order may take in that minute (0.1 = 10 %).
    pub volume_share: Decimal,
    /// Shares that one order may always take in a minute, however thin its volume.
    pub min_fill_qty: Decimal,
    /// Part of eligible fills that are made partial with a random size (0.1 = 10 %). The rest is tried again.
    pub partial_fill_rate: Decimal,
    /// Part of orders that are rejected after acceptance.
    pub reject_rate: Decimal,
    /// Simulator milliseconds from `pending_new` to `new`, and from a cancel or replacement asked for to done.
    pub ack_delay_ms: i64,
    /// Simulator milliseconds after which a part-filled order is tried again between prints.
    pub retry_delay_ms: i64,
}

impl Default for ExchangeConfig {
    fn default() -> Self {
        Self {
            starting_cash: Decimal::from(100_000),
            multiplier: 2,
            min_spread: Decimal::new(1, 2),
            spread_bp: Decimal::from(2),
            slippage_bp: Decimal::ZERO,
            volume_share: Decimal::new(1, 1),
            min_fill_qty: Decimal::from(100),
            partial_fill_rate: Decimal::ZERO,
            reject_rate: Decimal::ZERO,
            ack_delay_ms: 5,
            retry_delay_ms: 1_000,
        }
    }
}

impl ExchangeConfig {
    pub(crate) fn ack_delay(&self) -> TimeDelta {
        TimeDelta::milliseconds(self.ack_delay_ms.max(0))
    }

    pub(crate) fn retry_delay(&self) -> TimeDelta {
        TimeDelta::milliseconds(self.retry_delay_ms.max(1))
    }
}
