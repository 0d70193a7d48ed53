//! Halting trading, and ending that.

use chrono::{DateTime, Utc};
use diesel::sql_types::{BigInt, Bool, Nullable, Text, Timestamptz};
use diesel::{OptionalExtension, QueryableByName, RunQueryDsl};
use plimsoll_core_domain::risk::{HaltCause, HaltLevel};
use plimsoll_core_domain::stream::{EventKind, StreamId};
use plimsoll_core_domain::views::json;
use plimsoll_core_domain::{AccountId, StoreError, UserId};
use serde::{Deserialize, Serialize};

use super::carry::Id;
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
    /// For the user, by the platform's operator.
    pub operator: Option<Halt>,
    /// For everybody.
    pub global: Option<Halt>,
    /// To how many accounts, of the user or of everybody, it was not brought yet.
    pub behind: u64,
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
    #[diesel(sql_type = Nullable<Text>)]
    operator_level: Option<String>,
    #[diesel(sql_type = Nullable<Text>)]
    operator_reason: Option<String>,
    #[diesel(sql_type = Nullable<Timestamptz>)]
    operator_since: Option<DateTime<Utc>>,
}

/// Of whom a user's halt is. What one has set, the other does not lift.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Setter {
    /// The user, or the daily loss; for everybody, whoever may.
    Own,
    /// The platform's operator.
    Operator,
}

fn halt(scope: &str, row: &Row) -> Result<Option<Halt>, StoreError> {
    let Some(level) = level("risk_halts", scope, row.level.as_deref())? else { return Ok(None) };
    Ok(Some(Halt {
        level,
        cause: row
            .cause
            .parse()
            .map_err(|why| StoreError::inconsistent("risk_halts", "cause", scope, why))?,
        reason: row.reason.clone(),
        by: row.by_user.map(UserId),
        since: row.since,
    }))
}

fn operator_halt(scope: &str, row: &Row) -> Result<Option<Halt>, StoreError> {
    let Some(level) = level("risk_halts", scope, row.operator_level.as_deref())? else { return Ok(None) };
    Ok(Some(Halt {
        level,
        cause: HaltCause::Manual,
        reason: row.operator_reason.clone().unwrap_or_default(),
        by: None,
        since: row.operator_since.unwrap_or(row.since),
    }))
}

macro_rules! select_halt {
    ($rest:literal) => {
        concat!(
            "SELECT level, cause, reason, by_user, since, operator_level, operator_reason, operator_since \
             FROM risk_halts WHERE user_id IS NOT DISTINCT FROM ?",
            $rest
        )
    };
}

