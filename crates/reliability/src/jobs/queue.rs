//! The ports: a store with transactions, and the job table in it.

use std::time::Duration;

use plimsoll_core_domain::StoreError;
use uuid::Uuid;

use super::schedule::Schedule;
use super::types::{Job, JobId, JobLease, NewJob, Settlement};
use crate::retry::{Jitter, Policy};

/// A store whose transactions hold jobs beside the business's own tables. Cloning is cheap; clones share the store.
pub trait JobStore: Clone + Send + Sync + 'static {
    /// An open transaction.
    type Tx<'a>: JobQueue;

    /// Runs `work` in a transaction: `Ok` commits, `Err` and a panic roll back. After a deadlock the store may run `work`
    /// again. Blocks the thread.
    ///
    /// # Errors
    /// What `work` returns, and the store's own.
    fn transaction<T, E, F>(&self, work: F) -> Result<T, E>
    where
        F: FnMut(&mut Self::Tx<'_>) -> Result<T, E>,
        E: From<StoreError>;

    /// Runs `work` with each statement committing by itself; may run it again when the connection is lost. Blocks the
    /// thread.
    ///
    /// # Errors
    /// What `work` returns, and the store's own.
    fn autocommit<T, E, F>(&self, work: F) -> Result<T, E>
    where
        F: FnMut(&mut Self::Tx<'_>) -> Result<T, E>,
        E: From<StoreError>;
}

/// Which jobs to claim.
#[derive(Clone, Copy, Debug)]
pub struct Claim<'a> {
    /// Of this queue.
    pub queue: &'a str,
    /// Of these kinds: another release's jobs stay where they are.
    pub kinds: &'a [String],
    /// Not those whose payload's `account_id` is one of these: other instances have these accounts.
    pub except: &'a [String],
    /// At most so many.
    pub limit: usize,
    /// For this process; an id that is new with every start.
    pub owner: Uuid,
    /// For this long.
    pub lease: Duration,
}

/// What became of expired leases.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Reaped {
    /// Jobs that will be tried again.
    pub ready: usize,
    /// Jobs that ended too many processes and are dead.
    pub dead: usize,
}

/// The job table. All times are the store's; each method is one statement.
pub trait JobQueue {
    /// Inserts a job and, when it is due at once, flags its queue's topic for after the commit. `None` when an open job
    /// of its kind has the same key already.
    ///
    /// # Errors
    /// The store's.
    fn enqueue(&mut self, job: &NewJob) -> Result<Option<JobId>, StoreError>;

    /// Takes due jobs, by priority, then time, then id, passing over rows that others are working on. Raises attempt and
    /// token. Meant for [`JobStore::autocommit`].
    ///
    /// # Errors
    /// The store's. When the answer was lost, the claimed jobs come back by the reaper.
    fn claim(&mut self, claim: &Claim<'_>) -> Result<Vec<Job>, StoreError>;

    /// Whether the lease still stands; locks the job's row until the transaction ends, so that nobody claims it meanwhile.
    ///
    /// # Errors
    /// The store's.
    fn hold_job(&mut self, lease: JobLease) -> Result<bool, StoreError>;

    /// Ends the attempt. `false`: the lease is lost, nothing was changed, and the transaction must roll back.
    ///
    /// # Errors
    /// The store's.
    fn settle(&mut self, lease: JobLease, settlement: &Settlement) -> Result<bool, StoreError>;

    /// Ends all of these jobs as done, in one statement; answers how many. Fewer than there are leases: the others are
    /// lost, and the transaction must roll back.
    ///
    /// # Errors
    /// The store's.
    fn settle_done(&mut self, leases: &[JobLease]) -> Result<usize, StoreError>;

    /// Inserts the job of the schedule's coming slot, due when the slot begins, unless it was inserted before: `None`. A
    /// slot is not asked for again after its job was done, nor while a job of an earlier slot has waited for a whole
    /// period. Another period than the last one takes effect at once.
    ///
    /// # Errors
    /// The store's.
    fn enqueue_slot(&mut self, schedule: &Schedule) -> Result<Option<JobId>, StoreError>;

    /// Extends the leases by `lease` from now and answers with the jobs whose leases still stood.
    ///
    /// # Errors
    /// The store's.
    fn renew(&mut self, leases: &[JobLease], lease: Duration) -> Result<Vec<JobId>, StoreError>;

    /// Takes expired leases back, at most `limit`: the attempt does not count, the crash does; the next try waits by
    /// `policy`, and from [`MAX_CRASHES`](super::MAX_CRASHES) on the job is dead. A crash more than `memory` after the last
    /// one counts as the first, whatever the job did in between.
    ///
    /// # Errors
    /// The store's.
    fn reap(
        &mut self,
        policy: &Policy,
        memory: Duration,
        jitter: Jitter,
        limit: usize,
    ) -> Result<Reaped, StoreError>;

    /// Gives jobs back undone: due at once, the attempt does not count. Answers how many were still this worker's.
    ///
    /// # Errors
    /// The store's.
    fn give_back(&mut self, leases: &[JobLease]) -> Result<usize, StoreError>;

    /// Deletes finished jobs, at most `limit` of each kind: done or cancelled ones of at least age `keep_done`, dead ones of at least
    /// age `keep_dead`.
    ///
    /// # Errors
    /// The store's.
    fn prune(&mut self, keep_done: Duration, keep_dead: Duration, limit: usize) -> Result<usize, StoreError>;
}
