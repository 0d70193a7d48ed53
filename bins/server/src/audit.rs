//! The audit log's hourly job: a checkpoint, and the rows that the retention lets go.

use std::sync::Arc;
use std::time::Duration;

use chrono::TimeDelta;
use plimsoll_auth::Act;
use plimsoll_core_domain::Clock;
use plimsoll_core_domain::audit::AuditOutcome;
use plimsoll_reliability::Timings;
use plimsoll_reliability::jobs::{
    Handler, Job, JobContext, JobFailure, JobQueue, JobRunner, NewJob, Settled, Settlement, Wake, Workers,
};
use plimsoll_reliability::retry::JitterSource;
use plimsoll_storage::Db;
use tokio::runtime::Handle;
use tokio::time::MissedTickBehavior;
use uuid::Uuid;

/// The queue of the job.
const QUEUE: &str = "audit";
/// The kind of the job.
const CHECKPOINT: &str = "audit_checkpoint";

/// Between two checkpoints.
const EVERY: TimeDelta = TimeDelta::hours(1);
/// How often it is looked whether one is due.
const LOOK: Duration = Duration::from_secs(60);
/// Rows deleted in one transaction, and transactions of one job.
const BATCH: usize = 10_000;
const MAX_BATCHES: usize = 50;

/// What the job needs of the rest of the server.
pub struct AuditParts {
    /// The pool of jobs.
    pub jobs: Db,
    /// The pool of leases.
    pub control: Db,
    /// The time.
    pub clock: Arc<dyn Clock>,
    /// Wakes the job threads.
    pub wake: Wake,
    /// Every duration.
    pub timings: Timings,
    /// Spreads pauses.
    pub jitter: Arc<dyn JitterSource>,
    /// This process, among the owners of leases.
    pub owner: Uuid,
    /// The runtime; it must outlive the job thread.
    pub runtime: Handle,
    /// `AUDIT_RETENTION`; `None`: entries stay for ever.
    pub retention: Option<Duration>,
}

/// Starts the job's thread, and what asks for the job when a checkpoint is due.
///
/// # Errors
/// A thread cannot be started.
pub fn start(parts: AuditParts) -> std::io::Result<Workers<Db>> {
    let job = AuditCheckpoint { clock: Arc::clone(&parts.clock), retention: parts.retention };
    parts.runtime.spawn(schedule(parts.jobs.clone(), parts.clock));
    let retry = parts.timings.internal();
    JobRunner::new(parts.jobs, QUEUE, parts.owner, parts.runtime, parts.timings, parts.jitter)
        .control(parts.control)
        .handle(CHECKPOINT, retry, job)
        .start(1, &parts.wake)
}

/// Makes checkpoints and prunes.
struct AuditCheckpoint {
    clock: Arc<dyn Clock>,
    retention: Option<Duration>,
}

impl Handler<Db> for AuditCheckpoint {
    fn run(&self, context: &JobContext<'_, Db>, _: &Job) -> Result<Settled, JobFailure> {
        let now = self.clock.now();
        let made = context.transaction(|tx| {
            if tx.audit_checkpoint_due(EVERY, now)? { Ok(Some(tx.audit_checkpoint(now)?)) } else { Ok(None) }
        })?;
        if let Some(made) = made {
            // Whoever keeps the server's log elsewhere has an anchor there: `plimsoll audit verify --anchor`.
            tracing::info!(
                audit.anchor = %made.anchor,
                audit.marks = made.marks,
                audit.cut_chains = made.cut_chains,
                "A checkpoint of the audit log was signed."
            );
        }
        let keep = self.retention.and_then(|keep| TimeDelta::from_std(keep).ok());
        if let Some(before) = keep.and_then(|keep| now.checked_sub_signed(keep)) {
            for _ in 0..MAX_BATCHES {
                let pruned = context.transaction(|tx| {
                    let pruned = tx.prune_audit(before, BATCH, now)?;
                    if pruned.rows > 0 {
                        let detail =
                            serde_json::json!({ "rows": pruned.rows, "before": before.to_rfc3339() });
                        let act = Act::without_request(now);
                        let entry = act.entry("audit.prune", AuditOutcome::Success, None, None, detail);
                        tx.append_audit(None, &entry)?;
                    }
                    Ok(pruned)
                })?;
                if pruned.rows == 0 || context.stopping() {
                    break;
                }
                tracing::info!(rows = pruned.rows, "Old entries of the audit log were deleted.");
            }
        }
        context.finish(&Settlement::Done)
    }
}

/// Sees to it that the job is in the queue when a checkpoint is due: once for each slot of time, whatever the number of
/// instances.
async fn schedule(db: Db, clock: Arc<dyn Clock>) {
    let mut every = tokio::time::interval(LOOK);
    every.set_missed_tick_behavior(MissedTickBehavior::Delay);
    loop {
        every.tick().await;
        let now = clock.now();
        let slot = now.timestamp().div_euclid(EVERY.num_seconds());
        let looked = db
            .run(move |tx| {
                if tx.audit_checkpoint_due(EVERY, now)? {
                    let job = NewJob::new(QUEUE, CHECKPOINT, &serde_json::json!({}));
                    tx.enqueue(&job.dedup(slot.to_string()))?;
                }
                Ok::<_, plimsoll_core_domain::StoreError>(())
            })
            .await;
        if let Err(error) = looked {
            tracing::debug!(%error, "It cannot be seen now whether a checkpoint is due.");
        }
    }
}
