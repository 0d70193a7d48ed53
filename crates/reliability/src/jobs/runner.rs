//! Claims jobs, runs their handlers and settles what the handlers did not.

use std::collections::HashMap;
use std::fmt;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use plimsoll_core_domain::StoreError;
use tokio::runtime::Handle;
use tokio_util::sync::CancellationToken;
use uuid::Uuid;

use super::context::{Handler, Held, JobContext, JobFailure, Settled};
use super::kinds::{Busy, Registered, Work};
use super::queue::{Claim, JobQueue, JobStore, Reaped};
use super::stats::{Counters, JobStats};
use super::types::{Job, JobId, Settlement, clip_error};
use crate::retry::{ErrorClass, JitterSource, Policy, Verdict};
use crate::timings::Timings;

/// Expired leases taken back at once.
const REAP_BATCH: usize = 500;
/// Finished jobs deleted at once.
pub(super) const PRUNE_BATCH: usize = 1_000;

/// How an attempt ended.
enum End {
    Settled(Settlement),
    /// Another worker has the job.
    Lost,
    /// The store took no settlement.
    Unsettled,
}

/// Names the accounts that other instances have at this moment, as texts.
type Elsewhere = dyn Fn() -> Vec<String> + Send + Sync;

/// The handlers of one queue and all they need. Runs jobs one by one ([`run_due`](Self::run_due)) or on threads
/// ([`start`](Self::start)).
pub struct JobRunner<S> {
    pub(super) store: S,
    pub(super) control: S,
    pub(super) queue: String,
    pub(super) owner: Uuid,
    pub(super) timings: Timings,
    pub(super) jitter: Arc<dyn JitterSource>,
    pub(super) stopping: CancellationToken,
    runtime: Handle,
    pub(super) kinds: Vec<String>,
    elsewhere: Option<Box<Elsewhere>>,
    pub(super) handlers: HashMap<String, Registered<S>>,
    /// The kinds that have a limit of concurrent units.
    pub(super) at_once: HashMap<String, usize>,
    /// The kinds whose runs have a time of their own.
    pub(super) limits: HashMap<String, Duration>,
    /// Which group of kinds is claimed first.
    pub(super) turn: AtomicUsize,
    held: Mutex<HashMap<JobId, Arc<Held>>>,
    pub(super) counters: Counters,
}

impl<S: JobStore> JobRunner<S> {
    /// A runner of `queue` without handlers. `owner` is an id that is new with every start of the process; `runtime` must
    /// have its timer on and threads of its own.
    pub fn new(
        store: S,
        queue: impl Into<String>,
        owner: Uuid,
        runtime: Handle,
        timings: Timings,
        jitter: Arc<dyn JitterSource>,
    ) -> Self {
        Self {
            control: store.clone(),
            store,
            queue: queue.into(),
            owner,
            timings,
            jitter,
            stopping: CancellationToken::new(),
            runtime,
            kinds: Vec::new(),
            elsewhere: None,
            handlers: HashMap::new(),
            at_once: HashMap::new(),
            limits: HashMap::new(),
            turn: AtomicUsize::new(0),
            held: Mutex::default(),
            counters: Counters::default(),
        }
    }

    /// Renews and reaps over another pool, one that stays free when workers fill theirs.
    #[must_use]
    pub fn control(mut self, control: S) -> Self {
        self.control = control;
        self
    }

    /// Leaves jobs of accounts to the instances that have them: `elsewhere` names those accounts before every claim. Jobs
    /// of an account that nobody has are done by anybody.
    #[must_use]
    pub fn leaving(mut self, elsewhere: impl Fn() -> Vec<String> + Send + Sync + 'static) -> Self {
        self.elsewhere = Some(Box::new(elsewhere));
        self
    }

    /// Does jobs of `kind` by `handler`; failures pause by `policy` (how often is tried is the job's own matter). A
    /// second handler for a kind takes the place of the first.
    #[must_use]
    pub fn handle(self, kind: impl Into<String>, policy: Policy, handler: impl Handler<S>) -> Self {
        self.register(kind.into(), Registered { policy, work: Work::One(Box::new(handler)) })
    }

    pub(super) fn register(mut self, kind: String, registered: Registered<S>) -> Self {
        if self.handlers.insert(kind.clone(), registered).is_none() {
            self.kinds.push(kind);
        }
        self
    }

    /// How attempts ended so far.
    pub fn stats(&self) -> JobStats {
        self.counters.read()
    }

    /// Claims up to `limit` due jobs (batches, of kinds that are done in batches) and does them on this thread, one after
    /// another; answers how many jobs. Must not be
    /// called from async code.
    ///
    /// # Errors
    /// The store's, while claiming.
    pub fn run_due(&self, limit: usize) -> Result<usize, StoreError> {
        let (units, _) = self.claim_units(limit, &Busy::default())?;
        for unit in &units {
            self.execute_unit(unit, Duration::ZERO);
        }
        Ok(units.iter().map(Vec::len).sum())
    }

