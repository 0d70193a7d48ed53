use chrono::{DateTime, Utc};
use plimsoll_core_domain::{StoreError, UserId};
use plimsoll_crypto::tokens::TokenDigest;
use uuid::Uuid;

use crate::challenges::Challenge;

/// Where right passwords wait for their second factor. A challenge is found by the digest of its token.
pub trait ChallengeStore {
    /// Stores a challenge.
    ///
    /// # Errors
    ///
    /// When the store fails.
    fn insert_challenge(&mut self, digest: &TokenDigest, challenge: &Challenge) -> Result<(), StoreError>;

    /// The challenge, live or not.
    ///
    /// # Errors
    ///
    /// When the store fails.
    fn challenge_by_digest(&mut self, digest: &TokenDigest) -> Result<Option<Challenge>, StoreError>;

    /// Takes one of a live challenge's `most` tries, before the code is looked at. `false` when the challenge is not
    /// live or has none left. One conditional statement.
    ///
    /// # Errors
    ///
    /// When the store fails.
    fn take_challenge_try(
        &mut self,
        user: UserId,
        challenge: Uuid,
        most: u32,
        at: DateTime<Utc>,
    ) -> Result<bool, StoreError>;

    /// Uses a challenge up: `true` once, and only while it is live. One conditional statement.
    ///
    /// # Errors
    ///
    /// When the store fails.
    fn use_challenge(&mut self, user: UserId, challenge: Uuid, at: DateTime<Utc>)
    -> Result<bool, StoreError>;
}
