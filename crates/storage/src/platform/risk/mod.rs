//! Risk: limits and halts of users and of everybody, their copies on the accounts' rows, and the daily loss.
//!
//! A user's limits and halts change under the lock of the user's row, then of the halt for everybody, then of the accounts
//! in ascending order. Every order is accepted under its account's lock: what has reached an account holds for all that is
//! accepted there afterwards. Halts are committed first and brought to the accounts then, one by one.

mod carry;
mod enforce;
mod exposure;
mod halts;
mod limits;
mod loss;

use diesel::QueryableByName;
use diesel::RunQueryDsl;
use diesel::sql_types::{BigInt, Nullable, Text};
use plimsoll_core_domain::risk::{HaltLevel, Halts, RiskLimits};
use plimsoll_core_domain::{AccountId, StoreError, UserId};

pub use carry::{carry_halts, insist};
pub use enforce::{Close, Enforced, FLATTEN};
pub use exposure::ExposureQuery;
pub use halts::{ENFORCE_HALT, EnforcePayload, Halt, HaltState, NewHalt};
pub use limits::StoredLimits;
pub use loss::{LossLook, Worth};

use crate::db::Tx;
use crate::db::errors::StoreResult;
use crate::db::prepared::prepared;

/// The copies of halts on an account's row.
#[derive(QueryableByName)]
pub(crate) struct HaltColumns {
    #[diesel(sql_type = Nullable<Text>)]
    halt_user: Option<String>,
    #[diesel(sql_type = Nullable<Text>)]
    halt_global: Option<String>,
}

impl HaltColumns {
    pub(crate) fn halts(&self, account: AccountId) -> Result<Halts, StoreError> {
        halts_of(account, self.halt_user.as_deref(), self.halt_global.as_deref())
    }
}

/// Reads an account's copies of halts.
pub(crate) fn halts_of(
    account: AccountId,
    user: Option<&str>,
    global: Option<&str>,
) -> Result<Halts, StoreError> {
    Ok(Halts { user: level("accounts", account, user)?, global: level("accounts", account, global)? })
}

fn level(
    table: &str,
    id: impl std::fmt::Display,
    text: Option<&str>,
) -> Result<Option<HaltLevel>, StoreError> {
    text.map(str::parse)
        .transpose()
        .map_err(|why| StoreError::inconsistent(table, "level of a halt", id, why))
}

/// Reads limits; none at all when there are none.
pub(crate) fn limits_of(id: impl std::fmt::Display, text: Option<&str>) -> Result<RiskLimits, StoreError> {
    let read = text.map(serde_json::from_str).transpose();
    Ok(read.map_err(|why| StoreError::inconsistent("risk_limits", "limits", id, why))?.unwrap_or_default())
}

impl Tx<'_> {
    /// Locks the row that says what a user is: first of all that is the user's own.
    fn lock_risk_of(&mut self, user: UserId) -> Result<(), StoreError> {
        prepared("SELECT id FROM users WHERE id = ? FOR NO KEY UPDATE")
            .bind::<BigInt, _>(user.0)
            .execute(self.conn())
            .store()?;
        Ok(())
    }

    /// Keeps the halt for everybody as it is until the transaction ends: before any account is locked.
    pub(crate) fn share_global_halt(&mut self) -> Result<(), StoreError> {
        prepared("SELECT 0::bigint AS id FROM risk_halts WHERE user_id IS NULL FOR SHARE")
            .execute(self.conn())
            .store()?;
        Ok(())
    }

    /// Gives all accounts of a user the copies of limits and halts: after one was added.
    pub(crate) fn copy_risk(&mut self, user: UserId) -> Result<(), StoreError> {
        self.share_global_halt()?;
        prepared(
            "UPDATE accounts a SET risk_limits = (SELECT l.limits FROM risk_limits l WHERE l.user_id = a.user_id), \
             halt_user = (SELECT h.in_force FROM risk_halts h WHERE h.user_id = a.user_id), \
             halt_global = (SELECT h.in_force FROM risk_halts h WHERE h.user_id IS NULL) WHERE a.user_id = ?",
        )
        .bind::<BigInt, _>(user.0)
        .execute(self.conn())
        .store()?;
        Ok(())
    }
}
