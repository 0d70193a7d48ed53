//! Recorded data on simulator time.

use std::collections::HashMap;
use std::sync::{Arc, Mutex};

use chrono::{DateTime, NaiveDate, TimeDelta, Utc};
use rust_decimal::Decimal;

use super::data::{MarketData, Recording, Source};
use super::{Print, Quote, path, price_step};
use crate::calendar::{self, TradingDay};
use crate::config::ExchangeConfig;

/// Prices as a function of symbol and simulator time.
#[derive(Debug)]
pub struct Market {
    data: MarketData,
    epoch: NaiveDate,
    min_spread: Decimal,
    spread: Decimal,
    /// The days last asked for, by symbol.
    cache: Mutex<HashMap<String, Vec<CachedDay>>>,
}

type CachedDay = (NaiveDate, Arc<[Print]>);

/// Days kept per symbol.
const CACHED_DAYS: usize = 4;

/// How far to look for the next print before giving up.
const SEARCH_DAYS: usize = 400;

impl Market {
    /// Prices with the first recorded day of every symbol on the trading day `epoch`.
    pub fn new(data: MarketData, epoch: NaiveDate, config: &ExchangeConfig) -> Self {
        Self {
            data,
            epoch: TradingDay::from_date(epoch).date,
            min_spread: config.min_spread.max(Decimal::ZERO),
            spread: config.spread_bp.max(Decimal::ZERO) / Decimal::from(10_000),
            cache: Mutex::default(),
        }
    }

    /// Where prices come from.
    pub fn data(&self) -> &MarketData {
        &self.data
    }

    /// The last print at or before an instant; `None` for an unknown symbol. Before the first recorded day the symbol
    /// stands at its first price.
    pub fn last(&self, symbol: &str, at: DateTime<Utc>) -> Option<Print> {
        let recording = match &self.data.source {
            Source::Fixed(price) => {
                return self.data.knows(symbol).then_some(Print { at, price: *price, minute_volume: None });
            }
            Source::Recorded(recordings) => recordings.get(symbol)?,
        };
        let mut day = TradingDay::until_date(calendar::date_of(at));
        while day.date >= self.epoch {
            let prints = self.prints(symbol, recording, day);
            match prints.partition_point(|print| print.at <= at) {
                0 => day = day.previous(),
                count => return Some(prints[count - 1]),
            }
        }
        let first = TradingDay::from_date(self.epoch);
        Some(Print { at: first.pre_open().min(at), price: path::round(recording.first), minute_volume: None })
    }

    /// The first print after an instant; `None` for an unknown symbol and at a fixed price.
    pub fn next_print(&self, symbol: &str, after: DateTime<Utc>) -> Option<Print> {
        let Source::Recorded(recordings) = &self.data.source else { return None };
        let recording = recordings.get(symbol)?;
        let mut day = TradingDay::from_date(calendar::date_of(after).max(self.epoch));
        for _ in 0..SEARCH_DAYS {
            let prints = self.prints(symbol, recording, day);
            let passed = prints.partition_point(|print| print.at <= after);
            if let Some(print) = prints.get(passed) {
                return Some(*print);
            }
            day = day.next();
        }
        None
    }

    /// Bid and ask at an instant; `None` for an unknown symbol.
    pub fn quote(&self, symbol: &str, at: DateTime<Utc>) -> Option<Quote> {
        self.last(symbol, at).map(|print| self.quote_of(symbol, print))
    }

    /// The quote around a print.
    pub(crate) fn quote_of(&self, symbol: &str, print: Print) -> Quote {
        let last = print.price;
        let (bid, ask) = match self.data.source {
            Source::Fixed(price) => (price, price),
            Source::Recorded(_) => {
                let step = price_step(last);
                let spread = ceil_to(self.min_spread.max(last * self.spread), step);
                let bid = floor_to(last - spread / Decimal::TWO, step).max(step);
                (bid.normalize(), (bid + spread).normalize())
            }
        };
        Quote { symbol: symbol.to_owned(), bid, ask, last, at: print.at }
    }

    /// The price a trading day closed at.
    pub fn close(&self, symbol: &str, day: TradingDay) -> Option<Decimal> {
        self.last(symbol, day.close()).map(|print| print.price)
    }

    /// How far volume bounds an order in the minute of an instant: `None` where it does not.
    pub(crate) fn minute_volume(&self, symbol: &str, at: DateTime<Utc>) -> Option<Decimal> {
        let print = self.last(symbol, at)?;
        let volume = print.minute_volume?;
        // A print of an earlier minute says that this one traded nothing.
        Some(if at - print.at < TimeDelta::minutes(1) { volume } else { Decimal::ZERO })
    }

    fn prints(&self, symbol: &str, recording: &Recording, day: TradingDay) -> Arc<[Print]> {
        // A panic while the lock is held cannot leave a half-made entry.
        let mut cache = self.cache.lock().unwrap_or_else(std::sync::PoisonError::into_inner);
        if let Some(days) = cache.get(symbol)
            && let Some((_, prints)) = days.iter().find(|(date, _)| *date == day.date)
        {
            return Arc::clone(prints);
        }
        let index = calendar::trading_days_between(self.epoch, day.date);
        let prints: Arc<[Print]> = path::prints(recording, index, day).into();
        let days = cache.entry(symbol.to_owned()).or_default();
        if days.len() >= CACHED_DAYS {
            days.remove(0);
        }
        days.push((day.date, Arc::clone(&prints)));
        prints
    }
}

fn floor_to(value: Decimal, step: Decimal) -> Decimal {
    (value / step).floor() * step
}

fn ceil_to(value: Decimal, step: Decimal) -> Decimal {
    (value / step).ceil() * step
}
