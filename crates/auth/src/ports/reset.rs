use chrono::{DateTime, Utc};
use plimsoll_core_domain::{StoreError, UserId};
use plimsoll_crypto::tokens::TokenDigest;
use uuid::Uuid;

use crate::{ClientInfo, EmailAddress};

/// A link to choose a new password.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct PasswordReset {
    /// Names it.
    pub id: Uuid,
    /// Whose password.
    pub user: UserId,
    /// When it was asked for.
    pub created_at: DateTime<Utc>,
    /// When it ends, that instant excluded.
    pub expires_at: DateTime<Utc>,
    /// Who asked for it.
    pub requested: ClientInfo,
}

/// Where links to choose a new password are kept, by the digest of their token.
pub trait ResetStore {
    /// Stores one, and voids every older one of the user.
    ///
    /// # Errors
    ///
    /// When the store fails.
    fn insert_password_reset(
        &mut self,
        digest: &TokenDigest,
        reset: &PasswordReset,
    ) -> Result<(), StoreError>;

    /// One that is neither used, voided nor expired at `now`.
    ///
    /// # Errors
    ///
    /// When the store fails.
    fn open_password_reset(
        &mut self,
        digest: &TokenDigest,
        now: DateTime<Utc>,
    ) -> Result<Option<PasswordReset>, StoreError>;

    /// Uses one up, with who did: one guarded statement. `None` when it is not open.
    ///
    /// # Errors
    ///
    /// When the store fails.
    fn take_password_reset(
        &mut self,
        digest: &TokenDigest,
        used: &ClientInfo,
        now: DateTime<Utc>,
    ) -> Result<Option<PasswordReset>, StoreError>;

    /// Voids one. `false` when it is not open.
    ///
    /// # Errors
    ///
    /// When the store fails.
    fn void_password_reset(&mut self, user: UserId, id: Uuid, now: DateTime<Utc>)
    -> Result<bool, StoreError>;
}

/// A change of address that was asked for.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct EmailChange {
    /// Names it.
    pub id: Uuid,
    /// Whose address.
    pub user: UserId,
    /// The address until now.
    pub old: EmailAddress,
    /// The address to be.
    pub new: EmailAddress,
    /// When it was asked for.
    pub created_at: DateTime<Utc>,
    /// When its link ends, that instant excluded.
    pub expires_at: DateTime<Utc>,
    /// When it was confirmed.
    pub confirmed_at: Option<DateTime<Utc>>,
}

/// Where changes of addresses are kept, by the digest of their token.
pub trait EmailChangeStore {
    /// Stores one, and cancels every other of the user that is not confirmed.
    ///
    /// # Errors
    ///
    /// When the store fails.
    fn insert_email_change(&mut self, digest: &TokenDigest, change: &EmailChange) -> Result<(), StoreError>;

    /// One that is neither confirmed, cancelled nor expired at `now`.
    ///
    /// # Errors
    ///
    /// When the store fails.
    fn open_email_change(
        &mut self,
        digest: &TokenDigest,
        now: DateTime<Utc>,
    ) -> Result<Option<EmailChange>, StoreError>;

    /// Confirms one: one guarded statement. `false` when it is not open.
    ///
    /// # Errors
    ///
    /// When the store fails.
    fn confirm_email_change(
        &mut self,
        user: UserId,
        id: Uuid,
        now: DateTime<Utc>,
    ) -> Result<bool, StoreError>;

    /// Cancels one, confirmed or not, with every later one of the user, and returns it as it was. `None` when there is none
    /// such, or it was cancelled.
    ///
    /// # Errors
    ///
    /// When the store fails.
    fn cancel_email_change(
        &mut self,
        user: UserId,
        id: Uuid,
        now: DateTime<Utc>,
    ) -> Result<Option<EmailChange>, StoreError>;

    /// Takes an address from an account that never confirmed it, so that whoever proved to have the mailbox can have it.
    /// `false` when no such account holds it.
    ///
    /// # Errors
    ///
    /// When the store fails.
    fn release_unconfirmed_email(
        &mut self,
        email: &EmailAddress,
        at: DateTime<Utc>,
    ) -> Result<bool, StoreError>;

    /// Gives a user another address.
    ///
    /// # Errors
    ///
    /// `Duplicate` when it is taken; others when the store fails.
    fn set_email(&mut self, user: UserId, email: &EmailAddress, at: DateTime<Utc>) -> Result<(), StoreError>;
}
