use plimsoll_paper_exchange::Refusal;
use plimsoll_paper_exchange::account::{
    Activity, ActivityQuery, ConfigurationsPatch, HistoryQuery, Timeframe,
};

use super::orders::direction;
use crate::engine::World;
use crate::wire::{Answer, Call, Params};

pub(super) fn show(world: &mut World, call: &Call) -> Answer {
    world.exchange.account_view(call.account).map(|view| Answer::ok(&view)).into()
}

pub(super) fn configurations(world: &mut World, call: &Call) -> Answer {
    world.exchange.configurations(call.account).map(|view| Answer::ok(&view)).into()
}

pub(super) fn configure(world: &mut World, call: &Call) -> Answer {
    call.json::<ConfigurationsPatch>()
        .and_then(|patch| world.exchange.configure(call.account, patch, world.now()))
        .map(|view| Answer::ok(&view))
        .into()
}

pub(super) fn activities(world: &mut World, call: &Call, kind: Option<&str>) -> Answer {
    activity_query(&call.params, kind)
        .and_then(|query| world.exchange.activities(call.account, &query))
        .map(|mut rows| {
            if !call.hidden.is_empty() {
                rows.retain(|row| match row {
                    Activity::Fill(fill) => {
                        let order = world.exchange.order(call.account, fill.order_id, false);
                        !order.is_ok_and(|order| call.hidden.hides_fills(&order))
                    }
                    Activity::NonTrade(_) => true,
                });
            }
            Answer::ok(&rows)
        })
        .into()
}

fn activity_query(params: &Params, kind: Option<&str>) -> Result<ActivityQuery, Refusal> {
    let types = match kind {
        Some(kind) => vec![kind.to_owned()],
        None => params.list("activity_types"),
    };
    Ok(ActivityQuery {
        types,
        category: params.text("category").map(str::to_owned),
        order_id: params.id("order_id")?,
        date: params.date("date")?,
        after: params.time("after")?,
        until: params.time("until")?,
        direction: direction(params)?,
        page_size: params.parsed("page_size")?,
        page_token: params.text("page_token").map(str::to_owned),
    })
}

pub(super) fn portfolio_history(world: &mut World, call: &Call) -> Answer {
    history_query(&call.params)
        .and_then(|query| world.exchange.portfolio_history(call.account, &query))
        .map(|history| Answer::ok(&history))
        .into()
}

fn history_query(params: &Params) -> Result<HistoryQuery, Refusal> {
    let timeframe = params.one_of("timeframe", |text| match text {
        "1Min" => Some(Timeframe::Min1),
        "5Min" => Some(Timeframe::Min5),
        "15Min" => Some(Timeframe::Min15),
        "1H" => Some(Timeframe::Hour1),
        "1D" => Some(Timeframe::Day1),
        _ => None,
    })?;
    let end = match params.time("end")? {
        Some(end) => Some(end),
        None => params.time("date_end")?, // an older name that SDKs still send
    };
    Ok(HistoryQuery {
        period: params.text("period").map(str::to_owned),
        timeframe,
        start: params.time("start")?,
        end,
    })
}
