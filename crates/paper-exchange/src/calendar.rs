//! The New York Stock Exchange's trading calendar.
//!
//! Holidays follow NYSE Rule 7.2 with the dates each holiday was introduced, half days end at 13:00; a short list
//! names the days the exchange closed for other reasons since 2000. Times are New York wall-clock times, turned
//! into UTC with the day's own offset.

use std::cell::RefCell;
use std::collections::HashMap;

use chrono::{
    DateTime, Datelike, Days, FixedOffset, NaiveDate, NaiveDateTime, NaiveTime, Offset, TimeDelta, TimeZone,
    Utc, Weekday,
};
use chrono_tz::America::New_York;
use serde::{Deserialize, Serialize};

/// Days the exchange stayed closed apart from its holiday rules.
const CLOSURES: &[(i32, u32, u32)] = &[
    (2001, 9, 11),
    (2001, 9, 12),
    (2001, 9, 13),
    (2001, 9, 14),
    (2004, 6, 11),
    (2007, 1, 2),
    (2012, 10, 29),
    (2012, 10, 30),
    (2018, 12, 5),
    (2025, 1, 9),
];

/// One trading day.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct TradingDay {
    /// New York date.
    pub date: NaiveDate,
    /// Whether the core session ends at 13:00 instead of 16:00.
    pub half_day: bool,
}

/// Part of the day, New York time.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Session {
    /// 04:00 to 09:30 of a trading day.
    Pre,
    /// 09:30 to the close of a trading day.
    Regular,
    /// From the close to 20:00 (17:00 on half days).
    After,
    /// Everything else.
    Closed,
}

/// A row of `GET /v2/calendar`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct CalendarRow {
    /// The day.
    pub date: NaiveDate,
    /// `09:30`.
    pub open: String,
    /// `16:00` or `13:00`.
    pub close: String,
    /// `0400`.
    pub session_open: String,
    /// `2000` or `1700`.
    pub session_close: String,
    /// When a trade of that day settles.
    pub settlement_date: NaiveDate,
}

/// The answer of `GET /v2/clock`, in New York's offset.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct ClockView {
    /// Simulator time.
    pub timestamp: DateTime<FixedOffset>,
    /// Whether the core session runs.
    pub is_open: bool,
    /// The next opening after `timestamp`.
    pub next_open: DateTime<FixedOffset>,
    /// The next close after `timestamp`.
    pub next_close: DateTime<FixedOffset>,
}

impl TradingDay {
    /// The trading day of that date, if it is one.
    pub fn on(date: NaiveDate) -> Option<Self> {
        is_trading_day(date).then(|| Self { date, half_day: is_half_day(date) })
    }

    /// The first trading day on or after a date.
    pub fn from_date(mut date: NaiveDate) -> Self {
        loop {
            if let Some(day) = Self::on(date) {
                return day;
            }
            date = next_date(date);
        }
    }

    /// The last trading day on or before a date.
    pub fn until_date(mut date: NaiveDate) -> Self {
        loop {
            if let Some(day) = Self::on(date) {
                return day;
            }
            date = previous_date(date);
        }
    }

    /// The trading day after this one.
    pub fn next(self) -> Self {
        Self::from_date(next_date(self.date))
    }

    /// The trading day before this one.
    pub fn previous(self) -> Self {
        Self::until_date(previous_date(self.date))
    }

    /// 09:30.
    pub fn open(self) -> DateTime<Utc> {
        new_york(self.date, 9 * 60 + 30)
    }

    /// 16:00, or 13:00 on a half day.
    pub fn close(self) -> DateTime<Utc> {
        new_york(self.date, if self.half_day { 13 * 60 } else { 16 * 60 })
    }

    /// 04:00.
    pub fn pre_open(self) -> DateTime<Utc> {
        new_york(self.date, 4 * 60)
    }

    /// 20:00, or 17:00 on a half day.
    pub fn after_close(self) -> DateTime<Utc> {
        new_york(self.date, if self.half_day { 17 * 60 } else { 20 * 60 })
    }
}

/// The New York date of an instant.
pub fn date_of(at: DateTime<Utc>) -> NaiveDate {
    at.with_timezone(&New_York).date_naive()
}

/// The New York wall-clock reading of an instant.
pub fn local(at: DateTime<Utc>) -> NaiveDateTime {
    at.with_timezone(&New_York).naive_local()
}

