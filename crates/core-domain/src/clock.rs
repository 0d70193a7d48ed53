//! Time as an argument.

use chrono::{DateTime, DurationRound, TimeDelta, Utc};

/// Where the time comes from. Code that needs it takes a clock or an instant; nothing reads it by itself.
pub trait Clock: Send + Sync {
    /// Now, truncated to microseconds: what the database keeps, so a value read back equals the one written.
    fn now(&self) -> DateTime<Utc>;
}

/// The computer's clock.
#[derive(Clone, Copy, Debug, Default)]
pub struct SystemClock;

impl Clock for SystemClock {
    fn now(&self) -> DateTime<Utc> {
        #[expect(clippy::disallowed_methods, reason = "this is the one adapter over the ambient clock")]
        let now = Utc::now();
        to_micros(now)
    }
}

/// Drops what is finer than a microsecond.
#[must_use]
pub fn to_micros(at: DateTime<Utc>) -> DateTime<Utc> {
    at.duration_trunc(TimeDelta::microseconds(1)).unwrap_or(at)
}
