//! Old events of streams and replies under idempotency keys that have expired.

use chrono::TimeDelta;
use plimsoll_core_domain::StoreError;
use plimsoll_reliability::jobs::{Handler, Job, JobContext, JobFailure, Settled, Settlement};
use plimsoll_storage::{Db, Tx};

use super::{Progress, repeat};

pub(super) const KIND: &str = "clean_up_records";
/// How long events of a stream are kept, and how many.
const KEEP_EVENTS: (TimeDelta, i64) = (TimeDelta::hours(24), 10_000);
/// Rows deleted by one statement.
const BATCH: usize = 1_000;

/// Deletes them, batch after batch.
pub(super) struct OldRecords;

impl OldRecords {
    fn clean(
        context: &JobContext<'_, Db>,
        what: &str,
        batch: impl Fn(&mut Tx<'_>, i64) -> Result<usize, StoreError>,
    ) -> Result<(), JobFailure> {
        let limit = i64::try_from(BATCH).unwrap_or(i64::MAX);
        repeat(context, || {
            let rows = context.transaction(|tx| Ok(batch(tx, limit)?))?;
            if rows > 0 {
                tracing::debug!(rows, what, "Old rows were deleted.");
            }
            Ok(Progress::of(rows, BATCH))
        })
    }
}

impl Handler<Db> for OldRecords {
    fn run(&self, context: &JobContext<'_, Db>, _job: &Job) -> Result<Settled, JobFailure> {
        let (age, most) = KEEP_EVENTS;
        Self::clean(context, "stream events", |tx, limit| tx.prune_events(age, most, limit))?;
        Self::clean(context, "idempotency keys", |tx, limit| tx.prune_keys(limit))?;
        context.finish(&Settlement::Done)
    }
}
