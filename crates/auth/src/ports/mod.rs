//! What an embedder implements: where accounts and sessions are kept.
//!
//! One value, such as a database transaction, usually implements both. Methods see the writes made before through the
//! same value, and nothing of a transaction that fails remains.

mod api_tokens;
mod challenges;
mod clean_up;
mod login;
mod mail;
mod reset;
mod setup;
mod throttle;
mod two_factor;
mod two_factor_reset;
mod unfinished;
mod user_admin;
mod vault;
mod verification;

use std::net::IpAddr;

use chrono::{DateTime, Utc};
use plimsoll_core_domain::audit::AuditLog;
use plimsoll_core_domain::{StoreError, UserId};
use plimsoll_crypto::passwords::PasswordHash;
use plimsoll_crypto::tokens::TokenDigest;
use uuid::Uuid;

use crate::{Account, EmailAddress, NewUser, Session, User};

pub use api_tokens::{ApiTokenStore, FoundToken};
pub use challenges::ChallengeStore;
pub use clean_up::CleanUpStore;
pub use login::{CancelPurpose, CancelStore, CancelToken, LoginStore};
pub use mail::MailOutbox;
pub use reset::{EmailChange, EmailChangeStore, PasswordReset, ResetStore};
pub use setup::SetupStore;
pub use throttle::ThrottleStore;
pub use two_factor::TwoFactorStore;
pub use two_factor_reset::TwoFactorResetStore;
pub use unfinished::UnfinishedStore;
pub use user_admin::UserAdminStore;
pub use vault::VaultStore;
pub use verification::{
    Claim, NewRegistration, NewVerification, RegistrationStatus, UsedVerification, VerificationStore,
};

/// All that the use cases of accounts need of a store, in one transaction.
pub trait AuthStore:
    AccountStore
    + SessionStore
    + ThrottleStore
    + TwoFactorStore
    + TwoFactorResetStore
    + ChallengeStore
    + UnfinishedStore
    + VerificationStore
    + SetupStore
    + ApiTokenStore
    + LoginStore
    + CancelStore
    + ResetStore
    + EmailChangeStore
    + UserAdminStore
    + VaultStore
    + MailOutbox
    + AuditLog
{
}

impl<S> AuthStore for S where
    S: AccountStore
        + SessionStore
        + ThrottleStore
        + LoginStore
        + CancelStore
        + ResetStore
        + EmailChangeStore
        + TwoFactorStore
        + TwoFactorResetStore
        + ChallengeStore
        + UnfinishedStore
        + VerificationStore
        + SetupStore
        + ApiTokenStore
        + UserAdminStore
        + VaultStore
        + MailOutbox
        + AuditLog
        + ?Sized
{
}

/// Where users are kept.
pub trait AccountStore {
    /// The account whose address has the same folded form, without a lock.
    ///
    /// # Errors
    ///
    /// When the store fails.
    fn account_by_email(&mut self, email: &EmailAddress) -> Result<Option<Account>, StoreError>;

    /// The account, locked against every other writer until the transaction ends. Writers of an account's sessions,
    /// password or state take this lock first.
    ///
    /// # Errors
    ///
    /// When the store fails.
    fn lock_account_of(&mut self, user: UserId) -> Result<Option<Account>, StoreError>;

    /// The user, without a lock.
    ///
    /// # Errors
    ///
    /// When the store fails.
    fn user_by_id(&mut self, user: UserId) -> Result<Option<User>, StoreError>;

    /// Stores an active user and returns the new id.
    ///
    /// # Errors
    ///
    /// `Duplicate` when the folded address is taken; others when the store fails.
    fn insert_user(&mut self, user: &NewUser) -> Result<UserId, StoreError>;

    /// Replaces the password hash of a user that exists.
    ///
    /// # Errors
    ///
    /// When the store fails.
    fn set_password_hash(
        &mut self,
        user: UserId,
        hash: &PasswordHash,
        at: DateTime<Utc>,
    ) -> Result<(), StoreError>;
}

/// Where sessions are kept. A session is found by the digest of its token; the token itself is never stored.
pub trait SessionStore {
    /// Stores a session of an existing user.
    ///
    /// # Errors
    ///
    /// When the store fails.
    fn insert_session(&mut self, digest: &TokenDigest, session: &Session) -> Result<(), StoreError>;

    /// The session with its user as stored now, whether or not either is still valid.
    ///
    /// # Errors
    ///
    /// When the store fails.
    fn session_by_digest(&mut self, digest: &TokenDigest) -> Result<Option<(Session, User)>, StoreError>;

    /// The user's sessions that are neither revoked nor expired at `now`, oldest first.
    ///
    /// # Errors
    ///
    /// When the store fails.
    fn live_sessions_of(&mut self, user: UserId, now: DateTime<Utc>) -> Result<Vec<Session>, StoreError>;

    /// Moves the session's times forward, never back, unless it is revoked.
    ///
    /// # Errors
    ///
    /// When the store fails.
    fn touch_session(
        &mut self,
        user: UserId,
        session: Uuid,
        last_seen_at: DateTime<Utc>,
        idle_expires_at: DateTime<Utc>,
    ) -> Result<(), StoreError>;

    /// Revokes one session of the user. `false` when there is none such or it was revoked before; the first time stays.
    ///
    /// # Errors
    ///
    /// When the store fails.
    fn revoke_session(&mut self, user: UserId, session: Uuid, at: DateTime<Utc>) -> Result<bool, StoreError>;

    /// Revokes every session of the user but `except`, and returns how many were not revoked before.
    ///
    /// # Errors
    ///
    /// When the store fails.
    fn revoke_all_sessions_of(
        &mut self,
        user: UserId,
        except: Option<Uuid>,
        at: DateTime<Utc>,
    ) -> Result<u64, StoreError>;

    /// Gives a live session a new token; the old one opens nothing from the commit on. With `step_up_until`, a factor was
    /// proven now at `step_up_ip`. `false` when the session is not live.
    ///
    /// # Errors
    ///
    /// When the store fails.
    fn rotate_session(
        &mut self,
        user: UserId,
        session: Uuid,
        digest: &TokenDigest,
        step_up: Option<(DateTime<Utc>, Option<IpAddr>)>,
        at: DateTime<Utc>,
    ) -> Result<bool, StoreError>;

    /// Ends everything that was opened for the user before: every session but `except`, login challenges, reset links,
    /// and API tokens when asked. Returns how many sessions ended.
    ///
    /// # Errors
    ///
    /// When the store fails.
    fn close_doors(
        &mut self,
        user: UserId,
        except: Option<Uuid>,
        with_api_tokens: bool,
        at: DateTime<Utc>,
    ) -> Result<u64, StoreError>;
}
