//! Claims jobs, runs their handlers and settles what the handlers did not.

use std::collections::HashMap;
use std::fmt;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use plimsoll_core_domain::StoreError;
use tokio::runtime::Handle;
use tokio_util::sync::CancellationToken;
use uuid::Uuid;

use super::context::{Handler, Held, JobContext, JobFailure, Settled};
use super::queue::{Claim, JobQueue, JobStore, Reaped};
use super::types::{Job, JobId, Settlement, clip_error};
use crate::retry::{JitterSource, Policy, Verdict};
use crate::timings::Timings;

/// Expired leases taken back at once.
const REAP_BATCH: usize = 500;
/// Finished jobs deleted at once.
pub(super) const PRUNE_BATCH: usize = 1_000;

/// How attempts ended since the start of the process.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct JobStats {
    /// Jobs claimed.
    pub claimed: u64,
    /// Jobs done.
    pub done: u64,
    /// Attempts that failed and will be repeated.
    pub retried: u64,
    /// Attempts put off without counting.
    pub snoozed: u64,
    /// Jobs given up.
    pub dead: u64,
    /// Results thrown away because another worker had the job.
    pub lost: u64,
    /// Attempts that panicked.
    pub panicked: u64,
    /// Results that the store did not take.
    pub unsettled: u64,
}

#[derive(Debug, Default)]
struct Counters {
    claimed: AtomicU64,
    done: AtomicU64,
    retried: AtomicU64,
    snoozed: AtomicU64,
    dead: AtomicU64,
    lost: AtomicU64,
    panicked: AtomicU64,
    unsettled: AtomicU64,
}

/// How an attempt ended.
enum End {
    Settled(Settlement),
    /// Another worker has the job.
    Lost,
    /// The store took no settlement.
    Unsettled,
}

struct Registered<S> {
    policy: Policy,
    handler: Box<dyn Handler<S>>,
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
    kinds: Vec<String>,
    elsewhere: Option<Box<Elsewhere>>,
    handlers: HashMap<String, Registered<S>>,
    held: Mutex<HashMap<JobId, Arc<Held>>>,
    counters: Counters,
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
    pub fn handle(mut self, kind: impl Into<String>, policy: Policy, handler: impl Handler<S>) -> Self {
        let kind = kind.into();
        if self.handlers.insert(kind.clone(), Registered { policy, handler: Box::new(handler) }).is_none() {
            self.kinds.push(kind);
        }
        self
    }

    /// How attempts ended so far.
    pub fn stats(&self) -> JobStats {
        let read = |counter: &AtomicU64| counter.load(Ordering::Relaxed);
        let of = &self.counters;
        JobStats {
            claimed: read(&of.claimed),
            done: read(&of.done),
            retried: read(&of.retried),
            snoozed: read(&of.snoozed),
            dead: read(&of.dead),
            lost: read(&of.lost),
            panicked: read(&of.panicked),
            unsettled: read(&of.unsettled),
        }
    }

    /// Claims up to `limit` due jobs and does them on this thread, one after another; answers how many. Must not be
    /// called from async code.
    ///
    /// # Errors
    /// The store's, while claiming.
    pub fn run_due(&self, limit: usize) -> Result<usize, StoreError> {
        let jobs = self.claim(limit)?;
        for job in &jobs {
            self.execute(job, Duration::ZERO);
        }
        Ok(jobs.len())
    }

    /// Takes expired leases of all instances back.
    ///
    /// # Errors
    /// The store's.
    pub fn reap(&self) -> Result<Reaped, StoreError> {
        let (policy, jitter) = (self.timings.internal(), self.jitter.jitter());
        let reaped = self.control.autocommit(|tx| tx.reap(&policy, jitter, REAP_BATCH))?;
        if reaped != Reaped::default() {
            tracing::warn!(
                ready = reaped.ready,
                dead = reaped.dead,
                "workers vanished with jobs; their leases were taken back"
            );
        }
        Ok(reaped)
    }

    pub(super) fn claim(&self, limit: usize) -> Result<Vec<Job>, StoreError> {
        let (kinds, lease) = (&self.kinds, self.timings.job_lease);
        let except = self.elsewhere.as_ref().map_or_else(Vec::new, |accounts| accounts());
        let claim = Claim { queue: &self.queue, kinds, except: &except, limit, owner: self.owner, lease };
        let since = Instant::now(); // trust runs from before the claim
        let jobs = self.store.autocommit(|tx| tx.claim(&claim))?;
        let mut held = self.held();
        for job in &jobs {
            held.insert(job.lease.id, Arc::new(Held::new(job.lease, since)));
        }
        drop(held);
        self.counters.claimed.fetch_add(jobs.len() as u64, Ordering::Relaxed);
        Ok(jobs)
    }

    /// Runs the job's handler and sees to it that the job is settled; answers when it is due again. `patience`: how long
    /// to go on trying to write a failure down while the store is away.
    pub(super) fn execute(&self, job: &Job, patience: Duration) -> Option<Duration> {
        let held = self.held().get(&job.lease.id).cloned();
        // another thread gave the lease back already
        let held = held.filter(|held| held.lease == job.lease)?;
        let end = match self.attempt(job, &held) {
            Ok(settled) => End::Settled(settled.0),
            Err(JobFailure::LeaseLost) => End::Lost,
            Err(JobFailure::Failed { class, message }) => {
                let policy = self.handlers.get(&job.kind).map_or(Policy::INTERNAL, |known| known.policy);
                let policy = Policy { attempts: job.max_attempts, ..policy };
                let settlement = match policy.verdict(job.attempt, class, self.jitter.jitter()) {
                    Verdict::Retry { after } | Verdict::Probe { after } => {
                        Settlement::Retry { after, error: message }
                    }
                    Verdict::Snooze { after } => Settlement::Snooze { after },
                    Verdict::GiveUp => Settlement::Dead { error: message },
                };
                self.settle_failure(&held, settlement, patience)
            }
        };
        let mut registry = self.held();
        if registry.get(&job.lease.id).is_some_and(|known| known.lease == job.lease) {
            registry.remove(&job.lease.id);
        }
        drop(registry);
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
        let context = JobContext {
            store: &self.store,
            held,
            timings: &self.timings,
            jitter: &*self.jitter,
            runtime: &self.runtime,
            stopping: &self.stopping,
        };
        catch_unwind(AssertUnwindSafe(|| registered.handler.run(&context, job))).unwrap_or_else(|panic| {
            self.counters.panicked.fetch_add(1, Ordering::Relaxed);
            Err(JobFailure::transient(format!("panicked: {}", panic_text(&*panic))))
        })
    }

    /// Writes a failure down. When that does not succeed, the lease runs out and the reaper sees to the job.
    fn settle_failure(&self, held: &Held, settlement: Settlement, patience: Duration) -> End {
        let settlement = match settlement {
            Settlement::Retry { after, error } => Settlement::Retry { after, error: clip_error(&error) },
            Settlement::Dead { error } => Settlement::Dead { error: clip_error(&error) },
            other => other,
        };
        let began = Instant::now();
        loop {
            match self.store.autocommit(|tx| tx.settle(held.lease, &settlement)) {
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

fn panic_text(panic: &(dyn std::any::Any + Send)) -> &str {
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
