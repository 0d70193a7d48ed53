use chrono::{DateTime, Utc};
use plimsoll_core_domain::{StoreError, UserId};
use plimsoll_crypto::passwords::PasswordHash;

use crate::admin::{Filter, Listed};
use crate::{AccountState, Role};

/// What the administration of users needs of a store. Deleted users are no users to it.
pub trait UserAdminStore {
    /// Users that pass the filter, newest first, those with an id below `before`, at most `limit`.
    ///
    /// # Errors
    ///
    /// When the store fails.
    fn list_users(
        &mut self,
        filter: &Filter,
        before: Option<UserId>,
        limit: usize,
    ) -> Result<Vec<Listed>, StoreError>;

    /// One user, without a lock.
    ///
    /// # Errors
    ///
    /// When the store fails.
    fn listed_user(&mut self, user: UserId) -> Result<Option<Listed>, StoreError>;

    /// Locks the accounts of every active administrator and of `user`, in the order of their ids, until the transaction
    /// ends, and returns the administrators as they are then. Whoever may end the last of them takes this lock and no
    /// other of an account.
    ///
    /// # Errors
    ///
    /// When the store fails.
    fn lock_admins_and(&mut self, user: UserId) -> Result<Vec<UserId>, StoreError>;

    /// Users with an open session, in the order of their ids, those with an id above `after`, at most `limit`.
    ///
    /// # Errors
    ///
    /// When the store fails.
    fn signed_in_users(&mut self, after: Option<UserId>, limit: usize) -> Result<Vec<UserId>, StoreError>;

    /// Gives a user another role.
    ///
    /// # Errors
    ///
    /// When the store fails.
    fn set_role(&mut self, user: UserId, role: Role, at: DateTime<Utc>) -> Result<(), StoreError>;

    /// Lets a user in, or no longer.
    ///
    /// # Errors
    ///
    /// When the store fails.
    fn set_state(&mut self, user: UserId, state: AccountState, at: DateTime<Utc>) -> Result<(), StoreError>;

    /// Makes a disabled user nobody: address and name are overwritten, the password replaced by `unusable`, everything
    /// that belongs to signing in destroyed, the data key with every secret sealed under it too, the broker accounts disabled. Orders and audit entries keep the id.
    ///
    /// # Errors
    ///
    /// When the store fails.
    fn erase_user(
        &mut self,
        user: UserId,
        unusable: &PasswordHash,
        at: DateTime<Utc>,
    ) -> Result<(), StoreError>;
}
