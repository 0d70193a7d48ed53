//! How often, how fast and how long something is tried.

use std::time::Duration;

use super::breaker::BreakerSettings;
use super::budget::BudgetSettings;
use super::class::{ErrorClass, Verdict};
use super::curve;
use super::jitter::Jitter;

/// Pauses that double from `base` up to `cap`, each spread over its upper half, for at most `attempts` attempts; and
/// what limits all calls to the same place together.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Policy {
    /// Before the second attempt.
    pub base: Duration,
    /// No pause is longer, a longer `Retry-After` aside.
    pub cap: Duration,
    /// How often it is tried in all; at least 1.
    pub attempts: u32,
    /// How long one attempt may take; `None`: as long as it likes. A call that blocks its thread cannot be cut: it is
    /// told its limit instead ([`Attempt`](super::Attempt)).
    pub attempt_time: Option<Duration>,
    /// No pause begins that would end later than this after the first attempt began; `None`: no limit.
    pub total_time: Option<Duration>,
    /// Stops calls for a while after too many failures; `None`: never.
    pub breaker: Option<BreakerSettings>,
    /// How many repeats are allowed beside first tries; `None`: any number.
    pub budget: Option<BudgetSettings>,
}

impl Default for Policy {
    /// Five attempts of at most 5 s over at most a minute, pauses from a quarter of a second to 30 s, with breaker and
    /// budget.
    fn default() -> Self {
        Self {
            attempt_time: Some(Duration::from_secs(5)),
            total_time: Some(Duration::from_secs(60)),
            ..Self::new(Duration::from_millis(250), Duration::from_secs(30), 5).guarded()
        }
    }
}

impl Policy {
    /// Questions to the broker, which may be repeated at will.
    pub const BROKER_QUERY: Self =
        Self::new(Duration::from_millis(250), Duration::from_secs(30), 8).guarded();
    /// Mail.
    pub const MAIL: Self = Self::new(Duration::from_secs(5), Duration::from_secs(60 * 60), 10).guarded();
    /// Outgoing hooks.
    pub const WEBHOOK: Self =
        Self::new(Duration::from_secs(5), Duration::from_secs(10 * 60 * 60), 8).guarded();
    /// Work that stays inside the platform.
    pub const INTERNAL: Self = Self::new(Duration::from_secs(1), Duration::from_secs(5 * 60), 15);

    /// A policy without limits of time, breaker and budget.
    #[must_use]
    pub const fn new(base: Duration, cap: Duration, attempts: u32) -> Self {
        Self { base, cap, attempts, attempt_time: None, total_time: None, breaker: None, budget: None }
    }

    /// The same with the usual breaker and budget.
    #[must_use]
    pub const fn guarded(self) -> Self {
        Self { breaker: Some(BreakerSettings::USUAL), budget: Some(BudgetSettings::USUAL), ..self }
    }

    /// The same number of attempts at another pace: 0.1 is ten times as fast.
    ///
    /// # Panics
    /// When `factor` is negative or not finite.
    #[must_use]
    pub fn scaled(self, factor: f64) -> Self {
        Self {
            base: self.base.mul_f64(factor),
            cap: self.cap.mul_f64(factor),
            attempts: self.attempts,
            attempt_time: self.attempt_time.map(|time| time.mul_f64(factor)),
            total_time: self.total_time.map(|time| time.mul_f64(factor)),
            breaker: self.breaker.map(|breaker| breaker.scaled(factor)),
            budget: self.budget.map(|budget| budget.scaled(factor)),
        }
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
    fn the_default_makes_five_attempts_with_every_limit() {
        let policy = Policy::default();
        assert_eq!(policy.attempts, 5);
        assert!(policy.attempt_time < policy.total_time);
        assert_eq!(
            (policy.breaker, policy.budget),
            (Some(BreakerSettings::USUAL), Some(BudgetSettings::USUAL))
        );
        let tenth = policy.scaled(0.1);
        assert_eq!(
            (tenth.attempts, tenth.cap, tenth.attempt_time),
            (5, secs(3), Some(Duration::from_millis(500)))
        );
        assert_eq!(tenth.breaker.unwrap().open, Duration::from_millis(500));
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
