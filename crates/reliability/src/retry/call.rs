//! A call with its repeats, on a thread or in a task.

use std::fmt;
use std::future::{Future, Ready, poll_fn, ready};
use std::pin::pin;
use std::sync::Arc;
use std::task::{Context, Poll, Waker};
use std::time::Duration;

use super::class::{Classify, ErrorClass, Verdict};
use super::dependency::Dependency;
use super::gave_up::{GaveUp, Why};
use super::jitter::{JitterSource, SeededJitter};
use super::policy::Policy;
use super::time::{Monotonic, Time};

/// Time and spread of repeats.
#[derive(Clone)]
pub struct Pace {
    /// The clock that is waited by.
    pub time: Arc<dyn Time>,
    /// Spreads pauses.
    pub jitter: Arc<dyn JitterSource>,
}

impl Pace {
    /// The computer's clock, and pauses that follow from a seed: take one that differs from process to process.
    #[must_use]
    pub fn real(seed: u64) -> Self {
        Self { time: Arc::new(Monotonic::new()), jitter: Arc::new(SeededJitter::new(seed)) }
    }

    /// Any clock and any spread.
    #[must_use]
    pub fn new(time: impl Time + 'static, jitter: impl JitterSource + 'static) -> Self {
        Self { time: Arc::new(time), jitter: Arc::new(jitter) }
    }
}

/// Makes calls by `policy`. Keep the answer and clone it: its breaker and its budget are those of one place that is
/// called, and only together do its calls show how that place is.
#[must_use]
pub fn retry(policy: Policy, pace: &Pace) -> Retry {
    let place = Arc::new(Dependency::new("the call", &policy, Arc::clone(&pace.time)));
    Retry { policy, pace: pace.clone(), place, harmless: false }
}

/// One attempt, for calls that want to know.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Attempt {
    /// Which one, from 1.
    pub number: u32,
    /// How long it may take. A task is cut then; a thread keeps to it by itself.
    pub time: Option<Duration>,
}

/// Makes calls and repeats them. Clones share breaker and budget.
#[derive(Clone)]
pub struct Retry {
    policy: Policy,
    pace: Pace,
    place: Arc<Dependency>,
    harmless: bool,
}

/// How waiting is done.
#[derive(Clone, Copy, PartialEq, Eq)]
enum By {
    Thread,
    Task,
}

/// Nobody looks.
type NoLook<T, E> = Option<fn() -> Ready<Result<Option<T>, E>>>;

impl Retry {
    /// The same calls to a place that others call too.
    #[must_use]
    pub fn through(self, place: Arc<Dependency>) -> Self {
        Self { place, ..self }
    }

    /// The same for calls that do no harm when they are repeated, such as questions: an attempt that was cut, or that may
    /// have been done, is tried again.
    #[must_use]
    pub fn harmless(self) -> Self {
        Self { harmless: true, ..self }
    }

    /// The place that is called.
    #[must_use]
    pub fn place(&self) -> &Arc<Dependency> {
        &self.place
    }

    /// Makes a call on this thread, with its repeats.
    ///
    /// # Errors
    /// Why there is no success.
    pub fn call<T, E, F>(&self, mut work: F) -> Result<T, GaveUp<E>>
    where
        F: FnMut() -> Result<T, E>,
        E: Classify,
    {
        self.call_by(E::class, |_| work())
    }

    /// The same, with a closure that tells classes, for a call that is told which attempt it is.
    ///
    /// # Errors
    /// Why there is no success.
    pub fn call_by<T, E, F>(&self, classes: impl Fn(&E) -> ErrorClass, mut work: F) -> Result<T, GaveUp<E>>
    where
        F: FnMut(Attempt) -> Result<T, E>,
    {
        let nobody: NoLook<T, E> = None;
        at_once(self.drive(By::Thread, classes, |attempt| ready(work(attempt)), nobody))
    }

