use std::sync::atomic::{AtomicBool, AtomicU32, AtomicU64, Ordering};
use std::time::{Duration, Instant};

use super::BackupError;

/// How far a backup, a verification or a restore is, and the means to stop it; shared by who does it and who watches.
///
/// Counts are of the content before compression. Each is exact for itself; two of them read together may be of two moments.
#[derive(Debug)]
pub struct Meter {
    began: Instant,
    limit: Option<Duration>,
    bytes: AtomicU64,
    bytes_expected: AtomicU64,
    tables_done: AtomicU32,
    tables_total: AtomicU32,
    stopped: AtomicBool,
}

/// How far something is at one moment.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Progress {
    /// 0 to 100; 100 only at the end.
    pub percent: u8,
    /// Bytes that went through.
    pub bytes: u64,
    /// Tables that are done.
    pub tables_done: u32,
    /// Tables there are; 0 while that is not known.
    pub tables_total: u32,
    /// Seconds that are left, as it went so far; `None` while nothing can be said.
    pub eta_s: Option<u64>,
}

impl Meter {
    /// Begins now and, where there is a limit, is stopped by itself after it.
    #[must_use]
    pub fn new(began: Instant, limit: Option<Duration>) -> Self {
        Self {
            began,
            limit,
            bytes: AtomicU64::new(0),
            bytes_expected: AtomicU64::new(0),
            tables_done: AtomicU32::new(0),
            tables_total: AtomicU32::new(0),
            stopped: AtomicBool::new(false),
        }
    }

    /// Asks whoever works to stop at the next piece of data.
    pub fn stop(&self) {
        self.stopped.store(true, Ordering::Relaxed);
    }

    /// How far it is.
    #[must_use]
    pub fn progress(&self) -> Progress {
        let (bytes, expected) =
            (self.bytes.load(Ordering::Relaxed), self.bytes_expected.load(Ordering::Relaxed));
        let tables_done = self.tables_done.load(Ordering::Relaxed);
        let tables_total = self.tables_total.load(Ordering::Relaxed);
        let all = tables_total > 0 && tables_done == tables_total;
        let share = bytes.saturating_mul(100).checked_div(expected).unwrap_or(0);
        let percent = if all { 100 } else { u8::try_from(share.min(99)).unwrap_or(99) };
        let left = expected.saturating_sub(bytes);
        let took = u64::try_from(self.began.elapsed().as_millis()).unwrap_or(u64::MAX).max(1);
        let eta_s = if all {
            Some(0)
        } else {
            left.saturating_mul(took).checked_div(bytes).map(|millis| millis.div_ceil(1_000))
        };
        Progress { percent, bytes, tables_done, tables_total, eta_s }
    }

    pub(super) fn expect(&self, tables: usize, bytes: u64) {
        self.bytes.store(0, Ordering::Relaxed);
        self.tables_done.store(0, Ordering::Relaxed);
        self.bytes_expected.store(bytes, Ordering::Relaxed);
        self.tables_total.store(u32::try_from(tables).unwrap_or(u32::MAX), Ordering::Relaxed);
    }

    pub(super) fn table_done(&self) {
        self.tables_done.fetch_add(1, Ordering::Relaxed);
    }

    /// Counts, and says whether to go on.
    ///
    /// # Errors
    /// Somebody asked to stop, or the limit is over.
    pub(super) fn pass(&self, bytes: usize) -> Result<(), BackupError> {
        self.bytes.fetch_add(bytes as u64, Ordering::Relaxed);
        let over = self.limit.is_some_and(|limit| self.began.elapsed() > limit);
        if over || self.stopped.load(Ordering::Relaxed) { Err(BackupError::Stopped) } else { Ok(()) }
    }
}
