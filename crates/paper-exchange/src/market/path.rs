//! The prints of one day.

use chrono::TimeDelta;
use rust_decimal::{Decimal, RoundingStrategy};

use super::csv::{Bar, Grain};
use super::data::{Day, Recording};
use super::{Print, price_step};
use crate::calendar::{self, TradingDay};

/// Which recorded day plays on a trading day, and whether it is mirrored.
pub(super) fn recorded_day(recording: &Recording, index: i64) -> (&Day, bool) {
    let count = recording.days.len() as i64;
    let pass = index.div_euclid(count);
    (&recording.days[index.rem_euclid(count) as usize], pass % 2 != 0)
}

/// A recorded price on its level: rounded to the price step.
pub(super) fn level(recording: &Recording, day: &Day, mirrored: bool, price: Decimal) -> Decimal {
    let plain = price * day.factor;
    let level = if mirrored { recording.first / plain * recording.last } else { plain };
    round(level)
}

/// Rounds to the nearest price step, never below one.
pub(super) fn round(price: Decimal) -> Decimal {
    let step = price_step(price);
    price.round_dp_with_strategy(step.scale(), RoundingStrategy::MidpointAwayFromZero).max(step).normalize()
}

/// All prints of a trading day, by time.
pub(super) fn prints(recording: &Recording, index: i64, on: TradingDay) -> Vec<Print> {
    let (day, mirrored) = recorded_day(recording, index);
    let at = |offset: TimeDelta| calendar::at_offset(on.date, offset);
    let level = |price: Decimal| level(recording, day, mirrored, price);
    let mut prints = Vec::new();
    match day.grain {
        Grain::Trade => prints.extend(day.bars.iter().map(|bar| Print {
            at: at(bar.offset),
            price: level(bar.close),
            minute_volume: Some(bar.volume),
        })),
        Grain::Minute => {
            let auction = TimeDelta::hours(16);
            let early = TimeDelta::hours(13);
            let last = day.bars.len().saturating_sub(1);
            for (number, bar) in day.bars.iter().enumerate() {
                if on.half_day && bar.offset >= early {
                    break;
                }
                let mut print = |offset: TimeDelta, price: Decimal| {
                    prints.push(Print {
                        at: at(offset),
                        price: level(price),
                        minute_volume: Some(bar.volume),
                    });
                };
                if number == last && bar.offset == auction {
                    print(bar.offset, bar.close);
                    continue;
                }
                for (quarter, price) in corners(bar).into_iter().enumerate() {
                    print(bar.offset + TimeDelta::seconds(15 * quarter as i64), price);
                }
            }
        }
        Grain::Daily => {
            let minutes: u32 = if on.half_day { 210 } else { 390 };
            for bar in &day.bars {
                let corners = corners(bar);
                let part = Decimal::from(minutes / 3);
                let volume = bar.volume / Decimal::from(minutes);
                for minute in 0..=minutes {
                    let leg = (minute / (minutes / 3)).min(2) as usize;
                    let walked = Decimal::from(minute - leg as u32 * (minutes / 3)) / part;
                    let price = corners[leg] + (corners[leg + 1] - corners[leg]) * walked;
                    let offset = TimeDelta::minutes(i64::from(9 * 60 + 30 + minute));
                    prints.push(Print { at: at(offset), price: level(price), minute_volume: Some(volume) });
                }
            }
        }
    }
    // Where the recorded day had an hour that this one skips, two prints can change places.
    prints.sort_by_key(|print| print.at);
    prints
}

/// Open, the nearer of high and low, the other, close.
fn corners(bar: &Bar) -> [Decimal; 4] {
    if bar.high - bar.open <= bar.open - bar.low {
        [bar.open, bar.high, bar.low, bar.close]
    } else {
        [bar.open, bar.low, bar.high, bar.close]
    }
}
