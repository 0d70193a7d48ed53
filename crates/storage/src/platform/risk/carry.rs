//! Bringing limits and halts to the accounts that they hold for.
//!
//! They are committed first, where they stand for a user or for everybody, and then copied to each account in a small
//! transaction: whoever holds the locks of one account keeps them from that account alone, and no longer than the database
//! lets an idle transaction live.

use std::collections::BTreeSet;
use std::time::Duration;

use diesel::sql_types::{Array, BigInt, Integer, Nullable, Text};
use diesel::{QueryableByName, RunQueryDsl};
use plimsoll_core_domain::{AccountId, StoreError, StoreErrorKind, UserId};
use plimsoll_reliability::jobs::{DEFAULT_ATTEMPTS, job_topic};
use plimsoll_reliability::submit::BROKER_QUEUE;
use tokio::time::Instant;

use super::ENFORCE_HALT;
use crate::db::errors::StoreResult;
use crate::db::prepared::prepared;
use crate::db::{Db, Tx};

/// At most so many accounts are written in one transaction.
const BATCH: usize = 256;
/// Between two looks at accounts whose locks somebody holds.
const PAUSE: Duration = Duration::from_millis(50);

/// Wakes whoever looks after the accounts.
const ACCOUNTS_TOPIC: &str = "accounts:rearm";

/// Accounts beside the limits and halts that hold for them. What stood for a user who was deleted is gone; the copies stay.
macro_rules! accounts_and_risk {
    () => {
        "accounts a LEFT JOIN risk_halts g ON g.user_id IS NULL LEFT JOIN risk_halts h ON h.user_id = a.user_id \
         LEFT JOIN risk_limits l ON l.user_id = a.user_id "
    };
}

/// Those whose copies are not of now, of one user or of everybody.
macro_rules! behind {
    ($what:literal, $rest:literal) => {
        concat!(
            "SELECT ",
            $what,
            " FROM ",
            accounts_and_risk!(),
            "WHERE (a.user_id = ? OR ?::bigint IS NULL) AND ((g.since IS NOT NULL AND a.halt_global IS DISTINCT FROM g.in_force) \
               OR (h.since IS NOT NULL AND a.halt_user IS DISTINCT FROM h.in_force) \
               OR (l.user_id IS NOT NULL AND a.risk_limits IS DISTINCT FROM l.limits)) ",
            $rest
        )
    };
}

/// A job, before all that waits, for each account in which its user trades and that has something open or, to be flattened,
/// held, unless one waits already; one that a restore holds is let go. Its worker looks at the level again under the account's lock before it is done, so that
/// none is missed.
macro_rules! insert_jobs {
    ($which:literal) => {
        concat!(
            "INSERT INTO jobs (queue, kind, priority, max_attempts, dedup_key, payload) \
             SELECT ?, ?, -20, ?, a.id::text, jsonb_build_object('account_id', a.id) FROM accounts a WHERE a.state <> 'inactive' AND ",
            $which,
            " AND (EXISTS (SELECT FROM orders o WHERE o.account_id = a.id AND o.closed_at IS NULL \
                AND o.source_kind <> 'external') \
              OR EXISTS (SELECT FROM positions p WHERE p.account_id = a.id AND (p.qty - p.outside_qty) * p.qty > 0 AND 'flatten' IN (a.halt_user, a.halt_global))) ORDER BY a.id \
             ON CONFLICT (kind, dedup_key) WHERE state IN ('ready', 'leased', 'held') \
             DO UPDATE SET state = 'ready', run_at = now() WHERE jobs.state = 'held'"
        )
    };
}

#[derive(QueryableByName)]
pub(super) struct Id {
    #[diesel(sql_type = BigInt)]
    pub(super) id: i64,
}

#[derive(QueryableByName)]
struct Count {
    #[diesel(sql_type = BigInt)]
    accounts: i64,
}

