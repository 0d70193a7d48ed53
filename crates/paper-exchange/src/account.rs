//! Accounts, positions, activities and portfolio history in the forms that clients see.

use std::collections::BTreeMap;

use chrono::{DateTime, NaiveDate, Utc};
use rust_decimal::Decimal;
use serde::{Deserialize, Serialize};
use uuid::Uuid;

use crate::order::{AssetClass, Direction, OrderId, OrderStatus, Side};

/// Identifies an account.
pub type AccountId = Uuid;

/// The owner's settings, in the form of `GET /v2/account/configurations`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct Configurations {
    /// Shown only.
    pub disable_overnight_trading: bool,
    /// Whether fractional and notional orders are taken.
    pub fractional_trading: bool,
    /// Upper bound of the multiplier: `"1"`, `"2"` or `"4"`.
    pub max_margin_multiplier: String,
    /// Shown only.
    pub max_options_trading_level: Option<u32>,
    /// Refuses short sales.
    pub no_shorting: bool,
    /// Shown only.
    pub ptp_no_exception_entry: bool,
    /// Refuses all new orders.
    pub suspend_trade: bool,
    /// `all` or `none`; shown only.
    pub trade_confirm_email: String,
}

impl Default for Configurations {
    fn default() -> Self {
        Self {
            disable_overnight_trading: false,
            fractional_trading: true,
            max_margin_multiplier: "4".into(),
            max_options_trading_level: None,
            no_shorting: false,
            ptp_no_exception_entry: false,
            suspend_trade: false,
            trade_confirm_email: "all".into(),
        }
    }
}

/// A change of settings; `None` leaves a setting as it is.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
#[expect(missing_docs, reason = "the fields of Configurations")]
pub struct ConfigurationsPatch {
    pub disable_overnight_trading: Option<bool>,
    pub fractional_trading: Option<bool>,
    pub max_margin_multiplier: Option<String>,
    pub max_options_trading_level: Option<u32>,
    pub no_shorting: Option<bool>,
    pub ptp_no_exception_entry: Option<bool>,
    pub suspend_trade: Option<bool>,
    pub trade_confirm_email: Option<String>,
}

/// An account in the form of `GET /v2/account`. All amounts are US dollars.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct AccountView {
    /// Id.
    pub id: AccountId,
    /// Number for people.
    pub account_number: String,
    /// `ACTIVE`.
    pub status: String,
    /// `ACTIVE`.
    pub crypto_status: String,
    /// `USD`.
    pub currency: String,
    /// What opening orders may still cost, open orders taken off.
    pub buying_power: Decimal,
    /// The same under Regulation T (multiplier 2).
    pub regt_buying_power: Decimal,
    /// For assets without margin.
    pub non_marginable_buying_power: Decimal,
    /// Equal to `non_marginable_buying_power`.
    pub options_buying_power: Decimal,
    /// Cash; negative when borrowed.
    pub cash: Decimal,
    /// Always 0.
    pub accrued_fees: Decimal,
    /// Always 0.
    pub pending_reg_taf_fees: Decimal,
    /// Equal to `equity`.
    pub portfolio_value: Decimal,
    /// `cash + long_market_value + short_market_value`.
    pub equity: Decimal,
    /// Equity at the last close.
    pub last_equity: Decimal,
    /// Value of long positions.
    pub long_market_value: Decimal,
    /// Value of short positions; negative.
    pub short_market_value: Decimal,
    /// Long value and the size of the short value.
    pub position_market_value: Decimal,
    /// Half of every marginable position's size, the whole of others.
    pub initial_margin: Decimal,
    /// By the maintenance rules.
    pub maintenance_margin: Decimal,
    /// The same at the last close.
    pub last_maintenance_margin: Decimal,
    /// Equal to the equity at the last close.
    pub sma: Decimal,
    /// `1`, `2` or `4`.
    pub multiplier: Decimal,
    /// Whether short sales are taken.
    pub shorting_enabled: bool,
    /// Always false.
    pub trading_blocked: bool,
    /// Always false.
    pub transfers_blocked: bool,
    /// Always false.
    pub account_blocked: bool,
    /// The owner's `suspend_trade`.
    pub trade_suspended_by_user: bool,
    /// When it was opened.
    pub created_at: DateTime<Utc>,
    /// Always 0.
    pub intraday_adjustments: Decimal,
    /// The last trading day that closed.
    pub balance_asof: NaiveDate,
    /// 2.
    pub options_approved_level: u32,
    /// 2.
    pub options_trading_level: u32,
}

/// `long` or `short`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum PositionSide {
    /// More than zero shares.
    Long,
    /// Less than zero shares.
    Short,
}

