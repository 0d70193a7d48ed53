use chrono::{DateTime, Utc};
use plimsoll_core_domain::StoreError;

use crate::throttle::{FailureRule, Limit, Verdict};

/// Where attempts are counted, so that neither a restart nor another instance forgets them.
pub trait ThrottleStore {
    /// Counts one attempt under `kind` (at most 32 characters) and `key` (at most 32 bytes), unless that is over the limit.
    /// Atomic: parallel calls never let more through than the limit has.
    ///
    /// # Errors
    ///
    /// When the store fails.
    fn take(
        &mut self,
        kind: &str,
        key: &[u8],
        limit: Limit,
        now: DateTime<Utc>,
    ) -> Result<Verdict, StoreError>;

    /// Counts a failure under `kind` and `key`, before it is known whether it is one: [`ThrottleStore::clear`] takes it
    /// back. Blocked keys are not counted further. Atomic, as [`ThrottleStore::take`].
    ///
    /// # Errors
    ///
    /// When the store fails.
    fn count_failure(
        &mut self,
        kind: &str,
        key: &[u8],
        rule: FailureRule,
        now: DateTime<Utc>,
    ) -> Result<Verdict, StoreError>;

    /// Forgets what was counted under `kind` and `key`. `true` when there was anything.
    ///
    /// # Errors
    ///
    /// When the store fails.
    fn clear(&mut self, kind: &str, key: &[u8]) -> Result<bool, StoreError>;
}
