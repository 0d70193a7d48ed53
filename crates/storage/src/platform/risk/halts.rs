//! Halting trading, and ending that.

use chrono::{DateTime, Utc};
use diesel::sql_types::{BigInt, Integer, Nullable, Text, Timestamptz};
use diesel::{OptionalExtension, QueryableByName, RunQueryDsl};
use plimsoll_core_domain::risk::{HaltCause, HaltLevel};
use plimsoll_core_domain::stream::{EventKind, StreamId};
use plimsoll_core_domain::views::json;
use plimsoll_core_domain::{AccountId, StoreError, UserId};
use plimsoll_reliability::jobs::{DEFAULT_ATTEMPTS, job_topic};
use plimsoll_reliability::submit::BROKER_QUEUE;
use serde::{Deserialize, Serialize};

use super::level;
use crate::db::Tx;
use crate::db::errors::StoreResult;
use crate::db::prepared::prepared;
use crate::platform::orders::event;

/// The kind of the job that does to an account what its halt says: cancels, and closes positions.
pub const ENFORCE_HALT: &str = "enforce_halt";

/// Which account.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct EnforcePayload {
    /// The account.
    pub account_id: AccountId,
}

/// A halt to set.
#[derive(Clone, Debug)]
pub struct NewHalt<'a> {
    /// How far it goes.
    pub level: HaltLevel,
    /// What sets it.
    pub cause: HaltCause,
    /// Why, for people; at most 500 characters.
    pub reason: &'a str,
    /// Who sets it.
    pub by: Option<UserId>,
    /// Now.
    pub now: DateTime<Utc>,
}

/// A halt in force.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Halt {
    /// How far it goes.
    pub level: HaltLevel,
    /// What set it.
    pub cause: HaltCause,
    /// Why.
    pub reason: String,
    /// Who set it; `None`: the platform, or its operator.
    pub by: Option<UserId>,
    /// Since when.
    pub since: DateTime<Utc>,
}

/// What is halted for a user.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct HaltState {
    /// For the user.
    pub user: Option<Halt>,
    /// For everybody.
    pub global: Option<Halt>,
}

#[derive(QueryableByName)]
struct Row {
    #[diesel(sql_type = Nullable<Text>)]
    level: Option<String>,
    #[diesel(sql_type = Text)]
    cause: String,
    #[diesel(sql_type = Text)]
    reason: String,
    #[diesel(sql_type = Nullable<BigInt>)]
    by_user: Option<i64>,
    #[diesel(sql_type = Timestamptz)]
    since: DateTime<Utc>,
}

fn halt(scope: &str, row: Row) -> Result<Option<Halt>, StoreError> {
    let Some(level) = level("risk_halts", scope, row.level.as_deref())? else { return Ok(None) };
    Ok(Some(Halt {
        level,
        cause: row
            .cause
            .parse()
            .map_err(|why| StoreError::inconsistent("risk_halts", "cause", scope, why))?,
        reason: row.reason,
        by: row.by_user.map(UserId),
        since: row.since,
    }))
}

macro_rules! select_halt {
    ($rest:literal) => {
        concat!("SELECT level, cause, reason, by_user, since FROM risk_halts WHERE user_id IS NOT DISTINCT FROM ?", $rest)
    };
}

/// What ends the copies of a halt: before entries are taken again, an account that was ever compared with its broker is
/// compared once more.
macro_rules! rearmed {
    ($set:literal, $which:literal) => {
        concat!(
            "UPDATE accounts ",
            $set,
            "compare_after = CASE WHEN reconciled_at IS NOT NULL THEN ? END, compare_for = 'rearm' WHERE ",
            $which
        )
    };
}

/// Wakes whoever looks after the accounts.
const ACCOUNTS_TOPIC: &str = "accounts:rearm";

/// A job, before all that waits, for each account in which its user trades and that has something open or, to be flattened, held, unless one waits already. Its worker looks at the level again
/// under the account's lock before it is done, so that none is missed.
macro_rules! insert_jobs {
    ($which:literal) => {
        concat!(
            "INSERT INTO jobs (queue, kind, priority, max_attempts, dedup_key, payload) \
             SELECT ?, ?, -20, ?, a.id::text, jsonb_build_object('account_id', a.id) FROM accounts a WHERE a.state <> 'inactive' AND ",
            $which,
            "(EXISTS (SELECT FROM orders o WHERE o.account_id = a.id AND o.closed_at IS NULL \
                AND o.source_kind <> 'external') \
              OR EXISTS (SELECT FROM positions p WHERE p.account_id = a.id AND (p.qty - coalesce((SELECT \
                sum(CASE WHEN o.side = 'buy' THEN o.filled_qty ELSE -o.filled_qty END) FROM orders o \
                WHERE o.account_id = p.account_id AND o.symbol = p.symbol AND o.source_kind = 'external'), 0)) \
                * p.qty > 0 AND 'flatten' IN (a.halt_user, a.halt_global))) ORDER BY a.id \
             ON CONFLICT (kind, dedup_key) WHERE state IN ('ready', 'leased', 'held') DO NOTHING"
        )
    };
}

