//! Sealing everything again with the active key, while servers run.

use std::collections::BTreeSet;
use std::io::{IsTerminal, Write};
use std::thread;
use std::time::{Duration, Instant};

use plimsoll_core_domain::{Clock, StoreError, SystemClock};
use plimsoll_crypto::{KeyId, KeyRing, OsRandom};
use plimsoll_storage::Db;
use plimsoll_storage::platform::keys::{Rotation, RotationMode, SEALED_COLUMNS, SealedColumn};

/// Values in one transaction: few enough that nobody waits long for a row.
const BATCH: u32 = 1_000;
/// Passes in a row that may move less than a batch while something is left: others hold it, or write it anew.
const IDLE_PASSES: u32 = 20;
const IDLE_PAUSE: Duration = Duration::from_millis(250);
/// Damaged values that are named.
const NAMED: usize = 20;

/// What a rotation did.
#[derive(Debug, Default)]
pub(super) struct Outcome {
    /// Values that were sealed again.
    pub(super) moved: u64,
    /// Values that do not open, as `table.column row`; the first ones.
    pub(super) damaged: BTreeSet<String>,
    pub(super) took: Duration,
}

impl Outcome {
    pub(super) fn rate(&self) -> u64 {
        per_second(self.moved, self.took)
    }
}

/// Seals again, or tries to open, every value that one of the ring's other keys sealed. `before` values are expected.
///
/// # Errors
/// The store's own; what was committed stays, and the next run goes on from there.
pub(super) fn run(
    db: &Db,
    ring: &KeyRing,
    mode: RotationMode,
    before: u64,
    progress: &mut Progress,
) -> Result<Outcome, StoreError> {
    let began = Instant::now();
    let mut outcome = Outcome::default();
    let mut idle = 0;
    loop {
        let moved_before = outcome.moved;
        for column in SEALED_COLUMNS {
            for from in ring.ids().filter(|id| *id != ring.active()) {
                pass(db, ring, mode, column, from, &mut outcome, |moved| {
                    progress.at(moved, before, began.elapsed());
                })?;
            }
        }
        let moved = outcome.moved - moved_before;
        idle = if moved < u64::from(BATCH) { idle + 1 } else { 0 };
        if mode == RotationMode::Try || idle > IDLE_PASSES || !something_left(db, ring, &outcome)? {
            break;
        }
        if moved == 0 {
            thread::sleep(IDLE_PAUSE);
        }
    }
    outcome.took = began.elapsed();
    progress.end(outcome.moved, outcome.took);
    Ok(outcome)
}

fn pass(
    db: &Db,
    ring: &KeyRing,
    mode: RotationMode,
    column: &SealedColumn,
    from: KeyId,
    outcome: &mut Outcome,
    mut tell: impl FnMut(u64),
) -> Result<(), StoreError> {
    let mut after = None;
    loop {
        let batch = db.run_retrying_blocking(outcome.moved, |tx| {
            let rotation = Rotation { ring, from, mode, limit: BATCH, at: SystemClock.now() };
            tx.rotate_batch(column, &rotation, after.as_ref(), &mut OsRandom)
        })?;
        outcome.moved += batch.moved;
        for row in batch.damaged.into_iter().take(NAMED) {
            if outcome.damaged.len() < NAMED {
                outcome.damaged.insert(format!("{column:?} row {row}"));
            }
        }
        tell(outcome.moved);
        match batch.next {
            Some(place) => after = Some(place),
            None => return Ok(()),
        }
    }
}

/// Whether an earlier key of the ring still has values that open.
fn something_left(db: &Db, ring: &KeyRing, outcome: &Outcome) -> Result<bool, StoreError> {
    let uses = db.read_blocking(|tx| tx.key_uses(ring))?;
    let left: u64 = uses.iter().filter(|it| it.id != ring.active()).map(|it| it.rows()).sum();
    Ok(left > u64::try_from(outcome.damaged.len()).unwrap_or(u64::MAX))
}

fn per_second(moved: u64, took: Duration) -> u64 {
    let millis = u64::try_from(took.as_millis()).unwrap_or(u64::MAX).max(1);
    moved.saturating_mul(1_000) / millis
}

/// How far a rotation is, on standard error: a bar that moves on a terminal, else a line now and then.
#[derive(Debug)]
pub(super) struct Progress {
    bar: bool,
    quiet: bool,
    told: Option<Instant>,
}

impl Progress {
    /// For a command that says nothing until its end when `quiet`.
    pub(super) fn new(quiet: bool) -> Self {
        Self { bar: std::io::stderr().is_terminal(), quiet, told: None }
    }

    fn at(&mut self, moved: u64, total: u64, took: Duration) {
        let pause = Duration::from_millis(if self.bar { 200 } else { 2_000 });
        if self.quiet || moved == 0 || self.told.is_some_and(|told| told.elapsed() < pause) {
            return;
        }
        self.told = Some(Instant::now());
        let line = line(moved, total, took);
        if self.bar {
            eprint!("\r{line}\x1b[K");
            let _ = std::io::stderr().flush();
        } else {
            eprintln!("{line}");
        }
    }

    fn end(&self, moved: u64, took: Duration) {
        if !self.quiet && self.bar && self.told.is_some() {
            eprintln!("\r{}\x1b[K", line(moved, moved, took));
        }
    }
}

/// `[########------------] 40%  400,000 of 1,000,000 rows  38,210 rows/s  16 s left`
fn line(moved: u64, total: u64, took: Duration) -> String {
    const WIDTH: u64 = 20;
    let total = total.max(moved).max(1);
    let filled = moved * WIDTH / total;
    let bar: String = (0..WIDTH).map(|at| if at < filled { '#' } else { '-' }).collect();
    let rate = per_second(moved, took);
    let left = match (total - moved, rate) {
        (0, _) => "done".to_owned(),
        (_, 0) => "?".to_owned(),
        (rows, rate) => format!("{} s left", rows.div_ceil(rate)),
    };
    let (moved_text, total_text, rate) = (grouped(moved), grouped(total), grouped(rate));
    format!("[{bar}] {:>3}%  {moved_text} of {total_text} rows  {rate} rows/s  {left}", moved * 100 / total)
}

/// Digits in groups of three.
pub(super) fn grouped(number: u64) -> String {
    let digits = number.to_string();
    let mut text = String::with_capacity(digits.len() * 4 / 3);
    for (at, digit) in digits.chars().enumerate() {
        if at > 0 && (digits.len() - at).is_multiple_of(3) {
            text.push(',');
        }
        text.push(digit);
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_line_tells_share_rate_and_time_left() {
        let told = line(400_000, 1_000_000, Duration::from_secs(10));
        assert_eq!(told, "[########------------]  40%  400,000 of 1,000,000 rows  40,000 rows/s  15 s left");
        assert!(line(5, 5, Duration::from_secs(1)).ends_with("done"));
        assert!(line(7, 5, Duration::from_secs(1)).contains("100%"), "rows that came meanwhile");
        assert!(line(0, 0, Duration::ZERO).contains("0%"));
    }

    #[test]
    fn digits_are_grouped() {
        for (number, text) in [(0, "0"), (999, "999"), (1_000, "1,000"), (12_345_678, "12,345,678")] {
            assert_eq!(grouped(number), text);
        }
    }
}
