//! Risk: what an account may do, and what is halted.

mod check;
mod halt;
mod limits;
mod loss;
mod unclear;

use std::fmt;

pub use check::{Candidate, Exposure, check};
pub use halt::{HaltCause, HaltLevel, Halts};
pub use limits::{LimitError, MAX_COUNT, MAX_SYMBOLS, RiskLimits};
pub use loss::{Look, LossMark, cash_moved, first_day_since_close, look};
pub use unclear::{Unclear, check_unclear};

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
    /// A comparison with the broker found a difference of the symbol that nobody has decided about.
    OpenDiscrepancy,
    /// The account is to be compared with the broker first.
    Unreconciled,
}

impl RiskRule {
    /// Every rule.
    pub const ALL: [Self; 11] = [
        Self::MaxOrderNotional,
        Self::MaxPositionNotional,
        Self::MaxDailyLoss,
        Self::MaxOpenOrders,
        Self::MaxOrdersPerMinute,
        Self::AllowedSymbols,
        Self::DeniedSymbols,
        Self::UserHalt,
        Self::GlobalHalt,
        Self::OpenDiscrepancy,
        Self::Unreconciled,
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
            Self::OpenDiscrepancy => "open_discrepancy",
            Self::Unreconciled => "unreconciled",
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
        match self.rule {
            RiskRule::UserHalt | RiskRule::GlobalHalt => "trading_halted",
            RiskRule::OpenDiscrepancy => "symbol_blocked",
            RiskRule::Unreconciled => "reconciling",
            _ => "risk_limit",
        }
    }

    /// Whether it passes by itself within moments.
    #[must_use]
    pub fn is_momentary(&self) -> bool {
        self.rule == RiskRule::Unreconciled
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
        let name = rule.as_str();
        match rule {
            RiskRule::UserHalt | RiskRule::GlobalHalt => {
                write!(f, "{name}: {limit} is in force, and the order is {actual}")
            }
            RiskRule::OpenDiscrepancy => {
                write!(f, "{name}: what is held of {limit} is not clear, and the order is {actual}")
            }
            RiskRule::Unreconciled => write!(f, "{name}: the account is compared with the broker first"),
            _ => write!(f, "{name}: the limit is {limit}, and it would be {actual}"),
        }
    }
}
