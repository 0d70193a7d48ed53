//! The job that compares an account, at the instance that has it.

use std::sync::Arc;
use std::time::Duration;

use plimsoll_core_domain::broker::BrokerError;
use plimsoll_core_domain::{AccountId, Clock};
use plimsoll_reliability::jobs::{Handler, Job, JobContext, JobFailure, Settled, Settlement};
use plimsoll_reliability::reconcile::{ReconcileError, Scope, Trigger};
use plimsoll_storage::Db;
use plimsoll_storage::platform::reconciliation::{FinishedRun, ReconcilePayload, RunRow};

use super::{Comparer, Pace};
use crate::trading::connections::Connections;

/// The longest that one try may take, in times that one call may take.
const CALLS_LONG: u32 = 24;
/// Until a comparison is tried again whose account is not connected here yet.
const NOT_HERE: Duration = Duration::from_secs(1);

/// Compares accounts.
pub(in crate::trading) struct Reconcile {
    pub(in crate::trading) connections: Arc<Connections>,
    pub(in crate::trading) db: Db,
    pub(in crate::trading) clock: Arc<dyn Clock>,
    pub(in crate::trading) pace: Pace,
}

/// What one run came to.
enum Turn {
    /// It is on record.
    Ended,
    /// It goes on after a pause.
    Later(Duration),
}

impl Reconcile {
    /// Makes one run. Which instance has the account is looked at anew each time: it may be another one by now.
    fn turn(
        &self,
        context: &JobContext<'_, Db>,
        account: AccountId,
        row: &RunRow,
    ) -> Result<Turn, JobFailure> {
        let connection = self.connections.of_account(account);
        // Until it was compared at its start, that comparison is the one under way.
        let here = connection.filter(|connection| connection.is_ready());
        let Some((connection, fence)) = here.and_then(|here| here.fence().map(|fence| (here, fence))) else {
            return self.not_here(context, account, row);
        };
        let comparer = Comparer {
            connection,
            db: self.db.clone(),
            clock: Arc::clone(&self.clock),
            fence,
            pace: self.pace,
        };
        let trigger = row.trigger.parse().unwrap_or(Trigger::Interval);
        let mut run = comparer.begin_as(row.id, trigger, Scope::Everything);
        let limit = context.timings().broker_call * CALLS_LONG;
        let why = match context.wait(limit, comparer.attempt(&mut run)) {
            Ok(Ok(_)) => return Ok(Turn::Ended),
            Ok(Err(ReconcileError::Broker(BrokerError::Throttled { retry_after }))) => {
                return Err(JobFailure::put_off(retry_after, "the broker takes no more requests for now"));
            }
            Ok(Err(ReconcileError::Lost)) => return Ok(Turn::Later(NOT_HERE)),
            Ok(Err(error)) => error.to_string(),
            Err(timed_out) => timed_out.to_string(),
        };
        // The next slot compares again: a comparison that failed is no dead letter.
        let ended = context.wait(limit, comparer.end(&run, Err(why.clone())));
        tracing::warn!(account.id = %account, why, "the account could not be compared with its broker");
        match ended {
            Ok(Ok(_)) => Ok(Turn::Ended),
            _ => Err(JobFailure::transient(why)),
        }
    }

    /// No instance has the account, or this one not yet: a while later the run has failed.
    fn not_here(
        &self,
        context: &JobContext<'_, Db>,
        account: AccountId,
        row: &RunRow,
    ) -> Result<Turn, JobFailure> {
        let now = self.clock.now();
        let waited = (now - row.started_at).to_std().unwrap_or_default();
        if waited < context.timings().account_retry {
            return Ok(Turn::Later(NOT_HERE));
        }
        let run = FinishedRun {
            id: row.id,
            trigger: row.trigger.parse().unwrap_or(Trigger::Interval),
            scope: Scope::Everything,
            started_at: row.started_at,
            outcome: Err("the account is not connected to its broker".to_owned()),
        };
        context.transaction(|tx| {
            if let Some(of) = tx.account_owner(account)? {
                tx.finish_run(of, &run, now)?;
            }
            Ok(())
        })?;
        Ok(Turn::Ended)
    }
}

impl Handler<Db> for Reconcile {
    fn run(&self, context: &JobContext<'_, Db>, job: &Job) -> Result<Settled, JobFailure> {
        let payload: ReconcilePayload = job.decode()?;
        let account = payload.account_id;
        let row = context.transaction(|tx| Ok(tx.begin_run(account, payload.run_id)?))?;
        let Some(row) = row else { return context.finish(&Settlement::Done) };
        if let Turn::Later(after) = self.turn(context, account, &row)? {
            return context.finish(&Settlement::Snooze { after });
        }
        // What was asked for meanwhile found this job in its way.
        context.settle_with(|tx| {
            Ok(match tx.open_run(account)? {
                Some(_) => Settlement::Snooze { after: Duration::ZERO },
                None => Settlement::Done,
            })
        })
    }
}
