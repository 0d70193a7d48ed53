//! The brokers as places that are called: all accounts of an environment share a breaker and a budget of repeats, so that
//! a broker that is down is asked by one call at a time whether it is back. Each account has a breaker of its own beside
//! it: what only one account meets stops that account.

use std::sync::Arc;

use plimsoll_core_domain::AccountId;
use plimsoll_core_domain::order::Environment;
use plimsoll_reliability::Timings;
use plimsoll_reliability::retry::{Monotonic, Policy, Shared};

/// One for each environment.
#[derive(Clone, Debug)]
pub(super) struct Places {
    paper: Arc<Shared<AccountId>>,
    live: Arc<Shared<AccountId>>,
}

impl Places {
    pub(super) fn new(timings: &Timings) -> Self {
        let policy = Policy { attempt_time: Some(timings.broker_call), ..timings.broker_query() };
        let place = |name: &str| Arc::new(Shared::new(name, &policy, Arc::new(Monotonic::new())));
        Self { paper: place("the paper broker"), live: place("the live broker") }
    }

    pub(super) const fn of(&self, environment: Environment) -> &Arc<Shared<AccountId>> {
        match environment {
            Environment::Paper => &self.paper,
            Environment::Live => &self.live,
        }
    }
}
