//! Holding an order against limits and halts. What is unclear counts as if it had happened: open orders as filled, orders
//! of unknown fate as open.

use rust_decimal::Decimal;

use super::{HaltLevel, Halts, RiskLimits, RiskRefusal, RiskRule};
use crate::money::Price;
use crate::order::{NewOrder, OrderClass, OrderSize, Side};

/// An order that is to be accepted, or to replace another one.
#[derive(Clone, Copy, Debug)]
pub struct Candidate<'a> {
    /// What is asked for.
    pub terms: &'a NewOrder,
    /// What it trades at, as the broker said within the last minute; never what the order's sender says.
    pub reference: Option<Price>,
    /// No limit is in its way, only a halt: it is a close that goes not too far, or was held against limits before.
    pub closes: bool,
    /// The size of the order that it replaces; that one counts in the exposure no more.
    pub replaces: Option<OrderSize>,
}

/// What an account holds and has open, seen from an order's symbol and side.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Exposure {
    /// Units held; negative when short.
    pub position: Decimal,
    /// The highest price of the account's fills within the last minute.
    pub last_price: Option<Price>,
    /// Units that open orders on the side have still to fill; orders by amount do not count here.
    pub open_units: Decimal,
    /// What those units may cost.
    pub open_value: Decimal,
    /// What open orders by amount on the side have still to spend.
    pub open_amounts: Decimal,
    /// The highest price among them.
    pub open_dearest: Option<Price>,
    /// Some of them have no price, and none is known for the symbol.
    pub unpriced: bool,
    /// Open orders of the account.
    pub open_orders: u32,
    /// Orders that the account accepted within the last minute.
    pub last_minute: u32,
}

impl Exposure {
    /// Units that an order on this side can take off the position; below zero when it would enlarge it.
    #[must_use]
    pub fn held_against(&self, side: Side) -> Decimal {
        match side {
            Side::Sell => self.position,
            Side::Buy => -self.position,
        }
    }

    /// The same when every open order on the side fills before.
    #[must_use]
    pub fn closable(&self, side: Side) -> Decimal {
        self.held_against(side).saturating_sub(self.open_units)
    }
}

/// What an order may cost a unit at most: `None` while that is not known. Only a buy's limit bounds it by itself: a sell's
/// is the least that it trades at, and a stop alone becomes a market order.
fn dearest(terms: &NewOrder, mark: Option<Price>) -> Option<Price> {
    let named = terms.pricing.limit_price();
    if terms.side == Side::Buy && named.is_some() {
        return named;
    }
    let mark = mark?;
    [named, terms.pricing.stop_price(), Some(mark)].into_iter().flatten().max()
}

/// How many open orders an order becomes.
fn orders_of(class: OrderClass) -> u32 {
    match class {
        OrderClass::Simple => 1,
        OrderClass::Oco | OrderClass::Oto => 2,
        OrderClass::Bracket => 3,
    }
}

fn refuse(rule: RiskRule, limit: impl ToString, actual: impl ToString) -> Result<(), RiskRefusal> {
    Err(RiskRefusal { rule, limit: limit.to_string(), actual: actual.to_string() })
}

/// Holds an order that is to be accepted, sent, or to replace another one, against halts and limits: halts first.
///
/// # Errors
/// The first rule that is in the way.
pub fn check(
    order: &Candidate<'_>,
    limits: &RiskLimits,
    halts: Halts,
    exposure: &Exposure,
) -> Result<(), RiskRefusal> {
    if let Some((level, rule)) = halts.in_force() {
        let terms = order.terms;
        let passes = match level {
            HaltLevel::BlockEntries => !enlarges(order, exposure),
            _ => reduces(terms, exposure),
        };
        if !passes {
            return refuse(rule, level, against(terms, exposure));
        }
    }
    if order.closes {
        return Ok(());
    }
    check_limits(order, limits, exposure)
}

/// Whether an order opens or enlarges a position, or is larger than the one that it replaces.
pub(super) fn enlarges(order: &Candidate<'_>, exposure: &Exposure) -> bool {
    let smaller = match (order.replaces, order.terms.size) {
        (Some(OrderSize::Qty(old)), OrderSize::Qty(new)) => new <= old,
        _ => false,
    };
    !smaller && !reduces(order.terms, exposure)
}

/// The refusal of an entry whose symbol is unclear.
pub(super) fn refuse_entry(rule: RiskRule, terms: &NewOrder, exposure: &Exposure) -> RiskRefusal {
    RiskRefusal { rule, limit: terms.symbol.to_string(), actual: against(terms, exposure) }
}

/// Whether an order makes its position smaller even if everything open on its side fills first. An order by amount has no
/// number of units, and the legs of a bracket or an OTO open anew what their entry closed: they count as ones that do not.
fn reduces(terms: &NewOrder, exposure: &Exposure) -> bool {
    matches!(terms.class, OrderClass::Simple | OrderClass::Oco)
        && terms.qty().is_some_and(|qty| qty.get() <= exposure.closable(terms.side))
}

