//! How long to wait before the next connection: doubling, capped, with half jitter.

use std::time::Duration;

use rand::{Rng, RngExt};

/// Counts failed connections in a row and tells the delay before the next.
#[derive(Clone, Debug)]
pub(crate) struct Reconnect {
    base: Duration,
    cap: Duration,
    failures: u32,
}

impl Reconnect {
    pub(crate) fn new(base: Duration, cap: Duration) -> Self {
        Self { base, cap, failures: 0 }
    }

    /// A connection lived long enough to count as good: the next delay is the shortest again.
    pub(crate) fn reset(&mut self) {
        self.failures = 0;
    }

    /// Of `d = min(cap, base · 2ⁿ)` one half for certain, and up to the other half by chance.
    pub(crate) fn next_delay(&mut self, rng: &mut impl Rng) -> Duration {
        let doubled = self.base.saturating_mul(2u32.saturating_pow(self.failures));
        self.failures = self.failures.saturating_add(1);
        let half = doubled.min(self.cap) / 2;
        half + half.mul_f64(rng.random_range(0.0..=1.0))
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;
    use rand::SeedableRng;
    use rand::rngs::SmallRng;

    use super::*;

    proptest! {
        #[test]
        fn delays_double_to_the_cap_and_keep_half(seed: u64, failures in 0u32..80) {
            let (base, cap) = (Duration::from_secs(1), Duration::from_secs(30));
            let mut rng = SmallRng::seed_from_u64(seed);
            let mut reconnect = Reconnect::new(base, cap);
            for n in 0..failures {
                let full = base.saturating_mul(2u32.saturating_pow(n)).min(cap);
                let delay = reconnect.next_delay(&mut rng);
                prop_assert!(delay >= full / 2 && delay <= full, "{n}: {delay:?} of {full:?}");
            }
            reconnect.reset();
            prop_assert!(reconnect.next_delay(&mut rng) <= base);
        }
    }
}