impl Tx<'_> {
    /// Brings what holds for a user, or without one for everybody, to accounts behind `after` whose locks nobody holds, at
    /// most to a batch of them. Answers whether there were any, and where to go on when there may be more.
    fn carry_batch(&mut self, user: Option<UserId>, after: i64) -> Result<(bool, Option<i64>), StoreError> {
        let rows = prepared(behind!(
            "a.id",
            "AND a.id > ? ORDER BY a.id LIMIT ? FOR NO KEY UPDATE OF a SKIP LOCKED"
        ))
        .bind::<Nullable<BigInt>, _>(user.map(|user| user.0))
        .bind::<Nullable<BigInt>, _>(user.map(|user| user.0))
        .bind::<BigInt, _>(after)
        .bind::<BigInt, _>(i64::try_from(BATCH).unwrap_or(i64::MAX))
        .load::<Id>(self.conn())
        .store()?;
        let ids: Vec<i64> = rows.into_iter().map(|row| row.id).collect();
        let last = ids.last().copied().filter(|_| ids.len() == BATCH);
        let any = !ids.is_empty();
        if any {
            self.copy_to_locked(&ids)?;
        }
        Ok((any, last))
    }

    /// Brings what holds for it to one account, and waits for the account's lock.
    fn carry_to(&mut self, account: AccountId) -> Result<(), StoreError> {
        prepared("SELECT id FROM accounts WHERE id = ? FOR NO KEY UPDATE")
            .bind::<BigInt, _>(account.0)
            .execute(self.conn())
            .store()?;
        self.copy_to_locked(&[account.0])
    }

    /// In a statement that begins after the accounts are locked: whatever was committed before is seen, and whoever
    /// commits later comes after this. Where a halt ends, an account that was ever compared with its broker is compared once
    /// more before it takes entries.
    pub(super) fn copy_to_locked(&mut self, accounts: &[i64]) -> Result<(), StoreError> {
        let ended = prepared(concat!(
            "UPDATE accounts SET halt_global = n.halt_global, halt_user = n.halt_user, risk_limits = n.risk_limits, \
               compare_after = CASE WHEN n.ended IS NULL OR accounts.reconciled_at IS NULL THEN accounts.compare_after \
                 ELSE greatest(accounts.compare_after, n.ended) END, \
               compare_for = CASE WHEN n.ended IS NULL OR accounts.reconciled_at IS NULL THEN accounts.compare_for \
                 ELSE 'rearm' END FROM ( \
               SELECT a.id, CASE WHEN g.since IS NULL THEN a.halt_global ELSE g.in_force END AS halt_global, \
                 CASE WHEN h.since IS NULL THEN a.halt_user ELSE h.in_force END AS halt_user, \
                 CASE WHEN l.user_id IS NULL THEN a.risk_limits ELSE l.limits END AS risk_limits, \
                 greatest(CASE WHEN a.halt_global IS NOT NULL AND g.in_force IS NULL THEN g.since END, \
                   CASE WHEN a.halt_user IS NOT NULL AND h.in_force IS NULL THEN greatest(h.since, h.operator_since) END) \
                   AS ended FROM ",
            accounts_and_risk!(),
            "WHERE a.id = ANY(?)) n WHERE accounts.id = n.id \
             RETURNING CASE WHEN n.ended IS NULL THEN 0 ELSE accounts.id END AS id"
        ))
        .bind::<Array<BigInt>, _>(accounts)
        .load::<Id>(self.conn())
        .store()?;
        if ended.iter().any(|row| row.id != 0) {
            self.wake(ACCOUNTS_TOPIC);
        }
        let insert = prepared(insert_jobs!(
            "a.id = ANY(?) AND (a.halt_user IS NOT NULL OR a.halt_global IS NOT NULL)"
        ))
        .bind::<Text, _>(BROKER_QUEUE)
        .bind::<Text, _>(ENFORCE_HALT)
        .bind::<Integer, _>(i32::try_from(DEFAULT_ATTEMPTS).unwrap_or(i32::MAX))
        .bind::<Array<BigInt>, _>(accounts);
        let made = insert.execute(self.conn()).store()?;
        self.jobs_were_made(made);
        Ok(())
    }

    /// Gives a job to every halted account, of a user or of everybody, that has something to be looked at and no job.
    fn ask_to_enforce(&mut self, user: Option<UserId>) -> Result<(), StoreError> {
        let made = prepared(insert_jobs!(
            "(a.halt_user IS NOT NULL OR a.halt_global IS NOT NULL) AND (a.user_id = ? OR ?::bigint IS NULL)"
        ))
        .bind::<Text, _>(BROKER_QUEUE)
        .bind::<Text, _>(ENFORCE_HALT)
        .bind::<Integer, _>(i32::try_from(DEFAULT_ATTEMPTS).unwrap_or(i32::MAX))
        .bind::<Nullable<BigInt>, _>(user.map(|user| user.0))
        .bind::<Nullable<BigInt>, _>(user.map(|user| user.0))
        .execute(self.conn())
        .store()?;
        self.jobs_were_made(made);
        Ok(())
    }

    fn jobs_were_made(&mut self, made: usize) {
        if made > 0 {
            self.wake(job_topic(BROKER_QUEUE));
        }
    }

    /// The accounts, of a user or of everybody, to which what holds for them was not brought yet.
    fn accounts_behind(&mut self, user: Option<UserId>) -> Result<Vec<AccountId>, StoreError> {
        let rows = prepared(behind!("a.id", "ORDER BY a.id"))
            .bind::<Nullable<BigInt>, _>(user.map(|user| user.0))
            .bind::<Nullable<BigInt>, _>(user.map(|user| user.0))
            .load::<Id>(self.conn())
            .store()?;
        Ok(rows.into_iter().map(|row| AccountId(row.id)).collect())
    }

    /// How many those are.
    pub(super) fn count_behind(&mut self, user: Option<UserId>) -> Result<u64, StoreError> {
        let row = prepared(behind!("count(*) AS accounts", ""))
            .bind::<Nullable<BigInt>, _>(user.map(|user| user.0))
            .bind::<Nullable<BigInt>, _>(user.map(|user| user.0))
            .get_result::<Count>(self.conn())
            .store()?;
        Ok(row.accounts.try_into().unwrap_or_default())
    }

    /// Accounts with orders that were accepted and not sent.
    fn accounts_waiting(&mut self, user: Option<UserId>) -> Result<Vec<AccountId>, StoreError> {
        let rows = prepared(
            "SELECT DISTINCT o.account_id AS id FROM orders o WHERE o.closed_at IS NULL AND o.status = 'pending_submit' \
             AND (?::bigint IS NULL OR o.account_id IN (SELECT a.id FROM accounts a WHERE a.user_id = ?)) ORDER BY 1",
        )
        .bind::<Nullable<BigInt>, _>(user.map(|user| user.0))
        .bind::<Nullable<BigInt>, _>(user.map(|user| user.0))
        .load::<Id>(self.conn())
        .store()?;
        Ok(rows.into_iter().map(|row| AccountId(row.id)).collect())
    }

    /// Waits until nobody is about to send an order of these accounts: whoever was has committed that, and whoever comes
    /// later sees the halt.
    fn wait_for_sends(&mut self, accounts: &[AccountId]) -> Result<(), StoreError> {
        prepared(
            "SELECT 0::bigint AS id FROM orders WHERE account_id = ANY(?) AND closed_at IS NULL \
             AND status = 'pending_submit' ORDER BY account_id, id FOR NO KEY UPDATE",
        )
        .bind::<Array<BigInt>, _>(accounts.iter().map(|account| account.0).collect::<Vec<_>>())
        .execute(self.conn())
        .store()?;
        Ok(())
    }

    /// Brings limits and halts to a batch of accounts that do not have them yet, since whoever set them ended before that or
    /// an earlier release did not know of them; where there are none, gives a job to every account whose halt is not carried
    /// out and that has none: something came late, or its job is dead.
    ///
    /// Answers whether there may be more accounts, and how many jobs were made.
    ///
    /// # Errors
    /// The store's own.
    pub fn sweep_halts(&mut self) -> Result<(bool, usize), StoreError> {
        if let (_, Some(_)) = self.carry_batch(None, 0)? {
            return Ok((true, 0));
        }
        let made = prepared(insert_jobs!(
            "(a.halt_user IN ('cancel_open', 'flatten') OR a.halt_global IN ('cancel_open', 'flatten'))"
        ))
        .bind::<Text, _>(BROKER_QUEUE)
        .bind::<Text, _>(ENFORCE_HALT)
        .bind::<Integer, _>(i32::try_from(DEFAULT_ATTEMPTS).unwrap_or(i32::MAX))
        .execute(self.conn())
        .store()?;
        self.jobs_were_made(made);
        Ok((false, made))
    }
}

