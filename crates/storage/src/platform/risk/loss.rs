//! The daily loss of an account.

use chrono::{DateTime, SecondsFormat, Utc};
use diesel::sql_types::{BigInt, Bool, Nullable, Numeric, Text};
use diesel::{OptionalExtension, QueryableByName, RunQueryDsl};
use plimsoll_core_domain::audit::{AuditEntry, AuditOutcome};
use plimsoll_core_domain::risk::{HaltCause, HaltLevel, LossMark, RiskLimits, RiskRefusal, RiskRule, look};
use plimsoll_core_domain::stream::StreamId;
use plimsoll_core_domain::{AccountId, StoreError, UserId};
use rust_decimal::Decimal;

use super::limits_of;
use super::{Halt, NewHalt};
use crate::db::Tx;
use crate::db::errors::StoreResult;
use crate::db::prepared::prepared;

/// What a look at an account's loss did.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum LossLook {
    /// There is no limit, or it is not reached.
    Within,
    /// It is reached by an account of which it is not certain what came in and went out today: nothing was done.
    Uncertain,
    /// It is reached, and trading was halted as far before.
    Halted,
    /// It is reached, and trading is halted by this.
    Halts {
        /// The limit and the loss.
        reached: RiskRefusal,
        /// The halt.
        halt: Halt,
    },
}

/// What a broker says an account is worth.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Worth {
    /// Cash and positions at market.
    pub equity: Decimal,
    /// That at the last session's close.
    pub last_equity: Decimal,
    /// Cash that came in since, less what went out.
    pub moved: Decimal,
    /// Whether `moved` is as new as the rest.
    pub certain: bool,
}

#[derive(QueryableByName)]
struct Row {
    #[diesel(sql_type = BigInt)]
    user_id: i64,
    #[diesel(sql_type = Nullable<Text>)]
    risk_limits: Option<String>,
    #[diesel(sql_type = Numeric)]
    loss_baseline: Decimal,
    #[diesel(sql_type = Nullable<Numeric>)]
    loss_session: Option<Decimal>,
    #[diesel(sql_type = Nullable<Numeric>)]
    loss_seen: Option<Decimal>,
}

macro_rules! select_loss {
    ($rest:literal) => {
        concat!(
            "SELECT user_id, risk_limits::text AS risk_limits, loss_baseline, loss_session, loss_seen \
             FROM accounts WHERE id = ?",
            $rest
        )
    };
}

impl Row {
    fn read(&self, account: AccountId) -> Result<(RiskLimits, LossMark), StoreError> {
        let mark = LossMark {
            baseline: self.loss_baseline.normalize(),
            session: self.loss_session.map(|close| close.normalize()),
            seen: self.loss_seen.map(|loss| loss.normalize()),
        };
        Ok((limits_of(account, self.risk_limits.as_deref())?, mark))
    }
}

