//! Runs: asked for, begun, ended.

use chrono::{DateTime, TimeDelta, Utc};
use diesel::sql_types::{BigInt, Integer, Nullable, Text, Timestamptz, Uuid as SqlUuid};
use diesel::{OptionalExtension, QueryableByName, RunQueryDsl};
use plimsoll_auth::mail::Mail;
use plimsoll_auth::ports::{AccountStore, MailOutbox};
use plimsoll_core_domain::stream::{EventKind, NewEvent, StreamId};
use plimsoll_core_domain::views::{At, json};
use plimsoll_core_domain::{AccountId, StoreError, UserId};
use plimsoll_reliability::jobs::{JobQueue, NewJob};
use plimsoll_reliability::reconcile::{Class, Outcome, RunStatus, Scope, Trigger};
use serde::{Deserialize, Serialize};
use uuid::Uuid;

use super::books::AccountOwner;
use crate::db::Tx;
use crate::db::errors::StoreResult;
use crate::db::prepared::prepared;
use crate::platform::orders::event;

/// The queue of comparisons.
pub const RECONCILE_QUEUE: &str = "reconcile";
/// The kind of the job that compares an account.
pub const RECONCILE: &str = "reconcile";
/// Differences that one mail names.
const MAILED: usize = 20;
/// How long ended runs, and resolved differences, are kept.
const KEEP: TimeDelta = TimeDelta::days(90);

/// Which account is compared, and for which run.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct ReconcilePayload {
    /// Which.
    pub account_id: AccountId,
    /// The run's row.
    pub run_id: Uuid,
}

/// A run as it ended.
#[derive(Clone, Debug)]
pub struct FinishedRun {
    /// Its id.
    pub id: Uuid,
    /// Why it was made.
    pub trigger: Trigger,
    /// How much was compared.
    pub scope: Scope,
    /// When it began.
    pub started_at: DateTime<Utc>,
    /// What it found, or why it failed.
    pub outcome: Result<Outcome, String>,
}

/// A run's row.
#[derive(Clone, Debug, QueryableByName)]
#[expect(missing_docs, reason = "the fields are the HTTP contract's, section 6")]
pub struct RunRow {
    #[diesel(sql_type = SqlUuid)]
    pub id: Uuid,
    #[diesel(sql_type = BigInt)]
    pub account_id: i64,
    #[diesel(sql_type = Text)]
    pub trigger: String,
    #[diesel(sql_type = Text)]
    pub status: String,
    #[diesel(sql_type = Timestamptz)]
    pub started_at: DateTime<Utc>,
    #[diesel(sql_type = Nullable<Timestamptz>)]
    pub finished_at: Option<DateTime<Utc>>,
    #[diesel(sql_type = Integer)]
    pub scanned: i32,
    #[diesel(sql_type = Integer)]
    pub fixed: i32,
    /// What it found: a JSON array.
    #[diesel(sql_type = Text)]
    pub found: String,
    #[diesel(sql_type = Nullable<Text>)]
    pub error: Option<String>,
}

/// Where an account's comparison stands.
#[derive(Clone, Debug, QueryableByName)]
pub struct RunTotals {
    /// The account.
    #[diesel(sql_type = BigInt)]
    pub account_id: i64,
    /// When it was last compared to the end.
    #[diesel(sql_type = Nullable<Timestamptz>)]
    pub reconciled_at: Option<DateTime<Utc>>,
    /// Differences that are open.
    #[diesel(sql_type = BigInt)]
    pub open: i64,
    /// Those of them that need a human.
    #[diesel(sql_type = BigInt)]
    pub needs_human: i64,
}

/// A SELECT of [`RunRow`]s.
macro_rules! select_runs {
    ($rest:literal) => {
        concat!(
            "SELECT id, account_id, trigger, status, started_at, finished_at, scanned, fixed, found, error \
             FROM reconciliation_runs ",
            $rest
        )
    };
}

/// The report without rows, as events have it.
#[derive(Serialize)]
struct Told<'a> {
    run_id: Uuid,
    status: &'a str,
    trigger: &'a str,
    started_at: At,
    finished_at: At,
    scanned: u32,
    fixed: u32,
}

fn run_job(account: AccountId, run_id: Uuid) -> NewJob {
    let payload = ReconcilePayload { account_id: account, run_id };
    NewJob::new(RECONCILE_QUEUE, RECONCILE, &payload).dedup(account.to_string())
}

