//! The audit log: a checkpoint over all chains, and the entries that the retention lets go.

use std::sync::Arc;
use std::time::Duration;

use chrono::{DateTime, TimeDelta, Utc};
use plimsoll_auth::Act;
use plimsoll_core_domain::Clock;
use plimsoll_core_domain::audit::AuditOutcome;
use plimsoll_reliability::jobs::{Handler, Job, JobContext, JobFailure, Settled, Settlement};
use plimsoll_storage::Db;

use super::{Progress, repeat};

pub(super) const KIND: &str = "audit_checkpoint";
/// Entries deleted in one transaction.
const BATCH: usize = 10_000;

/// Makes checkpoints and prunes.
pub(super) struct AuditLog {
    /// The time.
    pub(super) clock: Arc<dyn Clock>,
    /// Between two checkpoints.
    pub(super) every: Duration,
    /// `AUDIT_RETENTION`; `None`: entries stay for ever.
    pub(super) retention: Option<Duration>,
}

impl AuditLog {
    /// A slot that was missed is done late, and the next one may follow soon: then it needs no checkpoint of its own.
    fn checkpoint(&self, context: &JobContext<'_, Db>, now: DateTime<Utc>) -> Result<(), JobFailure> {
        let apart = TimeDelta::from_std(self.every / 2).unwrap_or(TimeDelta::MAX);
        let made = context.transaction(|tx| {
            if tx.audit_checkpoint_due(apart, now)? { Ok(Some(tx.audit_checkpoint(now)?)) } else { Ok(None) }
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
        Ok(())
    }

    fn prune(
        &self,
        context: &JobContext<'_, Db>,
        before: DateTime<Utc>,
        now: DateTime<Utc>,
    ) -> Result<(), JobFailure> {
        repeat(context, || {
            let rows = context.transaction(|tx| {
                let pruned = tx.prune_audit(before, BATCH, now)?;
                if pruned.rows > 0 {
                    let detail = serde_json::json!({ "rows": pruned.rows, "before": before.to_rfc3339() });
                    let act = Act::without_request(now);
                    let entry = act.entry("audit.prune", AuditOutcome::Success, None, None, detail);
                    tx.append_audit(None, &entry)?;
                }
                Ok(pruned.rows)
            })?;
            if rows == 0 {
                return Ok(Progress::All);
            }
            tracing::info!(rows, "Old entries of the audit log were deleted.");
            Ok(Progress::More)
        })
    }
}

impl Handler<Db> for AuditLog {
    fn run(&self, context: &JobContext<'_, Db>, _job: &Job) -> Result<Settled, JobFailure> {
        let now = self.clock.now();
        self.checkpoint(context, now)?;
        let keep = self.retention.and_then(|keep| TimeDelta::from_std(keep).ok());
        if let Some(before) = keep.and_then(|keep| now.checked_sub_signed(keep)) {
            self.prune(context, before, now)?;
        }
        context.finish(&Settlement::Done)
    }
}
