use std::fmt;

use rust_decimal::Decimal;
use serde::{Deserialize, Serialize};

macro_rules! wire_enum {
    ($(#[$meta:meta])* $name:ident { $($(#[$vmeta:meta])* $variant:ident = $text:literal),+ $(,)? }) => {
        $(#[$meta])*
        #[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
        pub enum $name {
            $($(#[$vmeta])* #[serde(rename = $text)] $variant,)+
        }

        impl $name {
            /// The text form on the wire.
            pub const fn as_str(self) -> &'static str {
                match self { $(Self::$variant => $text,)+ }
            }

            /// Reads the text form on the wire.
            pub fn parse(text: &str) -> Option<Self> {
                match text { $($text => Some(Self::$variant),)+ _ => None }
            }
        }

        impl fmt::Display for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str(self.as_str())
            }
        }
    };
}

wire_enum! {
    /// Direction of an order.
    Side {
        /// Buys.
        Buy = "buy",
        /// Sells, short where the account may.
        Sell = "sell",
    }
}

impl Side {
    /// The other side.
    pub const fn opposite(self) -> Self {
        match self {
            Self::Buy => Self::Sell,
            Self::Sell => Self::Buy,
        }
    }

    /// `qty` with the sign that a fill on this side has in the position.
    pub fn signed(self, qty: Decimal) -> Decimal {
        match self {
            Self::Buy => qty,
            Self::Sell => -qty,
        }
    }
}

wire_enum! {
    /// What makes an order executable.
    OrderType {
        /// At the far side of the quote.
        Market = "market",
        /// At the limit or better.
        Limit = "limit",
        /// A market order once a print reaches the stop.
        Stop = "stop",
        /// A limit order once a print reaches the stop.
        StopLimit = "stop_limit",
        /// A stop that follows the best price.
        TrailingStop = "trailing_stop",
    }
}

wire_enum! {
    /// How long an order lives.
    TimeInForce {
        /// Until the close of its session.
        Day = "day",
        /// Until canceled, at most 90 days.
        Gtc = "gtc",
        /// Only in the opening auction.
        Opg = "opg",
        /// Only in the closing auction.
        Cls = "cls",
        /// At once, the rest is canceled.
        Ioc = "ioc",
        /// At once and whole, or not at all.
        Fok = "fok",
    }
}

wire_enum! {
    /// Shape of an order group.
    OrderClass {
        /// A single order; shown as `""`.
        Simple = "",
        /// Entry, take-profit and stop-loss.
        Bracket = "bracket",
        /// Take-profit and stop-loss for a position that exists.
        Oco = "oco",
        /// Entry and one leg.
        Oto = "oto",
    }
}

wire_enum! {
    /// What a group member does.
    GroupRole {
        /// Opens the position.
        Entry = "entry",
        /// The limit leg.
        TakeProfit = "take_profit",
        /// The stop leg.
        StopLoss = "stop_loss",
    }
}

wire_enum! {
    /// Opening or closing.
    PositionIntent {
        /// Opens or adds to a long position.
        BuyToOpen = "buy_to_open",
        /// Covers a short position.
        BuyToClose = "buy_to_close",
        /// Opens or adds to a short position.
        SellToOpen = "sell_to_open",
        /// Reduces a long position.
        SellToClose = "sell_to_close",
    }
}

impl PositionIntent {
    /// Whether the order reduces a position.
    pub const fn closes(self) -> bool {
        matches!(self, Self::BuyToClose | Self::SellToClose)
    }
}

wire_enum! {
    /// Kind of asset.
    AssetClass {
        /// US stocks and funds.
        UsEquity = "us_equity",
        /// Coins against dollars.
        Crypto = "crypto",
    }
}

wire_enum! {
    /// Where an order is in its life.
    OrderStatus {
        /// Held by the broker until the session that it may work in.
        Accepted = "accepted",
        /// Sent, not yet taken.
        PendingNew = "pending_new",
        /// Working.
        New = "new",
        /// Working, with fills.
        PartiallyFilled = "partially_filled",
        /// Done: filled.
        Filled = "filled",
        /// Done: canceled, perhaps with fills.
        Canceled = "canceled",
        /// Done: expired, perhaps with fills.
        Expired = "expired",
        /// Done: refused after acceptance.
        Rejected = "rejected",
        /// Done: another order took over.
        Replaced = "replaced",
        /// A cancel was asked for.
        PendingCancel = "pending_cancel",
        /// A replacement was asked for.
        PendingReplace = "pending_replace",
        /// A leg that waits.
        Held = "held",
    }
}

impl OrderStatus {
    /// Final states do not change any more.
    pub const fn is_final(self) -> bool {
        matches!(self, Self::Filled | Self::Canceled | Self::Expired | Self::Rejected | Self::Replaced)
    }

    /// Whether lists of open orders show it; a held leg is neither open nor closed.
    pub const fn is_open(self) -> bool {
        !self.is_final() && !matches!(self, Self::Held)
    }
}
