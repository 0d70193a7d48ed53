//! Combination rules: what an order may look like, whoever sends it.
//!
//! Pure functions of the request, the asset, the last print and the time. Texts and codes are the Trading API's where
//! it documents them.

use chrono::{DateTime, TimeDelta, Utc};
use rust_decimal::Decimal;

use crate::account::Configurations;
use crate::asset::Asset;
use crate::calendar;
use crate::market::price_step;
use crate::order::{AssetClass, NewOrder, OrderClass, OrderType, Side, TimeInForce};
use crate::refusal::Refusal;

use super::QTY_DECIMALS;

/// Longest client order id.
const MAX_CLIENT_ID: usize = 128;

/// What the rules need to know besides the request.
pub(super) struct Context<'a> {
    pub(super) asset: &'a Asset,
    pub(super) configurations: &'a Configurations,
    /// The last print.
    pub(super) last: Decimal,
    /// Bid and ask in the middle, for the value of a fractional order.
    pub(super) ask: Decimal,
    pub(super) now: DateTime<Utc>,
}

type Checked = Result<(), Refusal>;

/// All combination rules; an OCO's limit has been put in `limit_price` before.
pub(super) fn check(order: &NewOrder, context: &Context<'_>) -> Checked {
    amounts(order)?;
    prices(order)?;
    price_steps(order)?;
    if context.asset.class == AssetClass::Crypto {
        crypto(order, context)?;
    } else {
        fractions(order, context)?;
        sessions(order, context.now)?;
    }
    group(order, context)?;
    stops(order, context)?;
    if order.client_order_id.as_ref().is_some_and(|id| id.chars().count() > MAX_CLIENT_ID) {
        return Err(Refusal::field(format!(
            "client_order_id must be no more than {MAX_CLIENT_ID} characters"
        )));
    }
    Ok(())
}

/// Whether a quantity or notional makes the order a fractional one.
pub(super) fn is_fractional(order: &NewOrder) -> bool {
    order.notional.is_some() || order.qty.is_some_and(|qty| !qty.fract().is_zero())
}

fn amounts(order: &NewOrder) -> Checked {
    match (order.qty, order.notional) {
        (Some(_), Some(_)) => Err(Refusal::malformed("only one of qty or notional is accepted")),
        (None, None) => Err(Refusal::field("qty or notional is required")),
        (Some(qty), None) if qty <= Decimal::ZERO => Err(Refusal::field("qty must be > 0")),
        (Some(qty), None) if qty.normalize().scale() > QTY_DECIMALS => {
            Err(Refusal::field(format!("qty must be limited to {QTY_DECIMALS} decimal places")))
        }
        (Some(qty), None) if qty > max_amount() => Err(Refusal::field("qty is too large")),
        (None, Some(notional)) if notional <= Decimal::ZERO => Err(Refusal::field("notional must be > 0")),
        (None, Some(notional)) if notional.normalize().scale() > 2 => {
            Err(Refusal::field("notional value must be limited to 2 decimal places"))
        }
        (None, Some(notional)) if notional > max_amount() => Err(Refusal::field("notional is too large")),
        _ => Ok(()),
    }
}

/// Keeps products of prices and quantities well inside 28 digits.
fn max_amount() -> Decimal {
    Decimal::from(1_000_000_000_u64)
}

fn prices(order: &NewOrder) -> Checked {
    let trail = [order.trail_price, order.trail_percent];
    let trails = trail.iter().flatten().count();
    if order.kind != OrderType::TrailingStop && trails > 0 {
        return Err(Refusal::field("only trailing stop orders accept trail_price or trail_percent"));
    }
    let (limit, stop) = (order.limit_price.is_some(), order.stop_price.is_some());
    let wrong = match order.kind {
        OrderType::Market if limit || stop => Some("market orders require no stop or limit price"),
        OrderType::Limit if !limit => Some("limit orders require a limit price"),
        OrderType::Limit if stop => Some("limit orders require no stop price"),
        OrderType::Stop if !stop => Some("stop orders require a stop price"),
        OrderType::Stop if limit => Some("stop orders require no limit price"),
        OrderType::StopLimit if !(limit && stop) => {
            Some("stop limit orders require both a stop and a limit price")
        }
        OrderType::TrailingStop if limit || stop => {
            Some("trailing stop orders require no stop or limit price")
        }
        OrderType::TrailingStop if trails != 1 => {
            Some("trailing stop orders must specify one of trail_price or trail_percent")
        }
        _ => None,
    };
    if let Some(text) = wrong {
        return Err(Refusal::field(text));
    }
    let named = [
        ("limit price", order.limit_price),
        ("stop price", order.stop_price),
        ("trail price", order.trail_price),
        ("trail percent", order.trail_percent),
    ];
    for (name, price) in named {
        match price {
            Some(price) if price <= Decimal::ZERO => {
                return Err(Refusal::field(format!("{name} must be > 0")));
            }
            Some(price) if price > max_amount() => {
                return Err(Refusal::field(format!("{name} is too large")));
            }
            _ => {}
        }
    }
    if order.trail_percent.is_some_and(|percent| percent >= Decimal::ONE_HUNDRED) {
        return Err(Refusal::field("trail percent must be < 100"));
    }
    Ok(())
}

