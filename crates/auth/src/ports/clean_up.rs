use chrono::{DateTime, Utc};
use plimsoll_core_domain::{StoreError, UserId};

use crate::clean_up::Old;

/// A store whose old rows can be deleted. No use case of accounts depends on it.
pub trait CleanUpStore {
    /// Deletes at most `limit` rows that ended, or were last used, before `before`, the oldest first, and returns how
    /// many. Rows that others are working on are passed over.
    ///
    /// # Errors
    ///
    /// When the store fails.
    fn delete_old(&mut self, what: Old, before: DateTime<Utc>, limit: usize) -> Result<usize, StoreError>;

    /// [`Old::UnverifiedAccounts`]: deletes at most `limit` users, and returns who they were, in the order of their ids.
    ///
    /// # Errors
    ///
    /// When the store fails.
    fn delete_unverified(&mut self, before: DateTime<Utc>, limit: usize) -> Result<Vec<UserId>, StoreError>;
}