impl Tx<'_> {
    /// Asks for a comparison of an account. While one is asked for, a second wish is the same: the run's id.
    ///
    /// # Errors
    /// The store's own.
    pub fn ask_for_run(
        &mut self,
        account: AccountId,
        user: UserId,
        trigger: Trigger,
        id: Uuid,
        now: DateTime<Utc>,
    ) -> Result<Uuid, StoreError> {
        if self.enqueue(&run_job(account, id))?.is_none()
            && let Some(open) = self.open_run(account)?
        {
            return Ok(open);
        }
        prepared(
            "INSERT INTO reconciliation_runs (account_id, id, user_id, trigger, status, started_at) \
             VALUES (?, ?, ?, ?, 'queued', ?) ON CONFLICT (account_id, id) DO NOTHING",
        )
        .bind::<BigInt, _>(account.0)
        .bind::<SqlUuid, _>(id)
        .bind::<BigInt, _>(user.0)
        .bind::<Text, _>(trigger.as_str())
        .bind::<Timestamptz, _>(now)
        .execute(self.conn())
        .store()?;
        Ok(id)
    }

    /// The run of an account that was asked for, or is under way.
    ///
    /// # Errors
    /// The store's own.
    pub fn open_run(&mut self, account: AccountId) -> Result<Option<Uuid>, StoreError> {
        let row = prepared(select_runs!(
            "WHERE account_id = ? AND status IN ('queued', 'running') ORDER BY started_at DESC, id DESC LIMIT 1"
        ))
        .bind::<BigInt, _>(account.0)
        .get_result::<RunRow>(self.conn())
        .optional()
        .store()?;
        Ok(row.map(|row| row.id))
    }

    /// A comparison of the account begins: the run that was asked for as `id`, or else the oldest that waits. `None` when none
    /// does.
    ///
    /// # Errors
    /// The store's own.
    pub fn begin_run(&mut self, account: AccountId, id: Uuid) -> Result<Option<RunRow>, StoreError> {
        prepared(
            "UPDATE reconciliation_runs SET status = 'running' WHERE account_id = ? AND id = ( \
               SELECT id FROM reconciliation_runs WHERE account_id = ? AND status IN ('queued', 'running') \
               ORDER BY (id = ?) DESC, started_at, id LIMIT 1) \
             RETURNING id, account_id, trigger, status, started_at, finished_at, scanned, fixed, found, error",
        )
        .bind::<BigInt, _>(account.0)
        .bind::<BigInt, _>(account.0)
        .bind::<SqlUuid, _>(id)
        .get_result::<RunRow>(self.conn())
        .optional()
        .store()
    }

    /// Gives a job to an account whose run was asked for and that has none.
    ///
    /// # Errors
    /// The store's own.
    pub fn resume_run(&mut self, account: AccountId) -> Result<(), StoreError> {
        if let Some(run_id) = self.open_run(account)? {
            self.enqueue(&run_job(account, run_id))?;
        }
        Ok(())
    }

    /// Writes a run's end: its row, its differences, the alerts, the event.
    ///
    /// # Errors
    /// The store's own.
    pub fn finish_run(
        &mut self,
        of: AccountOwner,
        run: &FinishedRun,
        now: DateTime<Utc>,
    ) -> Result<RunStatus, StoreError> {
        let mut events: Vec<NewEvent> = Vec::new();
        let (mut status, mut found, mut error) = (RunStatus::Failed, "[]".to_owned(), None);
        let (mut scanned, mut fixed, mut letter) = (0, 0, Vec::new());
        match &run.outcome {
            Ok(outcome) => {
                self.lock_account(of.account)?;
                let noted = self.note_findings(of, run.id, &outcome.findings, now)?;
                events.extend(noted.alerts);
                letter = noted.letter;
                status = match outcome.status {
                    // Somebody has decided about all that needed a human.
                    RunStatus::Attention if !noted.needs_human => RunStatus::Ok,
                    other => other,
                };
                (found, scanned, fixed) = (noted.report, outcome.scanned, outcome.fixed);
                let complete = run.scope == Scope::Everything && status.is_complete();
                if complete {
                    self.close_gone(of.account, run.id, now)?;
                    prepared("UPDATE accounts SET reconciled_at = ? WHERE id = ?")
                        .bind::<Timestamptz, _>(now)
                        .bind::<BigInt, _>(of.account.0)
                        .execute(self.conn())
                        .store()?;
                }
                self.block_entries(of.account, complete.then_some(run.started_at))?;
            }
            Err(why) => error = Some(why.chars().take(500).collect::<String>()),
        }
        let clamp = |count: u32| i32::try_from(count).unwrap_or(i32::MAX);
        prepared(
            "INSERT INTO reconciliation_runs (account_id, id, user_id, trigger, status, started_at, finished_at, scanned, \
             fixed, found, error) VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?) ON CONFLICT (account_id, id) DO UPDATE SET \
             status = excluded.status, finished_at = excluded.finished_at, scanned = excluded.scanned, \
             fixed = excluded.fixed, found = excluded.found, error = excluded.error",
        )
        .bind::<BigInt, _>(of.account.0)
        .bind::<SqlUuid, _>(run.id)
        .bind::<BigInt, _>(of.user.0)
        .bind::<Text, _>(run.trigger.as_str())
        .bind::<Text, _>(status.as_str())
        .bind::<Timestamptz, _>(run.started_at)
        .bind::<Timestamptz, _>(now)
        .bind::<Integer, _>(clamp(scanned))
        .bind::<Integer, _>(clamp(fixed))
        .bind::<Text, _>(found)
        .bind::<Nullable<Text>, _>(error)
        .execute(self.conn())
        .store()?;
        self.forget_old_runs(of.account, now - KEEP)?;
        self.mail_differences(of.user, run.id, letter, now)?;
        let told = Told {
            run_id: run.id,
            status: status.as_str(),
            trigger: run.trigger.as_str(),
            started_at: At(run.started_at),
            finished_at: At(now),
            scanned,
            fixed,
        };
        events.push(event(EventKind::ReconciliationFinished, json(&told)));
        self.append_events(StreamId::User(of.user), &events, now)?;
        Ok(status)
    }

    /// Tells an account's owner by mail what needs a decision, once for each run that found something new.
    fn mail_differences(
        &mut self,
        user: UserId,
        run: Uuid,
        mut differences: Vec<String>,
        now: DateTime<Utc>,
    ) -> Result<(), StoreError> {
        if differences.is_empty() {
            return Ok(());
        }
        let Some(owner) = self.user_by_id(user)? else { return Ok(()) };
        let more = differences.len().saturating_sub(MAILED);
        differences.truncate(MAILED);
        let mail = Mail::AccountDiffers { differences, more, at: now };
        self.post_mail(run, &owner.email, Some(user), &mail, now)
    }

    fn forget_old_runs(&mut self, account: AccountId, before: DateTime<Utc>) -> Result<(), StoreError> {
        prepared("DELETE FROM reconciliation_runs WHERE account_id = ? AND started_at < ?")
            .bind::<BigInt, _>(account.0)
            .bind::<Timestamptz, _>(before)
            .execute(self.conn())
            .store()?;
        prepared("DELETE FROM discrepancies WHERE account_id = ? AND resolved_at < ?")
            .bind::<BigInt, _>(account.0)
            .bind::<Timestamptz, _>(before)
            .execute(self.conn())
            .store()?;
        Ok(())
    }

    /// A page of a user's runs, of one account where it is given, newest first, behind the run `before`.
    ///
    /// # Errors
    /// The store's own.
    pub fn runs_page(
        &mut self,
        user: UserId,
        account: Option<AccountId>,
        before: Option<(DateTime<Utc>, Uuid)>,
        limit: i64,
    ) -> Result<Vec<RunRow>, StoreError> {
        let (at, id) = before
            .map_or((DateTime::<Utc>::from_timestamp(253_402_300_799, 0), Uuid::max()), |(at, id)| {
                (Some(at), id)
            });
        prepared(select_runs!(
            "WHERE user_id = ? AND (started_at, id) < (?, ?) AND (?::bigint IS NULL OR account_id = ?) \
             ORDER BY started_at DESC, id DESC LIMIT ?"
        ))
        .bind::<BigInt, _>(user.0)
        .bind::<Nullable<Timestamptz>, _>(at)
        .bind::<SqlUuid, _>(id)
        .bind::<Nullable<BigInt>, _>(account.map(|account| account.0))
        .bind::<Nullable<BigInt>, _>(account.map(|account| account.0))
        .bind::<BigInt, _>(limit)
        .load::<RunRow>(self.conn())
        .store()
    }

    /// A run of a user.
    ///
    /// # Errors
    /// The store's own.
    pub fn run_of(&mut self, user: UserId, id: Uuid) -> Result<Option<RunRow>, StoreError> {
        prepared(select_runs!("WHERE user_id = ? AND id = ?"))
            .bind::<BigInt, _>(user.0)
            .bind::<SqlUuid, _>(id)
            .get_result::<RunRow>(self.conn())
            .optional()
            .store()
    }

    /// Where the comparisons of a user's accounts stand; of all that take orders where no user is given.
    ///
    /// # Errors
    /// The store's own.
    pub fn run_totals(&mut self, user: Option<UserId>) -> Result<Vec<RunTotals>, StoreError> {
        prepared(
            "SELECT a.id AS account_id, a.reconciled_at, count(d.id) AS open, \
             count(d.id) FILTER (WHERE d.class = ?) AS needs_human FROM accounts a \
             LEFT JOIN discrepancies d ON d.account_id = a.id AND d.resolved_at IS NULL \
             WHERE a.state <> 'inactive' AND (?::bigint IS NULL OR a.user_id = ?) GROUP BY a.id ORDER BY a.id",
        )
        .bind::<Text, _>(Class::NeedsHuman.as_str())
        .bind::<Nullable<BigInt>, _>(user.map(|user| user.0))
        .bind::<Nullable<BigInt>, _>(user.map(|user| user.0))
        .load::<RunTotals>(self.conn())
        .store()
    }
}
