use chrono::{Datelike, NaiveDate};
use plimsoll_paper_exchange::order::AssetClass;
use plimsoll_paper_exchange::{Refusal, calendar};

use crate::engine::World;
use crate::wire::{Answer, Call, Params};

/// The calendar's range of years.
const YEARS: std::ops::RangeInclusive<i32> = 1970..=2029;

pub(super) fn assets(world: &mut World, call: &Call) -> Answer {
    let class = call.params.one_of("asset_class", AssetClass::parse);
    let exchange = call.params.text("exchange");
    let active = call.params.text("status").is_none_or(|status| status == "active");
    class
        .map(|class| {
            // the list's default class; all assets here are active
            let mut assets = world.exchange.assets(Some(class.unwrap_or(AssetClass::UsEquity)));
            assets.retain(|asset| active && exchange.is_none_or(|exchange| exchange == asset.exchange));
            Answer::ok(&assets)
        })
        .into()
}

pub(super) fn asset(world: &mut World, symbol_or_id: &str) -> Answer {
    match world.exchange.asset(world.symbol_of(symbol_or_id)) {
        Ok(asset) => {
            world.remember(&asset);
            Answer::ok(&asset)
        }
        Err(_) => Refusal::new(404, 40_410_000, format!("asset not found for {symbol_or_id}")).into(),
    }
}

pub(super) fn clock(world: &mut World) -> Answer {
    Answer::ok(&calendar::clock_view(world.now()))
}

pub(super) fn calendar(world: &mut World, call: &Call) -> Answer {
    let today = calendar::date_of(world.now());
    range(&call.params, today).map(|(start, end)| Answer::ok(&calendar::rows(start, end))).into()
}

fn range(params: &Params, today: NaiveDate) -> Result<(NaiveDate, NaiveDate), Refusal> {
    let year = today.year();
    let (first, last) = (day(*YEARS.start(), 1, 1), day(*YEARS.end(), 12, 31));
    let start = params.date("start")?.unwrap_or_else(|| day(year, 1, 1)).max(first);
    let end = params.date("end")?.unwrap_or_else(|| day(year, 12, 31).max(start)).min(last);
    if start > end && params.text("end").is_some() && params.text("start").is_some() {
        return Err(Refusal::new(422, 40_010_001, "start must not be after end"));
    }
    Ok((start, end))
}

fn day(year: i32, month: u32, day: u32) -> NaiveDate {
    NaiveDate::from_ymd_opt(year, month, day).expect("the first and last day of a year exist")
}
