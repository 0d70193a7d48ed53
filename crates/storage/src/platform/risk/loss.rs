//! The daily loss of an account.

use chrono::{DateTime, Utc};
use diesel::sql_types::{BigInt, Bool, Nullable, Numeric, Text};
use diesel::{OptionalExtension, QueryableByName, RunQueryDsl};
use plimsoll_core_domain::audit::{AuditEntry, AuditOutcome};
use plimsoll_core_domain::risk::{HaltCause, LossMark, RiskLimits, RiskRefusal, look};
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
    #[diesel(sql_type = Bool)]
    loss_rearmed: bool,
}

macro_rules! select_loss {
    ($rest:literal) => {
        concat!(
            "SELECT user_id, risk_limits::text AS risk_limits, loss_baseline, loss_session, loss_rearmed \
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
            rearmed: self.loss_rearmed,
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
        equity: Decimal,
        last_equity: Decimal,
        now: DateTime<Utc>,
    ) -> Result<LossLook, StoreError> {
        let (equity, last_equity) = (equity.normalize(), last_equity.normalize());
        let Some(row) = self.loss_row(select_loss!(""), account)? else { return Ok(LossLook::Within) };
        let (limits, mark) = row.read(account)?;
        let first = look(&limits, mark, equity, last_equity);
        if limits.max_daily_loss.is_none() || (first.reached.is_none() && first.mark == mark) {
            return Ok(LossLook::Within);
        }
        // Again under the locks, in their order: limits, or the halt, may have changed meanwhile.
        let user = UserId(row.user_id);
        self.lock_risk_of(user)?;
        let halted = self.halt_state(Some(user))?.user;
        let Some(row) = self.loss_row(select_loss!(" FOR NO KEY UPDATE"), account)? else {
            return Ok(LossLook::Within);
        };
        let (limits, mark) = row.read(account)?;
        let seen = look(&limits, mark, equity, last_equity);
        if seen.mark != mark {
            prepared(
                "UPDATE accounts SET loss_baseline = ?, loss_session = ?, loss_rearmed = ? WHERE id = ?",
            )
            .bind::<Numeric, _>(seen.mark.baseline)
            .bind::<Nullable<Numeric>, _>(seen.mark.session)
            .bind::<Bool, _>(seen.mark.rearmed)
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
        let halt = self.halt_user(user, &new)?;
        let entry = AuditEntry {
            at: now,
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
                "rule": reached.rule.as_str(),
                "limit": reached.limit,
                "actual": reached.actual,
            }),
        };
        self.append_audit(Some(user), &entry)?;
        Ok(LossLook::Halts { reached, halt })
    }
}