fn price_steps(order: &NewOrder) -> Checked {
    let take_profit = order.take_profit.as_ref();
    let stop_loss = order.stop_loss.as_ref();
    price_step_of("limit_price", order.limit_price)?;
    price_step_of("stop_price", order.stop_price)?;
    price_step_of("trail_price", order.trail_price)?;
    price_step_of("take_profit.limit_price", take_profit.and_then(|leg| leg.limit_price))?;
    price_step_of("stop_loss.stop_price", stop_loss.and_then(|leg| leg.stop_price))?;
    price_step_of("stop_loss.limit_price", stop_loss.and_then(|leg| leg.limit_price))
}

/// The sub-penny rule: two decimals from $1.00, four below.
pub(super) fn price_step_of(field: &str, price: Option<Decimal>) -> Checked {
    let Some(price) = price else { return Ok(()) };
    if price.normalize().scale() > price_step(price).scale() {
        return Err(Refusal::rule(format!(
            "invalid {field} {}. sub-penny increment does not fulfill minimum pricing criteria",
            price.normalize()
        )));
    }
    Ok(())
}

fn crypto(order: &NewOrder, context: &Context<'_>) -> Checked {
    if !matches!(order.kind, OrderType::Market | OrderType::Limit | OrderType::StopLimit) {
        return Err(Refusal::field("invalid order type for crypto order"));
    }
    if !matches!(order.time_in_force, TimeInForce::Gtc | TimeInForce::Ioc) {
        return Err(Refusal::rule("invalid crypto time_in_force"));
    }
    if order.order_class != OrderClass::Simple {
        return Err(Refusal::rule("crypto orders must be simple orders"));
    }
    if let (Some(qty), Some(least)) = (order.qty, context.asset.min_order_size)
        && qty < least
    {
        return Err(Refusal::rule(format!("minimal order size is {least}")));
    }
    least_value(order, context)
}

fn fractions(order: &NewOrder, context: &Context<'_>) -> Checked {
    if !is_fractional(order) {
        return Ok(());
    }
    if !context.asset.fractionable {
        return Err(Refusal::rule("requested asset is not fractionable"));
    }
    if !context.configurations.fractional_trading {
        return Err(Refusal::forbidden("account is not allowed to trade fractional shares"));
    }
    if order.order_class != OrderClass::Simple {
        return Err(Refusal::rule("fractional orders must be simple orders"));
    }
    if order.time_in_force != TimeInForce::Day {
        return Err(Refusal::rule("fractional orders must be DAY orders"));
    }
    if order.kind == OrderType::TrailingStop {
        return Err(Refusal::rule("fractional orders must not be trailing stop orders"));
    }
    least_value(order, context)
}

/// A fractional buy must be worth a dollar.
fn least_value(order: &NewOrder, context: &Context<'_>) -> Checked {
    let price = order.limit_price.or(order.stop_price).unwrap_or(context.ask);
    let value = order.notional.unwrap_or_else(|| order.qty.unwrap_or_default() * price);
    if order.side == Side::Buy && value < Decimal::ONE {
        return Err(Refusal::rule("cost basis must be >= minimal amount of order 1")
            .with_decimal("cost_basis", value));
    }
    Ok(())
}

fn sessions(order: &NewOrder, now: DateTime<Utc>) -> Checked {
    if order.extended_hours {
        if order.kind != OrderType::Limit {
            return Err(Refusal::field("only type=\"limit\" is allowed for extended hours orders"));
        }
        if !matches!(order.time_in_force, TimeInForce::Day | TimeInForce::Gtc) {
            return Err(Refusal::rule("extended hours orders must be DAY or GTC orders"));
        }
    }
    if order.kind == OrderType::TrailingStop
        && !matches!(order.time_in_force, TimeInForce::Day | TimeInForce::Gtc)
    {
        return Err(Refusal::rule("trailing stop orders must be DAY or GTC orders"));
    }
    let (name, from) = match order.time_in_force {
        TimeInForce::Opg => ("opg", TimeDelta::minutes(9 * 60 + 28)),
        TimeInForce::Cls => ("cls", TimeDelta::minutes(15 * 60 + 50)),
        _ => return Ok(()),
    };
    if !matches!(order.kind, OrderType::Market | OrderType::Limit) {
        return Err(Refusal::rule(format!("{name} orders must be market or limit orders")));
    }
    let time = calendar::local(now).time().signed_duration_since(chrono::NaiveTime::MIN);
    if time >= from && time < TimeDelta::hours(19) {
        let until = if name == "opg" { "9:28am" } else { "3:50pm" };
        return Err(Refusal::rule(format!(
            "{name} orders cannot be submitted after {until} and before 7:00pm"
        )));
    }
    Ok(())
}

