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

/// After `free` failures within `window` each further one waits: `first` after the first of them, doubling up to
/// `longest`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct FailureRule {
    /// Failures without a wait.
    pub free: u32,
    /// A failure this long ago is forgotten with all before it.
    pub window: TimeDelta,
    /// The first wait.
    pub first: TimeDelta,
    /// The longest wait.
    pub longest: TimeDelta,
}

impl FailureRule {
    /// How long the `count`th failure in a row blocks.
    #[must_use]
    pub fn block_after(&self, count: u32) -> TimeDelta {
        let Some(beyond) = count.checked_sub(self.free) else { return TimeDelta::zero() };
        let factor = 1_i32.checked_shl(beyond.min(30)).unwrap_or(i32::MAX);
        self.first.checked_mul(factor).map_or(self.longest, |wait| wait.min(self.longest))
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

#[cfg(test)]
mod tests {
    use super::*;

    /// LOG-3: blocks double from the fifth failure on, up to the longest.
    #[test]
    fn blocks_double_up_to_the_longest() {
        let rule = FailureRule {
            free: 5,
            window: TimeDelta::minutes(15),
            first: TimeDelta::seconds(30),
            longest: TimeDelta::minutes(15),
        };
        let seconds: Vec<i64> = (4..12).map(|count| rule.block_after(count).num_seconds()).collect();
        assert_eq!(seconds, [0, 30, 60, 120, 240, 480, 900, 900]);
        assert_eq!(rule.block_after(u32::MAX), rule.longest);
    }
}