/// A position in the form of `GET /v2/positions`. Percentages are fractions (0.0084 = 0.84 %).
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[expect(missing_docs, reason = "the broker's own field names; signs: negative when short")]
pub struct PositionView {
    pub asset_id: Uuid,
    pub symbol: String,
    pub exchange: String,
    pub asset_class: AssetClass,
    pub asset_marginable: bool,
    pub qty: Decimal,
    /// `qty` less what open closing orders hold.
    pub qty_available: Decimal,
    pub avg_entry_price: Decimal,
    pub side: PositionSide,
    pub market_value: Decimal,
    pub cost_basis: Decimal,
    pub unrealized_pl: Decimal,
    pub unrealized_plpc: Decimal,
    pub unrealized_intraday_pl: Decimal,
    pub unrealized_intraday_plpc: Decimal,
    /// The last print.
    pub current_price: Decimal,
    /// The close before today's session.
    pub lastday_price: Decimal,
    pub change_today: Decimal,
}

/// A row of `GET /v2/account/activities`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(untagged)]
pub enum Activity {
    /// An execution.
    Fill(FillActivity),
    /// Anything that is no trade; here only the deposit (`CSD`) an account was opened with.
    NonTrade(NonTradeActivity),
}

impl Activity {
    /// The row's id: New York time to the millisecond, `::`, a UUID. It is also the page token.
    pub fn id(&self) -> &str {
        match self {
            Self::Fill(row) => &row.id,
            Self::NonTrade(row) => &row.id,
        }
    }
}

/// A fill.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[expect(missing_docs, reason = "the broker's own field names")]
pub struct FillActivity {
    pub id: String,
    /// `FILL`.
    pub activity_type: String,
    pub transaction_time: DateTime<Utc>,
    /// `fill` or `partial_fill`.
    #[serde(rename = "type")]
    pub kind: String,
    pub price: Decimal,
    /// Of this execution.
    pub qty: Decimal,
    pub side: Side,
    pub symbol: String,
    pub leaves_qty: Decimal,
    pub order_id: OrderId,
    pub cum_qty: Decimal,
    /// Right after this execution.
    pub order_status: OrderStatus,
}

/// A deposit.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[expect(missing_docs, reason = "the broker's own field names")]
pub struct NonTradeActivity {
    pub id: String,
    /// `CSD`.
    pub activity_type: String,
    pub date: NaiveDate,
    pub net_amount: Decimal,
    /// `executed`.
    pub status: String,
    pub currency: String,
    pub description: String,
    pub created_at: DateTime<Utc>,
}

/// Query of `GET /v2/account/activities`.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct ActivityQuery {
    /// Activity types (`FILL`, `CSD`, …); empty means all.
    pub types: Vec<String>,
    /// `trade_activity` or `non_trade_activity`; not together with `types`.
    pub category: Option<String>,
    /// Only fills of that order.
    pub order_id: Option<OrderId>,
    /// Only that New York day.
    pub date: Option<NaiveDate>,
    /// Strictly later.
    pub after: Option<DateTime<Utc>>,
    /// Strictly earlier.
    pub until: Option<DateTime<Utc>>,
    /// Newest first by default.
    pub direction: Direction,
    /// 1 to 100; `None` is 100.
    pub page_size: Option<u32>,
    /// Id of the last row received.
    pub page_token: Option<String>,
}

/// Step of a portfolio history.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub enum Timeframe {
    /// One minute.
    #[serde(rename = "1Min")]
    Min1,
    /// Five minutes.
    #[serde(rename = "5Min")]
    Min5,
    /// A quarter of an hour.
    #[serde(rename = "15Min")]
    Min15,
    /// One hour.
    #[serde(rename = "1H")]
    Hour1,
    /// One trading day.
    #[serde(rename = "1D")]
    Day1,
}

/// Query of `GET /v2/account/portfolio/history`.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct HistoryQuery {
    /// A number and `D`, `W`, `M` or `A` (trading days, weeks, months, years); `None` is `1M`. Not with `start`
    /// and `end` together.
    pub period: Option<String>,
    /// `None`: 1Min up to a day, 15Min up to a week, else 1D.
    pub timeframe: Option<Timeframe>,
    /// First instant.
    pub start: Option<DateTime<Utc>>,
    /// Last instant; `None` is now.
    pub end: Option<DateTime<Utc>>,
}

/// Portfolio history; serialises with JSON numbers, as its wire form wants.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct PortfolioHistory {
    /// UNIX seconds.
    pub timestamp: Vec<i64>,
    /// Dollars.
    #[serde(serialize_with = "crate::decimal_text::as_numbers")]
    pub equity: Vec<Decimal>,
    /// Dollars since the step before.
    #[serde(serialize_with = "crate::decimal_text::as_numbers")]
    pub profit_loss: Vec<Decimal>,
    /// `profit_loss` as a fraction of `base_value`.
    #[serde(serialize_with = "crate::decimal_text::as_numbers")]
    pub profit_loss_pct: Vec<Decimal>,
    /// Equity before the first step.
    #[serde(serialize_with = "crate::decimal_text::as_number")]
    pub base_value: Decimal,
    /// The day of `base_value`.
    pub base_value_asof: NaiveDate,
    /// Step.
    pub timeframe: Timeframe,
    /// Deposits by type and step: empty, since accounts are only funded when opened.
    pub cashflow: BTreeMap<String, Vec<i64>>,
}
