//! A place that several parties call, such as a broker with its accounts: the trouble of one is not the place's.

use std::collections::HashMap;
use std::fmt;
use std::hash::Hash;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use super::breaker::Outcome;
use super::class::Classify;
use super::dependency::{Dependency, NotNow, Pass};
use super::policy::Policy;
use super::time::Time;

/// A place with a breaker for each party beside that for all, whose budget of repeats the parties share.
///
/// A party's failures open its own breaker. That for all counts them only while another party's last call failed as well,
/// within the breaker's window, or while there is no other party.
pub struct Shared<K> {
    whole: Dependency,
    policy: Policy,
    time: Arc<dyn Time>,
    parties: Mutex<HashMap<K, Known>>,
}

struct Known {
    /// How many speak for it.
    callers: usize,
    own: Arc<Dependency>,
    /// When its last call failed; `None` when that was answered.
    failed: Option<Duration>,
}

impl<K: Eq + Hash + Clone + fmt::Display> Shared<K> {
    /// The place called `name` in logs, without parties yet. See [`Dependency::new`].
    #[must_use]
    pub fn new(name: impl Into<Arc<str>>, policy: &Policy, time: Arc<dyn Time>) -> Self {
        Self {
            whole: Dependency::new(name, policy, Arc::clone(&time)),
            policy: Policy { budget: None, ..*policy },
            time,
            parties: Mutex::default(),
        }
    }

    /// One that calls it for `key`. As long as there is any for that key, it counts as a party.
    #[must_use]
    pub fn party(self: &Arc<Self>, key: K) -> Party<K> {
        let mut parties = self.lock();
        let known = parties.entry(key.clone()).or_insert_with(|| Known {
            callers: 0,
            own: Arc::new(Dependency::new(
                format!("{} for {key}", self.whole.name()),
                &self.policy,
                Arc::clone(&self.time),
            )),
            failed: None,
        });
        known.callers += 1;
        let own = Arc::clone(&known.own);
        drop(parties);
        Party { place: Arc::clone(self), key, own }
    }

    /// Whether a call for `key` would be let through now.
    ///
    /// # Errors
    /// Its breaker, or that for all, is open.
    pub fn check(&self, key: &K) -> Result<(), NotNow> {
        let own = self.lock().get(key).map(|known| Arc::clone(&known.own));
        own.map_or(Ok(()), |own| own.check())?;
        self.whole.check()
    }

    /// Takes one repeat from the budget of all. See [`Dependency::repeat`].
    ///
    /// # Errors
    /// None is left.
    pub fn repeat(&self) -> Result<(), NotNow> {
        self.whole.repeat()
    }

    /// What a call's outcome says about the whole place.
    fn of_whole(&self, key: &K, outcome: Outcome) -> Outcome {
        let now = self.time.now();
        let window = self.policy.breaker.map_or(Duration::ZERO, |breaker| breaker.window);
        let mut parties = self.lock();
        match outcome {
            Outcome::Nothing => return Outcome::Nothing,
            Outcome::Answered => {
                if let Some(known) = parties.get_mut(key) {
                    known.failed = None;
                }
                return Outcome::Answered;
            }
            Outcome::Failed => {}
        }
        if let Some(known) = parties.get_mut(key) {
            known.failed = Some(now);
        }
        let mut others = parties.iter().filter(|(other, _)| *other != key).peekable();
        let fails = |known: &Known| known.failed.is_some_and(|at| now.saturating_sub(at) <= window);
        if others.peek().is_none() || others.any(|(_, known)| fails(known)) {
            Outcome::Failed
        } else {
            Outcome::Nothing
        }
    }
}

impl<K> Shared<K> {
    fn lock(&self) -> MutexGuard<'_, HashMap<K, Known>> {
        self.parties.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl<K> fmt::Debug for Shared<K> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Shared").field("whole", &self.whole).finish_non_exhaustive()
    }
}

/// One that calls a place for a party.
pub struct Party<K: Eq + Hash> {
    place: Arc<Shared<K>>,
    key: K,
    own: Arc<Dependency>,
}

impl<K: Eq + Hash + Clone + fmt::Display> Party<K> {
    /// The right to call the place with something new.
    ///
    /// # Errors
    /// The party's breaker, or that for all, is open.
    pub fn first(&self) -> Result<PartyPass<'_, K>, NotNow> {
        let own = self.own.first()?;
        match self.place.whole.first() {
            Ok(whole) => Ok(PartyPass { party: self, passes: Some((own, whole)) }),
            Err(not_now) => {
                own.unused();
                Err(not_now)
            }
        }
    }
}

impl<K: Eq + Hash> Drop for Party<K> {
    fn drop(&mut self) {
        let mut parties = self.place.lock();
        let last = parties.get_mut(&self.key).is_some_and(|known| {
            known.callers = known.callers.saturating_sub(1);
            known.callers == 0
        });
        if last {
            parties.remove(&self.key);
        }
    }
}

impl<K: Eq + Hash> fmt::Debug for Party<K> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Party").field("own", &self.own).finish_non_exhaustive()
    }
}

/// The right to make one call for a party; say how it ended.
#[must_use = "the call is to be made now"]
pub struct PartyPass<'p, K: Eq + Hash + Clone + fmt::Display> {
    party: &'p Party<K>,
    /// Its own, and that for all.
    passes: Option<(Pass<'p>, Pass<'p>)>,
}

impl<K: Eq + Hash + Clone + fmt::Display> PartyPass<'_, K> {
    /// The place answered, be it with a refusal or in a way that cannot be read.
    pub fn answered(mut self) {
        self.end(Outcome::Answered);
    }

    /// It ended in this way. See [`Pass::ended`].
    pub fn ended<T, E: Classify>(mut self, result: &Result<T, E>) {
        let outcome = result.as_ref().map_or_else(|error| error.class().into(), |_| Outcome::Answered);
        self.end(outcome);
    }

    /// The call ended for a reason that has nothing to do with the place.
    pub fn unused(mut self) {
        self.end(Outcome::Nothing);
    }

    fn end(&mut self, outcome: Outcome) {
        if let Some((own, whole)) = self.passes.take() {
            own.end(outcome);
            whole.end(self.party.place.of_whole(&self.party.key, outcome));
        }
    }
}

impl<K: Eq + Hash + Clone + fmt::Display> Drop for PartyPass<'_, K> {
    fn drop(&mut self) {
        if let Some(outcome) = self.passes.as_ref().map(|(own, _)| own.dropped()) {
            self.end(outcome);
        }
    }
}

impl<K: Eq + Hash + Clone + fmt::Display> fmt::Debug for PartyPass<'_, K> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("PartyPass").field("party", &self.party).finish_non_exhaustive()
    }
}

#[cfg(test)]
#[path = "shared_tests.rs"]
mod tests;
