use chrono::{DateTime, Utc};
use plimsoll_core_domain::StoreError;
use plimsoll_crypto::tokens::TokenDigest;
use uuid::Uuid;

/// Where the token that makes the first administrator is kept.
pub trait SetupStore {
    /// Waits for every other transaction that issues or uses a setup token, and keeps later ones waiting.
    ///
    /// # Errors
    ///
    /// When the store fails.
    fn lock_setup(&mut self) -> Result<(), StoreError>;

    /// Whether there is an administrator, or was one made by a token.
    ///
    /// # Errors
    ///
    /// When the store fails.
    fn is_set_up(&mut self) -> Result<bool, StoreError>;

    /// Stores a token and forgets every one that was not used.
    ///
    /// # Errors
    ///
    /// When the store fails.
    fn replace_setup_token(
        &mut self,
        id: Uuid,
        digest: &TokenDigest,
        created_at: DateTime<Utc>,
        expires_at: DateTime<Utc>,
    ) -> Result<(), StoreError>;

    /// Whether the token could be used at `at`.
    ///
    /// # Errors
    ///
    /// When the store fails.
    fn setup_token_is_live(&mut self, digest: &TokenDigest, at: DateTime<Utc>) -> Result<bool, StoreError>;

    /// Uses the token up, in one statement, unless it was used or has expired at `at`. `true` once.
    ///
    /// # Errors
    ///
    /// When the store fails.
    fn use_setup_token(&mut self, digest: &TokenDigest, at: DateTime<Utc>) -> Result<bool, StoreError>;
}