impl Tx<'_> {
    /// What is halted for a user, who need not have an account; without a user, for everybody alone.
    ///
    /// # Errors
    /// The store's own.
    pub fn halt_state(&mut self, user: Option<UserId>) -> Result<HaltState, StoreError> {
        let own = match user {
            Some(user) => self.halt_row(select_halt!(""), Some(user))?,
            None => None,
        };
        Ok(HaltState { user: own, global: self.halt_row(select_halt!(""), None)? })
    }

    fn halt_row(&mut self, text: &'static str, scope: Option<UserId>) -> Result<Option<Halt>, StoreError> {
        let row = prepared(text)
            .bind::<Nullable<BigInt>, _>(scope.map(|user| user.0))
            .get_result::<Row>(self.conn())
            .optional()
            .store()?;
        let name = scope.map_or_else(|| "global".to_owned(), |user| user.to_string());
        row.map_or(Ok(None), |row| halt(&name, row))
    }

    /// Locks every account of a user.
    pub(super) fn lock_accounts_of(&mut self, user: UserId) -> Result<(), StoreError> {
        prepared("SELECT id FROM accounts WHERE user_id = ? ORDER BY id FOR NO KEY UPDATE")
            .bind::<BigInt, _>(user.0)
            .execute(self.conn())
            .store()?;
        Ok(())
    }

    /// Halts a user's trading. One that is halted further stays so. After the commit no order is accepted, and none that was
    /// accepted is sent, that the level does not let through. Answers the halt in force.
    ///
    /// # Errors
    /// The store's own.
    pub fn halt_user(&mut self, user: UserId, new: &NewHalt<'_>) -> Result<Halt, StoreError> {
        self.lock_risk_of(user)?;
        let (halt, news) = self.keep_halt(Some(user), new)?;
        self.lock_accounts_of(user)?;
        prepared("UPDATE accounts SET halt_user = ? WHERE user_id = ?")
            .bind::<Text, _>(halt.level.as_str())
            .bind::<BigInt, _>(user.0)
            .execute(self.conn())
            .store()?;
        // Whoever is about to send one of these has committed that, or sees the halt.
        prepared(
            "SELECT 0::bigint AS id FROM orders WHERE account_id IN (SELECT id FROM accounts WHERE user_id = ?) \
             AND closed_at IS NULL AND status = 'pending_submit' ORDER BY account_id, id FOR NO KEY UPDATE",
        )
        .bind::<BigInt, _>(user.0)
        .execute(self.conn())
        .store()?;
        self.enforce(insert_jobs!("a.user_id = ? AND "), Some(user))?;
        if news {
            self.alert(
                StreamId::User(user),
                &format!("trading is halted ({}): {}", halt.level, halt.reason),
                new.now,
            )?;
        }
        Ok(halt)
    }

    /// Halts everybody's trading; else as [`halt_user`](Self::halt_user).
    ///
    /// # Errors
    /// The store's own.
    pub fn halt_everybody(&mut self, new: &NewHalt<'_>) -> Result<Halt, StoreError> {
        let (halt, news) = self.keep_halt(None, new)?;
        self.lock_all_accounts()?;
        prepared("UPDATE accounts SET halt_global = ?")
            .bind::<Text, _>(halt.level.as_str())
            .execute(self.conn())
            .store()?;
        prepared(
            "SELECT 0::bigint AS id FROM orders WHERE closed_at IS NULL AND status = 'pending_submit' \
             ORDER BY account_id, id FOR NO KEY UPDATE",
        )
        .execute(self.conn())
        .store()?;
        self.enforce(insert_jobs!(""), None)?;
        if news {
            let message = format!("all trading is halted ({}): {}", halt.level, halt.reason);
            self.alert(StreamId::Broadcast, &message, new.now)?;
        }
        Ok(halt)
    }

    /// Writes a halt down unless one at least as far is in force; the one in force, and whether it is the new one.
    fn keep_halt(&mut self, scope: Option<UserId>, new: &NewHalt<'_>) -> Result<(Halt, bool), StoreError> {
        let before = self.halt_row(select_halt!(" FOR NO KEY UPDATE"), scope)?;
        if let Some(before) = before
            && before.level >= new.level
        {
            return Ok((before, false));
        }
        let reason: String = new.reason.chars().take(500).collect();
        prepared(
            "INSERT INTO risk_halts (user_id, level, cause, reason, by_user, since) VALUES (?, ?, ?, ?, ?, ?) \
             ON CONFLICT (user_id) DO UPDATE SET level = excluded.level, cause = excluded.cause, \
             reason = excluded.reason, by_user = excluded.by_user, since = excluded.since",
        )
        .bind::<Nullable<BigInt>, _>(scope.map(|user| user.0))
        .bind::<Text, _>(new.level.as_str())
        .bind::<Text, _>(new.cause.as_str())
        .bind::<Text, _>(reason.as_str())
        .bind::<Nullable<BigInt>, _>(new.by.map(|user| user.0))
        .bind::<Timestamptz, _>(new.now)
        .execute(self.conn())
        .store()?;
        let halt = Halt { level: new.level, cause: new.cause, reason, by: new.by, since: new.now };
        Ok((halt, true))
    }

    fn lock_all_accounts(&mut self) -> Result<(), StoreError> {
        prepared("SELECT id FROM accounts ORDER BY id FOR NO KEY UPDATE").execute(self.conn()).store()?;
        Ok(())
    }

    /// Gives a job to every account whose halt is not carried out and that has none: something came late, or its job is dead.
    /// Answers how many.
    ///
    /// # Errors
    /// The store's own.
    pub fn sweep_halts(&mut self) -> Result<usize, StoreError> {
        let cancels = insert_jobs!(
            "(a.halt_user IN ('cancel_open', 'flatten') OR a.halt_global IN ('cancel_open', 'flatten')) AND "
        );
        self.enforce(cancels, None)
    }

    fn enforce(&mut self, text: &'static str, user: Option<UserId>) -> Result<usize, StoreError> {
        let mut insert = prepared(text)
            .bind::<Text, _>(BROKER_QUEUE)
            .bind::<Text, _>(ENFORCE_HALT)
            .bind::<Integer, _>(i32::try_from(DEFAULT_ATTEMPTS).unwrap_or(i32::MAX));
        if let Some(user) = user {
            insert = insert.bind::<BigInt, _>(user.0);
        }
        let made = insert.execute(self.conn()).store()?;
        if made > 0 {
            self.wake(job_topic(BROKER_QUEUE));
        }
        Ok(made)
    }

    pub(super) fn alert(
        &mut self,
        stream: StreamId,
        message: &str,
        now: DateTime<Utc>,
    ) -> Result<(), StoreError> {
        let data = serde_json::json!({ "message": message, "severity": "critical" });
        self.append_events(stream, &[event(EventKind::SystemAlert, json(&data))], now)?;
        Ok(())
    }

    /// Ends a user's halt, and arms the daily loss again: reached already, it counts from the loss of now on. Entries are
    /// taken once the account was compared with its broker. Answers the halt that was in force. One for everybody stays.
    ///
    /// # Errors
    /// The store's own.
    pub fn resume_user(&mut self, user: UserId, now: DateTime<Utc>) -> Result<Option<Halt>, StoreError> {
        self.lock_risk_of(user)?;
        let Some(before) = self.halt_row(select_halt!(" FOR NO KEY UPDATE"), Some(user))? else {
            return Ok(None);
        };
        self.end_halt(Some(user))?;
        self.lock_accounts_of(user)?;
        prepared(rearmed!("SET halt_user = NULL, loss_rearmed = true, ", "user_id = ?"))
            .bind::<Timestamptz, _>(now)
            .bind::<BigInt, _>(user.0)
            .execute(self.conn())
            .store()?;
        self.wake(ACCOUNTS_TOPIC);
        self.alert(StreamId::User(user), "trading goes on: the halt was lifted", now)?;
        Ok(Some(before))
    }

    /// Ends the halt for everybody; those of users stay. Answers the halt that was in force.
    ///
    /// # Errors
    /// The store's own.
    pub fn resume_everybody(&mut self, now: DateTime<Utc>) -> Result<Option<Halt>, StoreError> {
        let Some(before) = self.halt_row(select_halt!(" FOR NO KEY UPDATE"), None)? else { return Ok(None) };
        self.end_halt(None)?;
        self.lock_all_accounts()?;
        prepared(rearmed!("SET halt_global = NULL, ", "halt_global IS NOT NULL"))
            .bind::<Timestamptz, _>(now)
            .execute(self.conn())
            .store()?;
        self.wake(ACCOUNTS_TOPIC);
        self.alert(StreamId::Broadcast, "trading goes on: the halt for everybody was lifted", now)?;
        Ok(Some(before))
    }

    fn end_halt(&mut self, scope: Option<UserId>) -> Result<(), StoreError> {
        prepared("UPDATE risk_halts SET level = NULL WHERE user_id IS NOT DISTINCT FROM ?")
            .bind::<Nullable<BigInt>, _>(scope.map(|user| user.0))
            .execute(self.conn())
            .store()?;
        Ok(())
    }
}
