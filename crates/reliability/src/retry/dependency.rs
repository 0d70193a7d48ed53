//! A place outside that is called: its breaker and its budget, which all callers share.

use std::collections::HashMap;
use std::fmt;
use std::hash::Hash;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use super::breaker::{Breaker, Change, Outcome, Ticket};
use super::budget::RetryBudget;
use super::class::{Classify, ErrorClass};
use super::policy::Policy;
use super::time::Time;
use crate::jobs::JobFailure;

/// It was not tried: the place is given rest, or has been asked to repeat enough.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{name} is not called for another {after:?}: {why}")]
pub struct NotNow {
    /// Which place.
    pub name: Arc<str>,
    /// When it is worth trying.
    pub after: Duration,
    /// Why not now.
    pub why: Held,
}

/// Why a call is held back.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Held {
    /// Too many calls failed.
    Breaker,
    /// No repeat is left.
    Budget,
}

impl fmt::Display for Held {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Breaker => "too many calls failed",
            Self::Budget => "enough is being repeated already",
        })
    }
}

impl Classify for NotNow {
    fn class(&self) -> ErrorClass {
        ErrorClass::Snooze { after: self.after }
    }
}

impl From<NotNow> for JobFailure {
    /// The job is put off, and no attempt is used up.
    fn from(not_now: NotNow) -> Self {
        Self::Failed { class: not_now.class(), message: not_now.to_string() }
    }
}

/// A place outside, such as one broker or one mail server.
pub struct Dependency {
    name: Arc<str>,
    breaker: Option<Breaker>,
    budget: Option<RetryBudget>,
    time: Arc<dyn Time>,
    patience: Option<Duration>,
}

impl Dependency {
    /// The place called `name` in logs, with the breaker and the budget of `policy`. A call that is dropped after nearly
    /// the policy's time for an attempt, or after longer, counts as failed; one that is dropped sooner says nothing.
    #[must_use]
    pub fn new(name: impl Into<Arc<str>>, policy: &Policy, time: Arc<dyn Time>) -> Self {
        Self {
            name: name.into(),
            breaker: policy.breaker.map(Breaker::new),
            budget: policy.budget.map(RetryBudget::new),
            time,
            patience: policy.attempt_time.map(|time| time.mul_f64(0.9)),
        }
    }

    /// Its name.
    #[must_use]
    pub fn name(&self) -> &str {
        &self.name
    }

    /// The right to call it with something new.
    ///
    /// # Errors
    /// Its breaker is open.
    pub fn first(&self) -> Result<Pass<'_>, NotNow> {
        let pass = self.pass()?;
        if let Some(budget) = &self.budget {
            budget.first();
        }
        Ok(pass)
    }

    /// The right to call it with something that was tried before.
    ///
    /// # Errors
    /// Its breaker is open, or no repeat is left.
    pub fn again(&self) -> Result<Pass<'_>, NotNow> {
        self.check()?;
        self.repeat()?;
        self.pass()
    }

    /// The right to make attempt number `attempt`, counted from 1.
    ///
    /// # Errors
    /// As [`first`](Self::first) and [`again`](Self::again).
    pub fn attempt(&self, attempt: u32) -> Result<Pass<'_>, NotNow> {
        if attempt > 1 { self.again() } else { self.first() }
    }

    /// Whether its breaker would let a call through now.
    ///
    /// # Errors
    /// It is open.
    pub fn check(&self) -> Result<(), NotNow> {
        let Some(breaker) = &self.breaker else { return Ok(()) };
        breaker.check(self.time.now()).map_err(|after| self.not_now(after, Held::Breaker))
    }

    /// Takes one repeat from its budget, for a call whose pass is asked for by other code.
    ///
    /// # Errors
    /// None is left.
    pub fn repeat(&self) -> Result<(), NotNow> {
        let Some(budget) = &self.budget else { return Ok(()) };
        budget.repeat(self.time.now()).map_err(|after| self.not_now(after, Held::Budget))
    }

    fn pass(&self) -> Result<Pass<'_>, NotNow> {
        let now = self.time.now();
        let ticket = match &self.breaker {
            Some(breaker) => Some(breaker.admit(now).map_err(|after| self.not_now(after, Held::Breaker))?),
            None => None,
        };
        Ok(Pass { dependency: self, ticket, since: now })
    }

    fn not_now(&self, after: Duration, why: Held) -> NotNow {
        NotNow { name: Arc::clone(&self.name), after, why }
    }

    fn record(&self, ticket: Ticket, outcome: Outcome) {
        let Some(breaker) = &self.breaker else { return };
        match breaker.record(ticket, outcome, self.time.now()) {
            Change::None => {}
            Change::Opened { pause } => {
                let pause_ms = pause.as_millis();
                tracing::warn!(dependency = &*self.name, pause_ms, "too many calls failed; it is given rest");
            }
            Change::Closed => tracing::info!(dependency = &*self.name, "it answers again"),
        }
    }
}

