//! The CSV form of recorded data: what it accepts and how it says what is wrong.

use std::io::Read;

use chrono::{DateTime, NaiveDate, NaiveTime, TimeDelta, Timelike, Utc};
use flate2::read::MultiGzDecoder;
use rust_decimal::Decimal;

use crate::calendar;
use crate::decimal_text::parse;

/// Largest size of one file once unpacked.
const MAX_BYTES: u64 = 1 << 30;

/// Why recorded data was refused. The text names file and line.
#[derive(Debug, thiserror::Error)]
pub enum MarketDataError {
    /// A file or folder could not be read.
    #[error("{file}: {source}")]
    Io {
        /// The file or folder.
        file: String,
        /// What the system said.
        source: std::io::Error,
    },
    /// A line is wrong; line 1 names the columns.
    #[error("{file}, line {line}: {problem}")]
    Line {
        /// The file.
        file: String,
        /// Its line, from 1.
        line: usize,
        /// What is wrong with it.
        problem: String,
    },
    /// There is nothing to replay.
    #[error("{0}: no bars and no trades found (*.csv, *.csv.gz)")]
    Empty(String),
    /// A fixed price must be positive.
    #[error("a fixed price must be above 0, got {0}")]
    FixedPrice(Decimal),
}

/// How fine a recording is; finer first.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Grain {
    Trade,
    Minute,
    Daily,
}

/// A bar or trade; a trade's four prices are equal and its volume is that of its whole minute.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Bar {
    /// New York time since midnight.
    pub(super) offset: TimeDelta,
    pub(super) open: Decimal,
    pub(super) high: Decimal,
    pub(super) low: Decimal,
    pub(super) close: Decimal,
    pub(super) volume: Decimal,
}

/// One recorded day of one symbol.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct RecordedDay {
    pub(super) symbol: String,
    pub(super) date: NaiveDate,
    pub(super) grain: Grain,
    pub(super) file: usize,
    pub(super) bars: Vec<Bar>,
}

/// A split: shares after for one share before.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Split {
    pub(super) symbol: String,
    pub(super) ex_date: NaiveDate,
    pub(super) ratio: Decimal,
}

/// What one file holds.
#[derive(Debug, Default)]
pub(super) struct Parsed {
    pub(super) days: Vec<RecordedDay>,
    pub(super) splits: Vec<Split>,
}

struct Row<'a> {
    symbol: &'a str,
    at: DateTime<Utc>,
    bar: Bar,
}

/// Reads one file; `.gz` names are unpacked. Quote recordings are skipped: bid and ask are made by rule.
pub(super) fn parse_file(name: &str, number: usize, bytes: &[u8]) -> Result<Parsed, MarketDataError> {
    let io = |source| MarketDataError::Io { file: name.to_owned(), source };
    let mut text = String::new();
    if name.ends_with(".gz") {
        MultiGzDecoder::new(bytes).take(MAX_BYTES).read_to_string(&mut text).map_err(io)?;
    } else {
        bytes.take(MAX_BYTES).read_to_string(&mut text).map_err(io)?;
    }
    let header = text.lines().next().unwrap_or_default().trim_end();
    match header {
        "symbol,timestamp,open,high,low,close,volume" => bars(name, number, &text),
        "symbol,ex_date,kind,split_ratio,cash_per_share,source" => splits(name, &text),
        _ if header.starts_with("symbol,timestamp,price,size") => trades(name, number, &text),
        _ if header.starts_with("symbol,timestamp,bid_price") => Ok(Parsed::default()),
        _ => Err(wrong(name, 1, format!("unknown columns {header:?}"))),
    }
}

fn bars(name: &str, number: usize, text: &str) -> Result<Parsed, MarketDataError> {
    let mut rows: Vec<Row<'_>> = Vec::new();
    for (line, fields) in lines(text) {
        let say = |problem: String| wrong(name, line, problem);
        let [symbol, timestamp, open, high, low, close, volume] = fields[..] else {
            return Err(say(format!("expected 7 fields, found {}", fields.len())));
        };
        let at = instant(timestamp).map_err(say)?;
        let bar = Bar {
            offset: TimeDelta::zero(),
            open: price("open", open).map_err(say)?,
            high: price("high", high).map_err(say)?,
            low: price("low", low).map_err(say)?,
            close: price("close", close).map_err(say)?,
            volume: amount("volume", volume).map_err(say)?,
        };
        if bar.low > bar.open.min(bar.close) || bar.high < bar.open.max(bar.close) {
            return Err(say("open and close must lie between low and high".into()));
        }
        checked_symbol(symbol).map_err(say)?;
        if rows.iter().rev().find(|row| row.symbol == symbol).is_some_and(|row| row.at >= at) {
            return Err(say("timestamps of a symbol must rise".into()));
        }
        rows.push(Row { symbol, at, bar });
    }
    let daily = rows.iter().all(|row| calendar::local(row.at).time() == NaiveTime::MIN);
    Ok(Parsed {
        days: by_day(rows, if daily { Grain::Daily } else { Grain::Minute }, number),
        splits: Vec::new(),
    })
}

