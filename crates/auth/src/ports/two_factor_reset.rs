use chrono::{DateTime, Utc};
use plimsoll_core_domain::{StoreError, UserId};
use uuid::Uuid;

use crate::two_factor::OpenReset;

/// Resets of lost second factors, which take effect after a delay unless their owners stop them.
pub trait TwoFactorResetStore {
    /// The reset that waits to take effect.
    ///
    /// # Errors
    ///
    /// When the store fails.
    fn open_reset_of(&mut self, user: UserId) -> Result<Option<OpenReset>, StoreError>;

    /// Begins a reset.
    ///
    /// # Errors
    ///
    /// `Duplicate` when one is open; others when the store fails.
    fn insert_two_factor_reset(
        &mut self,
        reset: &OpenReset,
        requested_by: Option<UserId>,
        at: DateTime<Utc>,
    ) -> Result<(), StoreError>;

    /// Cancels an open reset; without an id, whichever is open. `false` when there is none such.
    ///
    /// # Errors
    ///
    /// When the store fails.
    fn cancel_two_factor_reset(
        &mut self,
        user: UserId,
        reset: Option<Uuid>,
        at: DateTime<Utc>,
    ) -> Result<bool, StoreError>;

    /// Open resets that are due at `at`, in ascending order of their users, at most `most`.
    ///
    /// # Errors
    ///
    /// When the store fails.
    fn due_two_factor_resets(&mut self, at: DateTime<Utc>, most: u32) -> Result<Vec<OpenReset>, StoreError>;

    /// Marks a reset as done. `false` when it is not open or not due.
    ///
    /// # Errors
    ///
    /// When the store fails.
    fn finish_two_factor_reset(
        &mut self,
        user: UserId,
        reset: Uuid,
        at: DateTime<Utc>,
    ) -> Result<bool, StoreError>;
}
