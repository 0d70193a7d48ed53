use std::collections::BTreeMap;

use chrono::{Datelike, NaiveDate, SecondsFormat};
use plimsoll_paper_exchange::order::AssetClass;
use plimsoll_paper_exchange::{Refusal, calendar};
use serde::Serialize;
use serde_json::value::RawValue;

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

/// The last print of each symbol; one that is not known is left out, as Alpaca's market data do.
pub(super) fn latest_trades(world: &mut World, call: &Call) -> Answer {
    let mut trades = BTreeMap::new();
    for symbol in call.params.list("symbols").into_iter().take(MAX_SYMBOLS) {
        if let Some(quote) = world.exchange.quote(&symbol) {
            // Prices of market data are JSON numbers.
            let price = RawValue::from_string(quote.last.normalize().to_string());
            let trade = Trade {
                t: quote.at.to_rfc3339_opts(SecondsFormat::Nanos, true),
                x: "V",
                p: price.expect("a decimal's text is a JSON number"),
                s: 100,
                c: ["@"],
                i: quote.at.timestamp_micros(),
                z: "A",
            };
            trades.insert(symbol, trade);
        }
    }
    Answer::ok(&Trades { trades })
}

/// The most symbols of one question.
const MAX_SYMBOLS: usize = 100;

#[derive(Serialize)]
struct Trades {
    trades: BTreeMap<String, Trade>,
}

/// A trade with the names of Alpaca's market data: time, exchange, price, size, conditions, id, tape.
#[derive(Serialize)]
struct Trade {
    t: String,
    x: &'static str,
    p: Box<RawValue>,
    s: u32,
    c: [&'static str; 1],
    i: i64,
    z: &'static str,
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
