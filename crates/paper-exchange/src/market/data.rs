//! Recorded data, checked and joined to one list of days per symbol.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use chrono::{NaiveDate, TimeDelta};
use rust_decimal::Decimal;

use super::bundled;
use super::csv::{Bar, Grain, MarketDataError, RecordedDay, Split, parse_file};

/// Recorded days further apart than this are spliced.
const GAP_DAYS: i64 = 10;

/// Where prices come from. Cheap to clone.
#[derive(Debug, Clone)]
pub struct MarketData {
    pub(super) source: Source,
}

#[derive(Debug, Clone)]
pub(super) enum Source {
    Recorded(Arc<BTreeMap<String, Recording>>),
    Fixed(Decimal),
}

/// All recorded days of a symbol in the order they play.
#[derive(Debug)]
pub(super) struct Recording {
    pub(super) days: Vec<Day>,
    /// Level at which the first day opens.
    pub(super) first: Decimal,
    /// Level at which the last day closes.
    pub(super) last: Decimal,
}

/// A day and what its prices are multiplied with.
#[derive(Debug)]
pub(super) struct Day {
    pub(super) grain: Grain,
    pub(super) factor: Decimal,
    pub(super) bars: Vec<Bar>,
}

impl MarketData {
    /// The recordings that come with the crate: AAPL, AES, AIG, FB, GOOG, GORO, IBM, MSFT, ORCL, SPY, YHOO, BTC/USD.
    pub fn bundled() -> Self {
        Self::from_files(bundled::FILES.iter().copied()).expect("the bundled files are read by a test")
    }

    /// All `*.csv` and `*.csv.gz` files of a folder and its sub-folders.
    ///
    /// # Errors
    /// When a file cannot be read or a line is wrong; the error names both.
    pub fn from_dir(folder: &Path) -> Result<Self, MarketDataError> {
        let mut paths = Vec::new();
        collect(folder, &mut paths)?;
        paths.sort();
        let mut files = Vec::with_capacity(paths.len());
        for path in paths {
            let bytes = std::fs::read(&path).map_err(|source| io(&path, source))?;
            files.push((path.display().to_string(), bytes));
        }
        Self::from_files(files.iter().map(|(name, bytes)| (name.as_str(), bytes.as_slice()))).map_err(
            |error| match error {
                MarketDataError::Empty(_) => MarketDataError::Empty(folder.display().to_string()),
                other => other,
            },
        )
    }

    /// Named files in memory; names ending in `.gz` are unpacked.
    ///
    /// # Errors
    /// When a line is wrong, a day is recorded twice at the same grain, or nothing is left to replay.
    pub fn from_files<'a>(
        files: impl IntoIterator<Item = (&'a str, &'a [u8])>,
    ) -> Result<Self, MarketDataError> {
        let mut days: BTreeMap<String, Vec<RecordedDay>> = BTreeMap::new();
        let mut splits = Vec::new();
        let mut names = Vec::new();
        for (name, bytes) in files {
            let parsed = parse_file(name, names.len(), bytes)?;
            names.push(name);
            splits.extend(parsed.splits);
            for day in parsed.days {
                days.entry(day.symbol.clone()).or_default().push(day);
            }
        }
        if days.is_empty() {
            return Err(MarketDataError::Empty(names.join(", ")));
        }
        let mut recordings = BTreeMap::new();
        for (symbol, mut days) in days {
            days.sort_by_key(|day| (day.grain, day.date));
            if let Some(twice) =
                days.windows(2).find(|pair| (pair[0].grain, pair[0].date) == (pair[1].grain, pair[1].date))
            {
                return Err(MarketDataError::Line {
                    file: names[twice[1].file].to_owned(),
                    line: 1,
                    problem: format!("{symbol} on {} is also in {}", twice[1].date, names[twice[0].file]),
                });
            }
            let recording = join(days, &splits);
            recordings.insert(symbol, recording);
        }
        Ok(Self { source: Source::Recorded(Arc::new(recordings)) })
    }

    /// Every symbol trades at one price, without a spread and without a bound on volume.
    ///
    /// # Errors
    /// When the price is not above 0.
    pub fn fixed_price(price: Decimal) -> Result<Self, MarketDataError> {
        if price <= Decimal::ZERO {
            return Err(MarketDataError::FixedPrice(price));
        }
        Ok(Self { source: Source::Fixed(price.normalize()) })
    }

    /// Whether orders for a symbol can be priced.
    pub fn knows(&self, symbol: &str) -> bool {
        match &self.source {
            Source::Recorded(recordings) => recordings.contains_key(symbol),
            Source::Fixed(_) => is_symbol(symbol),
        }
    }

    /// The recorded symbols; none at a fixed price, where any will do.
    pub fn symbols(&self) -> Vec<String> {
        match &self.source {
            Source::Recorded(recordings) => recordings.keys().cloned().collect(),
            Source::Fixed(_) => Vec::new(),
        }
    }
}