    /// The same for a call with an effect that must not happen twice: when it is not known whether an attempt had its
    /// effect, `look` finds out. `Some`: it had, and this is its answer; `None`: it had not, and it is tried again.
    ///
    /// # Errors
    /// Why there is no success; [`Why::Ambiguous`] when looking did not tell either.
    pub fn call_looking<T, E, F, L>(&self, mut work: F, mut look: L) -> Result<T, GaveUp<E>>
    where
        F: FnMut(Attempt) -> Result<T, E>,
        L: FnMut() -> Result<Option<T>, E>,
        E: Classify,
    {
        at_once(self.drive(By::Thread, E::class, |attempt| ready(work(attempt)), Some(move || ready(look()))))
    }

    /// Makes a call in a task, with its repeats. An attempt that takes longer than the policy's time is dropped, and what
    /// it sent may have arrived.
    ///
    /// # Errors
    /// Why there is no success.
    pub async fn call_async<T, E, F, W>(&self, mut work: F) -> Result<T, GaveUp<E>>
    where
        F: FnMut() -> W,
        W: Future<Output = Result<T, E>>,
        E: Classify,
    {
        self.call_async_by(E::class, |_| work()).await
    }

    /// The same, with a closure that tells classes, for a call that is told which attempt it is.
    ///
    /// # Errors
    /// Why there is no success.
    pub async fn call_async_by<T, E, F, W>(
        &self,
        classes: impl Fn(&E) -> ErrorClass,
        work: F,
    ) -> Result<T, GaveUp<E>>
    where
        F: FnMut(Attempt) -> W,
        W: Future<Output = Result<T, E>>,
    {
        let nobody: NoLook<T, E> = None;
        self.drive(By::Task, classes, work, nobody).await
    }

    /// [`call_looking`](Self::call_looking) in a task.
    ///
    /// # Errors
    /// As there.
    pub async fn call_async_looking<T, E, F, W, L, V>(&self, work: F, look: L) -> Result<T, GaveUp<E>>
    where
        F: FnMut(Attempt) -> W,
        W: Future<Output = Result<T, E>>,
        L: FnMut() -> V,
        V: Future<Output = Result<Option<T>, E>>,
        E: Classify,
    {
        self.drive(By::Task, E::class, work, Some(look)).await
    }

    async fn drive<T, E, F, W, L, V>(
        &self,
        by: By,
        classes: impl Fn(&E) -> ErrorClass,
        mut work: F,
        mut look: Option<L>,
    ) -> Result<T, GaveUp<E>>
    where
        F: FnMut(Attempt) -> W,
        W: Future<Output = Result<T, E>>,
        L: FnMut() -> V,
        V: Future<Output = Result<Option<T>, E>>,
    {
        let began = self.pace.time.now();
        let (mut attempts, mut last) = (0, None);
        let why = loop {
            let pass = match self.place.attempt(attempts + 1) {
                Ok(pass) => pass,
                Err(not_now) => break Why::Held(not_now),
            };
            attempts += 1;
            let time = self.attempt_time(began);
            let class = match self.limited(by, time, work(Attempt { number: attempts, time })).await {
                Some(Ok(value)) => {
                    pass.answered();
                    return Ok(value);
                }
                Some(Err(error)) => {
                    let class = classes(&error);
                    pass.failed_as(class);
                    last = Some(error);
                    class
                }
                None => {
                    pass.failed();
                    last = None;
                    ErrorClass::Ambiguous
                }
            };
            let class =
                if self.harmless && class == ErrorClass::Ambiguous { ErrorClass::Transient } else { class };
            let after = match (self.policy.verdict(attempts, class, self.pace.jitter.jitter()), &mut look) {
                (Verdict::Retry { after }, _) => after,
                (Verdict::Probe { .. }, None) => break Why::Ambiguous,
                (Verdict::Probe { .. }, Some(look)) => match self.find_out(by, began, look, &classes).await {
                    Ok(Some(value)) => return Ok(value),
                    Ok(None) if attempts >= self.policy.attempts => break Why::Attempts,
                    Ok(None) => Duration::ZERO,
                    Err(error) => {
                        last = error.or(last);
                        break Why::Ambiguous;
                    }
                },
                (Verdict::Snooze { after }, _) => break Why::Early { after },
                (Verdict::GiveUp, _) if class == ErrorClass::Permanent => break Why::Permanent,
                (Verdict::GiveUp, _) => break Why::Attempts,
            };
            if let Err(not_now) = self.place.check() {
                break Why::Held(not_now);
            }
            if !self.pause(by, began, after).await {
                break Why::Time;
            }
        };
        Err(GaveUp { why, attempts, last })
    }

