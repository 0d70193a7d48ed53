//! Orders that the broker shows and that are not on record: the order of ours that stands for one.

use chrono::{DateTime, Utc};
use rust_decimal::Decimal;

use super::{
    BrokerView, Environment, LegRole, NewOrder, Order, OrderClass, OrderSize, OrderSource, OrderStatus,
    OrderType, Pricing, SourceKind, SubmitNotes, TimeInForce, Trail,
};
use crate::broker::{BrokerOrder, BrokerStatus};
use crate::ids::{AccountId, ClientOrderId, OrderId, Symbol, UserId};
use crate::money::{Price, Quantity};

/// Of whom an order is taken over, and as what.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct External {
    /// The id that it gets.
    pub id: OrderId,
    /// In which account.
    pub account_id: AccountId,
    /// Whose.
    pub user_id: UserId,
    /// With whose money.
    pub environment: Environment,
    /// It carries a client order id of ours; else it was placed elsewhere.
    pub ours: bool,
}

impl Order {
    /// The order of ours that stands for one of the broker's, before its fills are booked.
    ///
    /// # Errors
    /// What of it cannot be kept here.
    pub fn external(of: External, seen: &BrokerOrder, now: DateTime<Utc>) -> Result<Self, &'static str> {
        let price = |value: Option<Decimal>, what| value.and_then(|value| Price::new(value).ok()).ok_or(what);
        let pricing = match seen.order_type.ok_or("its type")? {
            OrderType::Market => Pricing::Market,
            OrderType::Limit => Pricing::Limit { limit: price(seen.limit_price, "its limit price")? },
            OrderType::Stop => Pricing::Stop { stop: price(seen.stop_price, "its stop price")? },
            OrderType::StopLimit => Pricing::StopLimit {
                stop: price(seen.stop_price, "its stop price")?,
                limit: price(seen.limit_price, "its limit price")?,
            },
            OrderType::TrailingStop => Pricing::TrailingStop {
                trail: match (seen.trail_price, seen.trail_percent) {
                    (Some(by), _) => Trail::Price(price(Some(by), "its trailing distance")?),
                    (None, by) => Trail::Percent(price(by, "its trailing distance")?),
                },
            },
        };
        let size = match (seen.qty, seen.notional) {
            (Some(qty), _) => OrderSize::Qty(Quantity::new(qty).map_err(|_| "its quantity")?),
            (None, amount) => OrderSize::Notional(price(amount, "its size")?),
        };
        let status = match seen.status {
            BrokerStatus::Known(status) => status,
            BrokerStatus::Other(_) => OrderStatus::Accepted,
        };
        // Fills are booked apart, and a state that rests on them follows from them.
        let first = match status {
            OrderStatus::Filled | OrderStatus::PartiallyFilled => OrderStatus::New,
            status => status,
        };
        Ok(Self {
            id: of.id,
            account_id: of.account_id,
            user_id: of.user_id,
            client_order_id: ClientOrderId::new(seen.client_order_id.clone())
                .map_err(|_| "its client order id")?,
            broker_order_id: Some(seen.id.clone()),
            terms: NewOrder {
                symbol: Symbol::new(seen.symbol.clone()).map_err(|_| "its symbol")?,
                side: seen.side.ok_or("its side")?,
                pricing,
                time_in_force: seen.time_in_force.unwrap_or(TimeInForce::Day),
                size,
                extended_hours: seen.extended_hours,
                class: seen.class.unwrap_or(OrderClass::Simple),
                take_profit: None,
                stop_loss: None,
            },
            parent_id: None,
            role: LegRole::Entry,
            status: first,
            status_reason: None,
            filled_qty: Decimal::ZERO,
            filled_value: Decimal::ZERO,
            broker: Some(BrokerView { status, updated_at: seen.updated_at, filled_qty: seen.filled_qty }),
            source: OrderSource {
                kind: if of.ours { SourceKind::Api } else { SourceKind::External },
                id: None,
            },
            environment: of.environment,
            replaces: None,
            replaced_by: None,
            submit: SubmitNotes { attempts: 0, deadline: now, started_at: None, probes: 0, doubt: false },
            created_at: now,
            submitted_at: seen.submitted_at,
            updated_at: now,
            closed_at: first.is_final().then_some(now),
            version: 1,
        })
    }
}
