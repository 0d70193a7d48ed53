//! What the tries of one run settled so far.

use std::collections::{HashMap, HashSet};

use chrono::{DateTime, Utc};
use plimsoll_core_domain::broker::{BrokerError, FillActivity};
use plimsoll_core_domain::{BrokerOrderId, OrderId};

use super::report::Finding;
use super::run::ReconcileError;

/// Tries after which something whose answers cannot be used no longer keeps the account waiting. The broker told its
/// account in each of them.
pub(super) const GIVE_UP_AFTER: u32 = 5;

/// What was asked about.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub(super) enum About {
    /// The account's fills in the window.
    Fills,
    /// An open order of ours.
    Order(OrderId),
    /// An order of the broker that has fills.
    AtBroker(BrokerOrderId),
    /// The account's positions or cash.
    Money,
}

/// What the tries of one run settled so far: a try goes on where the one before it ended, so that a rate limit smaller
/// than the number of open orders only makes it longer.
#[derive(Debug, Default)]
pub struct Progress {
    /// Orders that were compared.
    pub(super) compared: HashSet<OrderId>,
    /// Legs that came, and were compared, with their entries.
    pub(super) legs: HashSet<BrokerOrderId>,
    /// From when on fills are read, in the broker's time.
    pub(super) from: Option<DateTime<Utc>>,
    /// The fills that were read.
    pub(super) fills: Vec<FillActivity>,
    /// What was found.
    pub(super) findings: Vec<Finding>,
    /// Positions and balances that were compared.
    pub(super) balances: u32,
    /// Calls to the broker.
    pub(super) calls: u32,
    /// How often no usable answer came.
    failures: HashMap<About, u32>,
}

impl Progress {
    /// Calls to the broker so far.
    #[must_use]
    pub const fn calls(&self) -> u32 {
        self.calls
    }

    pub(super) fn given_up(&self, about: &About) -> bool {
        self.failures.get(about).is_some_and(|failures| *failures >= GIVE_UP_AFTER)
    }

    /// Whether something was given up: then the run is not complete.
    pub(super) fn gave_up(&self) -> bool {
        self.failures.values().any(|failures| *failures >= GIVE_UP_AFTER)
    }

    pub(super) fn scanned(&self) -> u32 {
        u32::try_from(self.compared.len() + self.legs.len()).unwrap_or(u32::MAX).saturating_add(self.balances)
    }

    /// Counts an unusable answer: whether `about` is given up by it. `None` when the error is not about it.
    pub(super) fn count(&mut self, about: &About, error: &ReconcileError) -> Option<bool> {
        let step = match error {
            ReconcileError::Store(_)
            | ReconcileError::OtherAccount
            | ReconcileError::Lost
            | ReconcileError::Budget(_)
            | ReconcileError::Broker(BrokerError::Throttled { .. } | BrokerError::Unauthorized(_)) => {
                return None;
            }
            ReconcileError::Broker(
                BrokerError::Unreachable(_) | BrokerError::Unreadable(_) | BrokerError::Ambiguous(_),
            ) => 1,
            // A clear answer, which the next try would get as well.
            ReconcileError::Broker(_) | ReconcileError::TooMany => GIVE_UP_AFTER,
        };
        *self.failures.entry(about.clone()).or_default() += step;
        Some(self.given_up(about))
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;

    fn about(id: &str) -> About {
        About::AtBroker(id.parse().unwrap())
    }

    #[test]
    fn what_stays_unreadable_is_given_up_and_nothing_else_is() {
        let mut progress = Progress::default();
        let unreadable = ReconcileError::from(BrokerError::Unreadable("id".into()));
        for _ in 1..GIVE_UP_AFTER {
            assert_eq!(progress.count(&about("a"), &unreadable), Some(false));
        }
        assert_eq!(progress.count(&about("b"), &unreadable), Some(false));
        assert!(!progress.gave_up());
        assert_eq!(progress.count(&about("a"), &unreadable), Some(true));
        assert!(progress.given_up(&about("a")) && !progress.given_up(&about("b")) && progress.gave_up());
    }

    #[test]
    fn a_clear_refusal_is_given_up_at_once() {
        let mut progress = Progress::default();
        assert_eq!(progress.count(&about("a"), &BrokerError::NotFound.into()), Some(true));
    }

    #[test]
    fn a_rate_limit_counts_against_no_order() {
        let mut progress = Progress::default();
        let throttled = ReconcileError::from(BrokerError::Throttled { retry_after: Duration::from_secs(1) });
        let refused = ReconcileError::from(BrokerError::Unauthorized("key".into()));
        for _ in 0..=GIVE_UP_AFTER {
            assert_eq!(progress.count(&about("a"), &throttled), None);
            assert_eq!(progress.count(&about("a"), &refused), None);
        }
        assert!(!progress.given_up(&about("a")));
    }
}
