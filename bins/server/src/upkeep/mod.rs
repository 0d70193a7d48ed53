//! What is looked after from time to time: sweeps for what has become due, checkpoints of the audit log, and the deletion of
//! old rows.
//!
//! Each kind is a job of its own on one queue. Every instance asks for the job of the coming slot, which the store gives
//! out once, so that several instances do each slot once; whatever runs twice all the same finds nothing left to do.

mod audit_log;
mod clean_up;
mod dead_letters;
mod ending_tokens;
mod halts;
mod old_deliveries;
mod old_signals;
mod records;
mod silent_hooks;
mod two_factor_resets;
mod unfinished_sign_ins;

use std::sync::Arc;
use std::time::Duration;

use plimsoll_auth::AccountPolicy;
use plimsoll_core_domain::{Clock, StoreError};
use plimsoll_crypto::OsRandom;
use plimsoll_reliability::jobs::{
    Handler, Job, JobContext, JobFailure, Schedule, Scheduler, Settled, Settlement, Workers,
};
use plimsoll_storage::{Db, Tx};
use uuid::Uuid;

use crate::service::random_id;
use crate::workers::JobParts;

/// The queue of these jobs.
pub(crate) const QUEUE: &str = "upkeep";
/// Threads that do them.
const THREADS: usize = 1;
/// Transactions of one sweep; what is left waits for the next slot.
const MAX_BATCHES: usize = 200;

/// What upkeep needs of the rest of the server.
pub struct UpkeepParts {
    /// What all job threads need.
    pub job: JobParts,
    /// Of accounts.
    pub policy: Arc<AccountPolicy>,
    /// How long audit entries are kept; `None`: for ever.
    pub audit_retention: Option<Duration>,
}

/// Upkeep while it runs.
pub struct UpkeepHandle {
    workers: Workers<Db>,
    scheduler: Scheduler,
}

/// Starts the thread of the jobs and what asks for them.
///
/// # Errors
/// A thread cannot be started.
pub fn start(parts: UpkeepParts) -> std::io::Result<UpkeepHandle> {
    let job = parts.job;
    let (sweep, clean) = (job.timings.upkeep_sweep, job.timings.upkeep_clean);
    let checkpoint = job.timings.upkeep_checkpoint;
    let retry = job.timings.internal();
    let (policy, clock) = (parts.policy, Arc::clone(&job.clock));
    let audit_log = audit_log::AuditLog {
        clock: Arc::clone(&clock),
        every: checkpoint,
        retention: parts.audit_retention,
    };
    let signals = old_signals::OldSignals::new(&job.timings, Arc::clone(&clock));
    let silence = job.timings.signal_silence;
    let deliveries = old_deliveries::OldDeliveries::new(&job.timings, Arc::clone(&clock));
    let batches = |work: Batch| Batches { policy: Arc::clone(&policy), clock: Arc::clone(&clock), work };
    let workers = job
        .runner(QUEUE)
        .handle(two_factor_resets::KIND, retry, batches(two_factor_resets::batch))
        .handle(unfinished_sign_ins::KIND, retry, batches(unfinished_sign_ins::batch))
        .handle(ending_tokens::KIND, retry, batches(ending_tokens::batch))
        .handle(halts::KIND, retry, batches(halts::batch))
        .handle(dead_letters::KIND, retry, batches(dead_letters::batch))
        .handle(records::KIND, retry, records::OldRecords)
        .handle(clean_up::KIND, retry, clean_up::CleanUp::new(Arc::clone(&policy), Arc::clone(&clock)))
        .handle(old_deliveries::KIND, retry, deliveries)
        .handle(old_signals::KIND, retry, signals)
        .handle(silent_hooks::KIND, retry, batches(silent_hooks::batch))
        .handle(audit_log::KIND, retry, audit_log)
        .start(THREADS, &job.wake)?;
    let schedules = [
        (two_factor_resets::KIND, sweep),
        (unfinished_sign_ins::KIND, sweep),
        (ending_tokens::KIND, sweep),
        (halts::KIND, sweep),
        (dead_letters::KIND, sweep),
        (records::KIND, sweep),
        (clean_up::KIND, clean),
        (old_deliveries::KIND, clean),
        (old_signals::KIND, clean),
        (silent_hooks::KIND, silence),
        (audit_log::KIND, checkpoint),
    ];
    let schedules = schedules.map(|(kind, every)| Schedule::new(QUEUE, kind, every));
    let scheduler = Scheduler::start(job.jobs, schedules.into())?;
    Ok(UpkeepHandle { workers, scheduler })
}

impl UpkeepHandle {
    /// Asks for nothing more, lets the running job end within `limit`, and gives the rest back. Blocks.
    pub fn stop(self, limit: Duration) {
        self.scheduler.stop();
        self.workers.stop(limit);
    }
}

/// Whether a transaction may have left something to do.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Progress {
    /// All that was due is done.
    All,
    /// There may be more.
    More,
}

impl Progress {
    /// After a batch of at most `limit`, of which `done` were there.
    fn of(done: usize, limit: usize) -> Self {
        if done < limit { Self::All } else { Self::More }
    }
}

/// One transaction of a sweep.
type Batch = fn(&mut Tx<'_>, &AccountPolicy, chrono::DateTime<chrono::Utc>) -> Result<Progress, StoreError>;

/// A sweep: batch after batch, each a transaction of its own.
struct Batches {
    policy: Arc<AccountPolicy>,
    clock: Arc<dyn Clock>,
    work: Batch,
}

impl Handler<Db> for Batches {
    fn run(&self, context: &JobContext<'_, Db>, _job: &Job) -> Result<Settled, JobFailure> {
        repeat(context, || {
            let now = self.clock.now();
            context.transaction(|tx| Ok((self.work)(tx, &self.policy, now)?))
        })?;
        context.finish(&Settlement::Done)
    }
}

/// Runs `batch` until nothing is left, the process is about to end, or it was enough for one slot.
fn repeat(
    context: &JobContext<'_, Db>,
    mut batch: impl FnMut() -> Result<Progress, JobFailure>,
) -> Result<(), JobFailure> {
    for _ in 0..MAX_BATCHES {
        if context.stopping() || !context.trusted() || batch()? == Progress::All {
            break;
        }
    }
    Ok(())
}

/// A new id for a mail.
fn mail_id() -> Uuid {
    random_id(&mut OsRandom)
}
