//! Assets.

use rust_decimal::Decimal;
use serde::{Deserialize, Serialize};
use uuid::Uuid;

use crate::order::AssetClass;

/// An asset in the form of `GET /v2/assets`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Asset {
    /// Follows from the symbol alone, so it is the same in every exchange.
    pub id: Uuid,
    /// Stock or crypto.
    pub class: AssetClass,
    /// Listing exchange, one of the API's names.
    pub exchange: String,
    /// Symbol.
    pub symbol: String,
    /// Name for people.
    pub name: String,
    /// `active`.
    pub status: String,
    /// Whether orders are taken.
    pub tradable: bool,
    /// Whether it counts for margin.
    pub marginable: bool,
    /// Percent; a JSON number.
    pub maintenance_margin_requirement: u32,
    /// Percent.
    pub margin_requirement_long: String,
    /// Percent.
    pub margin_requirement_short: String,
    /// Whether it can be sold short.
    pub shortable: bool,
    /// Deprecated form of `borrow_status`.
    pub easy_to_borrow: bool,
    /// `easy_to_borrow` or `not_available`.
    pub borrow_status: String,
    /// Whether fractions and notional orders are taken.
    pub fractionable: bool,
    /// Further marks; empty here.
    pub attributes: Vec<String>,
    /// Crypto only.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub min_order_size: Option<Decimal>,
    /// Crypto only.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub min_trade_increment: Option<Decimal>,
    /// Crypto only.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub price_increment: Option<Decimal>,
}

/// Names of the bundled symbols; others are named after their symbol.
const KNOWN: &[(&str, &str, &str)] = &[
    ("AAPL", "NASDAQ", "Apple Inc. Common Stock"),
    ("AES", "NYSE", "The AES Corporation"),
    ("AIG", "NYSE", "American International Group, Inc."),
    ("FB", "NASDAQ", "Facebook, Inc. Class A Common Stock"),
    ("GOOG", "NASDAQ", "Google Inc. Class A Common Stock"),
    ("GORO", "AMEX", "Gold Resource Corporation"),
    ("IBM", "NYSE", "International Business Machines Corporation"),
    ("MSFT", "NASDAQ", "Microsoft Corporation Common Stock"),
    ("ORCL", "NYSE", "Oracle Corporation"),
    ("SPY", "ARCA", "SPDR S&P 500 ETF Trust"),
    ("YHOO", "NASDAQ", "Yahoo! Inc."),
];

impl Asset {
    /// The asset behind a symbol: crypto when it has a slash, else a stock.
    pub fn of(symbol: &str) -> Self {
        let crypto = symbol.contains('/');
        let known = KNOWN.iter().find(|(known, ..)| *known == symbol);
        let percent = if crypto { 100 } else { 30 };
        let text = |some: &str| some.to_owned();
        Self {
            id: crate::ids::asset_id(symbol),
            class: if crypto { AssetClass::Crypto } else { AssetClass::UsEquity },
            exchange: text(if crypto { "CRYPTO" } else { known.map_or("NYSE", |row| row.1) }),
            symbol: text(symbol),
            name: match known {
                Some(row) => text(row.2),
                None if symbol == "BTC/USD" => text("Bitcoin / US Dollar"),
                None => text(symbol),
            },
            status: text("active"),
            tradable: true,
            marginable: !crypto,
            maintenance_margin_requirement: percent,
            margin_requirement_long: percent.to_string(),
            margin_requirement_short: percent.to_string(),
            shortable: !crypto,
            easy_to_borrow: !crypto,
            borrow_status: text(if crypto { "not_available" } else { "easy_to_borrow" }),
            fractionable: true,
            attributes: Vec::new(),
            min_order_size: crypto.then(|| Decimal::new(12, 6)),
            min_trade_increment: crypto.then(|| Decimal::new(1, 9)),
            price_increment: crypto.then(|| Decimal::new(1, 2)),
        }
    }
}
