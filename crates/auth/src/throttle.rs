//! Limits of attempts.

use std::time::Duration;

use chrono::TimeDelta;

/// `count` in each `per` on average, `burst` at once: a token bucket.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Limit {
    /// How many.
    pub count: u32,
    /// In which time.
    pub per: TimeDelta,
    /// How many at once.
    pub burst: u32,
}

impl Limit {
    /// `count` in each `per`, `burst` at once.
    #[must_use]
    pub const fn new(count: u32, per: TimeDelta, burst: u32) -> Self {
        Self { count, per, burst }
    }
}

/// Whether an attempt may go on.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Verdict {
    /// It may, and is counted.
    Allowed,
    /// It may not, and changed nothing.
    Blocked {
        /// When it may be tried again.
        retry_after: Duration,
    },
}
