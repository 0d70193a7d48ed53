//! The growth of pauses. The one file that names the `backoff` crate, which is unmaintained: only its arithmetic is used,
//! with its own randomness switched off.

use std::time::Duration;

use backoff::ExponentialBackoffBuilder;
use backoff::backoff::Backoff;

/// After so many doublings every cap is reached.
const DOUBLINGS: u32 = 64;

/// `min(cap, base · 2^(attempt − 1))`, to the microsecond; an attempt of 0 counts as 1.
pub(super) fn ceiling(base: Duration, cap: Duration, attempt: u32) -> Duration {
    let first = base.min(cap);
    let mut curve = ExponentialBackoffBuilder::new()
        .with_initial_interval(first)
        .with_max_interval(cap)
        .with_multiplier(2.0)
        .with_randomization_factor(0.0)
        .with_max_elapsed_time(None)
        .build();
    let mut pause = first;
    for _ in 0..attempt.clamp(1, DOUBLINGS) {
        pause = curve.next_backoff().unwrap_or(cap).min(cap);
    }
    Duration::from_micros(u64::try_from(pause.as_micros()).unwrap_or(u64::MAX))
}
