use rust_decimal::Decimal;
use serde::{Deserialize, Serialize};

use super::{OrderClass, OrderType, PositionIntent, Side, TimeInForce};

/// The take-profit part of a bracket, oco or oto.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct TakeProfit {
    /// Limit of the leg.
    #[serde(default, deserialize_with = "crate::decimal_text::optional")]
    pub limit_price: Option<Decimal>,
}

/// The stop-loss part of a bracket, oco or oto.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct StopLoss {
    /// Stop of the leg.
    #[serde(default, deserialize_with = "crate::decimal_text::optional")]
    pub stop_price: Option<Decimal>,
    /// Makes the leg a stop-limit.
    #[serde(default, deserialize_with = "crate::decimal_text::optional")]
    pub limit_price: Option<Decimal>,
}

/// A request for an order, before any check.
///
/// Reads the body of `POST /v2/orders` directly from JSON text (`serde_json::from_str`/`from_slice`, not from a
/// `Value`): decimals may be strings or numbers, and a number's literal text is read, never a float. Unknown
/// fields are ignored.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct NewOrder {
    /// Symbol or asset id.
    pub symbol: String,
    /// Shares; exactly one of `qty` and `notional`.
    #[serde(default, deserialize_with = "crate::decimal_text::optional")]
    pub qty: Option<Decimal>,
    /// Dollars.
    #[serde(default, deserialize_with = "crate::decimal_text::optional")]
    pub notional: Option<Decimal>,
    /// Buy or sell.
    pub side: Side,
    /// What makes it executable.
    #[serde(rename = "type")]
    pub kind: OrderType,
    /// How long it lives.
    pub time_in_force: TimeInForce,
    /// For `limit` and `stop_limit`.
    #[serde(default, deserialize_with = "crate::decimal_text::optional")]
    pub limit_price: Option<Decimal>,
    /// For `stop` and `stop_limit`.
    #[serde(default, deserialize_with = "crate::decimal_text::optional")]
    pub stop_price: Option<Decimal>,
    /// For `trailing_stop`, in dollars.
    #[serde(default, deserialize_with = "crate::decimal_text::optional")]
    pub trail_price: Option<Decimal>,
    /// For `trailing_stop`, in percent.
    #[serde(default, deserialize_with = "crate::decimal_text::optional")]
    pub trail_percent: Option<Decimal>,
    /// Also outside 09:30 to 16:00.
    #[serde(default, deserialize_with = "null_as_false")]
    pub extended_hours: bool,
    /// The client's id; one is made where it is absent or empty.
    #[serde(default)]
    pub client_order_id: Option<String>,
    /// Group shape; `simple` and `""` mean the same.
    #[serde(default = "simple", deserialize_with = "order_class")]
    pub order_class: OrderClass,
    /// For bracket, oco and oto.
    #[serde(default)]
    pub take_profit: Option<TakeProfit>,
    /// For bracket, oco and oto.
    #[serde(default)]
    pub stop_loss: Option<StopLoss>,
    /// A guard against an unwanted short.
    #[serde(default)]
    pub position_intent: Option<PositionIntent>,
}

impl NewOrder {
    /// A simple market day order for `qty` shares; the other fields are public.
    pub fn market(symbol: &str, side: Side, qty: Decimal) -> Self {
        Self {
            symbol: symbol.to_owned(),
            qty: Some(qty),
            notional: None,
            side,
            kind: OrderType::Market,
            time_in_force: TimeInForce::Day,
            limit_price: None,
            stop_price: None,
            trail_price: None,
            trail_percent: None,
            extended_hours: false,
            client_order_id: None,
            order_class: OrderClass::Simple,
            take_profit: None,
            stop_loss: None,
            position_intent: None,
        }
    }

    /// A simple limit day order.
    pub fn limit(symbol: &str, side: Side, qty: Decimal, limit_price: Decimal) -> Self {
        Self { kind: OrderType::Limit, limit_price: Some(limit_price), ..Self::market(symbol, side, qty) }
    }
}

/// A request to replace an order; fields that are `None` stay as they are.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Replacement {
    /// Total of the new order, not what is left of the old one.
    #[serde(default, deserialize_with = "crate::decimal_text::optional")]
    pub qty: Option<Decimal>,
    /// New life time.
    #[serde(default)]
    pub time_in_force: Option<TimeInForce>,
    /// New limit.
    #[serde(default, deserialize_with = "crate::decimal_text::optional")]
    pub limit_price: Option<Decimal>,
    /// New stop.
    #[serde(default, deserialize_with = "crate::decimal_text::optional")]
    pub stop_price: Option<Decimal>,
    /// New distance of a trailing stop, in the unit (dollars or percent) that the order has.
    #[serde(default, deserialize_with = "crate::decimal_text::optional")]
    pub trail: Option<Decimal>,
    /// Client id of the new order; one is made where it is absent.
    #[serde(default)]
    pub client_order_id: Option<String>,
}

fn simple() -> OrderClass {
    OrderClass::Simple
}

fn null_as_false<'de, D: serde::Deserializer<'de>>(from: D) -> Result<bool, D::Error> {
    Ok(Option::<bool>::deserialize(from)?.unwrap_or(false))
}

fn order_class<'de, D: serde::Deserializer<'de>>(from: D) -> Result<OrderClass, D::Error> {
    let text = Option::<String>::deserialize(from)?.unwrap_or_default();
    match text.as_str() {
        "simple" => Ok(OrderClass::Simple),
        other => OrderClass::parse(other)
            .ok_or_else(|| serde::de::Error::custom(format!("invalid order_class {other:?}"))),
    }
}