    /// Looks whether an attempt had its effect, as often as the policy has attempts. An error: nobody knows.
    async fn find_out<T, E, L, V>(
        &self,
        by: By,
        began: Duration,
        look: &mut L,
        classes: &impl Fn(&E) -> ErrorClass,
    ) -> Result<Option<T>, Option<E>>
    where
        L: FnMut() -> V,
        V: Future<Output = Result<Option<T>, E>>,
    {
        let mut last = None;
        for number in 1..=self.policy.attempts.max(1) {
            let after = self.policy.delay(number, self.pace.jitter.jitter(), None);
            if !self.pause(by, began, after).await {
                break;
            }
            let Ok(pass) = self.place.again() else { break };
            match self.limited(by, self.attempt_time(began), look()).await {
                Some(Ok(found)) => {
                    pass.answered();
                    return Ok(found);
                }
                Some(Err(error)) => {
                    let class = classes(&error);
                    pass.failed_as(class);
                    last = Some(error);
                    if class == ErrorClass::Permanent {
                        break;
                    }
                }
                None => pass.failed(),
            }
        }
        Err(last)
    }

    /// How long an attempt that begins now may take.
    fn attempt_time(&self, began: Duration) -> Option<Duration> {
        let left = self.policy.total_time.map(|total| (began + total).saturating_sub(self.pace.time.now()));
        match (self.policy.attempt_time, left) {
            (Some(time), Some(left)) => Some(time.min(left)),
            (time, left) => time.or(left),
        }
    }

    /// `None`: it took longer than `limit`. A thread cannot be cut.
    async fn limited<R>(&self, by: By, limit: Option<Duration>, call: impl Future<Output = R>) -> Option<R> {
        let Some(limit) = limit.filter(|_| by == By::Task) else { return Some(call.await) };
        let (mut call, mut end) = (pin!(call), self.pace.time.wait(limit));
        poll_fn(|context| match call.as_mut().poll(context) {
            Poll::Ready(answer) => Poll::Ready(Some(answer)),
            Poll::Pending => end.as_mut().poll(context).map(|()| None),
        })
        .await
    }

    /// `false`: there is no time for it.
    async fn pause(&self, by: By, began: Duration, pause: Duration) -> bool {
        let end = self.pace.time.now() + pause;
        if self.policy.total_time.is_some_and(|total| end > began + total) {
            return false;
        }
        match by {
            _ if pause.is_zero() => {}
            By::Thread => self.pace.time.sleep(pause),
            By::Task => self.pace.time.wait(pause).await,
        }
        true
    }
}

/// The answer of a future that never waits.
fn at_once<R>(future: impl Future<Output = R>) -> R {
    let mut future = pin!(future);
    let mut context = Context::from_waker(Waker::noop());
    loop {
        if let Poll::Ready(answer) = future.as_mut().poll(&mut context) {
            return answer;
        }
    }
}

impl fmt::Debug for Pace {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Pace")
    }
}

impl fmt::Debug for Retry {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Retry")
            .field("policy", &self.policy)
            .field("place", &self.place)
            .finish_non_exhaustive()
    }
}

#[cfg(test)]
#[path = "call_tests.rs"]
mod tests;
