//! Where the spread of pauses comes from: an argument, so that a test decides it.

use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

/// A fraction of at least 0 and below 1.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Jitter(u32);

impl Jitter {
    /// Zero: the shortest pause.
    pub const MIN: Self = Self(0);
    /// The largest fraction: the longest pause.
    pub const MAX: Self = Self(u32::MAX);

    /// `numerator` / 2³².
    #[must_use]
    pub const fn from_ratio(numerator: u32) -> Self {
        Self(numerator)
    }

    /// The numerator over 2³².
    #[must_use]
    pub const fn numerator(self) -> u32 {
        self.0
    }

    /// This fraction of `span`.
    #[must_use]
    pub fn of(self, span: Duration) -> Duration {
        let nanos = (span.as_nanos() * u128::from(self.0)) >> 32;
        Duration::from_nanos(u64::try_from(nanos).unwrap_or(u64::MAX))
    }

    /// Between half of `pause` and `pause`.
    #[must_use]
    pub fn halve(self, pause: Duration) -> Duration {
        let half = pause / 2;
        half + self.of(pause - half)
    }
}

/// Gives one fraction after another.
pub trait JitterSource: Send + Sync {
    /// The next one.
    fn jitter(&self) -> Jitter;
}

/// Fractions that follow from a seed (splitmix64). Good for spreading load; no source of secrets.
#[derive(Debug)]
pub struct SeededJitter(AtomicU64);

impl SeededJitter {
    /// The sequence of this seed.
    #[must_use]
    pub const fn new(seed: u64) -> Self {
        Self(AtomicU64::new(seed))
    }
}

impl JitterSource for SeededJitter {
    fn jitter(&self) -> Jitter {
        const STEP: u64 = 0x9E37_79B9_7F4A_7C15;
        let mut z = self.0.fetch_add(STEP, Ordering::Relaxed).wrapping_add(STEP);
        z = (z ^ (z >> 30)).wrapping_mul(0xBF58_476D_1CE4_E5B9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94D0_49BB_1331_11EB);
        Jitter(((z ^ (z >> 31)) >> 32) as u32)
    }
}

/// Always the same fraction: for tests.
impl JitterSource for Jitter {
    fn jitter(&self) -> Jitter {
        *self
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_seed_gives_one_sequence_and_covers_the_range() {
        let take = |seed| {
            let source = SeededJitter::new(seed);
            (0..200).map(|_| source.jitter()).collect::<Vec<_>>()
        };
        assert_eq!(take(1), take(1));
        assert_ne!(take(1), take(2));
        assert!(take(1).iter().any(|j| j.numerator() < u32::MAX / 10));
        assert!(take(1).iter().any(|j| j.numerator() > u32::MAX / 10 * 9));
    }
}
