//! Bodies that are sent: decimals as strings, and nothing that is not set.

use plimsoll_core_domain::broker::{ReplaceOrder, SubmitOrder};
use plimsoll_core_domain::order::{OrderClass, OrderSize, Pricing, Trail};
use rust_decimal::Decimal;
use serde::Serialize;

#[derive(Serialize)]
struct CreateBody<'a> {
    symbol: &'a str,
    #[serde(skip_serializing_if = "Option::is_none")]
    qty: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    notional: Option<String>,
    side: &'a str,
    #[serde(rename = "type")]
    order_type: &'a str,
    time_in_force: &'a str,
    #[serde(skip_serializing_if = "Option::is_none")]
    limit_price: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    stop_price: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    trail_price: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    trail_percent: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    extended_hours: Option<bool>,
    client_order_id: &'a str,
    #[serde(skip_serializing_if = "Option::is_none")]
    order_class: Option<&'a str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    take_profit: Option<TakeProfitBody>,
    #[serde(skip_serializing_if = "Option::is_none")]
    stop_loss: Option<StopLossBody>,
}

#[derive(Serialize)]
struct TakeProfitBody {
    limit_price: String,
}

#[derive(Serialize)]
struct StopLossBody {
    stop_price: String,
    #[serde(skip_serializing_if = "Option::is_none")]
    limit_price: Option<String>,
}

#[derive(Serialize)]
struct ReplaceBody<'a> {
    #[serde(skip_serializing_if = "Option::is_none")]
    qty: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    time_in_force: Option<&'a str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    limit_price: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    stop_price: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    trail: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    client_order_id: Option<&'a str>,
}

fn text(value: impl Into<Decimal>) -> String {
    value.into().normalize().to_string()
}

fn json(body: &impl Serialize) -> Vec<u8> {
    serde_json::to_vec(body).expect("strings and booleans under string keys are always JSON")
}

/// The body of `POST /orders`.
pub(crate) fn create_order(submit: &SubmitOrder) -> Vec<u8> {
    let order = &submit.order;
    let (qty, notional) = match order.size {
        OrderSize::Qty(qty) => (Some(text(qty)), None),
        OrderSize::Notional(amount) => (None, Some(text(amount))),
    };
    let (trail_price, trail_percent) = match order.pricing.trail() {
        Some(Trail::Price(price)) => (Some(text(price)), None),
        Some(Trail::Percent(percent)) => (None, Some(text(percent))),
        None => (None, None),
    };
    let oco = order.class == OrderClass::Oco;
    // The take-profit's price is an OCO's limit: it carries none of its own (contract section 9).
    let limit = order.pricing.limit_price().filter(|_| !oco);
    let take_profit = order.take_profit.or(match order.pricing {
        Pricing::Limit { limit } if oco => Some(limit),
        _ => None,
    });
    json(&CreateBody {
        symbol: order.symbol.as_str(),
        qty,
        notional,
        side: order.side.as_str(),
        order_type: order.pricing.order_type().as_str(),
        time_in_force: order.time_in_force.as_str(),
        limit_price: limit.map(text),
        stop_price: order.pricing.stop_price().map(text),
        trail_price,
        trail_percent,
        extended_hours: order.extended_hours.then_some(true),
        client_order_id: submit.client_order_id.as_str(),
        order_class: (order.class != OrderClass::Simple).then(|| order.class.as_str()),
        take_profit: take_profit.map(|price| TakeProfitBody { limit_price: text(price) }),
        stop_loss: order
            .stop_loss
            .map(|stop| StopLossBody { stop_price: text(stop.stop), limit_price: stop.limit.map(text) }),
    })
}

/// The body of `PATCH /orders/{id}`.
pub(crate) fn replace_order(change: &ReplaceOrder) -> Vec<u8> {
    json(&ReplaceBody {
        qty: change.qty.map(text),
        time_in_force: change.time_in_force.map(|tif| tif.as_str()),
        limit_price: change.limit_price.map(text),
        stop_price: change.stop_price.map(text),
        trail: change.trail.map(|trail| match trail {
            Trail::Price(distance) | Trail::Percent(distance) => text(distance),
        }),
        client_order_id: change.client_order_id.as_ref().map(|id| id.as_str()),
    })
}