impl Tx<'_> {
    /// What is halted for a user, who need not have an account; without a user, for everybody alone.
    ///
    /// # Errors
    /// The store's own.
    pub fn halt_state(&mut self, user: Option<UserId>) -> Result<HaltState, StoreError> {
        let (own, operator) = match user {
            Some(user) => self.halt_row(select_halt!(""), Some(user))?,
            None => (None, None),
        };
        let (global, _) = self.halt_row(select_halt!(""), None)?;
        Ok(HaltState { user: own, operator, global, behind: self.count_behind(user)? })
    }

    /// The halt, and that of the operator.
    fn halt_row(
        &mut self,
        text: &'static str,
        scope: Option<UserId>,
    ) -> Result<(Option<Halt>, Option<Halt>), StoreError> {
        let row = prepared(text)
            .bind::<Nullable<BigInt>, _>(scope.map(|user| user.0))
            .get_result::<Row>(self.conn())
            .optional()
            .store()?;
        let name = scope.map_or_else(|| "global".to_owned(), |user| user.to_string());
        let Some(row) = row else { return Ok((None, None)) };
        Ok((halt(&name, &row)?, operator_halt(&name, &row)?))
    }

    /// Locks every account of a user.
    pub(super) fn lock_accounts_of(&mut self, user: UserId) -> Result<Vec<i64>, StoreError> {
        let rows = prepared("SELECT id FROM accounts WHERE user_id = ? ORDER BY id FOR NO KEY UPDATE")
            .bind::<BigInt, _>(user.0)
            .load::<Id>(self.conn())
            .store()?;
        Ok(rows.into_iter().map(|row| row.id).collect())
    }

    /// Halts a user's trading. One that is halted further stays so. Answers the halt in force, of those that the user may
    /// lift.
    ///
    /// It holds for an account once it was brought there, which is to follow the commit: see
    /// [`carry_halts`](super::carry_halts).
    ///
    /// # Errors
    /// The store's own.
    pub fn halt_user(&mut self, user: UserId, new: &NewHalt<'_>) -> Result<Halt, StoreError> {
        self.halt_of(user, new, Setter::Own)
    }

    /// Halts a user's trading as the platform's operator, who alone lifts that. Else as [`halt_user`](Self::halt_user).
    ///
    /// # Errors
    /// The store's own.
    pub fn halt_user_by_operator(&mut self, user: UserId, new: &NewHalt<'_>) -> Result<Halt, StoreError> {
        self.halt_of(user, new, Setter::Operator)
    }

    fn halt_of(&mut self, user: UserId, new: &NewHalt<'_>, by: Setter) -> Result<Halt, StoreError> {
        self.lock_risk_of(user)?;
        let (halt, news) = self.keep_halt(Some(user), new, by)?;
        if news {
            let who = if by == Setter::Operator { " by the platform's operator" } else { "" };
            self.alert(
                StreamId::User(user),
                &format!("trading is halted{who} ({}): {}", halt.level, halt.reason),
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
        let (halt, news) = self.keep_halt(None, new, Setter::Own)?;
        if news {
            let message = format!("all trading is halted ({}): {}", halt.level, halt.reason);
            self.alert(StreamId::Broadcast, &message, new.now)?;
        }
        Ok(halt)
    }

    /// Writes a halt down unless one of this setter at least as far is in force; the one in force, and whether it is the new
    /// one.
    fn keep_halt(
        &mut self,
        scope: Option<UserId>,
        new: &NewHalt<'_>,
        by: Setter,
    ) -> Result<(Halt, bool), StoreError> {
        let (own, operator) = self.halt_row(select_halt!(" FOR NO KEY UPDATE"), scope)?;
        let before = if by == Setter::Operator { operator } else { own };
        if let Some(before) = before
            && before.level >= new.level
        {
            return Ok((before, false));
        }
        let reason: String = new.reason.chars().take(500).collect();
        let scope = scope.map(|user| user.0);
        match by {
            Setter::Own => prepared(
                "INSERT INTO risk_halts (user_id, level, cause, reason, by_user, since) VALUES (?, ?, ?, ?, ?, ?) \
                 ON CONFLICT (user_id) DO UPDATE SET level = excluded.level, cause = excluded.cause, \
                 reason = excluded.reason, by_user = excluded.by_user, since = excluded.since",
            )
            .bind::<Nullable<BigInt>, _>(scope)
            .bind::<Text, _>(new.level.as_str())
            .bind::<Text, _>(new.cause.as_str())
            .bind::<Text, _>(reason.as_str())
            .bind::<Nullable<BigInt>, _>(new.by.map(|user| user.0))
            .bind::<Timestamptz, _>(new.now),
            Setter::Operator => prepared(
                "INSERT INTO risk_halts (user_id, cause, reason, since, operator_level, operator_reason, operator_since) \
                 VALUES (?, 'manual', '', ?, ?, ?, ?) \
                 ON CONFLICT (user_id) DO UPDATE SET operator_level = excluded.operator_level, \
                 operator_reason = excluded.operator_reason, operator_since = excluded.operator_since",
            )
            .bind::<Nullable<BigInt>, _>(scope)
            .bind::<Timestamptz, _>(new.now)
            .bind::<Text, _>(new.level.as_str())
            .bind::<Text, _>(reason.as_str())
            .bind::<Timestamptz, _>(new.now),
        }
        .execute(self.conn())
        .store()?;
        let halt = Halt { level: new.level, cause: new.cause, reason, by: new.by, since: new.now };
        Ok((halt, true))
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

    /// Ends a user's halt. Of one for the daily loss, the loss that the last look has seen counts no more until the session
    /// ends: the next one takes the whole limit again. Entries are taken once the account was compared with its broker.
    /// Answers the halt that was in force. One by the operator stays, and one for everybody.
    ///
    /// # Errors
    /// The store's own.
    pub fn resume_user(&mut self, user: UserId, now: DateTime<Utc>) -> Result<Option<Halt>, StoreError> {
        self.lock_risk_of(user)?;
        let (Some(before), operator) = self.halt_row(select_halt!(" FOR NO KEY UPDATE"), Some(user))? else {
            return Ok(None);
        };
        self.end_halt(Some(user), Setter::Own, now)?;
        let accounts = self.lock_accounts_of(user)?;
        prepared(
            "UPDATE accounts SET loss_seen = NULL, \
             loss_baseline = CASE WHEN ? THEN greatest(loss_baseline, loss_seen) ELSE loss_baseline END WHERE user_id = ?",
        )
        .bind::<Bool, _>(before.cause == HaltCause::DailyLoss)
        .bind::<BigInt, _>(user.0)
        .execute(self.conn())
        .store()?;
        self.copy_to_locked(&accounts)?;
        let still = operator.map_or_else(
            || "trading goes on: the halt was lifted".to_owned(),
            |halt| format!("the halt was lifted; that by the platform's operator ({}) stays", halt.level),
        );
        self.alert(StreamId::User(user), &still, now)?;
        Ok(Some(before))
    }

    /// Ends what the operator halted for a user; the user's own halt stays. Answers the halt that was in force. To follow
    /// the commit: see [`carry_halts`](super::carry_halts).
    ///
    /// # Errors
    /// The store's own.
    pub fn resume_user_by_operator(
        &mut self,
        user: UserId,
        now: DateTime<Utc>,
    ) -> Result<Option<Halt>, StoreError> {
        self.lock_risk_of(user)?;
        let (own, Some(before)) = self.halt_row(select_halt!(" FOR NO KEY UPDATE"), Some(user))? else {
            return Ok(None);
        };
        self.end_halt(Some(user), Setter::Operator, now)?;
        let still = own.map_or_else(
            || "trading goes on: the operator's halt was lifted".to_owned(),
            |halt| format!("the operator's halt was lifted; your own ({}) stays", halt.level),
        );
        self.alert(StreamId::User(user), &still, now)?;
        Ok(Some(before))
    }

    /// Ends the halt for everybody; those of users stay. Answers the halt that was in force. To follow the commit: see
    /// [`carry_halts`](super::carry_halts).
    ///
    /// # Errors
    /// The store's own.
    pub fn resume_everybody(&mut self, now: DateTime<Utc>) -> Result<Option<Halt>, StoreError> {
        let (Some(before), _) = self.halt_row(select_halt!(" FOR NO KEY UPDATE"), None)? else {
            return Ok(None);
        };
        self.end_halt(None, Setter::Own, now)?;
        self.alert(StreamId::Broadcast, "trading goes on: the halt for everybody was lifted", now)?;
        Ok(Some(before))
    }

    /// `since` is when it ended, from then on: what is compared before that does not count.
    fn end_halt(&mut self, scope: Option<UserId>, of: Setter, now: DateTime<Utc>) -> Result<(), StoreError> {
        match of {
            Setter::Own => {
                prepared("UPDATE risk_halts SET level = NULL, since = ? WHERE user_id IS NOT DISTINCT FROM ?")
            }
            Setter::Operator => prepared(
                "UPDATE risk_halts SET operator_level = NULL, operator_since = ? WHERE user_id IS NOT DISTINCT FROM ?",
            ),
        }
        .bind::<Timestamptz, _>(now)
        .bind::<Nullable<BigInt>, _>(scope.map(|user| user.0))
        .execute(self.conn())
        .store()?;
        Ok(())
    }
}