/// Upper-case letters, digits, a dot or one slash with something on both sides; at most 16 characters.
pub(super) fn is_symbol(text: &str) -> bool {
    let parts: Vec<&str> = text.split('/').collect();
    text.len() <= 16
        && parts.len() <= 2
        && parts.iter().all(|part| {
            part.starts_with(|c: char| c.is_ascii_uppercase())
                && part.chars().all(|c| c.is_ascii_uppercase() || c.is_ascii_digit() || c == '.')
        })
}

/// Takes out splits, then multiplies later levels so that they open where earlier ones closed.
fn join(recorded: Vec<RecordedDay>, splits: &[Split]) -> Recording {
    let mut days: Vec<Day> = Vec::with_capacity(recorded.len());
    let mut before: Option<(NaiveDate, Grain, usize, Decimal)> = None;
    let mut splice = Decimal::ONE;
    for RecordedDay { symbol, date, grain, file, mut bars } in recorded {
        let ratio: Decimal = splits
            .iter()
            .filter(|split| split.symbol == symbol && split.ex_date > date)
            .map(|split| split.ratio)
            .product();
        if ratio != Decimal::ONE {
            bars.iter_mut().for_each(|bar| bar.volume *= ratio);
        }
        let split_factor = Decimal::ONE / ratio;
        if let Some((last_date, last_grain, last_file, close)) = before {
            let apart = date.signed_duration_since(last_date).num_days();
            if last_grain != grain || (last_file != file && apart > 5) || apart > GAP_DAYS {
                splice = close / (opening(&bars) * split_factor);
            }
        }
        let factor = split_factor * splice;
        before = Some((date, grain, file, closing(&bars) * factor));
        days.push(Day { grain, factor, bars });
    }
    let level = |day: Option<&Day>, price: fn(&[Bar]) -> Decimal| {
        day.map_or(Decimal::ONE, |day| price(&day.bars) * day.factor)
    };
    let (first, last) = (level(days.first(), opening), level(days.last(), closing));
    Recording { days, first, last }
}

/// The first price at or after 09:30, else the first of the day.
fn opening(bars: &[Bar]) -> Decimal {
    let at = TimeDelta::minutes(9 * 60 + 30);
    bars.iter().find(|bar| bar.offset >= at).or(bars.first()).map_or(Decimal::ONE, |bar| bar.open)
}

/// The last price before 16:00 (or of the bar that starts then and ends the day), else the last of the day.
fn closing(bars: &[Bar]) -> Decimal {
    let at = TimeDelta::hours(16);
    match bars.last() {
        Some(bar) if bar.offset <= at => bar.close,
        last => bars.iter().rev().find(|bar| bar.offset < at).or(last).map_or(Decimal::ONE, |bar| bar.close),
    }
}

fn collect(folder: &Path, into: &mut Vec<PathBuf>) -> Result<(), MarketDataError> {
    for entry in std::fs::read_dir(folder).map_err(|source| io(folder, source))? {
        let path = entry.map_err(|source| io(folder, source))?.path();
        let name = path.file_name().map(|name| name.to_string_lossy().into_owned()).unwrap_or_default();
        if path.is_dir() {
            collect(&path, into)?;
        } else if name.ends_with(".csv") || name.ends_with(".csv.gz") {
            into.push(path);
        }
    }
    Ok(())
}

fn io(path: &Path, source: std::io::Error) -> MarketDataError {
    MarketDataError::Io { file: path.display().to_string(), source }
}