    /// Takes expired leases of all instances back.
    ///
    /// # Errors
    /// The store's.
    pub fn reap(&self) -> Result<Reaped, StoreError> {
        let (policy, jitter) = (self.timings.internal(), self.jitter.jitter());
        let memory = self.timings.job_crash_memory;
        let reaped = self.control.autocommit(|tx| tx.reap(&policy, memory, jitter, REAP_BATCH))?;
        if reaped != Reaped::default() {
            tracing::warn!(
                ready = reaped.ready,
                dead = reaped.dead,
                "workers vanished with jobs; their leases were taken back"
            );
        }
        Ok(reaped)
    }

    #[cfg(test)]
    pub(super) fn claim(&self, limit: usize) -> Result<Vec<Job>, StoreError> {
        Ok(self.claim_units(limit, &Busy::default())?.0.into_iter().flatten().collect())
    }

    pub(super) fn claim_of(
        &self,
        kinds: &[String],
        limit: usize,
        since: Instant,
    ) -> Result<Vec<Job>, StoreError> {
        let lease = self.timings.job_lease;
        let except = self.elsewhere.as_ref().map_or_else(Vec::new, |accounts| accounts());
        let claim = Claim { queue: &self.queue, kinds, except: &except, limit, owner: self.owner, lease };
        let jobs = self.store.autocommit(|tx| tx.claim(&claim))?;
        let mut held = self.held();
        for job in &jobs {
            held.insert(job.lease.id, Arc::new(Held::new(job.lease, since)));
        }
        drop(held);
        self.counters.claimed.fetch_add(jobs.len() as u64, Ordering::Relaxed);
        Ok(jobs)
    }

    pub(super) fn held_of(&self, job: &Job) -> Option<Arc<Held>> {
        let held = self.held().get(&job.lease.id).cloned();
        // another thread gave the lease back already
        held.filter(|held| held.lease == job.lease)
    }

    pub(super) fn forget(&self, jobs: &[Job]) {
        let mut registry = self.held();
        for job in jobs {
            if registry.get(&job.lease.id).is_some_and(|known| known.lease == job.lease) {
                registry.remove(&job.lease.id);
            }
        }
    }

    /// What follows from a failure.
    fn failure(&self, job: &Job, class: ErrorClass, message: String) -> Settlement {
        let policy = self.handlers.get(&job.kind).map_or(Policy::INTERNAL, |known| known.policy);
        let policy = Policy { attempts: job.max_attempts, ..policy };
        match policy.verdict(job.attempt, class, self.jitter.jitter()) {
            Verdict::Retry { after } | Verdict::Probe { after } => {
                Settlement::Retry { after, error: message }
            }
            Verdict::Snooze { after } => Settlement::Snooze { after },
            Verdict::GiveUp => Settlement::Dead { error: message },
        }
    }

    /// Fails the attempts of a unit that did not end within its time. Its handler, if it ever goes on, can settle nothing.
    pub(super) fn overrun(&self, unit: &[Job], limit: Duration) {
        for job in unit {
            let Some(held) = self.held_of(job) else { continue };
            held.lost();
            self.forget(std::slice::from_ref(job));
            self.counters.hung.fetch_add(1, Ordering::Relaxed);
            let message = format!("did not end within {} s", limit.as_secs_f64());
            let settlement = self.failure(job, ErrorClass::Transient, message);
            let end = self.settle_failure(&self.control, &held, settlement, Duration::ZERO);
            self.count(job, &end);
        }
    }

    /// Runs one job's handler and sees to it that the job is settled; answers when it is due again.
    pub(super) fn execute(&self, job: &Job, patience: Duration) -> Option<Duration> {
        let held = self.held_of(job)?;
        let end = match self.attempt(job, &held) {
            Ok(settled) => End::Settled(settled.0),
            Err(JobFailure::LeaseLost) => End::Lost,
            Err(JobFailure::Failed { class, message }) => {
                let settlement = self.failure(job, class, message);
                self.settle_failure(&self.store, &held, settlement, patience)
            }
        };
        self.forget(std::slice::from_ref(job));
        self.count(job, &end);
        match end {
            End::Settled(settlement) => settlement.due_after(),
            End::Lost | End::Unsettled => None,
        }
    }

    fn attempt(&self, job: &Job, held: &Held) -> Result<Settled, JobFailure> {
        let Some(registered) = self.handlers.get(&job.kind) else {
            return Err(JobFailure::permanent(format!("no handler for {}", job.kind)));
        };
        let handler = match &registered.work {
            Work::One(handler) => handler,
            Work::Batch { handler, .. } => {
                let done = self.run_batch(&**handler, std::slice::from_ref(job));
                return done.map(|()| Settled(Settlement::Done));
            }
        };
        let context = JobContext {
            store: &self.store,
            held,
            timings: &self.timings,
            jitter: &*self.jitter,
            runtime: &self.runtime,
            stopping: &self.stopping,
        };
        catch_unwind(AssertUnwindSafe(|| handler.run(&context, job))).unwrap_or_else(|panic| {
            self.counters.panicked.fetch_add(1, Ordering::Relaxed);
            Err(JobFailure::transient(format!("panicked: {}", panic_text(&*panic))))
        })
    }

