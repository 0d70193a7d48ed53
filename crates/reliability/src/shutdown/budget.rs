//! How the time of a shutdown is divided.

use std::time::Duration;

use crate::timings::Timings;

/// What is kept for callbacks and the end itself, as a part of the whole: a fifth.
const RESERVE: u32 = 5;

/// The time of each phase.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Budgets {
    /// From the beginning to the end of the process.
    pub total: Duration,
    /// Of the drain, which always takes it all.
    pub drain: Duration,
    /// Of running requests, from the end of the drain.
    pub requests: Duration,
    /// Of background work, from the end of the drain.
    pub background: Duration,
    /// Of each callback.
    pub callback: Duration,
}

impl Budgets {
    /// Those of `timings`, shortened in proportion where the total leaves less than a fifth of itself for callbacks.
    #[must_use]
    pub fn within(timings: &Timings) -> Self {
        let total = timings.shutdown_total;
        let phases = timings.shutdown_drain + timings.shutdown_requests.max(timings.shutdown_background);
        let room = total - total / RESERVE;
        let fit = |time: Duration| {
            if phases <= room {
                return time;
            }
            let nanos = time.as_nanos() * room.as_nanos() / phases.as_nanos().max(1);
            Duration::from_nanos(u64::try_from(nanos).unwrap_or(u64::MAX))
        };
        Self {
            total,
            drain: fit(timings.shutdown_drain),
            requests: fit(timings.shutdown_requests),
            background: fit(timings.shutdown_background),
            callback: fit(timings.shutdown_callback),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_documented_times_fit_as_they_are() {
        let timings = Timings::default();
        let budgets = Budgets::within(&timings);
        assert_eq!(budgets.drain, Duration::from_secs(3));
        assert_eq!(budgets.requests, Duration::from_secs(10));
        assert_eq!(budgets.callback, Duration::from_secs(2));
    }

    #[test]
    fn a_shorter_total_shortens_every_phase() {
        let timings = Timings { shutdown_total: Duration::from_secs(5), ..Timings::default() };
        let budgets = Budgets::within(&timings);
        assert!(budgets.drain + budgets.requests.max(budgets.background) <= Duration::from_secs(4));
        assert!(budgets.drain > Duration::from_millis(900) && budgets.callback > Duration::from_millis(600));
    }
}
