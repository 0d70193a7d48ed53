//! Old rows of accounts.

use std::sync::Arc;

use plimsoll_auth::AccountPolicy;
use plimsoll_auth::clean_up::{self, Old};
use plimsoll_core_domain::Clock;
use plimsoll_reliability::jobs::{Handler, Job, JobContext, JobFailure, Settled, Settlement};
use plimsoll_storage::Db;

use super::{Progress, repeat};

pub(super) const KIND: &str = "clean_up_accounts";
/// Rows deleted by one statement.
const BATCH: usize = 1_000;

/// Deletes what is old, kind after kind. One that fails does not keep the others from it.
pub(super) struct CleanUp {
    policy: Arc<AccountPolicy>,
    clock: Arc<dyn Clock>,
}

impl CleanUp {
    pub(super) fn new(policy: Arc<AccountPolicy>, clock: Arc<dyn Clock>) -> Self {
        Self { policy, clock }
    }

    fn clean(&self, context: &JobContext<'_, Db>, what: Old) -> Result<usize, JobFailure> {
        let now = self.clock.now();
        let mut rows = 0;
        repeat(context, || {
            let deleted =
                context.transaction(|tx| Ok(clean_up::batch(tx, &self.policy, what, BATCH, now)?))?;
            rows += deleted;
            Ok(Progress::of(deleted, BATCH))
        })?;
        Ok(rows)
    }
}

impl Handler<Db> for CleanUp {
    fn run(&self, context: &JobContext<'_, Db>, _job: &Job) -> Result<Settled, JobFailure> {
        let mut failed = None;
        for what in Old::ALL {
            match self.clean(context, *what) {
                Ok(0) => {}
                Ok(rows) => tracing::info!(rows, kind = what.as_str(), "Old rows were deleted."),
                Err(JobFailure::LeaseLost) => return Err(JobFailure::LeaseLost),
                Err(failure) => failed = failed.or(Some(failure)),
            }
        }
        failed.map_or_else(|| context.finish(&Settlement::Done), Err)
    }
}
