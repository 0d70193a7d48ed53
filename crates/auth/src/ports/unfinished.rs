use chrono::{DateTime, Utc};
use plimsoll_core_domain::{StoreError, UserId};
use uuid::Uuid;

use crate::unfinished::Unfinished;

/// Where right passwords are found whose second factor did not come.
pub trait UnfinishedStore {
    /// Challenges that were made at `until` or before, led to nothing and were not voided, and of which nobody was told:
    /// the oldest first, at most `limit`.
    ///
    /// # Errors
    ///
    /// When the store fails.
    fn unfinished_challenges(
        &mut self,
        until: DateTime<Utc>,
        limit: usize,
    ) -> Result<Vec<Unfinished>, StoreError>;

    /// Notes that a challenge was dealt with: `true` once, and only while it is unfinished. One conditional statement.
    ///
    /// # Errors
    ///
    /// When the store fails.
    fn mark_challenge_told(
        &mut self,
        user: UserId,
        challenge: Uuid,
        at: DateTime<Utc>,
    ) -> Result<bool, StoreError>;
}
