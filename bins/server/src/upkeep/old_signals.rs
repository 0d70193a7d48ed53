//! Signals of long ago, keys that have run out, and hooks that were deleted.

use std::sync::Arc;

use chrono::TimeDelta;
use plimsoll_core_domain::Clock;
use plimsoll_reliability::Timings;
use plimsoll_reliability::jobs::{Handler, Job, JobContext, JobFailure, Settled, Settlement};
use plimsoll_storage::Db;
use plimsoll_storage::platform::signals::Outdated;

use super::{Progress, repeat};

pub(super) const KIND: &str = "clean_up_signals";
/// Rows deleted by one statement.
const BATCH: usize = 1_000;

/// Whoever knows a hook's address can add to its log: what proves nothing is kept no longer.
const KEEP_UNPROVEN: TimeDelta = TimeDelta::days(7);

/// Deletes what is old of signals.
pub(super) struct OldSignals {
    clock: Arc<dyn Clock>,
    keep: TimeDelta,
}

impl OldSignals {
    pub(super) fn new(timings: &Timings, clock: Arc<dyn Clock>) -> Self {
        Self { clock, keep: TimeDelta::from_std(timings.signal_keep).unwrap_or(TimeDelta::MAX) }
    }
}

impl Handler<Db> for OldSignals {
    fn run(&self, context: &JobContext<'_, Db>, _job: &Job) -> Result<Settled, JobFailure> {
        let limit = i64::try_from(BATCH).unwrap_or(i64::MAX);
        for what in Outdated::ALL {
            repeat(context, || {
                let now = self.clock.now();
                // A key has its own end.
                let before = match what {
                    Outdated::Keys => now,
                    Outdated::Unproven => now - self.keep.min(KEEP_UNPROVEN),
                    Outdated::Signals | Outdated::Hooks => now - self.keep,
                };
                let rows = context.transaction(|tx| Ok(tx.prune_signals(what, before, limit)?))?;
                Ok(Progress::of(rows, BATCH))
            })?;
        }
        context.finish(&Settlement::Done)
    }
}
