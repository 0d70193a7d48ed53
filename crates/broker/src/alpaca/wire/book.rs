//! Account, positions, fills, assets, clock and equity history (Alpaca's contract section 5).

use chrono::{DateTime, NaiveDate, NaiveTime, Utc};
use plimsoll_core_domain::broker::{
    AccountMovement, BrokerAccount, BrokerAsset, BrokerPosition, FillActivity, MarketClock, PortfolioHistory,
};
use plimsoll_core_domain::{BrokerOrderId, Price, Quantity, Symbol};
use rust_decimal::Decimal;
use serde::Deserialize;

use super::decimal::DecimalText;
use super::order::side;
use super::{Unreadable, decimal, time};

#[derive(Debug, Deserialize)]
pub(crate) struct AccountBody {
    account_number: String,
    status: String,
    currency: String,
    cash: DecimalText,
    buying_power: DecimalText,
    equity: DecimalText,
    #[serde(default, deserialize_with = "decimal::optional")]
    last_equity: Option<Decimal>,
    #[serde(default)]
    trading_blocked: Option<bool>,
    #[serde(default)]
    account_blocked: Option<bool>,
    #[serde(default)]
    trade_suspended_by_user: Option<bool>,
}

impl From<AccountBody> for BrokerAccount {
    fn from(body: AccountBody) -> Self {
        let blocks = [body.trading_blocked, body.account_blocked, body.trade_suspended_by_user];
        Self {
            number: body.account_number,
            status: body.status,
            currency: body.currency,
            cash: body.cash.0,
            buying_power: body.buying_power.0,
            equity: body.equity.0,
            last_equity: body.last_equity.unwrap_or(body.equity.0),
            trading_blocked: blocks.contains(&Some(true)),
        }
    }
}

#[derive(Debug, Deserialize)]
pub(crate) struct PositionBody {
    symbol: String,
    qty: DecimalText,
    #[serde(default)]
    side: Option<String>,
    avg_entry_price: DecimalText,
    #[serde(default, deserialize_with = "decimal::optional")]
    current_price: Option<Decimal>,
    #[serde(default, deserialize_with = "decimal::optional")]
    lastday_price: Option<Decimal>,
}

impl From<PositionBody> for BrokerPosition {
    fn from(body: PositionBody) -> Self {
        let short = body.side.as_deref() == Some("short");
        Self {
            symbol: body.symbol,
            qty: if short { -body.qty.0.abs() } else { body.qty.0 },
            avg_entry_price: body.avg_entry_price.0,
            current_price: body.current_price,
            lastday_price: body.lastday_price,
        }
    }
}

#[derive(Debug, Deserialize)]
pub(crate) struct FillBody {
    id: String,
    #[serde(default, deserialize_with = "time::optional")]
    transaction_time: Option<DateTime<Utc>>,
    price: DecimalText,
    qty: DecimalText,
    cum_qty: DecimalText,
    #[serde(default)]
    side: Option<String>,
    symbol: String,
    order_id: String,
}

impl TryFrom<FillBody> for FillActivity {
    type Error = Unreadable;

    fn try_from(body: FillBody) -> Result<Self, Unreadable> {
        Ok(Self {
            id: body.id,
            order_id: BrokerOrderId::new(body.order_id).map_err(|_| Unreadable::field("order_id"))?,
            symbol: body.symbol,
            side: side(body.side.as_deref()),
            qty: Quantity::new(body.qty.0).map_err(|_| Unreadable::field("qty"))?,
            price: Price::new(body.price.0).map_err(|_| Unreadable::field("price"))?,
            cum_qty: Quantity::new(body.cum_qty.0).map_err(|_| Unreadable::field("cum_qty"))?,
            at: body.transaction_time.ok_or(Unreadable::field("transaction_time"))?,
        })
    }
}

