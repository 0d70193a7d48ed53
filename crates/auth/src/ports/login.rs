use chrono::{DateTime, Utc};
use plimsoll_core_domain::{StoreError, UserId};
use plimsoll_crypto::tokens::TokenDigest;
use uuid::Uuid;

use crate::login::{AttemptRecord, PasswordState, Place};

/// Where logins are recorded, and what is remembered of them.
pub trait LoginStore {
    /// How the user's password stands; the account is locked.
    ///
    /// # Errors
    ///
    /// When the store fails.
    fn password_state(&mut self, user: UserId) -> Result<PasswordState, StoreError>;

    /// Counts a wrong password of the user and returns how many came in a row.
    ///
    /// # Errors
    ///
    /// When the store fails.
    fn add_password_failure(&mut self, user: UserId) -> Result<u32, StoreError>;

    /// Forgets the wrong passwords of the user.
    ///
    /// # Errors
    ///
    /// When the store fails.
    fn clear_password_failures(&mut self, user: UserId) -> Result<(), StoreError>;

    /// Disables the user's password until it is reset.
    ///
    /// # Errors
    ///
    /// When the store fails.
    fn disable_password(&mut self, user: UserId, at: DateTime<Utc>) -> Result<(), StoreError>;

    /// Records an attempt.
    ///
    /// # Errors
    ///
    /// When the store fails.
    fn record_login_attempt(&mut self, attempt: &AttemptRecord) -> Result<(), StoreError>;

    /// Notes a pair of account and password that failed from a network, and returns how many distinct ones failed from
    /// there since `since`.
    ///
    /// # Errors
    ///
    /// When the store fails.
    fn add_failed_pair(
        &mut self,
        network: &[u8; 32],
        pair: &[u8; 32],
        since: DateTime<Utc>,
        at: DateTime<Utc>,
    ) -> Result<u32, StoreError>;

    /// Blocks a key of a throttle until `until`, or longer if it was.
    ///
    /// # Errors
    ///
    /// When the store fails.
    fn block(
        &mut self,
        kind: &str,
        key: &[u8],
        until: DateTime<Utc>,
        at: DateTime<Utc>,
    ) -> Result<(), StoreError>;

    /// Until when a key of a throttle is blocked, when it is at `now`.
    ///
    /// # Errors
    ///
    /// When the store fails.
    fn blocked_until(
        &mut self,
        kind: &str,
        key: &[u8],
        now: DateTime<Utc>,
    ) -> Result<Option<DateTime<Utc>>, StoreError>;

    /// Notes a place that the user signed in from. `true` when it is new.
    ///
    /// # Errors
    ///
    /// When the store fails.
    fn see_place(
        &mut self,
        user: UserId,
        place: Place,
        digest: &[u8; 32],
        at: DateTime<Utc>,
    ) -> Result<bool, StoreError>;

    /// Whether the user has signed in from anywhere before.
    ///
    /// # Errors
    ///
    /// When the store fails.
    fn has_places(&mut self, user: UserId) -> Result<bool, StoreError>;
}

/// What a mailed link stops.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum CancelPurpose {
    /// A password reset; the target is its id.
    PasswordReset,
    /// A reset of the second factor; the target is its id.
    TwoFactorReset,
    /// A change of address; the target is its id.
    EmailChange,
    /// Every session of the user.
    LogoutEverywhere,
}

impl CancelPurpose {
    /// Every purpose.
    pub const ALL: [Self; 4] =
        [Self::PasswordReset, Self::TwoFactorReset, Self::EmailChange, Self::LogoutEverywhere];

    /// The stored name.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Self::PasswordReset => "password_reset",
            Self::TwoFactorReset => "two_factor_reset",
            Self::EmailChange => "email_change",
            Self::LogoutEverywhere => "logout_everywhere",
        }
    }
}

/// A link of a mail that stops something.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct CancelToken {
    /// Names it.
    pub id: Uuid,
    /// Whose.
    pub user: UserId,
    /// What it stops.
    pub purpose: CancelPurpose,
    /// Which one.
    pub target: Option<Uuid>,
    /// When it was made.
    pub created_at: DateTime<Utc>,
    /// When it ends.
    pub expires_at: DateTime<Utc>,
}

/// Where the tokens of such links are kept, by their digests.
pub trait CancelStore {
    /// Stores one.
    ///
    /// # Errors
    ///
    /// When the store fails.
    fn insert_cancel_token(&mut self, digest: &TokenDigest, token: &CancelToken) -> Result<(), StoreError>;

    /// The owner of one that is neither expired nor used.
    ///
    /// # Errors
    ///
    /// When the store fails.
    fn cancel_token_owner(
        &mut self,
        digest: &TokenDigest,
        now: DateTime<Utc>,
    ) -> Result<Option<UserId>, StoreError>;

    /// Uses one up, unless it is unknown, expired or used: one guarded statement.
    ///
    /// # Errors
    ///
    /// When the store fails.
    fn take_cancel_token(
        &mut self,
        digest: &TokenDigest,
        now: DateTime<Utc>,
    ) -> Result<Option<CancelToken>, StoreError>;
}
