//! Time that moves when told to.

use std::sync::{Mutex, PoisonError};

use chrono::{DateTime, TimeDelta, Utc};
use plimsoll_core_domain::clock::{Clock, to_micros};

/// A clock that stands still until it is moved.
#[derive(Debug)]
pub struct FixedClock(Mutex<DateTime<Utc>>);

impl FixedClock {
    /// Stands at `now`, truncated to microseconds as every clock's time is.
    pub fn new(now: DateTime<Utc>) -> Self {
        Self(Mutex::new(to_micros(now)))
    }

    /// Stands at an RFC 3339 time.
    ///
    /// # Panics
    /// When `text` is none.
    pub fn at(text: &str) -> Self {
        Self::new(DateTime::parse_from_rfc3339(text).expect("an RFC 3339 time").to_utc())
    }

    /// Moves it to `now`, forwards or back.
    pub fn set(&self, now: DateTime<Utc>) {
        *self.0.lock().unwrap_or_else(PoisonError::into_inner) = to_micros(now);
    }

    /// Moves it by `time`.
    pub fn advance(&self, time: TimeDelta) {
        *self.0.lock().unwrap_or_else(PoisonError::into_inner) += time;
    }
}

impl Clock for FixedClock {
    fn now(&self) -> DateTime<Utc> {
        *self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn it_moves_only_when_told() {
        let clock = FixedClock::at("2026-11-24T15:30:00.123456789Z");
        let start = clock.now();
        assert_eq!(start.to_rfc3339(), "2026-11-24T15:30:00.123456+00:00");
        assert_eq!(clock.now(), start);
        clock.advance(TimeDelta::seconds(90));
        assert_eq!(clock.now() - start, TimeDelta::seconds(90));
        clock.set(start);
        assert_eq!(clock.now(), start);
    }
}
