use chrono::{DateTime, Utc};
use plimsoll_core_domain::{StoreError, UserId};
use plimsoll_crypto::passwords::PasswordHash;

use crate::backup_codes::StoredCode;
use crate::totp::TotpSecret;
use crate::two_factor::{AttemptRecord, Budget, Factor, Method, Status};

/// Where second factors are kept. Writers lock the account first ([`lock_account_of`](super::AccountStore::lock_account_of)).
pub trait TwoFactorStore {
    /// What is stored of the user's second factor, pending or in force; `None` when there is neither.
    ///
    /// # Errors
    ///
    /// When the store fails. A secret that does not open is no error here, see [`StoredSecret`](crate::two_factor::StoredSecret).
    fn factor_of(&mut self, user: UserId) -> Result<Option<Factor>, StoreError>;

    /// What the user may see of it. No secret is opened.
    ///
    /// # Errors
    ///
    /// When the store fails.
    fn two_factor_status(&mut self, user: UserId) -> Result<Status, StoreError>;

    /// Keeps a secret and its backup codes until they are confirmed, in place of any that waited before. What is in
    /// force stays in force.
    ///
    /// # Errors
    ///
    /// When the store fails.
    fn set_pending_factor(
        &mut self,
        user: UserId,
        secret: &TotpSecret,
        expires_at: DateTime<Utc>,
        codes: &[PasswordHash],
        at: DateTime<Utc>,
    ) -> Result<(), StoreError>;

    /// Puts the pending secret, which is `secret`, and its backup codes in force, with `step` as the last one used, and
    /// every count of failures at zero. `false` when nothing is pending at `at`. One conditional statement decides.
    ///
    /// # Errors
    ///
    /// When the store fails.
    fn activate_pending_factor(
        &mut self,
        user: UserId,
        secret: &TotpSecret,
        step: i64,
        at: DateTime<Utc>,
    ) -> Result<bool, StoreError>;

    /// Uses a step up: `true` once, and only for a step above the last one of a factor in force. One conditional
    /// statement. Failures of the codes in a row begin anew.
    ///
    /// # Errors
    ///
    /// When the store fails.
    fn use_totp_step(&mut self, user: UserId, step: i64, at: DateTime<Utc>) -> Result<bool, StoreError>;

    /// The backup codes in force, used ones too, by slot.
    ///
    /// # Errors
    ///
    /// When the store fails.
    fn backup_codes_of(&mut self, user: UserId) -> Result<Vec<StoredCode>, StoreError>;

    /// Strikes a backup code: `true` once, and only while it is still the one with this hash. Failures of backup codes
    /// in a row begin anew.
    ///
    /// # Errors
    ///
    /// When the store fails.
    fn use_backup_code(
        &mut self,
        user: UserId,
        slot: i16,
        hash: &PasswordHash,
        at: DateTime<Utc>,
    ) -> Result<bool, StoreError>;

    /// Replaces all backup codes of the factor in force; their failures in a row begin anew.
    ///
    /// # Errors
    ///
    /// When the store fails.
    fn replace_backup_codes(
        &mut self,
        user: UserId,
        codes: &[PasswordHash],
        at: DateTime<Utc>,
    ) -> Result<(), StoreError>;

    /// Removes the factor, pending or in force, with its codes. `false` when there was none.
    ///
    /// # Errors
    ///
    /// When the store fails.
    fn remove_factor(&mut self, user: UserId) -> Result<bool, StoreError>;

    /// Counts a wrong code of one method; the `limit`th in a row disables that method until it is bound anew. `true`
    /// when it did so now.
    ///
    /// # Errors
    ///
    /// When the store fails.
    fn count_wrong_code(
        &mut self,
        user: UserId,
        method: Method,
        limit: u32,
        at: DateTime<Utc>,
    ) -> Result<bool, StoreError>;

    /// The times after `since` of attempts that count as failed, newest first, at most `most`. An attempt that began
    /// counts until it is known to have been accepted; one that was throttled does not.
    ///
    /// # Errors
    ///
    /// When the store fails.
    fn failed_attempts_since(
        &mut self,
        user: UserId,
        budget: Budget,
        since: DateTime<Utc>,
        most: u32,
    ) -> Result<Vec<DateTime<Utc>>, StoreError>;

    /// Records an attempt and returns its id.
    ///
    /// # Errors
    ///
    /// When the store fails.
    fn insert_factor_attempt(&mut self, user: UserId, attempt: &AttemptRecord) -> Result<i64, StoreError>;

    /// Records how an attempt ended.
    ///
    /// # Errors
    ///
    /// When the store fails.
    fn finish_factor_attempt(
        &mut self,
        user: UserId,
        attempt: i64,
        outcome: &str,
        step_offset: Option<i16>,
    ) -> Result<(), StoreError>;
}
