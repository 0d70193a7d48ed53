//! Legs: orders that the broker made for a group's entry.

use chrono::{DateTime, Utc};
use plimsoll_core_domain::broker::{BrokerOrder, BrokerStatus};
use plimsoll_core_domain::order::{
    BrokerView, LegRole, NewOrder, Order, OrderClass, OrderSize, OrderStatus, OrderType, Pricing, SubmitNotes,
};
use plimsoll_core_domain::{ClientOrderId, OrderId, Price, Quantity, StoreError};
use rust_decimal::Decimal;
use uuid::{Builder, Uuid};

/// The name space of leg ids (RFC 9562 version 5): the same leg learnt twice has one id.
const LEGS: Uuid = Uuid::from_u128(0x3b0a_5a0e_52f2_4f0e_8f5e_7d50_7c1b_90aa);

/// A UUIDv7 that follows from the leg alone: its time is the parent's, its random part a hash of the broker's id.
fn leg_id(parent: &Order, leg: &BrokerOrder) -> OrderId {
    let hash = Uuid::new_v5(&LEGS, format!("{}/{}", parent.id, leg.id).as_bytes());
    let mut random = [0u8; 10];
    random.copy_from_slice(&hash.as_bytes()[..10]);
    let millis = u64::try_from(parent.created_at.timestamp_millis()).unwrap_or_default();
    OrderId(Builder::from_unix_timestamp_millis(millis, &random).into_uuid())
}

/// The order of ours that stands for a leg at the broker, as the broker first shows it.
pub(crate) fn leg_order(parent: &Order, leg: &BrokerOrder, now: DateTime<Utc>) -> Result<Order, StoreError> {
    let bad =
        |what: &str| StoreError::inconsistent("orders", "legs", parent.id, format!("leg {}: {what}", leg.id));
    let price = |value: Option<Decimal>, what: &str| {
        value.and_then(|value| Price::new(value).ok()).ok_or_else(|| bad(what))
    };
    let pricing = match leg.order_type.ok_or_else(|| bad("unknown type"))? {
        OrderType::Market => Pricing::Market,
        OrderType::Limit => Pricing::Limit { limit: price(leg.limit_price, "limit price")? },
        OrderType::Stop => Pricing::Stop { stop: price(leg.stop_price, "stop price")? },
        OrderType::StopLimit => Pricing::StopLimit {
            stop: price(leg.stop_price, "stop price")?,
            limit: price(leg.limit_price, "limit price")?,
        },
        OrderType::TrailingStop => return Err(bad("a trailing stop")),
    };
    let qty = leg.qty.and_then(|qty| Quantity::new(qty).ok()).ok_or_else(|| bad("quantity"))?;
    let role = leg.role.unwrap_or(match pricing {
        Pricing::Limit { .. } | Pricing::Market => LegRole::TakeProfit,
        _ => LegRole::StopLoss,
    });
    let status = match &leg.status {
        BrokerStatus::Known(status) => *status,
        BrokerStatus::Other(_) => OrderStatus::Held,
    };
    // Fills are booked apart, and a state that rests on them follows from them.
    let first = match status {
        OrderStatus::Filled | OrderStatus::PartiallyFilled => OrderStatus::New,
        status => status,
    };
    Ok(Order {
        id: leg_id(parent, leg),
        account_id: parent.account_id,
        user_id: parent.user_id,
        client_order_id: ClientOrderId::new(leg.client_order_id.clone())
            .map_err(|why| bad(&why.to_string()))?,
        broker_order_id: Some(leg.id.clone()),
        terms: NewOrder {
            symbol: parent.terms.symbol.clone(),
            side: leg.side.ok_or_else(|| bad("unknown side"))?,
            pricing,
            time_in_force: leg.time_in_force.unwrap_or(parent.terms.time_in_force),
            size: OrderSize::Qty(qty),
            extended_hours: leg.extended_hours,
            class: leg.class.unwrap_or(OrderClass::Simple),
            take_profit: None,
            stop_loss: None,
        },
        parent_id: Some(parent.id),
        role,
        status: first,
        status_reason: None,
        filled_qty: Decimal::ZERO,
        filled_value: Decimal::ZERO,
        broker: Some(BrokerView { status, updated_at: leg.updated_at, filled_qty: leg.filled_qty }),
        source: parent.source.clone(),
        environment: parent.environment,
        replaces: None,
        replaced_by: None,
        submit: SubmitNotes {
            attempts: 0,
            deadline: parent.submit.deadline,
            started_at: None,
            probes: 0,
            doubt: false,
        },
        created_at: now,
        submitted_at: leg.submitted_at,
        updated_at: now,
        closed_at: first.is_final().then_some(now),
        version: 1,
    })
}