impl fmt::Debug for Dependency {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Dependency")
            .field("name", &self.name)
            .field("breaker", &self.breaker)
            .field("budget", &self.budget)
            .finish_non_exhaustive()
    }
}

/// The right to make one call; say how it ended.
#[must_use = "the call is to be made now"]
#[derive(Debug)]
pub struct Pass<'d> {
    dependency: &'d Dependency,
    ticket: Option<Ticket>,
    since: Duration,
}

impl Pass<'_> {
    /// The place answered, be it with a refusal.
    pub fn answered(self) {
        self.end(Outcome::Answered);
    }

    /// It did not answer, or only that it cannot.
    pub fn failed(self) {
        self.end(Outcome::Failed);
    }

    /// The call failed in this way: transient and ambiguous failures are the place's, a permanent one is an answer, and a
    /// throttled one or one that was not tried says nothing of its health.
    pub fn failed_as(self, class: ErrorClass) {
        self.end(class.into());
    }

    /// It ended in this way.
    pub fn ended<T, E: Classify>(self, result: &Result<T, E>) {
        match result {
            Ok(_) => self.answered(),
            Err(error) => self.failed_as(error.class()),
        }
    }

    /// The call ended for a reason that has nothing to do with the place.
    pub fn unused(self) {
        self.end(Outcome::Nothing);
    }

    /// What it says when it is dropped now: a call that was cut after it took its time has failed.
    pub(super) fn dropped(&self) -> Outcome {
        let held = self.dependency.time.now().saturating_sub(self.since);
        let cut = self.dependency.patience.is_some_and(|patience| held >= patience);
        if cut { Outcome::Failed } else { Outcome::Nothing }
    }

    pub(super) fn end(mut self, outcome: Outcome) {
        if let Some(ticket) = self.ticket.take() {
            self.dependency.record(ticket, outcome);
        }
    }
}

impl Drop for Pass<'_> {
    fn drop(&mut self) {
        let Some(ticket) = self.ticket.take() else { return };
        self.dependency.record(ticket, self.dropped());
    }
}

/// Places that are told apart by a key, such as the receivers of hooks. At most so many are remembered: of more, those
/// that were not asked for lately are forgotten.
pub struct Dependencies<K> {
    policy: Policy,
    time: Arc<dyn Time>,
    most: usize,
    known: Mutex<HashMap<K, (Duration, Arc<Dependency>)>>,
}

impl<K: Eq + Hash + Clone + fmt::Display> Dependencies<K> {
    /// None yet; at most `most`, at least one.
    #[must_use]
    pub fn new(policy: Policy, time: Arc<dyn Time>, most: usize) -> Self {
        Self { policy, time, most: most.max(1), known: Mutex::default() }
    }

    /// The place of this key.
    pub fn of(&self, key: &K) -> Arc<Dependency> {
        let now = self.time.now();
        let mut known = self.lock();
        if let Some((asked, place)) = known.get_mut(key) {
            *asked = now;
            return Arc::clone(place);
        }
        if known.len() >= self.most {
            let mut times: Vec<Duration> = known.values().map(|(asked, _)| *asked).collect();
            times.sort_unstable();
            let middle = times.get(times.len() / 2).copied().unwrap_or(now);
            known.retain(|_, (asked, _)| *asked > middle);
        }
        let place = Arc::new(Dependency::new(key.to_string(), &self.policy, Arc::clone(&self.time)));
        known.insert(key.clone(), (now, Arc::clone(&place)));
        place
    }

    /// Forgets the place of this key.
    pub fn forget(&self, key: &K) {
        self.lock().remove(key);
    }

    fn lock(&self) -> MutexGuard<'_, HashMap<K, (Duration, Arc<Dependency>)>> {
        self.known.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl<K> fmt::Debug for Dependencies<K> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Dependencies").field("policy", &self.policy).finish_non_exhaustive()
    }
}

