//! What a handler gets, and what it answers.

use std::future::Future;
use std::sync::Mutex;
use std::sync::PoisonError;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use plimsoll_core_domain::{StoreError, StoreErrorKind};
use tokio::runtime::Handle;
use tokio_util::sync::CancellationToken;

use super::queue::{JobQueue, JobStore};
use super::types::{Job, JobLease, Settlement};
use crate::retry::{ErrorClass, Jitter, JitterSource};
use crate::timings::Timings;

/// Does one kind of job.
pub trait Handler<S: JobStore>: Send + Sync + 'static {
    /// Does the job and settles it, in one transaction with its local effects: [`JobContext::settle_with`], or
    /// [`JobContext::transaction`] with [`JobContext::settle`] inside. A panic counts as a transient failure.
    ///
    /// # Errors
    /// Why it failed; the runner settles it by the kind's retry policy.
    fn run(&self, context: &JobContext<'_, S>, job: &Job) -> Result<Settled, JobFailure>;
}

impl<S, F> Handler<S> for F
where
    S: JobStore,
    F: Fn(&JobContext<'_, S>, &Job) -> Result<Settled, JobFailure> + Send + Sync + 'static,
{
    fn run(&self, context: &JobContext<'_, S>, job: &Job) -> Result<Settled, JobFailure> {
        self(context, job)
    }
}

/// Why a job was not settled by its handler.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum JobFailure {
    /// Another worker has the job: throw the result away.
    LeaseLost,
    /// It failed.
    Failed {
        /// What may follow. [`ErrorClass::Ambiguous`] promises that the next attempt looks before it acts.
        class: ErrorClass,
        /// What went wrong: for people, without secrets.
        message: String,
    },
}

impl JobFailure {
    /// Another try may succeed.
    pub fn transient(message: impl Into<String>) -> Self {
        Self::Failed { class: ErrorClass::Transient, message: message.into() }
    }

    /// Another try ends the same way.
    pub fn permanent(message: impl Into<String>) -> Self {
        Self::Failed { class: ErrorClass::Permanent, message: message.into() }
    }

    /// It was not tried: no attempt is used up.
    pub fn put_off(after: Duration, message: impl Into<String>) -> Self {
        Self::Failed { class: ErrorClass::Snooze { after }, message: message.into() }
    }

    /// Nothing was done, and nothing should be tried for this long.
    pub fn throttled(after: Duration, message: impl Into<String>) -> Self {
        Self::Failed { class: ErrorClass::Throttled { after }, message: message.into() }
    }
}

impl From<StoreError> for JobFailure {
    fn from(error: StoreError) -> Self {
        match error.kind() {
            StoreErrorKind::Inconsistent => Self::permanent(error.to_string()),
            _ => Self::transient(error.to_string()),
        }
    }
}

/// Proof that the job's row was settled in a transaction; [`JobContext`] makes it.
#[must_use = "return it from the handler"]
#[derive(Debug, PartialEq, Eq)]
pub struct Settled(pub(super) Settlement);

impl Settled {
    /// How the attempt ended.
    pub const fn settlement(&self) -> &Settlement {
        &self.0
    }
}

/// A call took longer than it may.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("no answer in time")]
pub struct TimedOut;

/// A lease that this process holds.
#[derive(Debug)]
pub(super) struct Held {
    pub(super) lease: JobLease,
    renewed: Mutex<Instant>,
    lost: AtomicBool,
}

impl Held {
    pub(super) const fn new(lease: JobLease, since: Instant) -> Self {
        Self { lease, renewed: Mutex::new(since), lost: AtomicBool::new(false) }
    }

    pub(super) fn renewed(&self, at: Instant) {
        *self.renewed.lock().unwrap_or_else(PoisonError::into_inner) = at;
    }

    pub(super) fn lost(&self) {
        self.lost.store(true, Ordering::Release);
    }