/// The part of the day of an instant.
pub fn session_of(at: DateTime<Utc>) -> Session {
    let Some(day) = TradingDay::on(date_of(at)) else { return Session::Closed };
    if at < day.pre_open() || at >= day.after_close() {
        Session::Closed
    } else if at < day.open() {
        Session::Pre
    } else if at < day.close() {
        Session::Regular
    } else {
        Session::After
    }
}

/// The first opening strictly after an instant.
pub fn next_open(at: DateTime<Utc>) -> DateTime<Utc> {
    let day = TradingDay::from_date(date_of(at));
    if day.open() > at { day.open() } else { day.next().open() }
}

/// The first close strictly after an instant.
pub fn next_close(at: DateTime<Utc>) -> DateTime<Utc> {
    let day = TradingDay::from_date(date_of(at));
    if day.close() > at { day.close() } else { day.next().close() }
}

/// The last trading day whose core session closed at or before an instant.
pub fn last_closed(at: DateTime<Utc>) -> TradingDay {
    let day = TradingDay::until_date(date_of(at));
    if day.close() <= at { day } else { day.previous() }
}

/// The clock as clients see it.
pub fn clock_view(at: DateTime<Utc>) -> ClockView {
    ClockView {
        timestamp: in_new_york(at),
        is_open: session_of(at) == Session::Regular,
        next_open: in_new_york(next_open(at)),
        next_close: in_new_york(next_close(at)),
    }
}

/// An instant in New York's offset.
pub fn in_new_york(at: DateTime<Utc>) -> DateTime<FixedOffset> {
    let local = at.with_timezone(&New_York);
    local.with_timezone(&local.offset().fix())
}

/// The calendar's rows from `start` to `end`, both included.
pub fn rows(start: NaiveDate, end: NaiveDate) -> Vec<CalendarRow> {
    let mut rows = Vec::new();
    let mut day = TradingDay::from_date(start);
    while day.date <= end {
        rows.push(CalendarRow {
            date: day.date,
            open: "09:30".into(),
            close: if day.half_day { "13:00" } else { "16:00" }.into(),
            session_open: "0400".into(),
            session_close: if day.half_day { "1700" } else { "2000" }.into(),
            settlement_date: settlement(day),
        });
        day = day.next();
    }
    rows
}

/// Trades settle one trading day later since 28 May 2024; two since 5 September 2017, three before.
fn settlement(day: TradingDay) -> NaiveDate {
    let lag = match day.date {
        date if date >= ymd(2024, 5, 28) => 1,
        date if date >= ymd(2017, 9, 5) => 2,
        _ => 3,
    };
    (0..lag).fold(day, |day, _| day.next()).date
}

/// Trading days from `from` (included) to `to` (excluded); negative when `to` is earlier.
pub fn trading_days_between(from: NaiveDate, to: NaiveDate) -> i64 {
    days_before(to) - days_before(from)
}

/// Trading days from a fixed start to a date (excluded).
fn days_before(date: NaiveDate) -> i64 {
    thread_local! {
        /// Trading days of a year before each of its days.
        static YEARS: RefCell<HashMap<i32, Vec<u16>>> = RefCell::new(HashMap::new());
    }
    YEARS.with_borrow_mut(|years| {
        let mut table = |year: i32| -> (i64, i64) {
            let days = years.entry(year).or_insert_with(|| {
                let mut seen = 0;
                let mut days = Vec::with_capacity(367);
                let mut day = ymd(year, 1, 1);
                while day.year() == year {
                    days.push(seen);
                    seen += u16::from(is_trading_day(day));
                    day = next_date(day);
                }
                days.push(seen);
                days
            });
            let before = if year == date.year() { days[date.ordinal0() as usize] } else { 0 };
            (i64::from(before), i64::from(days[days.len() - 1]))
        };
        const START: i32 = 1970;
        let (before, _) = table(date.year());
        let whole: i64 = if date.year() >= START {
            (START..date.year()).map(|year| table(year).1).sum()
        } else {
            -(date.year()..START).map(|year| table(year).1).sum::<i64>()
        };
        whole + before
    })
}

fn is_trading_day(date: NaiveDate) -> bool {
    !matches!(date.weekday(), Weekday::Sat | Weekday::Sun) && !is_holiday(date)
}