#[cfg(test)]
mod tests {
    use super::super::time::TestTime;
    use super::*;

    fn place(time: &TestTime) -> Dependency {
        Dependency::new("mail", &Policy::default(), Arc::new(time.clone()))
    }

    fn break_it(place: &Dependency) {
        for _ in 0..5 {
            place.first().unwrap().failed();
        }
    }

    #[test]
    fn an_open_breaker_puts_calls_and_jobs_off_without_an_attempt() {
        let time = TestTime::default();
        let place = place(&time);
        break_it(&place);
        let not_now = place.first().unwrap_err();
        assert_eq!((not_now.after, not_now.why), (Duration::from_secs(5), Held::Breaker));
        assert_eq!(place.check(), Err(not_now.clone()));
        let failure = JobFailure::from(not_now);
        let JobFailure::Failed { class: ErrorClass::Snooze { after }, message } = failure else { panic!() };
        assert_eq!(after, Duration::from_secs(5));
        assert_eq!(message, "mail is not called for another 5s: too many calls failed");
        time.pass(after);
        place.again().unwrap().answered();
        place.first().unwrap().answered();
    }

    #[test]
    fn repeats_end_with_the_budget_and_first_tries_do_not() {
        let time = TestTime::default();
        let place = place(&time);
        for _ in 0..30 {
            place.attempt(2).unwrap().answered();
        }
        let not_now = place.attempt(2).unwrap_err();
        assert_eq!((not_now.after, not_now.why), (Duration::from_millis(333), Held::Budget));
        place.attempt(1).unwrap().answered();
        time.pass(not_now.after);
        place.attempt(7).unwrap().answered();
    }

    #[test]
    fn classes_count_as_documented() {
        let time = TestTime::default();
        let place = place(&time);
        for _ in 0..50 {
            place.first().unwrap().failed_as(ErrorClass::Throttled { after: Duration::ZERO });
            place.first().unwrap().failed_as(ErrorClass::Permanent);
            place.first().unwrap().unused();
        }
        for class in
            [ErrorClass::Transient, ErrorClass::Ambiguous, ErrorClass::Transient, ErrorClass::Ambiguous]
        {
            place.first().unwrap().failed_as(class);
        }
        assert_eq!(place.check(), Ok(()));
        place.first().unwrap().ended(&Err::<(), _>(plimsoll_core_domain::StoreError::new(
            plimsoll_core_domain::StoreErrorKind::Contention,
            "x",
        )));
        assert!(place.check().is_err());
    }

    #[test]
    fn a_call_that_is_dropped_counts_only_when_it_took_its_time() {
        let time = TestTime::default();
        let place = place(&time);
        for _ in 0..20 {
            drop(place.first().unwrap());
        }
        assert_eq!(place.check(), Ok(()), "the caller went away");
        for _ in 0..5 {
            let pass = place.first().unwrap();
            time.pass(Duration::from_secs(5));
            drop(pass);
        }
        assert!(place.check().is_err(), "no answer in time");
        time.pass(Duration::from_secs(5));
        drop(place.first().unwrap());
        place.first().unwrap().answered();
        assert_eq!(place.check(), Ok(()), "a dropped probe leaves the place to the next");
    }

    #[test]
    fn without_breaker_and_budget_everything_passes() {
        let time = TestTime::default();
        let policy = Policy::new(Duration::ZERO, Duration::ZERO, 1);
        let place = Dependency::new("x", &policy, Arc::new(time));
        for _ in 0..100 {
            place.again().unwrap().failed();
        }
        assert_eq!(place.check(), Ok(()));
    }

    #[test]
    fn places_of_different_keys_do_not_share_and_old_ones_are_forgotten() {
        let time = TestTime::default();
        let places = Dependencies::new(Policy::default(), Arc::new(time.clone()), 3);
        break_it(&places.of(&"a"));
        assert!(places.of(&"a").check().is_err());
        assert_eq!(places.of(&"b").check(), Ok(()));
        places.forget(&"a");
        assert_eq!(places.of(&"a").check(), Ok(()));
        for (n, key) in ["c", "d", "e", "f", "g"].iter().enumerate() {
            time.pass(Duration::from_secs(n as u64));
            break_it(&places.of(key));
            assert!(places.lock().len() <= 3);
        }
        assert!(places.of(&"g").check().is_err(), "the last is remembered");
    }
}
