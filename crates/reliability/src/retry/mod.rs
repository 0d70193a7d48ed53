//! When to try again, and when not.

mod curve;
mod jitter;

use std::time::Duration;

pub use jitter::{Jitter, JitterSource, SeededJitter};

/// What kind of failure it was, which decides what may follow.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ErrorClass {
    /// Nothing was done, and another try may succeed.
    Transient,
    /// Nothing was done; not before this time.
    Throttled {
        /// The other side's word for when.
        after: Duration,
    },
    /// Another try ends the same way.
    Permanent,
    /// It may have been done: look before trying again.
    Ambiguous,
    /// It was not tried at all (a breaker is open, it is too early): no attempt is used up.
    Snooze {
        /// When to come back.
        after: Duration,
    },
}

/// What follows from a failure.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Verdict {
    /// Try again.
    Retry {
        /// After this pause.
        after: Duration,
    },
    /// Look whether it was done; only then may it be tried again.
    Probe {
        /// After this pause.
        after: Duration,
    },
    /// Come back; the attempt does not count.
    Snooze {
        /// After this pause.
        after: Duration,
    },
    /// No further try.
    GiveUp,
}

/// Pauses that double from `base` up to `cap`, each spread over its upper half, for at most `attempts` attempts.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Policy {
    /// Before the second attempt.
    pub base: Duration,
    /// No pause is longer, a longer `Retry-After` aside.
    pub cap: Duration,
    /// How often it is tried in all; at least 1.
    pub attempts: u32,
}

impl Policy {
    /// Questions to the broker, which may be repeated at will.
    pub const BROKER_QUERY: Self = Self::new(Duration::from_millis(250), Duration::from_secs(30), 8);
    /// Mail.
    pub const MAIL: Self = Self::new(Duration::from_secs(5), Duration::from_secs(60 * 60), 10);
    /// Outgoing hooks.
    pub const WEBHOOK: Self = Self::new(Duration::from_secs(5), Duration::from_secs(10 * 60 * 60), 8);
    /// Work that stays inside the platform.
    pub const INTERNAL: Self = Self::new(Duration::from_secs(1), Duration::from_secs(5 * 60), 15);

    /// A policy.
    #[must_use]
    pub const fn new(base: Duration, cap: Duration, attempts: u32) -> Self {
        Self { base, cap, attempts }
    }

    /// The same number of attempts at another pace: 0.1 is ten times as fast.
    ///
    /// # Panics
    /// When `factor` is negative or not finite.
    #[must_use]
    pub fn scaled(self, factor: f64) -> Self {
        Self { base: self.base.mul_f64(factor), cap: self.cap.mul_f64(factor), ..self }
    }

    /// The longest pause after failed attempt number `attempt`, counted from 1: `min(cap, base · 2^(attempt − 1))`.
    #[must_use]
    pub fn ceiling(&self, attempt: u32) -> Duration {
        curve::ceiling(self.base, self.cap, attempt)
    }

    /// The pause after failed attempt number `attempt`: between half the ceiling and the ceiling, and never below
    /// `floor` (the other side's `Retry-After`).
    #[must_use]
    pub fn delay(&self, attempt: u32, jitter: Jitter, floor: Option<Duration>) -> Duration {
        jitter.halve(self.ceiling(attempt)).max(floor.unwrap_or_default())
    }

    /// What follows when attempt number `attempt`, counted from 1, failed with `class`.
    #[must_use]
    pub fn verdict(&self, attempt: u32, class: ErrorClass, jitter: Jitter) -> Verdict {
        let floor = match class {
            ErrorClass::Permanent => return Verdict::GiveUp,
            ErrorClass::Snooze { after } => return Verdict::Snooze { after },
            ErrorClass::Ambiguous => return Verdict::Probe { after: self.delay(attempt, jitter, None) },
            ErrorClass::Transient => None,
            ErrorClass::Throttled { after } => Some(after),
        };
        if attempt >= self.attempts {
            return Verdict::GiveUp;
        }
        Verdict::Retry { after: self.delay(attempt, jitter, floor) }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    const fn secs(n: u64) -> Duration {
        Duration::from_secs(n)
    }

    #[test]
    fn pauses_double_up_to_the_cap() {
        let policy = Policy::new(secs(1), secs(5), 15);
        let ceilings: Vec<_> = (0..6).map(|n| policy.ceiling(n).as_secs()).collect();
        assert_eq!(ceilings, [1, 1, 2, 4, 5, 5]);
        assert_eq!(policy.ceiling(u32::MAX), secs(5));
        assert_eq!(Policy::new(secs(9), secs(5), 1).ceiling(1), secs(5));
        assert_eq!(Policy::BROKER_QUERY.ceiling(3), secs(1));
        assert_eq!(Policy::WEBHOOK.ceiling(8), secs(640));
        assert_eq!(Policy::MAIL.ceiling(10), secs(2560));
    }

    #[test]
    fn half_of_each_pause_is_fixed_and_half_is_spread() {
        let policy = Policy::INTERNAL;
        assert_eq!(policy.delay(3, Jitter::MIN, None), secs(2));
        assert_eq!(policy.delay(3, Jitter::from_ratio(1 << 31), None), secs(3));
        assert!(policy.delay(3, Jitter::MAX, None) < secs(4));
        assert_eq!(policy.delay(3, Jitter::MIN, Some(secs(30))), secs(30), "Retry-After is a floor");
        assert_eq!(policy.delay(3, Jitter::MIN, Some(secs(1))), secs(2), "and only a floor");
    }

    #[test]
    fn each_class_has_its_verdict() {
        let policy = Policy::new(secs(2), secs(60), 3);
        let verdict = |attempt, class| policy.verdict(attempt, class, Jitter::MIN);
        for (attempt, class, expected) in [
            (1, ErrorClass::Transient, Verdict::Retry { after: secs(1) }),
            (2, ErrorClass::Transient, Verdict::Retry { after: secs(2) }),
            (3, ErrorClass::Transient, Verdict::GiveUp),
            (4, ErrorClass::Transient, Verdict::GiveUp),
            (1, ErrorClass::Permanent, Verdict::GiveUp),
            (1, ErrorClass::Throttled { after: secs(30) }, Verdict::Retry { after: secs(30) }),
            (3, ErrorClass::Throttled { after: secs(30) }, Verdict::GiveUp),
            (9, ErrorClass::Snooze { after: secs(7) }, Verdict::Snooze { after: secs(7) }),
            (9, ErrorClass::Ambiguous, Verdict::Probe { after: secs(30) }),
        ] {
            assert_eq!(verdict(attempt, class), expected, "{attempt} {class:?}");
        }
    }

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

    proptest! {
        #[test]
        fn a_delay_stays_between_half_the_ceiling_and_the_ceiling(
            base_ms in 1..10_000u64, cap_ms in 1..100_000_000u64, attempt in 0..200u32, ratio: u32,
        ) {
            let policy = Policy::new(Duration::from_millis(base_ms), Duration::from_millis(cap_ms), 5);
            let (ceiling, delay) = (policy.ceiling(attempt), policy.delay(attempt, Jitter::from_ratio(ratio), None));
            prop_assert!(ceiling <= policy.cap);
            prop_assert!(ceiling / 2 <= delay && delay <= ceiling);
            prop_assert!(policy.ceiling(attempt + 1) >= ceiling);
        }
    }
}