fn trades(name: &str, number: usize, text: &str) -> Result<Parsed, MarketDataError> {
    let mut rows: Vec<Row<'_>> = Vec::new();
    for (line, fields) in lines(text) {
        let say = |problem: String| wrong(name, line, problem);
        let [symbol, timestamp, paid, size, ..] = fields[..] else {
            return Err(say(format!("expected at least 4 fields, found {}", fields.len())));
        };
        let at = instant(timestamp).map_err(say)?;
        let paid = price("price", paid).map_err(say)?;
        let volume = amount("size", size).map_err(say)?;
        checked_symbol(symbol).map_err(say)?;
        if rows.last().is_some_and(|row| row.at > at) {
            return Err(say("timestamps must not fall".into()));
        }
        let bar = Bar { offset: TimeDelta::zero(), open: paid, high: paid, low: paid, close: paid, volume };
        rows.push(Row { symbol, at, bar });
    }
    let mut days = by_day(rows, Grain::Trade, number);
    for day in &mut days {
        // Each trade carries its minute's volume, since that is what bounds a fill.
        let minute = |bar: &Bar| bar.offset.num_minutes();
        for chunk in day.bars.chunk_by_mut(|a, b| minute(a) == minute(b)) {
            let total = chunk.iter().map(|bar| bar.volume).sum();
            chunk.iter_mut().for_each(|bar| bar.volume = total);
        }
    }
    Ok(Parsed { days, splits: Vec::new() })
}

fn splits(name: &str, text: &str) -> Result<Parsed, MarketDataError> {
    let mut found = Vec::new();
    for (line, fields) in lines(text) {
        let say = |problem: String| wrong(name, line, problem);
        let [symbol, ex_date, kind, ratio, ..] = fields[..] else {
            return Err(say(format!("expected 6 fields, found {}", fields.len())));
        };
        let ex_date = ex_date.parse().map_err(|_| say(format!("no date: {ex_date:?}")))?;
        if kind == "split" {
            let ratio = price("split_ratio", ratio).map_err(say)?;
            found.push(Split { symbol: symbol.to_owned(), ex_date, ratio });
        }
    }
    Ok(Parsed { days: Vec::new(), splits: found })
}

fn lines(text: &str) -> impl Iterator<Item = (usize, Vec<&str>)> {
    text.lines()
        .enumerate()
        .skip(1)
        .filter(|(_, line)| !line.trim().is_empty())
        .map(|(index, line)| (index + 1, line.trim_end().split(',').collect()))
}

fn by_day(rows: Vec<Row<'_>>, grain: Grain, file: usize) -> Vec<RecordedDay> {
    let mut days: Vec<RecordedDay> = Vec::new();
    for Row { symbol, at, mut bar } in rows {
        let local = calendar::local(at);
        let date = local.date();
        bar.offset = TimeDelta::seconds(i64::from(local.num_seconds_from_midnight()))
            + TimeDelta::nanoseconds(i64::from(local.nanosecond()));
        match days.iter_mut().rev().find(|day| day.symbol == symbol) {
            Some(day) if day.date == date => day.bars.push(bar),
            _ => days.push(RecordedDay { symbol: symbol.to_owned(), date, grain, file, bars: vec![bar] }),
        }
    }
    days
}

fn instant(text: &str) -> Result<DateTime<Utc>, String> {
    DateTime::parse_from_rfc3339(text)
        .map(|at| at.to_utc())
        .map_err(|_| format!("no ISO-8601 timestamp: {text:?}"))
}

fn price(column: &str, text: &str) -> Result<Decimal, String> {
    match parse(text) {
        Some(value) if value > Decimal::ZERO => Ok(value),
        Some(_) => Err(format!("{column} must be above 0, got {text}")),
        None => Err(format!("{column} is no decimal: {text:?}")),
    }
}

fn amount(column: &str, text: &str) -> Result<Decimal, String> {
    match parse(text) {
        Some(value) if value >= Decimal::ZERO => Ok(value),
        Some(_) => Err(format!("{column} must not be negative, got {text}")),
        None => Err(format!("{column} is no decimal: {text:?}")),
    }
}

fn checked_symbol(symbol: &str) -> Result<(), String> {
    if super::data::is_symbol(symbol) { Ok(()) } else { Err(format!("no symbol: {symbol:?}")) }
}

fn wrong(file: &str, line: usize, problem: String) -> MarketDataError {
    MarketDataError::Line { file: file.to_owned(), line, problem }
}