/// Whether a weekday is a holiday or an extraordinary closure.
fn is_holiday(date: NaiveDate) -> bool {
    let (year, month, day, weekday) = (date.year(), date.month(), date.day(), date.weekday());
    let week = (day - 1) / 7 + 1;
    // A holiday on a Saturday is kept on the Friday before, one on a Sunday on the Monday after.
    let fixed = |m: u32, d: u32| {
        let kept = ymd(year, m, d);
        match kept.weekday() {
            Weekday::Sat => date == previous_date(kept),
            Weekday::Sun => date == next_date(kept),
            _ => date == kept,
        }
    };
    // New Year's Day on a Saturday is not kept: the Friday ends the year's accounts.
    let new_year = match ymd(year, 1, 1).weekday() {
        Weekday::Sat => false,
        Weekday::Sun => month == 1 && day == 2,
        _ => month == 1 && day == 1,
    };
    new_year
        || (year >= 1998 && month == 1 && weekday == Weekday::Mon && week == 3)
        || (month == 2 && weekday == Weekday::Mon && week == 3)
        || date == easter(year) - Days::new(2)
        || (month == 5 && weekday == Weekday::Mon && day > 24)
        || (year >= 2022 && fixed(6, 19))
        || fixed(7, 4)
        || (month == 9 && weekday == Weekday::Mon && week == 1)
        || (month == 11 && weekday == Weekday::Thu && week == 4)
        || fixed(12, 25)
        || CLOSURES.contains(&(year, month, day))
}

/// 13:00 closes: before Independence Day, after Thanksgiving, on Christmas Eve.
fn is_half_day(date: NaiveDate) -> bool {
    let (month, day, weekday) = (date.month(), date.day(), date.weekday());
    let before_weekday_holiday = matches!(weekday, Weekday::Mon | Weekday::Tue | Weekday::Wed | Weekday::Thu);
    (month == 7 && day == 3 && before_weekday_holiday)
        || (month == 11 && weekday == Weekday::Fri && (23..=29).contains(&day))
        || (month == 12 && day == 24 && before_weekday_holiday)
}

/// Easter Sunday of the Gregorian calendar (the anonymous algorithm, Meeus 1991).
fn easter(year: i32) -> NaiveDate {
    let a = year.rem_euclid(19);
    let (b, c) = (year.div_euclid(100), year.rem_euclid(100));
    let (d, e) = (b / 4, b % 4);
    let g = (8 * b + 13) / 25;
    let h = (19 * a + b - d - g + 15).rem_euclid(30);
    let (i, k) = (c / 4, c % 4);
    let l = (32 + 2 * e + 2 * i - h - k).rem_euclid(7);
    let m = (a + 11 * h + 19 * l) / 433;
    let n = h + l - 7 * m;
    let month = (n + 90) / 25;
    let day = (n + 33 * month + 19).rem_euclid(32);
    ymd(year, month as u32, day as u32)
}

/// A minute of a New York day as an instant. Sessions never touch the hours that a change of offset skips.
pub(crate) fn new_york(date: NaiveDate, minute: u32) -> DateTime<Utc> {
    at_offset(date, TimeDelta::minutes(i64::from(minute)))
}

/// A time of a New York day as an instant; the earlier one where it occurs twice, an hour later where it is skipped.
pub(crate) fn at_offset(date: NaiveDate, since_midnight: TimeDelta) -> DateTime<Utc> {
    let local = date.and_time(NaiveTime::MIN) + since_midnight;
    match New_York.from_local_datetime(&local).earliest() {
        Some(at) => at.to_utc(),
        None => New_York
            .from_local_datetime(&(local + TimeDelta::hours(1)))
            .earliest()
            .expect("offsets change by one hour")
            .to_utc(),
    }
}

fn ymd(year: i32, month: u32, day: u32) -> NaiveDate {
    NaiveDate::from_ymd_opt(year, month, day).expect("a date of the calendar's rules exists")
}

fn next_date(date: NaiveDate) -> NaiveDate {
    date.succ_opt().expect("simulator time ends long before chrono's")
}

fn previous_date(date: NaiveDate) -> NaiveDate {
    date.pred_opt().expect("simulator time begins long after chrono's")
}

#[cfg(test)]
mod tests;
