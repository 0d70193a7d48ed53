//! Comparing an account with its broker: the books' side of the engine, the run of one comparison, and its job.

mod books;
pub(super) mod due;
mod job;

use std::sync::Arc;
use std::time::Duration;

use plimsoll_core_domain::{Clock, StoreError};
use plimsoll_crypto::OsRandom;
use plimsoll_reliability::jobs::JobQueue;
use plimsoll_reliability::reconcile::{
    Attempt, Limits, Outcome, Progress, ReconcileError, RunStatus, Scope, Trigger,
};
use plimsoll_storage::Db;
use plimsoll_storage::platform::reconciliation::{AccountOwner, FinishedRun};
use uuid::Uuid;

use self::books::DbBooks;
pub(super) use self::job::Reconcile;
use super::connection::Connection;
use super::fence::Fence;
use super::send_on::send_on;
use crate::service::random_id;

/// Calls to the broker of one run; a start may take more tries.
const CALLS: u32 = 2_000;

/// Turns of one run.
const TURNS: u32 = 10;

/// How comparisons go.
#[derive(Clone, Copy, Debug)]
pub(super) struct Pace {
    /// How often an account is compared without any other reason.
    pub(super) interval: Duration,
    /// An order whose fate is unknown for so long makes the account be compared.
    pub(super) unknown_for: Duration,
    /// An order that is under way for longer is stale.
    pub(super) stale_age: Duration,
    /// A live order must have been missing for so long before it counts as gone.
    pub(super) missing_for: Duration,
}

/// What comparisons of one account need.
#[derive(Clone)]
pub(super) struct Comparer {
    pub(super) connection: Arc<Connection>,
    pub(super) db: Db,
    pub(super) clock: Arc<dyn Clock>,
    pub(super) fence: Fence,
    pub(super) pace: Pace,
}

/// A comparison that is being made, over all its tries.
pub(super) struct Run {
    id: Uuid,
    trigger: Trigger,
    scope: Scope,
    started_at: chrono::DateTime<chrono::Utc>,
    progress: Progress,
    /// How often its time was up.
    cuts: u32,
}

impl Run {
    /// Its time is up: whether it goes on in another turn, so that others come between.
    fn go_on(&mut self) -> bool {
        self.cuts += 1;
        self.cuts < TURNS
    }
}

impl Comparer {
    pub(super) fn owner(&self) -> AccountOwner {
        AccountOwner {
            account: self.connection.account,
            user: self.connection.user,
            environment: self.connection.environment,
        }
    }

    /// A comparison that begins now.
    pub(super) fn begin(&self, trigger: Trigger, scope: Scope) -> Run {
        self.begin_as(random_id(&mut OsRandom), trigger, scope)
    }

    pub(super) fn begin_as(&self, id: Uuid, trigger: Trigger, scope: Scope) -> Run {
        Run { id, trigger, scope, started_at: self.clock.now(), progress: Progress::default(), cuts: 0 }
    }

    /// One try of a comparison: at its end every order that is to be sent has a job, and what was found is on record. One
    /// at a time.
    ///
    /// # Errors
    /// The comparison is not complete; another try goes on from here.
    pub(super) async fn attempt(&self, run: &mut Run) -> Result<RunStatus, ReconcileError> {
        let _turn = self.connection.comparing.lock().await;
        let books = DbBooks::new(self);
        let start = run.trigger == Trigger::Start;
        let limits = Limits {
            missing_for: self.pace.missing_for,
            stale_age: self.pace.stale_age,
            calls: if start { u32::MAX } else { CALLS },
            insist: start,
        };
        let broker = &*self.connection.broker;
        let outcome = Attempt::new(broker, &books, limits, run.scope, &mut run.progress).run().await?;
        send_on(&self.connection, &self.db).await?;
        let status = outcome.status;
        if run.scope == Scope::Orders && outcome.findings.is_empty() {
            return Ok(status);
        }
        self.end(run, Ok(outcome)).await
    }

    /// Puts the end of a run on record.
    pub(super) async fn end(
        &self,
        run: &Run,
        outcome: Result<Outcome, String>,
    ) -> Result<RunStatus, ReconcileError> {
        let finished = FinishedRun {
            id: run.id,
            trigger: run.trigger,
            scope: run.scope,
            started_at: run.started_at,
            outcome,
        };
        let (of, fence, now) = (self.owner(), self.fence.clone(), self.clock.now());
        let seed = u64::from(now.timestamp_subsec_micros());
        let status = self
            .db
            .run_retrying(seed, move |tx| {
                Ok::<_, StoreError>(match fence.hold(tx)? {
                    true => Some(tx.finish_run(of, &finished, now)?),
                    false => None,
                })
            })
            .await?;
        let status = status.ok_or(ReconcileError::Lost)?;
        if !matches!(status, RunStatus::Ok) {
            tracing::warn!(account.id = %self.connection.account, status = status.as_str(), trigger = run.trigger.as_str(), "a comparison with the broker ended");
        }
        Ok(status)
    }

    /// Asks for a comparison of everything; one that waits already is the same.
    pub(super) async fn ask(&self, trigger: Trigger) -> Result<(), StoreError> {
        let (of, now, id) = (self.owner(), self.clock.now(), random_id(&mut OsRandom));
        self.db.run(move |tx| tx.ask_for_run(of.account, of.user, trigger, id, now)).await.map(drop)
    }

    /// Leaves an order to a job of its own.
    pub(super) async fn leave_to_a_job(
        &self,
        order: plimsoll_core_domain::OrderId,
    ) -> Result<(), StoreError> {
        let job = plimsoll_storage::platform::orders::SyncPayload::job(self.connection.account, order);
        self.db.run(move |tx| tx.enqueue(&job)).await.map(drop)
    }
}
