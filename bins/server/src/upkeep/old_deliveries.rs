//! What was posted to users' webhooks long ago.

use std::sync::Arc;
use std::time::Duration;

use chrono::TimeDelta;
use plimsoll_core_domain::Clock;
use plimsoll_reliability::Timings;
use plimsoll_reliability::jobs::{Handler, Job, JobContext, JobFailure, Settled, Settlement};
use plimsoll_storage::Db;

use super::{Progress, repeat};

pub(super) const KIND: &str = "clean_up_deliveries";
/// Rows of each kind deleted by one statement.
const BATCH: usize = 1_000;

/// Deletes the log of finished deliveries, once it is old.
pub(super) struct OldDeliveries {
    clock: Arc<dyn Clock>,
    keep_delivered: TimeDelta,
    keep_failed: TimeDelta,
}

impl OldDeliveries {
    pub(super) fn new(timings: &Timings, clock: Arc<dyn Clock>) -> Self {
        let delta = |time: Duration| TimeDelta::from_std(time).unwrap_or(TimeDelta::MAX);
        Self {
            clock,
            keep_delivered: delta(timings.webhook_keep_delivered),
            keep_failed: delta(timings.webhook_keep_failed),
        }
    }
}

impl Handler<Db> for OldDeliveries {
    fn run(&self, context: &JobContext<'_, Db>, _job: &Job) -> Result<Settled, JobFailure> {
        let (delivered, failed) = (self.keep_delivered, self.keep_failed);
        repeat(context, || {
            let now = self.clock.now();
            let limit = i64::try_from(BATCH).unwrap_or(i64::MAX);
            let rows = context.transaction(|tx| Ok(tx.prune_deliveries(delivered, failed, limit, now)?))?;
            Ok(Progress::of(rows, BATCH))
        })?;
        context.finish(&Settlement::Done)
    }
}
