//! The vocabulary of orders: side, type, class, time in force, and how each is written on the wire.

use std::fmt;
use std::str::FromStr;

use rust_decimal::Decimal;
use serde::{Deserialize, Serialize};

use crate::money::{Price, Quantity};

/// A word that is not one of the known ones.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{given:?} is not one of {allowed}")]
pub struct UnknownWord {
    /// What was given, cut to 40 characters.
    pub given: String,
    /// The known words.
    pub allowed: &'static str,
}

macro_rules! words {
    ($(#[$doc:meta])* $name:ident { $($(#[$vdoc:meta])* $variant:ident = $word:literal),+ $(,)? }) => {
        $(#[$doc])*
        #[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
        pub enum $name { $($(#[$vdoc])* #[serde(rename = $word)] $variant),+ }
        impl $name {
            /// Every value.
            pub const ALL: &'static [$name] = &[$($name::$variant),+];
            /// The word on the wire and in the store.
            #[must_use]
            pub const fn as_str(self) -> &'static str {
                match self { $($name::$variant => $word),+ }
            }
        }
        impl fmt::Display for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str(self.as_str())
            }
        }
        impl FromStr for $name {
            type Err = UnknownWord;
            fn from_str(text: &str) -> Result<Self, UnknownWord> {
                match text {
                    $($word => Ok($name::$variant),)+
                    _ => Err(UnknownWord {
                        given: text.chars().take(40).collect(),
                        allowed: concat!($($word, " "),+).trim_ascii_end(),
                    }),
                }
            }
        }
    };
}
pub(crate) use words;

words!(
    /// Which way the position moves.
    Side {
        /// Up.
        Buy = "buy",
        /// Down; beyond what is held, a short sale.
        Sell = "sell",
    }
);

words!(
    /// What makes the order trade.
    OrderType {
        /// At once, at the far side.
        Market = "market",
        /// At the limit or better.
        Limit = "limit",
        /// Becomes a market order when the stop trades.
        Stop = "stop",
        /// Becomes a limit order when the stop trades.
        StopLimit = "stop_limit",
        /// A stop that follows the best price at a distance.
        TrailingStop = "trailing_stop",
    }
);

words!(
    /// How orders belong together.
    OrderClass {
        /// Alone.
        Simple = "simple",
        /// An entry with a take-profit and a stop-loss.
        Bracket = "bracket",
        /// Two exits, of which one cancels the other.
        Oco = "oco",
        /// An entry with one exit.
        Oto = "oto",
    }
);

words!(
    /// How long it stands.
    TimeInForce {
        /// Until the session's end.
        Day = "day",
        /// Until canceled (at the broker, 90 days).
        Gtc = "gtc",
        /// What can be filled at once; the rest is canceled.
        Ioc = "ioc",
        /// All at once or nothing.
        Fok = "fok",
        /// In the opening auction.
        Opg = "opg",
        /// In the closing auction.
        Cls = "cls",
    }
);

words!(
    /// With whose money.
    Environment {
        /// Play money.
        Paper = "paper",
        /// Real money.
        Live = "live",
    }
);

words!(
    /// Where an order came from.
    SourceKind {
        /// The REST interface.
        Api = "api",
        /// An inbound hook.
        Webhook = "webhook",
        /// Placed elsewhere and found at the broker.
        External = "external",
        /// A strategy.
        Strategy = "strategy",
    }
);

words!(
    /// What an order is within its group.
    LegRole {
        /// The entry, or a simple order.
        Entry = "entry",
        /// The exit with a gain.
        TakeProfit = "take_profit",
        /// The exit with a loss.
        StopLoss = "stop_loss",
    }
);

impl Side {
    /// The other one.
    #[must_use]
    pub const fn opposite(self) -> Self {
        match self {
            Self::Buy => Self::Sell,
            Self::Sell => Self::Buy,
        }
    }

    /// `quantity` with the sign of its effect on a position.
    #[must_use]
    pub fn signed(self, quantity: Decimal) -> Decimal {
        match self {
            Self::Buy => quantity,
            Self::Sell => -quantity,
        }
    }
}

/// How much: units, or an amount of money.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum OrderSize {
    /// A number of units.
    Qty(Quantity),
    /// An amount in the account's currency, two digits after the point.
    Notional(Price),
}

/// A trailing stop's distance.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Trail {
    /// In currency.
    Price(Price),
    /// In per cent of the best price: greater than 0, below 100.
    Percent(Price),
}

/// The order's type with the prices that only it has.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Pricing {
    /// At once.
    Market,
    /// At the limit or better.
    Limit {
        /// The worst price.
        limit: Price,
    },
    /// Market once the stop trades.
    Stop {
        /// The trigger.
        stop: Price,
    },
    /// Limit once the stop trades.
    StopLimit {
        /// The trigger.
        stop: Price,
        /// The worst price.
        limit: Price,
    },
    /// A stop that follows.
    TrailingStop {
        /// Its distance.
        trail: Trail,
    },
}

impl Pricing {
    /// The type without its prices.
    #[must_use]
    pub const fn order_type(self) -> OrderType {
        match self {
            Self::Market => OrderType::Market,
            Self::Limit { .. } => OrderType::Limit,
            Self::Stop { .. } => OrderType::Stop,
            Self::StopLimit { .. } => OrderType::StopLimit,
            Self::TrailingStop { .. } => OrderType::TrailingStop,
        }
    }

    /// The limit price, where there is one.
    #[must_use]
    pub const fn limit_price(self) -> Option<Price> {
        match self {
            Self::Limit { limit } | Self::StopLimit { limit, .. } => Some(limit),
            _ => None,
        }
    }

    /// The stop price, where there is a fixed one.
    #[must_use]
    pub const fn stop_price(self) -> Option<Price> {
        match self {
            Self::Stop { stop } | Self::StopLimit { stop, .. } => Some(stop),
            _ => None,
        }
    }

    /// The trailing distance, where there is one.
    #[must_use]
    pub const fn trail(self) -> Option<Trail> {
        match self {
            Self::TrailingStop { trail } => Some(trail),
            _ => None,
        }
    }
}

/// The stop-loss of a group.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct StopLoss {
    /// The trigger.
    pub stop: Price,
    /// With it the leg is a stop-limit order.
    pub limit: Option<Price>,
}