    /// Writes a failure down. When that does not succeed, the lease runs out and the reaper sees to the job.
    fn settle_failure(&self, store: &S, held: &Held, settlement: Settlement, patience: Duration) -> End {
        let settlement = match settlement {
            Settlement::Retry { after, error } => Settlement::Retry { after, error: clip_error(&error) },
            Settlement::Dead { error } => Settlement::Dead { error: clip_error(&error) },
            other => other,
        };
        let began = Instant::now();
        loop {
            match store.autocommit(|tx| tx.settle(held.lease, &settlement)) {
                Ok(true) => return End::Settled(settlement),
                Ok(false) => return End::Lost,
                Err(error) => {
                    let again = began.elapsed() < patience
                        && held.trusted(self.timings.job_trust)
                        && !self.stopping.is_cancelled();
                    if !again {
                        tracing::error!(job.id = held.lease.id.0, %error, "a job's failure could not be written down");
                        return End::Unsettled;
                    }
                    std::thread::sleep(self.timings.job_settle_retry);
                }
            }
        }
    }

    fn count(&self, job: &Job, end: &End) {
        let of = &self.counters;
        let (id, kind, attempt) = (job.lease.id.0, job.kind.as_str(), job.attempt);
        let counter = match end {
            End::Settled(Settlement::Done) => &of.done,
            End::Settled(Settlement::Snooze { .. }) => &of.snoozed,
            End::Settled(Settlement::Retry { after, error }) => {
                let pause_ms = after.as_millis();
                tracing::warn!(
                    job.id = id,
                    job.kind = kind,
                    attempt,
                    pause_ms,
                    error,
                    "a job failed and will be repeated"
                );
                &of.retried
            }
            End::Settled(Settlement::Dead { error }) => {
                tracing::error!(
                    job.id = id,
                    job.kind = kind,
                    attempt,
                    error,
                    "a job was given up: it is a dead letter now"
                );
                &of.dead
            }
            End::Unsettled => &of.unsettled,
            End::Lost => {
                tracing::warn!(
                    job.id = id,
                    job.kind = kind,
                    attempt,
                    "another worker has the job; this result was dropped"
                );
                &of.lost
            }
        };
        counter.fetch_add(1, Ordering::Relaxed);
    }

    /// Extends all leases held here. One that is gone is marked, so that its worker stops acting.
    pub(super) fn renew(&self) -> Result<(), StoreError> {
        let held: Vec<Arc<Held>> = self.held().values().cloned().collect();
        if held.is_empty() {
            return Ok(());
        }
        let leases: Vec<_> = held.iter().map(|held| held.lease).collect();
        let at = Instant::now(); // trust runs from before the statement
        let standing = self.control.autocommit(|tx| tx.renew(&leases, self.timings.job_lease))?;
        for held in held {
            if standing.contains(&held.lease.id) { held.renewed(at) } else { held.lost() }
        }
        Ok(())
    }

    pub(super) fn prune(&self) -> Result<usize, StoreError> {
        self.control
            .autocommit(|tx| tx.prune(self.timings.job_keep_done, self.timings.job_keep_dead, PRUNE_BATCH))
    }

    /// Gives these jobs back, or all that are held; answers how many it gave.
    pub(super) fn give_back(&self, only: Option<&[Job]>) -> Result<usize, StoreError> {
        let leases: Vec<_> = match only {
            Some(jobs) => jobs.iter().map(|job| job.lease).collect(),
            None => self.held().values().map(|held| held.lease).collect(),
        };
        if leases.is_empty() {
            return Ok(0);
        }
        let given = self.control.autocommit(|tx| tx.give_back(&leases))?;
        let mut held = self.held();
        for lease in leases {
            if let Some(held) = held.remove(&lease.id) {
                held.lost();
            }
        }
        Ok(given)
    }

    pub(super) fn held(&self) -> std::sync::MutexGuard<'_, HashMap<JobId, Arc<Held>>> {
        self.held.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

pub(super) fn panic_text(panic: &(dyn std::any::Any + Send)) -> &str {
    panic
        .downcast_ref::<&str>()
        .copied()
        .or_else(|| panic.downcast_ref::<String>().map(String::as_str))
        .unwrap_or("without a message")
}

impl<S> fmt::Debug for JobRunner<S> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("JobRunner")
            .field("queue", &self.queue)
            .field("kinds", &self.kinds)
            .finish_non_exhaustive()
    }
}

#[cfg(test)]
#[path = "runner_tests.rs"]
mod tests;
