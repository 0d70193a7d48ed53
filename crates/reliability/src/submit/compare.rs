//! Whether an order at the broker is the one that we sent under its id.

use std::fmt;

use plimsoll_core_domain::broker::BrokerOrder;
use plimsoll_core_domain::order::{NewOrder, Order, OrderSize};

/// The first thing in which two orders differ.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Difference {
    /// Another instrument.
    Symbol,
    /// Another side, or one whose word is not known.
    Side,
    /// Another type, or one whose word is not known.
    OrderType,
    /// Another quantity or amount.
    Size,
}

impl fmt::Display for Difference {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Symbol => "symbol",
            Self::Side => "side",
            Self::OrderType => "type",
            Self::Size => "quantity",
        })
    }
}

/// Compares an order with what the broker shows under its id. The size of some is the broker's
/// ([`Order::takes_the_brokers_size`]).
///
/// # Errors
/// What differs.
pub fn compare_order(ours: &Order, seen: &BrokerOrder) -> Result<(), Difference> {
    match compare(&ours.terms, seen) {
        Err(Difference::Size) if ours.takes_the_brokers_size() => Ok(()),
        other => other,
    }
}

/// Compares symbol, side, type and size. Prices are left out: a broker may round them, and stops move.
///
/// # Errors
/// What differs.
pub fn compare(ours: &NewOrder, seen: &BrokerOrder) -> Result<(), Difference> {
    // crypto pairs are written with and without the stroke
    let plain = |symbol: &str| symbol.replace('/', "");
    let same_size = match ours.size {
        OrderSize::Qty(qty) => seen.qty == Some(qty.get()),
        OrderSize::Notional(amount) => seen.notional == Some(amount.get()),
    };
    if plain(ours.symbol.as_str()) != plain(&seen.symbol) {
        Err(Difference::Symbol)
    } else if seen.side != Some(ours.side) {
        Err(Difference::Side)
    } else if seen.order_type != Some(ours.pricing.order_type()) {
        Err(Difference::OrderType)
    } else if !same_size {
        Err(Difference::Size)
    } else {
        Ok(())
    }
}
