use plimsoll_paper_exchange::order::{AssetClass, Direction, Side, StatusFilter};
use plimsoll_paper_exchange::{NewOrder, Order, OrderQuery, Refusal, Replacement};
use serde::Deserialize;
use serde_json::json;
use uuid::Uuid;

use crate::engine::World;
use crate::wire::{Answer, Call, Params};

/// Parts of a request that belong to options and smart routing.
#[derive(Deserialize)]
struct OutOfScope {
    #[serde(default)]
    legs: Option<serde::de::IgnoredAny>,
    #[serde(default)]
    advanced_instructions: Option<serde::de::IgnoredAny>,
}

pub(super) fn submit(world: &mut World, call: &Call) -> Answer {
    new_order(call)
        .and_then(|mut order| {
            order.symbol = world.symbol_of(&order.symbol).to_owned();
            world.exchange.submit(call.account, order, world.now())
        })
        .map(|order| Answer::ok(&order))
        .into()
}

fn new_order(call: &Call) -> Result<NewOrder, Refusal> {
    if let Ok(other) = call.json::<OutOfScope>() {
        for (name, given) in [("legs", other.legs), ("advanced_instructions", other.advanced_instructions)] {
            if given.is_some() {
                return Err(Refusal::new(422, 40_010_001, format!("{name} is not supported")));
            }
        }
    }
    call.json()
}

pub(super) fn list(world: &mut World, call: &Call) -> Answer {
    query(&call.params)
        .and_then(|query| world.exchange.orders(call.account, &query))
        .map(|mut orders| {
            orders.retain_mut(|order| {
                if let Some(legs) = &mut order.legs {
                    legs.retain(|leg| !call.hidden.hides(leg));
                }
                !call.hidden.hides(order)
            });
            Answer::ok(&orders)
        })
        .into()
}

fn query(params: &Params) -> Result<OrderQuery, Refusal> {
    let status = params.one_of("status", |text| match text {
        "open" => Some(StatusFilter::Open),
        "closed" => Some(StatusFilter::Closed),
        "all" => Some(StatusFilter::All),
        _ => None,
    })?;
    Ok(OrderQuery {
        status: status.unwrap_or_default(),
        limit: params.parsed("limit")?,
        after: params.time("after")?,
        until: params.time("until")?,
        direction: direction(params)?,
        nested: params.flag("nested")?,
        symbols: params.list("symbols"),
        side: params.one_of("side", Side::parse)?,
        asset_class: params.one_of("asset_class", AssetClass::parse)?,
        before_order_id: params.id("before_order_id")?,
        after_order_id: params.id("after_order_id")?,
    })
}

/// `asc`, or `desc` where it is absent.
pub(super) fn direction(params: &Params) -> Result<Direction, Refusal> {
    let direction = params.one_of("direction", |text| match text {
        "asc" => Some(Direction::Asc),
        "desc" => Some(Direction::Desc),
        _ => None,
    })?;
    Ok(direction.unwrap_or_default())
}

pub(super) fn show(world: &mut World, call: &Call, id: Uuid) -> Answer {
    call.params
        .flag("nested")
        .and_then(|nested| world.exchange.order(call.account, id, nested))
        .map(|o| Answer::ok(&o))
        .into()
}

pub(super) fn by_client_id(world: &mut World, call: &Call) -> Answer {
    let Some(client_order_id) = call.params.text("client_order_id") else {
        return Answer::error(422, 40_010_001, "client_order_id is required");
    };
    world.exchange.order_by_client_id(call.account, client_order_id).map(|order| Answer::ok(&order)).into()
}

pub(super) fn replace(world: &mut World, call: &Call, id: Uuid) -> Answer {
    call.json::<Replacement>()
        .and_then(|change| world.exchange.replace(call.account, id, change, world.now()))
        .map(|order| Answer::ok(&order))
        .into()
}

pub(super) fn cancel(world: &mut World, call: &Call, id: Uuid) -> Answer {
    world.exchange.cancel(call.account, id, world.now()).map(|()| Answer::empty()).into()
}

pub(super) fn cancel_all(world: &mut World, call: &Call) -> Answer {
    let outcomes = world.exchange.cancel_all(call.account, world.now());
    outcomes
        .map(|outcomes| {
            let rows: Vec<_> = outcomes
                .into_iter()
                .map(|row| match row.refusal {
                    None => json!({ "id": row.id, "status": 200 }),
                    Some(refusal) => {
                        json!({ "id": row.id, "status": refusal.http_status, "body": refusal.body() })
                    }
                })
                .collect();
            Answer::json(207, &rows)
        })
        .into()
}

/// The order in a row of a multi-status answer.
pub(super) fn row(symbol: &str, result: &Result<Box<Order>, Refusal>) -> serde_json::Value {
    match result {
        Ok(order) => json!({ "symbol": symbol, "status": 200, "body": order }),
        Err(refusal) => json!({ "symbol": symbol, "status": refusal.http_status, "body": refusal.body() }),
    }
}