fn group(order: &NewOrder, context: &Context<'_>) -> Checked {
    let class = order.order_class;
    let limit = order.take_profit.as_ref().and_then(|leg| leg.limit_price);
    let stop = order.stop_loss.as_ref().and_then(|leg| leg.stop_price);
    let (wants_limit, wants_stop) = match class {
        OrderClass::Simple if order.take_profit.is_some() || order.stop_loss.is_some() => {
            return Err(Refusal::field("simple orders require no take_profit and no stop_loss"));
        }
        OrderClass::Simple => return Ok(()),
        OrderClass::Bracket | OrderClass::Oco => (true, true),
        OrderClass::Oto if order.take_profit.is_some() == order.stop_loss.is_some() => {
            return Err(Refusal::field("oto orders require either take_profit or stop_loss"));
        }
        OrderClass::Oto => (order.take_profit.is_some(), order.stop_loss.is_some()),
    };
    if wants_limit && limit.is_none() {
        return Err(Refusal::field(format!("{class} orders require take_profit.limit_price")));
    }
    if wants_stop && stop.is_none() {
        return Err(Refusal::field(format!("{class} orders require stop_loss.stop_price")));
    }
    let legs = [
        ("take_profit.limit_price", limit),
        ("stop_loss.stop_price", stop),
        ("stop_loss.limit_price", order.stop_loss.as_ref().and_then(|leg| leg.limit_price)),
    ];
    for (name, price) in legs {
        if price.is_some_and(|price| price <= Decimal::ZERO || price > max_amount()) {
            return Err(Refusal::field(format!("{name} must be > 0")));
        }
    }
    if class == OrderClass::Oco && order.kind != OrderType::Limit {
        return Err(Refusal::rule("oco orders must be limit orders"));
    }
    if order.kind == OrderType::TrailingStop {
        return Err(Refusal::rule("trailing stop orders must be simple orders"));
    }
    if order.extended_hours {
        return Err(Refusal::rule("complex orders not supported for extended hours trading"));
    }
    if !matches!(order.time_in_force, TimeInForce::Day | TimeInForce::Gtc) {
        return Err(Refusal::rule(format!("{class} orders must be DAY or GTC orders")));
    }
    leg_prices(order, context, limit, stop)
}

/// Take-profit beyond stop-loss, and the stop at least a cent on the losing side of every base price.
fn leg_prices(
    order: &NewOrder,
    context: &Context<'_>,
    limit: Option<Decimal>,
    stop: Option<Decimal>,
) -> Checked {
    let exit = if order.order_class == OrderClass::Oco { order.side } else { order.side.opposite() };
    let long = exit == Side::Sell;
    if let (Some(limit), Some(stop)) = (limit, stop)
        && (if long { limit <= stop } else { limit >= stop })
    {
        let relation = if long { ">" } else { "<" };
        return Err(Refusal::rule(format!(
            "take_profit.limit_price must be {relation} stop_loss.stop_price"
        )));
    }
    let Some(stop) = stop else { return Ok(()) };
    let base = match order.order_class {
        OrderClass::Oco => limit,
        _ => order.limit_price,
    };
    let cent = Decimal::new(1, 2);
    for base in [base, Some(context.last)].into_iter().flatten() {
        if long && stop > base - cent {
            return Err(Refusal::rule("stop_loss.stop_price must be <= base_price - 0.01")
                .with_decimal("base_price", base));
        }
        if !long && stop < base + cent {
            return Err(Refusal::rule("stop_loss.stop_price must be >= base_price + 0.01")
                .with_decimal("base_price", base));
        }
    }
    Ok(())
}

/// A stop must not be beyond the market already.
fn stops(order: &NewOrder, context: &Context<'_>) -> Checked {
    let Some(stop) = order.stop_price else { return Ok(()) };
    match order.side {
        Side::Sell if stop >= context.last => {
            Err(Refusal::rule("stop price must be less than current price"))
        }
        Side::Buy if stop <= context.last => {
            Err(Refusal::rule("stop price must be greater than current price"))
        }
        _ => Ok(()),
    }
}
