//! Risk: what an account may do, and what is halted.

mod check;
mod halt;
mod limits;
mod loss;

use std::fmt;

pub use check::{Candidate, Exposure, check};
pub use halt::{HaltCause, HaltLevel, Halts};
pub use limits::{LimitError, MAX_COUNT, MAX_SYMBOLS, RiskLimits};
pub use loss::{Look, LossMark, look};

/// A rule that an order is held against.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum RiskRule {
    /// The value of one order.
    MaxOrderNotional,
    /// The value of the position that would be, should every open order on its side fill.
    MaxPositionNotional,
    /// The loss since the last session's close.
    MaxDailyLoss,
    /// The orders that are not final.
    MaxOpenOrders,
    /// The orders accepted within the last minute.
    MaxOrdersPerMinute,
    /// Nothing else is traded.
    AllowedSymbols,
    /// These are not traded.
    DeniedSymbols,
    /// The user's trading is halted.
    UserHalt,
    /// All trading is halted.
    GlobalHalt,
}

impl RiskRule {
    /// Every rule.
    pub const ALL: [Self; 9] = [
        Self::MaxOrderNotional,
        Self::MaxPositionNotional,
        Self::MaxDailyLoss,
        Self::MaxOpenOrders,
        Self::MaxOrdersPerMinute,
        Self::AllowedSymbols,
        Self::DeniedSymbols,
        Self::UserHalt,
        Self::GlobalHalt,
    ];

    /// Its name in answers, audit entries and logs.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::MaxOrderNotional => "max_order_notional",
            Self::MaxPositionNotional => "max_position_notional",
            Self::MaxDailyLoss => "max_daily_loss",
            Self::MaxOpenOrders => "max_open_orders",
            Self::MaxOrdersPerMinute => "max_orders_per_minute",
            Self::AllowedSymbols => "allowed_symbols",
            Self::DeniedSymbols => "denied_symbols",
            Self::UserHalt => "user_halt",
            Self::GlobalHalt => "global_halt",
        }
    }

    /// Whether it is a halt, which is lifted, and no limit, which is changed.
    #[must_use]
    pub const fn is_halt(self) -> bool {
        matches!(self, Self::UserHalt | Self::GlobalHalt)
    }
}

/// Why an order is not taken: the rule, what it allows, and what there would be.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct RiskRefusal {
    /// Which rule.
    pub rule: RiskRule,
    /// The rule's value: an amount, a count, symbols, or the level of a halt.
    pub limit: String,
    /// What the order would make of it.
    pub actual: String,
}

impl RiskRefusal {
    /// The problem's code in answers.
    #[must_use]
    pub const fn code(&self) -> &'static str {
        if self.rule.is_halt() { "trading_halted" } else { "risk_limit" }
    }

    /// Whether it might not be one, were it known what the symbol trades at.
    #[must_use]
    pub fn price_unknown(&self) -> bool {
        self.actual == check::UNKNOWN
    }
}

impl fmt::Display for RiskRefusal {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { rule, limit, actual } = self;
        if rule.is_halt() {
            write!(f, "{}: {limit} is in force, and the order is {actual}", rule.as_str())
        } else {
            write!(f, "{}: the limit is {limit}, and it would be {actual}", rule.as_str())
        }
    }
}
