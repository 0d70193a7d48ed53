use plimsoll_paper_exchange::Refusal;
use plimsoll_paper_exchange::order::CloseAmount;

use super::orders::row;
use crate::engine::World;
use crate::wire::{Answer, Call, Params};

pub(super) fn list(world: &mut World, call: &Call) -> Answer {
    world.exchange.positions(call.account).map(|positions| Answer::ok(&positions)).into()
}

pub(super) fn show(world: &mut World, call: &Call, symbol: &str) -> Answer {
    world.exchange.position(call.account, symbol).map(|position| Answer::ok(&position)).into()
}

pub(super) fn close(world: &mut World, call: &Call, symbol: &str) -> Answer {
    amount(&call.params)
        .and_then(|amount| world.exchange.close_position(call.account, symbol, amount, world.now()))
        .map(|order| Answer::ok(&order))
        .into()
}

fn amount(params: &Params) -> Result<CloseAmount, Refusal> {
    match (params.decimal("qty")?, params.decimal("percentage")?) {
        (None, None) => Ok(CloseAmount::All),
        (Some(qty), None) => Ok(CloseAmount::Qty(qty)),
        (None, Some(percentage)) => Ok(CloseAmount::Percentage(percentage)),
        (Some(_), Some(_)) => Err(Refusal::new(422, 40_010_001, "only one of qty and percentage is allowed")),
    }
}

pub(super) fn close_all(world: &mut World, call: &Call) -> Answer {
    call.params
        .flag("cancel_orders")
        .and_then(|cancel_orders| world.exchange.close_all(call.account, cancel_orders, world.now()))
        .map(|outcomes| {
            let rows: Vec<_> = outcomes.iter().map(|outcome| row(&outcome.symbol, &outcome.result)).collect();
            Answer::json(207, &rows)
        })
        .into()
}