impl Tx<'_> {
    fn loss_row(&mut self, text: &'static str, account: AccountId) -> Result<Option<Row>, StoreError> {
        prepared(text).bind::<BigInt, _>(account.0).get_result::<Row>(self.conn()).optional().store()
    }

    /// Looks at an account's equity, and halts its owner's trading when the daily loss has reached its limit.
    ///
    /// # Errors
    /// The store's own.
    pub fn look_at_loss(
        &mut self,
        account: AccountId,
        worth: Worth,
        now: DateTime<Utc>,
    ) -> Result<LossLook, StoreError> {
        let close = worth.last_equity.normalize();
        let (equity, moved) = (worth.equity.normalize(), worth.moved.normalize());
        let Some(row) = self.loss_row(select_loss!(""), account)? else { return Ok(LossLook::Within) };
        let (limits, mark) = row.read(account)?;
        let first = look(&limits, mark, equity, close, moved);
        if limits.max_daily_loss.is_none() || (first.reached.is_none() && first.mark == mark) {
            return Ok(LossLook::Within);
        }
        if first.reached.is_some() && !worth.certain {
            return Ok(LossLook::Uncertain);
        }
        // Again under the locks, in their order: limits, or the halt, may have changed meanwhile.
        let user = UserId(row.user_id);
        self.lock_risk_of(user)?;
        let halted = self.halt_state(Some(user))?.user;
        let Some(row) = self.loss_row(select_loss!(" FOR NO KEY UPDATE"), account)? else {
            return Ok(LossLook::Within);
        };
        let (limits, mark) = row.read(account)?;
        let seen = look(&limits, mark, equity, close, moved);
        if seen.mark != mark {
            prepared("UPDATE accounts SET loss_baseline = ?, loss_session = ?, loss_seen = ? WHERE id = ?")
                .bind::<Numeric, _>(seen.mark.baseline)
                .bind::<Nullable<Numeric>, _>(seen.mark.session)
                .bind::<Nullable<Numeric>, _>(seen.mark.seen)
                .bind::<BigInt, _>(account.0)
                .execute(self.conn())
                .store()?;
        }
        let Some(reached) = seen.reached else { return Ok(LossLook::Within) };
        let level = limits.daily_loss_action;
        if halted.is_some_and(|halt| halt.level >= level) {
            return Ok(LossLook::Halted);
        }
        let reason = format!("the daily loss reached its limit: {} of {}", reached.actual, reached.limit);
        let new = NewHalt { level, cause: HaltCause::DailyLoss, reason: &reason, by: None, now };
        let halt = self.halt_for_loss(account, user, &new, &reached.limit, &reached.actual)?;
        Ok(LossLook::Halts { reached, halt })
    }

    /// Halts a user's trading because of the daily loss, in this account at once: under its lock. To the user's others that
    /// is to be brought after the commit.
    fn halt_for_loss(
        &mut self,
        account: AccountId,
        user: UserId,
        new: &NewHalt<'_>,
        limit: &str,
        actual: &str,
    ) -> Result<Halt, StoreError> {
        let halt = self.halt_user(user, new)?;
        self.copy_to_locked(&[account.0])?;
        let entry = AuditEntry {
            at: new.now,
            action: "risk.halt".into(),
            outcome: AuditOutcome::Success,
            actor_id: None,
            subject_id: Some(user),
            ip: None,
            user_agent: None,
            request_id: None,
            detail: serde_json::json!({
                "scope": "user",
                "level": halt.level,
                "cause": halt.cause,
                "rule": RiskRule::MaxDailyLoss.as_str(),
                "limit": limit,
                "actual": actual,
            }),
        };
        self.append_audit(Some(user), &entry)?;
        Ok(halt)
    }

    /// The broker does not say what an account is worth, although its owner has a limit of the daily loss: tells the owner,
    /// and with `halts`, blocks entries until that is lifted. Only while the account has something open or held. Answers
    /// whether anything was done.
    ///
    /// # Errors
    /// The store's own.
    pub fn loss_is_unseen(
        &mut self,
        account: AccountId,
        since: DateTime<Utc>,
        halts: bool,
        now: DateTime<Utc>,
    ) -> Result<bool, StoreError> {
        #[derive(QueryableByName)]
        struct AtRisk {
            #[diesel(sql_type = Bool)]
            at_risk: bool,
        }
        let Some(row) = self.loss_row(select_loss!(""), account)? else { return Ok(false) };
        let user = UserId(row.user_id);
        self.lock_risk_of(user)?;
        let halted = self.halt_state(Some(user))?.user;
        let Some(row) = self.loss_row(select_loss!(" FOR NO KEY UPDATE"), account)? else {
            return Ok(false);
        };
        let (limits, _) = row.read(account)?;
        let Some(limit) = limits.max_daily_loss else { return Ok(false) };
        let row = prepared(
            "SELECT EXISTS (SELECT FROM orders WHERE account_id = ? AND closed_at IS NULL) \
             OR EXISTS (SELECT FROM positions WHERE account_id = ? AND qty <> 0) AS at_risk",
        )
        .bind::<BigInt, _>(account.0)
        .bind::<BigInt, _>(account.0)
        .get_result::<AtRisk>(self.conn())
        .store()?;
        if !row.at_risk || (halts && halted.is_some()) {
            return Ok(false);
        }
        let why = format!(
            "the daily loss cannot be held against its limit: since {} the broker does not say what the account is worth",
            since.to_rfc3339_opts(SecondsFormat::Secs, true)
        );
        if halts {
            let level = HaltLevel::BlockEntries;
            let new = NewHalt { level, cause: HaltCause::DailyLoss, reason: &why, by: None, now };
            self.halt_for_loss(account, user, &new, &limit.to_string(), "unknown")?;
        } else {
            self.alert(StreamId::User(user), &why, now)?;
        }
        Ok(true)
    }
}
