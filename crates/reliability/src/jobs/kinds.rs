//! What a runner knows of the kinds of its queue, and how many jobs of each it claims.

use std::collections::HashMap;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::atomic::Ordering;
use std::time::{Duration, Instant};

use plimsoll_core_domain::StoreError;

use super::context::{Handler, JobFailure};
use super::queue::{JobQueue, JobStore};
use super::runner::{JobRunner, panic_text};
use super::types::{Job, JobLease};
use crate::retry::Policy;

/// Does a number of jobs of one kind in one transaction: for kinds whose work is local and small.
pub trait BatchHandler<S: JobStore>: Send + Sync + 'static {
    /// Does all of these jobs; they are settled in the same transaction. After a failure or a panic each is tried alone, so
    /// that one bad job fails by itself. No call to the outside in it.
    ///
    /// # Errors
    /// Why it failed. Of a job that is alone, the runner settles the failure by the kind's retry policy.
    fn run(&self, tx: &mut S::Tx<'_>, jobs: &[Job]) -> Result<(), JobFailure>;
}

impl<S, F> BatchHandler<S> for F
where
    S: JobStore,
    F: Fn(&mut S::Tx<'_>, &[Job]) -> Result<(), JobFailure> + Send + Sync + 'static,
{
    fn run(&self, tx: &mut S::Tx<'_>, jobs: &[Job]) -> Result<(), JobFailure> {
        self(tx, jobs)
    }
}

pub(super) enum Work<S> {
    /// Job by job.
    One(Box<dyn Handler<S>>),
    /// Up to so many at once.
    Batch { size: usize, handler: Box<dyn BatchHandler<S>> },
}

pub(super) struct Registered<S> {
    pub(super) policy: Policy,
    pub(super) work: Work<S>,
}

/// What a worker takes at once: one job, or several of a kind that is done in batches.
pub(super) type Unit = Vec<Job>;

/// What this process is doing already, in units by kind.
#[derive(Debug, Default)]
pub(super) struct Busy {
    /// Claimed or running.
    pub(super) units: HashMap<String, usize>,
    /// Running beyond their time, on threads that were given up.
    pub(super) hung: HashMap<String, usize>,
    /// A kind with so many hung units is not claimed any more.
    pub(super) most_hung: usize,
}

/// One statement's worth of a claim.
struct Group {
    kinds: Vec<String>,
    /// Units that may be claimed.
    free: usize,
    /// Jobs of a unit.
    size: usize,
}

impl<S: JobStore> JobRunner<S> {
    /// Does at most `most` jobs of `kind` at once (batches, of a kind that is done in batches), in this process. Without
    /// it there is no limit but the number of threads; for batches it is one.
    #[must_use]
    pub fn at_most(mut self, kind: impl Into<String>, most: usize) -> Self {
        self.at_once.insert(kind.into(), most.max(1));
        self
    }

    /// Gives one run of `kind` so long, instead of the usual time. After it the run has failed: its thread is replaced,
    /// what it still does is fenced off, and a job whose last attempt it was is a dead letter.
    #[must_use]
    pub fn within(mut self, kind: impl Into<String>, limit: Duration) -> Self {
        self.limits.insert(kind.into(), limit);
        self
    }

    /// Does jobs of `kind` by `handler`, up to `size` (at least one) in one transaction. Failures pause by `policy`. A
    /// second handler for a kind takes the place of the first.
    #[must_use]
    pub fn handle_batches(
        self,
        kind: impl Into<String>,
        policy: Policy,
        size: usize,
        handler: impl BatchHandler<S>,
    ) -> Self {
        let work = Work::Batch { size: size.max(1), handler: Box::new(handler) };
        self.register(kind.into(), Registered { policy, work })
    }

    /// How long one run of a kind may take.
    pub(super) fn limit_of(&self, kind: &str) -> Duration {
        self.limits.get(kind).copied().unwrap_or(self.timings.job_limit)
    }

    /// Whether the end of a unit of this kind makes room that a claim did not see before.
    pub(super) fn is_limited(&self, kind: &str) -> bool {
        self.at_once.contains_key(kind)
            || self.handlers.get(kind).is_some_and(|known| matches!(known.work, Work::Batch { .. }))
    }

    fn groups(&self, busy: &Busy) -> Vec<Group> {
        let count = |of: &HashMap<String, usize>, kind: &str| of.get(kind).copied().unwrap_or_default();
        let mut groups = Vec::new();
        let mut unlimited = Vec::new();
        for kind in &self.kinds {
            let hung = count(&busy.hung, kind);
            let size = match self.handlers.get(kind).map(|known| &known.work) {
                Some(Work::Batch { size, .. }) => *size,
                _ => 1,
            };
            let most = self.at_once.get(kind).copied().or((size > 1).then_some(1));
            match most {
                Some(most) => {
                    let free = most.saturating_sub(hung + count(&busy.units, kind));
                    if free > 0 {
                        groups.push(Group { kinds: vec![kind.clone()], free, size });
                    }
                }
                None if hung < busy.most_hung.max(1) => unlimited.push(kind.clone()),
                None => {}
            }
        }
        if !unlimited.is_empty() {
            groups.push(Group { kinds: unlimited, free: usize::MAX, size: 1 });
        }
        // the first one takes what room there is, so each is first in its turn
        if !groups.is_empty() {
            let turn = self.turn.fetch_add(1, Ordering::Relaxed) % groups.len();
            groups.rotate_left(turn);
        }
        groups
    }

    /// Claims up to `room` units. Also whether there may be more.
    pub(super) fn claim_units(&self, room: usize, busy: &Busy) -> Result<(Vec<Unit>, bool), StoreError> {
        let (mut units, mut more) = (Vec::new(), false);
        for group in self.groups(busy) {
            let left = room - units.len();
            if left == 0 {
                more = true;
                break;
            }
            // one batch at a time: others of this process and of other instances take the next
            let most = if group.size > 1 { group.size } else { group.free.min(left) };
            let since = Instant::now(); // trust runs from before the claim
            let jobs = match self.claim_of(&group.kinds, most, since) {
                Ok(jobs) => jobs,
                Err(error) if units.is_empty() => return Err(error),
                Err(error) => {
                    tracing::warn!(%error, "claiming jobs failed; it will be tried again");
                    more = true;
                    break;
                }
            };
            more |= jobs.len() == most;
            if group.size == 1 {
                units.extend(jobs.into_iter().map(|job| vec![job]));
            } else if !jobs.is_empty() {
                units.push(jobs);
            }
        }
        Ok((units, more))
    }

    /// Runs the handler of a unit's kind and sees to it that its jobs are settled; answers when the first of them is due
    /// again. `patience`: how long to go on trying to write a failure down while the store is away.
    pub(super) fn execute_unit(&self, unit: &[Job], patience: Duration) -> Option<Duration> {
        match self.handlers.get(&unit.first()?.kind).map(|known| &known.work) {
            Some(Work::Batch { handler, .. }) => {
                let standing: Vec<Job> =
                    unit.iter().filter(|job| self.held_of(job).is_some()).cloned().collect();
                if self.run_batch(&**handler, &standing).is_ok() {
                    self.forget(&standing);
                    self.counters.done.fetch_add(standing.len() as u64, Ordering::Relaxed);
                    return None;
                }
                // one of them, or the store: each for itself
                standing.iter().filter_map(|job| self.execute(job, patience)).min()
            }
            _ => unit.iter().filter_map(|job| self.execute(job, patience)).min(),
        }
    }

    pub(super) fn run_batch(&self, handler: &dyn BatchHandler<S>, jobs: &[Job]) -> Result<(), JobFailure> {
        if jobs.is_empty() {
            return Ok(());
        }
        let leases: Vec<JobLease> = jobs.iter().map(|job| job.lease).collect();
        let run = || {
            self.store.transaction(|tx| {
                handler.run(tx, jobs)?;
                if tx.settle_done(&leases)? == leases.len() { Ok(()) } else { Err(JobFailure::LeaseLost) }
            })
        };
        catch_unwind(AssertUnwindSafe(run)).unwrap_or_else(|panic| {
            self.counters.panicked.fetch_add(1, Ordering::Relaxed);
            Err(JobFailure::transient(format!("panicked: {}", panic_text(&*panic))))
        })
    }
}

#[cfg(test)]
#[path = "kinds_tests.rs"]
mod tests;
