//! The job that compares an account, at the instance that has it.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use plimsoll_core_domain::broker::BrokerError;
use plimsoll_core_domain::{AccountId, Clock};
use plimsoll_reliability::jobs::{Handler, Job, JobContext, JobFailure, Settled, Settlement};
use plimsoll_reliability::reconcile::{ReconcileError, RunStatus, Scope, Trigger};
use plimsoll_storage::Db;
use plimsoll_storage::platform::reconciliation::{FinishedRun, ReconcilePayload, RunRow};
use uuid::Uuid;

use super::{Comparer, Pace, Run};
use crate::trading::connections::Connections;

/// The longest that one turn of a run may take, in times that one call may take.
const CALLS_LONG: u32 = 24;
/// Until a comparison is tried again whose account is not connected here yet.
const NOT_HERE: Duration = Duration::from_secs(1);

/// Compares accounts.
pub(in crate::trading) struct Reconcile {
    pub(in crate::trading) connections: Arc<Connections>,
    pub(in crate::trading) db: Db,
    pub(in crate::trading) clock: Arc<dyn Clock>,
    pub(in crate::trading) pace: Pace,
    /// Runs that wait for the rate limit: they go on where they ended.
    pub(in crate::trading) kept: Mutex<HashMap<Uuid, Run>>,
}

/// So many runs at most are kept while they wait; others begin again.
const MOST_KEPT: usize = 1_000;
/// Between the tries of a run: what the broker does not tell in them is left out of it.
const PAUSES: [u64; 5] = [100, 250, 500, 1_000, 0];

/// Tries until the run ends, or until a try more would not help.
async fn insist(comparer: &Comparer, run: &mut Run) -> Result<RunStatus, ReconcileError> {
    let mut pauses = PAUSES.into_iter();
    loop {
        let error = match comparer.attempt(run).await {
            Ok(status) => return Ok(status),
            Err(error) => error,
        };
        let passes = matches!(
            &error,
            ReconcileError::Broker(
                BrokerError::Unreachable(_) | BrokerError::Unreadable(_) | BrokerError::Ambiguous(_)
            )
        );
        match pauses.next() {
            Some(pause) if passes => tokio::time::sleep(Duration::from_millis(pause)).await,
            _ => return Err(error),
        }
    }
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
        let kept = self.kept.lock().unwrap_or_else(PoisonError::into_inner).remove(&row.id);
        let mut run = kept.unwrap_or_else(|| comparer.begin_as(row.id, trigger, Scope::Everything));
        let limit = context.timings().broker_call * CALLS_LONG;
        let why = match context.wait(limit, insist(&comparer, &mut run)) {
            Ok(Ok(_)) => return Ok(Turn::Ended),
            Ok(Err(ReconcileError::Broker(BrokerError::Throttled { retry_after }))) => {
                self.keep(row.id, run);
                return Err(JobFailure::put_off(retry_after, "the broker takes no more requests for now"));
            }
            Ok(Err(ReconcileError::Lost)) => return Ok(Turn::Later(NOT_HERE)),
            Ok(Err(error)) => error.to_string(),
            Err(_) if run.go_on() => {
                self.keep(row.id, run);
                return Ok(Turn::Later(NOT_HERE));
            }
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

    fn keep(&self, id: Uuid, run: Run) {
        let mut kept = self.kept.lock().unwrap_or_else(PoisonError::into_inner);
        if kept.len() < MOST_KEPT {
            kept.insert(id, run);
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
