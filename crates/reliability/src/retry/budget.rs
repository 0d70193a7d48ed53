//! How many repeats a place is asked to bear: a share of the first tries and a few more, so that an outage is not answered
//! by a multiple of the usual load.

use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::Duration;

/// The size of a budget.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct BudgetSettings {
    /// Per cent of first tries that may be repeated.
    pub percent: u32,
    /// One more repeat is allowed each such time; zero: none.
    pub every: Duration,
    /// So many unused repeats are kept; the budget starts with them.
    pub most: u32,
}

impl BudgetSettings {
    /// A tenth of the first tries, and three a second, of which ten seconds' worth are kept.
    pub const USUAL: Self = Self { percent: 10, every: Duration::from_millis(333), most: 30 };

    pub(super) fn scaled(self, factor: f64) -> Self {
        Self { every: self.every.mul_f64(factor), ..self }
    }
}

impl Default for BudgetSettings {
    fn default() -> Self {
        Self::USUAL
    }
}

/// One repeat, in the unit that shares of it are counted in.
const ONE: u64 = 100;

#[derive(Debug)]
struct Balance {
    /// In hundredths of a repeat.
    hundredths: u64,
    /// Up to when repeats were added for time passed.
    credited: Duration,
}

/// What is left of a budget.
#[derive(Debug)]
pub struct RetryBudget {
    settings: BudgetSettings,
    balance: Mutex<Balance>,
}

impl RetryBudget {
    /// A full budget at time zero.
    #[must_use]
    pub fn new(settings: BudgetSettings) -> Self {
        let balance = Balance { hundredths: u64::from(settings.most) * ONE, credited: Duration::ZERO };
        Self { settings, balance: Mutex::new(balance) }
    }

    /// Something is tried for the first time, and adds its share.
    pub fn first(&self) {
        let mut balance = self.lock();
        balance.hundredths = (balance.hundredths + u64::from(self.settings.percent)).min(self.most());
    }

    /// Something is to be tried again: takes one repeat.
    ///
    /// # Errors
    /// None is left; after this time there will be one.
    pub fn repeat(&self, now: Duration) -> Result<(), Duration> {
        let mut balance = self.lock();
        self.credit(&mut balance, now);
        if balance.hundredths >= ONE {
            balance.hundredths -= ONE;
            return Ok(());
        }
        let every = self.settings.every;
        // without an income of time there is nothing better to say than "later"
        Err(if every.is_zero() { Duration::from_secs(1) } else { (balance.credited + every) - now })
    }

    /// Whole repeats that are left at `now`.
    #[must_use]
    pub fn left(&self, now: Duration) -> u64 {
        let mut balance = self.lock();
        self.credit(&mut balance, now);
        balance.hundredths / ONE
    }

    fn credit(&self, balance: &mut Balance, now: Duration) {
        let (every, passed) =
            (self.settings.every.as_nanos(), now.saturating_sub(balance.credited).as_nanos());
        let Some(repeats) = passed.checked_div(every) else { return };
        let added = u64::try_from(repeats).unwrap_or(u64::MAX).saturating_mul(ONE);
        balance.hundredths = balance.hundredths.saturating_add(added).min(self.most());
        let rest = Duration::from_nanos(u64::try_from(passed % every).unwrap_or_default());
        balance.credited = now.max(balance.credited).saturating_sub(rest);
    }

    fn most(&self) -> u64 {
        u64::from(self.settings.most) * ONE
    }

    fn lock(&self) -> MutexGuard<'_, Balance> {
        self.balance.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    const SECOND: Duration = Duration::from_secs(1);

    fn budget(percent: u32, every: Duration, most: u32) -> RetryBudget {
        RetryBudget::new(BudgetSettings { percent, every, most })
    }

    #[test]
    fn first_tries_and_time_pay_for_repeats() {
        let budget = budget(10, SECOND, 2);
        assert_eq!((budget.repeat(Duration::ZERO), budget.repeat(Duration::ZERO)), (Ok(()), Ok(())));
        assert_eq!(budget.repeat(SECOND / 4), Err(SECOND * 3 / 4), "tells when there will be one");
        for _ in 0..10 {
            budget.first();
        }
        assert_eq!(budget.repeat(SECOND / 2), Ok(()), "ten first tries pay for one repeat");
        assert_eq!(budget.repeat(SECOND), Ok(()), "and so does a second");
        assert!(budget.repeat(SECOND).is_err());
        assert_eq!(budget.left(SECOND * 100), 2, "no more is kept than the most");
    }

    #[test]
    fn without_income_nothing_comes_back() {
        let budget = budget(0, Duration::ZERO, 1);
        assert_eq!(budget.repeat(SECOND), Ok(()));
        budget.first();
        assert_eq!(budget.repeat(SECOND * 1_000), Err(SECOND));
    }

    proptest! {
        #[test]
        fn repeats_never_exceed_the_share_the_income_and_the_start(
            steps in proptest::collection::vec((any::<bool>(), 0..2_000u64), 1..400),
        ) {
            let budget = RetryBudget::new(BudgetSettings::USUAL);
            let (mut now, mut firsts, mut repeats) = (Duration::ZERO, 0u64, 0u64);
            for (first, ms) in steps {
                now += Duration::from_millis(ms);
                if first {
                    budget.first();
                    firsts += 1;
                } else {
                    match budget.repeat(now) {
                        Ok(()) => repeats += 1,
                        Err(after) => prop_assert!(after > Duration::ZERO && after <= BudgetSettings::USUAL.every),
                    }
                }
            }
            let income = u64::try_from(now.as_millis() / 333).unwrap();
            prop_assert!(repeats * 100 <= firsts * 10 + (income + 30) * 100);
        }
    }
}