fn against(terms: &NewOrder, exposure: &Exposure) -> String {
    let size = match terms.size {
        OrderSize::Qty(qty) => format!("{qty} {}", terms.symbol),
        OrderSize::Notional(amount) => format!("{amount} of {}", terms.symbol),
    };
    let held = exposure.position.normalize();
    let open = exposure.open_units.normalize();
    format!("a {} of {size} at a position of {held} with {open} open on its side", terms.side)
}

fn check_limits(order: &Candidate<'_>, limits: &RiskLimits, exposure: &Exposure) -> Result<(), RiskRefusal> {
    let terms = order.terms;
    let added = orders_of(terms.class);
    if let Some(most) = limits.max_open_orders
        && exposure.open_orders.saturating_add(added) > most
    {
        return refuse(RiskRule::MaxOpenOrders, most, exposure.open_orders.saturating_add(added));
    }
    if let Some(most) = limits.max_orders_per_minute
        && exposure.last_minute >= most
    {
        return refuse(RiskRule::MaxOrdersPerMinute, most, exposure.last_minute.saturating_add(1));
    }
    if reduces(terms, exposure) {
        // Whatever makes a position smaller may be done, or it could never be left.
        return Ok(());
    }
    if let Some(allowed) = &limits.allowed_symbols
        && !allowed.contains(&terms.symbol)
    {
        let list: Vec<&str> = allowed.iter().map(AsRef::as_ref).collect();
        return refuse(RiskRule::AllowedSymbols, cut(&list.join(",")), &terms.symbol);
    }
    if let Some(denied) = &limits.denied_symbols
        && denied.contains(&terms.symbol)
    {
        let list: Vec<&str> = denied.iter().map(AsRef::as_ref).collect();
        return refuse(RiskRule::DeniedSymbols, cut(&list.join(",")), &terms.symbol);
    }
    check_values(order, limits, exposure)
}

/// A list for an answer: the first 400 characters.
fn cut(list: &str) -> String {
    if list.len() <= 400 {
        list.to_owned()
    } else {
        format!("{}…", list.chars().take(400).collect::<String>())
    }
}

/// What stands for a value that no known price gives.
pub(super) const UNKNOWN: &str = "unknown: no price is known";

fn check_values(order: &Candidate<'_>, limits: &RiskLimits, exposure: &Exposure) -> Result<(), RiskRefusal> {
    let terms = order.terms;
    let mark = [order.reference, exposure.last_price].into_iter().flatten().max();
    let price = dearest(terms, mark);
    let value = match terms.size {
        OrderSize::Notional(amount) => Some(amount.get()),
        OrderSize::Qty(qty) => price.and_then(|price| price.get().checked_mul(qty.get())),
    };
    if let Some(most) = limits.max_order_notional {
        match value {
            None => return refuse(RiskRule::MaxOrderNotional, most, UNKNOWN),
            Some(value) if value > most.get() => {
                return refuse(RiskRule::MaxOrderNotional, most, value.normalize());
            }
            Some(_) => {}
        }
    }
    if let Some(most) = limits.max_position_notional {
        let all = value
            .filter(|_| !exposure.unpriced)
            .and_then(|value| position_value(order, exposure, value, price, mark));
        match all {
            None => return refuse(RiskRule::MaxPositionNotional, most, UNKNOWN),
            Some(value) if value > most.get() => {
                return refuse(RiskRule::MaxPositionNotional, most, value.normalize());
            }
            Some(_) => {}
        }
    }
    Ok(())
}

/// The most that the position on the order's side can be worth, the order and every open one on its side filled.
fn position_value(
    order: &Candidate<'_>,
    exposure: &Exposure,
    value: Decimal,
    price: Option<Price>,
    mark: Option<Price>,
) -> Option<Decimal> {
    let orders = exposure.open_value.checked_add(exposure.open_amounts)?.checked_add(value)?;
    let against = exposure.held_against(order.terms.side);
    if against <= Decimal::ZERO {
        // The position is on this side already, and is worth what it trades at.
        let held = match mark {
            Some(mark) => mark.get().checked_mul(-against)?,
            None if against.is_zero() => Decimal::ZERO,
            None => return None,
        };
        return held.checked_add(orders);
    }
    // First the position on the other side is closed: what is left of the orders' units, at the highest of their prices,
    // and what they are worth altogether, are both more than enough.
    let OrderSize::Qty(qty) = order.terms.size else { return Some(orders) };
    let left = exposure.open_units.checked_add(qty.get())?.checked_sub(against)?.max(Decimal::ZERO);
    let dearest = [price, exposure.open_dearest].into_iter().flatten().max()?;
    Some(left.checked_mul(dearest.get())?.checked_add(exposure.open_amounts)?.min(orders))
}

#[cfg(test)]
#[path = "check_tests.rs"]
mod tests;
