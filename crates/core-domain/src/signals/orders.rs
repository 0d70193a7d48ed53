//! The order that follows from a signal now, and whether another comes after it.

use rust_decimal::Decimal;

use super::message::{Action, ExitAt, Message, Stance};
use super::plan::{Move, Plan};
use super::reason::{Reason, Refusal};
use super::rules::HookRules;
use super::sizing::Given;
use crate::broker::BrokerAsset;
use crate::ids::Symbol;
use crate::money::Price;
use crate::order::{NewOrder, OrderClass, OrderRequest, OrderType, Side, TimeInForce};

/// What is known when a signal is decided on.
#[derive(Clone, Debug)]
pub struct Known {
    /// Units held; negative when short.
    pub held: Decimal,
    /// The broker's last price.
    pub price: Option<Price>,
    /// The account's equity.
    pub equity: Option<Decimal>,
    /// The instrument.
    pub asset: BrokerAsset,
}

/// What a signal wants.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Wanted {
    /// The position that it leads to, where it is about a position or takes two orders.
    pub target: Option<Decimal>,
    /// The order to place now; `None` when the position is what it should be.
    pub order: Option<NewOrder>,
    /// The order only makes a position smaller.
    pub closes: bool,
    /// A second order follows once this one is filled.
    pub more: bool,
}

impl Wanted {
    /// What a signal wants of a hook with these rules.
    ///
    /// # Errors
    /// Why it is not followed.
    pub fn of(message: &Message, rules: &HookRules, symbol: &Symbol, known: &Known) -> Result<Self, Refusal> {
        let fractional = known.asset.fractionable || known.asset.class == "crypto";
        let units = |stated, fractional, buys: bool| {
            let price = dearest(message, known.price, buys);
            rules.sizing.units(&Given { stated, price, equity: known.equity, fractional })
        };
        let plain = message.order_type == OrderType::Market
            && message.take_profit.is_none()
            && message.stop_loss.is_none()
            && matches!(message.time_in_force, None | Some(TimeInForce::Day))
            && !symbol.as_str().contains('/');
        let amount = || Ok(rules.sizing.amount(known.equity)?.filter(|_| plain && fractional));
        let by_money = |amount: Decimal| {
            rules.check_action(&[Action::Buy])?;
            let request =
                OrderRequest { notional: Some(amount), ..request(symbol, Side::Buy, TimeInForce::Day) };
            Ok(Self { target: None, order: Some(valid(request)?), closes: false, more: false })
        };
        if let Some(stated) = message.position {
            let stated_size = stated.size.or(message.quantity);
            let target = match stated.stance {
                Stance::Flat => Decimal::ZERO,
                // From flat the money itself is the target.
                Stance::Long
                    if known.held.is_zero()
                        && let Some(amount) = amount()? =>
                {
                    return by_money(amount);
                }
                Stance::Long => units(stated_size, fractional, true)?.get(),
                // Parts of a unit cannot be sold short.
                Stance::Short => -units(stated_size, false, false)?.get(),
            };
            return Self::towards(target, message, rules, symbol, known);
        }
        let side = match message.action {
            Some(Action::Buy) => Side::Buy,
            Some(Action::Sell) => Side::Sell,
            Some(Action::Add) if known.held.is_zero() => {
                return Err(Refusal::new(Reason::NothingToDo, "nothing is held that more could be added to"));
            }
            Some(Action::Add) if known.held.is_sign_negative() => Side::Sell,
            Some(Action::Add) => Side::Buy,
            Some(Action::Exit | Action::Cancel) | None => {
                return Err(Refusal::new(Reason::MissingField, "action is missing"));
            }
        };
        let opens_long = side == Side::Buy && known.held >= Decimal::ZERO;
        if opens_long && let Some(amount) = amount()? {
            return by_money(amount);
        }
        let sells_short = side == Side::Sell && known.held <= Decimal::ZERO;
        let delta =
            side.signed(units(message.quantity, fractional && !sells_short, side == Side::Buy)?.get());
        let mut wanted = Self::towards(known.held + delta, message, rules, symbol, known)?;
        if !wanted.more {
            wanted.target = None;
        }
        Ok(wanted)
    }

    /// The order that leads towards a position now.
    ///
    /// # Errors
    /// Why there is none, though one is needed.
    pub fn towards(
        target: Decimal,
        message: &Message,
        rules: &HookRules,
        symbol: &Symbol,
        known: &Known,
    ) -> Result<Self, Refusal> {
        let plan = Plan::between(known.held, target);
        check_short(&plan, target, known)?;
        for step in plan.first.iter().chain(&plan.then) {
            let on_side = Action::of_side(step.side);
            if step.closes {
                rules.check_action(&[Action::Exit, on_side])?;
            } else {
                rules.check_action(&[on_side])?;
            }
        }
        let more = plan.then.is_some();
        let order = plan.first.map(|step| order(step, message, symbol, known, more)).transpose()?;
        let closes = plan.first.is_some_and(|step| step.closes);
        Ok(Self { target: Some(target), order, closes, more })
    }
}