#[derive(Debug, Deserialize)]
pub(crate) struct MovementBody {
    id: String,
    activity_type: String,
    #[serde(default, deserialize_with = "decimal::optional")]
    net_amount: Option<Decimal>,
    #[serde(default, deserialize_with = "decimal::optional")]
    qty: Option<Decimal>,
    #[serde(default)]
    symbol: Option<String>,
    #[serde(default)]
    date: Option<NaiveDate>,
    #[serde(default, deserialize_with = "time::optional")]
    created_at: Option<DateTime<Utc>>,
}

impl TryFrom<MovementBody> for AccountMovement {
    type Error = Unreadable;

    fn try_from(body: MovementBody) -> Result<Self, Unreadable> {
        let midnight = body.date.map(|day| day.and_time(NaiveTime::MIN).and_utc());
        Ok(Self {
            id: body.id,
            kind: body.activity_type,
            symbol: body.symbol.filter(|symbol| !symbol.is_empty()),
            qty: body.qty,
            amount: body.net_amount.unwrap_or_default(),
            at: body.created_at.or(midnight).ok_or(Unreadable::field("date"))?,
        })
    }
}

#[derive(Debug, Deserialize)]
pub(crate) struct AssetBody {
    symbol: String,
    class: String,
    tradable: bool,
    #[serde(default)]
    fractionable: Option<bool>,
    #[serde(default)]
    shortable: Option<bool>,
}

impl TryFrom<AssetBody> for BrokerAsset {
    type Error = Unreadable;

    fn try_from(body: AssetBody) -> Result<Self, Unreadable> {
        Ok(Self {
            symbol: Symbol::new(body.symbol).map_err(|_| Unreadable::field("symbol"))?,
            class: body.class,
            tradable: body.tradable,
            fractionable: body.fractionable.unwrap_or(false),
            shortable: body.shortable.unwrap_or(false),
        })
    }
}

#[derive(Debug, Deserialize)]
pub(crate) struct ClockBody {
    #[serde(deserialize_with = "time::optional")]
    timestamp: Option<DateTime<Utc>>,
    is_open: bool,
    #[serde(deserialize_with = "time::optional")]
    next_open: Option<DateTime<Utc>>,
    #[serde(deserialize_with = "time::optional")]
    next_close: Option<DateTime<Utc>>,
}

impl TryFrom<ClockBody> for MarketClock {
    type Error = Unreadable;

    fn try_from(body: ClockBody) -> Result<Self, Unreadable> {
        Ok(Self {
            timestamp: body.timestamp.ok_or(Unreadable::field("timestamp"))?,
            is_open: body.is_open,
            next_open: body.next_open.ok_or(Unreadable::field("next_open"))?,
            next_close: body.next_close.ok_or(Unreadable::field("next_close"))?,
        })
    }
}

#[derive(Debug, Deserialize)]
pub(crate) struct HistoryBody {
    timestamp: Vec<i64>,
    equity: Vec<Option<DecimalText>>,
    profit_loss: Vec<Option<DecimalText>>,
    #[serde(default, deserialize_with = "decimal::optional")]
    base_value: Option<Decimal>,
    timeframe: String,
}

impl TryFrom<HistoryBody> for PortfolioHistory {
    type Error = Unreadable;

    /// Instants without a value (before the account's first day) are left out.
    fn try_from(body: HistoryBody) -> Result<Self, Unreadable> {
        if body.equity.len() != body.timestamp.len() {
            return Err(Unreadable::field("equity"));
        }
        if body.profit_loss.len() != body.timestamp.len() {
            return Err(Unreadable::field("profit_loss"));
        }
        let mut history = Self {
            base_value: body.base_value.unwrap_or_default(),
            timeframe: body.timeframe,
            ..Self::default()
        };
        for ((at, equity), profit) in body.timestamp.into_iter().zip(body.equity).zip(body.profit_loss) {
            if let (Some(equity), Some(profit)) = (equity, profit) {
                history.timestamp.push(at);
                history.equity.push(equity.0);
                history.profit_loss.push(profit.0);
            }
        }
        Ok(history)
    }
}
