use std::net::IpAddr;

use chrono::{DateTime, Utc};
use plimsoll_core_domain::{StoreError, UserId};
use plimsoll_crypto::tokens::TokenDigest;
use uuid::Uuid;

use crate::User;
use crate::api_tokens::{After, DueNotice, TokenRecord};

/// A token that was found.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct FoundToken {
    /// The token.
    pub token: TokenRecord,
    /// Whose it is.
    pub user: User,
    /// Whether the owner's second factor is on.
    pub two_factor: bool,
}

/// Where API tokens are kept. One is found by its digest; the token itself is never stored.
pub trait ApiTokenStore {
    /// Stores a token of an existing user.
    ///
    /// # Errors
    ///
    /// When the store fails.
    fn insert_api_token(&mut self, digest: &TokenDigest, token: &TokenRecord) -> Result<(), StoreError>;

    /// The token with its user as stored now, whether or not either is still valid. One read.
    ///
    /// # Errors
    ///
    /// When the store fails.
    fn api_token_by_digest(&mut self, digest: &TokenDigest) -> Result<Option<FoundToken>, StoreError>;

    /// Notes a use; time moves forward, never back.
    ///
    /// # Errors
    ///
    /// When the store fails.
    fn touch_api_token(
        &mut self,
        user: UserId,
        token: Uuid,
        ip: Option<IpAddr>,
        at: DateTime<Utc>,
    ) -> Result<(), StoreError>;

    /// The user's tokens that are neither revoked nor expired at `now`, newest first, those after `after`, at most
    /// `limit`.
    ///
    /// # Errors
    ///
    /// When the store fails.
    fn live_api_tokens_of(
        &mut self,
        user: UserId,
        after: Option<After>,
        limit: usize,
        now: DateTime<Utc>,
    ) -> Result<Vec<TokenRecord>, StoreError>;

    /// Revokes a live token of the user. `false` when there is none such.
    ///
    /// # Errors
    ///
    /// When the store fails.
    fn revoke_api_token(&mut self, user: UserId, token: Uuid, at: DateTime<Utc>) -> Result<bool, StoreError>;

    /// Live tokens of active users that end after `now` and not after `until`, and of which nobody was told, the
    /// earliest first, at most `limit`.
    ///
    /// # Errors
    ///
    /// When the store fails.
    fn api_tokens_ending(
        &mut self,
        now: DateTime<Utc>,
        until: DateTime<Utc>,
        limit: usize,
    ) -> Result<Vec<DueNotice>, StoreError>;

    /// Notes that the owner was told, once. `false` when that was done before or the token is not live.
    ///
    /// # Errors
    ///
    /// When the store fails.
    fn mark_api_token_warned(
        &mut self,
        user: UserId,
        token: Uuid,
        at: DateTime<Utc>,
    ) -> Result<bool, StoreError>;
}