/// The highest price that a unit of the order may have: an amount of money divided by it is never exceeded. `None` when none
/// is known.
///
/// A buy pays its limit at most. Everything else goes by the broker's price, and by the order's own prices where those are
/// higher; never by what a sender says the price is, or a wrong one would make the order larger than the hook's owner
/// allowed.
fn dearest(message: &Message, seen: Option<Price>, buys: bool) -> Option<Price> {
    if buys && message.limit_price.is_some() {
        return message.limit_price;
    }
    let stop = message.stop_price.map(Price::get);
    let stop = if buys { stop.map(buy_stop_at_most) } else { stop };
    let own = message.limit_price.map(Price::get).into_iter().chain(stop);
    Price::new(own.fold(seen?.get(), Decimal::max)).ok()
}

/// What a buy stop without a limit trades at, at most: Alpaca makes it a stop-limit order with a limit 4 % above a stop
/// below $50, and 2.5 % above any other (contract, section 3).
fn buy_stop_at_most(stop: Decimal) -> Decimal {
    let per_mille = if stop < Decimal::from(50) { 1_040 } else { 1_025 };
    stop.saturating_mul(Decimal::new(per_mille, 3))
        .round_dp_with_strategy(crate::money::PRICE_SCALE, rust_decimal::RoundingStrategy::AwayFromZero)
}

/// Refuses, before anything is closed on the way there, what the broker does not sell short.
fn check_short(plan: &Plan, target: Decimal, known: &Known) -> Result<(), Refusal> {
    let opens = |step: &Move| !step.closes && step.side == Side::Sell;
    if !plan.first.iter().chain(&plan.then).any(opens) {
        return Ok(());
    }
    if !known.asset.shortable {
        let detail = format!("{} cannot be sold short", known.asset.symbol);
        return Err(Refusal::new(Reason::NotTradable, detail));
    }
    if !target.fract().is_zero() {
        return Err(Refusal::new(Reason::InvalidSize, "parts of a unit cannot be sold short"));
    }
    Ok(())
}

fn request(symbol: &Symbol, side: Side, time_in_force: TimeInForce) -> OrderRequest {
    OrderRequest {
        symbol: symbol.as_str().to_owned(),
        side: Some(side),
        order_type: Some(OrderType::Market),
        time_in_force: Some(time_in_force),
        ..OrderRequest::default()
    }
}

fn valid(request: OrderRequest) -> Result<NewOrder, Refusal> {
    request.validate().map_err(|errors| {
        let all: Vec<String> = errors
            .iter()
            .map(|error| format!("{} {}", error.pointer.trim_start_matches('/'), error.detail))
            .collect();
        Refusal::new(Reason::InvalidOrder, all.join("; "))
    })
}

/// The order of a step. On the way through flat the first one is a market order: it must fill before the second.
fn order(
    step: Move,
    message: &Message,
    symbol: &Symbol,
    known: &Known,
    more: bool,
) -> Result<NewOrder, Refusal> {
    let usual = if symbol.as_str().contains('/') { TimeInForce::Gtc } else { TimeInForce::Day };
    let mut request = request(symbol, step.side, usual);
    request.qty = Some(step.units);
    if more {
        return valid(request);
    }
    if message.order_type != OrderType::Market {
        request.order_type = Some(message.order_type);
        request.limit_price = message.limit_price.map(Price::get);
        request.stop_price = message.stop_price.map(Price::get);
    }
    request.time_in_force = Some(message.time_in_force.unwrap_or(usual));
    if !step.closes {
        let from = message.limit_price.or(message.price).or(known.price);
        let exit =
            |at: Option<ExitAt>, gain: bool| at.map(|at| exit_price(at, step.side, gain, from)).transpose();
        request.take_profit = exit(message.take_profit, true)?;
        request.stop_loss = exit(message.stop_loss, false)?.map(|stop| (Some(stop), None));
        request.class = match (request.take_profit.is_some(), request.stop_loss.is_some()) {
            (true, true) => Some(OrderClass::Bracket),
            (false, false) => None,
            _ => Some(OrderClass::Oto),
        };
    }
    valid(request)
}

/// An exit's price, on the tick of a US equity.
fn exit_price(at: ExitAt, entry: Side, gain: bool, from: Option<Price>) -> Result<Decimal, Refusal> {
    let percent = match at {
        ExitAt::Price(price) => return Ok(price.get()),
        ExitAt::Percent(percent) => percent,
    };
    let from = from.ok_or_else(|| Refusal::new(Reason::NoPrice, "an exit in per cent needs a price"))?;
    let up = (entry == Side::Buy) == gain;
    let factor = Decimal::ONE + if up { percent } else { -percent } / Decimal::ONE_HUNDRED;
    let out_of_range = || Refusal::new(Reason::InvalidNumber, "an exit's price is out of range");
    let price = from.get().checked_mul(factor).ok_or_else(out_of_range)?;
    Ok(price.round_dp(if price >= Decimal::ONE { 2 } else { 4 }))
}

#[cfg(test)]
#[path = "orders_tests.rs"]
mod tests;