fn passes(error: &StoreError) -> bool {
    matches!(error.kind(), StoreErrorKind::Contention | StoreErrorKind::Unavailable)
}

/// Runs `work` in a transaction again and again while somebody else's is in its way or the database is away, until `within`
/// has passed. What it does must bear being done twice.
///
/// # Errors
/// The store's own.
pub async fn insist<T, F>(db: &Db, seed: u64, within: Duration, work: F) -> Result<T, StoreError>
where
    T: Send + 'static,
    F: FnMut(&mut Tx<'_>) -> Result<T, StoreError> + Clone + Send + 'static,
{
    let until = Instant::now() + within;
    loop {
        match db.run_retrying(seed, work.clone()).await {
            Err(error) if passes(&error) && Instant::now() < until => {
                tracing::warn!(%error, "something is in the way of a halt; it is tried on");
                tokio::time::sleep(PAUSE).await;
            }
            done => return done,
        }
    }
}

/// Brings committed limits and halts to the accounts of a user, or of everybody, and waits for what is being accepted or
/// sent there: of what it has reached, nothing is accepted or sent afterwards that a halt does not let through. Tries on for
/// as long as `within`. Answers how many accounts it has not reached; the sweep of halts will.
///
/// # Errors
/// The store's own.
pub async fn carry_halts(db: &Db, user: Option<UserId>, within: Duration) -> Result<usize, StoreError> {
    let until = Instant::now() + within;
    // Where something may be about to be sent; `None`: that is to be seen.
    let mut sends = None;
    loop {
        match pass(db, user, &mut sends, until).await {
            Ok(0) => return Ok(0),
            Ok(left) if Instant::now() >= until => return Ok(left),
            Ok(left) => tracing::warn!(accounts = left, "a halt waits for accounts that somebody holds"),
            Err(error) if !passes(&error) || Instant::now() >= until => return Err(error),
            Err(error) => tracing::warn!(%error, "a halt cannot be brought to the accounts now"),
        }
        tokio::time::sleep(PAUSE).await;
    }
}

/// Once over all accounts: first those that nobody holds, then each of the others; then over those where something may be
/// about to be sent. Answers how many are left.
async fn pass(
    db: &Db,
    user: Option<UserId>,
    sends: &mut Option<BTreeSet<AccountId>>,
    until: Instant,
) -> Result<usize, StoreError> {
    let mut next = Some(0);
    while let Some(after) = next {
        let (any, more) = db.run(move |tx| tx.carry_batch(user, after)).await?;
        if any {
            *sends = None;
        }
        next = more;
    }
    if sends.is_none() {
        db.run(move |tx| tx.ask_to_enforce(user)).await?;
    }
    let mut left = BTreeSet::new();
    for account in db.read(move |tx| tx.accounts_behind(user)).await? {
        if reached(db, until, move |tx| tx.carry_to(account)).await? {
            *sends = None;
        } else {
            left.insert(account);
        }
    }
    let waiting = match sends.take() {
        Some(waiting) => waiting,
        None => {
            let waiting: Vec<AccountId> = db.read(move |tx| tx.accounts_waiting(user)).await?;
            let all = waiting.clone();
            let passed = waiting.is_empty() || reached(db, until, move |tx| tx.wait_for_sends(&all)).await?;
            if passed { BTreeSet::new() } else { waiting.into_iter().collect() }
        }
    };
    let mut held = BTreeSet::new();
    for account in waiting {
        if !reached(db, until, move |tx| tx.wait_for_sends(&[account])).await? {
            held.insert(account);
        }
    }
    left.extend(&held);
    *sends = Some(held);
    Ok(left.len())
}

/// Whether `work` came through; `false` when somebody holds what it locks, or there is no time left.
async fn reached<F>(db: &Db, until: Instant, work: F) -> Result<bool, StoreError>
where
    F: FnOnce(&mut Tx<'_>) -> Result<(), StoreError> + Send + 'static,
{
    if Instant::now() >= until {
        return Ok(false);
    }
    match db.run(work).await {
        Ok(()) => Ok(true),
        Err(error) if error.kind() == StoreErrorKind::Contention => Ok(false),
        Err(error) => Err(error),
    }
}