    pub(super) fn trusted(&self, trust: Duration) -> bool {
        !self.lost.load(Ordering::Acquire)
            && self.renewed.lock().unwrap_or_else(PoisonError::into_inner).elapsed() < trust
    }
}

/// One attempt at one job.
pub struct JobContext<'r, S> {
    pub(super) store: &'r S,
    pub(super) held: &'r Held,
    pub(super) timings: &'r Timings,
    pub(super) jitter: &'r dyn JitterSource,
    pub(super) runtime: &'r Handle,
    pub(super) stopping: &'r CancellationToken,
}

impl<S: JobStore> JobContext<'_, S> {
    /// The right to settle this job.
    #[must_use]
    pub const fn lease(&self) -> JobLease {
        self.held.lease
    }

    /// The durations in force.
    #[must_use]
    pub const fn timings(&self) -> &Timings {
        self.timings
    }

    /// A fraction for spreading a pause.
    #[must_use]
    pub fn jitter(&self) -> Jitter {
        self.jitter.jitter()
    }

    /// Whether the lease was renewed lately. When not, do nothing that others could see: another worker may have the job.
    #[must_use]
    pub fn trusted(&self) -> bool {
        self.held.trusted(self.timings.job_trust)
    }

    /// Whether the process is about to end: long work should stop at its next safe place.
    #[must_use]
    pub fn stopping(&self) -> bool {
        self.stopping.is_cancelled()
    }

    /// Cancelled when the process is about to end.
    #[must_use]
    pub const fn stop_signal(&self) -> &CancellationToken {
        self.stopping
    }

    /// Runs `work` in a transaction; an error rolls back. It may run more than once (after a deadlock). No call to the
    /// outside in it.
    ///
    /// # Errors
    /// What `work` returns, and the store's own.
    pub fn transaction<T, F>(&self, work: F) -> Result<T, JobFailure>
    where
        F: FnMut(&mut S::Tx<'_>) -> Result<T, JobFailure>,
    {
        self.store.transaction(work)
    }

    /// Settles the job inside a transaction, at the place that the lock order gives to jobs: after orders, before
    /// positions, stream heads and audit heads.
    ///
    /// # Errors
    /// [`JobFailure::LeaseLost`] when another worker has the job; return it, so that the transaction rolls back.
    pub fn settle(&self, tx: &mut S::Tx<'_>, settlement: Settlement) -> Result<Settled, JobFailure> {
        if tx.settle(self.lease(), &settlement)? {
            Ok(Settled(settlement))
        } else {
            Err(JobFailure::LeaseLost)
        }
    }

    /// Runs `work` and settles the job with its answer, in one transaction.
    ///
    /// # Errors
    /// What `work` returns, [`JobFailure::LeaseLost`], and the store's own.
    pub fn settle_with<F>(&self, mut work: F) -> Result<Settled, JobFailure>
    where
        F: FnMut(&mut S::Tx<'_>) -> Result<Settlement, JobFailure>,
    {
        self.transaction(|tx| {
            let settlement = work(tx)?;
            self.settle(tx, settlement)
        })
    }

    /// Settles the job, which has no local effects.
    ///
    /// # Errors
    /// As [`settle_with`](Self::settle_with).
    pub fn finish(&self, settlement: &Settlement) -> Result<Settled, JobFailure> {
        self.store.autocommit(|tx| self.settle(tx, settlement.clone()))
    }

    /// Waits for `call`, at most for `limit`. Never inside a transaction.
    ///
    /// # Errors
    /// It took longer; it was dropped, and what it sent may have arrived.
    pub fn wait<F: Future>(&self, limit: Duration, call: F) -> Result<F::Output, TimedOut> {
        self.runtime.block_on(async { tokio::time::timeout(limit, call).await }).map_err(|_| TimedOut)
    }
}

impl<S> std::fmt::Debug for JobContext<'_, S> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("JobContext").field("held", self.held).finish_non_exhaustive()
    }
}
