use chrono::{DateTime, Utc};
use plimsoll_core_domain::{StoreError, StoreErrorKind, UserId};
use plimsoll_crypto::passwords::PasswordHash;

use super::MemoryStore;
use crate::admin::{Filter, Listed};
use crate::ports::{TwoFactorStore, UserAdminStore};
use crate::{Account, AccountState, Role};

/// The address of a deleted user.
fn nobody(user: UserId) -> String {
    format!("deleted-{user}@deleted.invalid")
}

impl MemoryStore {
    fn known(&mut self, user: UserId) -> Result<&mut Account, StoreError> {
        let missing = || StoreError::new(StoreErrorKind::Other, "no such user");
        self.accounts.get_mut(&user.0).ok_or_else(missing)
    }
}

impl UserAdminStore for MemoryStore {
    fn list_users(
        &mut self,
        filter: &Filter,
        before: Option<UserId>,
        limit: usize,
    ) -> Result<Vec<Listed>, StoreError> {
        self.call()?;
        let ids: Vec<i64> = self.accounts.keys().rev().copied().collect();
        let mut listed = Vec::new();
        for id in ids.into_iter().filter(|id| before.is_none_or(|before| *id < before.0)) {
            listed.extend(self.listed_user(UserId(id))?);
        }
        let text = filter.text.as_deref().map(str::to_lowercase);
        listed.retain(|Listed { user, .. }| {
            let has = |part: &String| {
                user.email.folded().contains(part)
                    || user.display_name.as_ref().is_some_and(|name| name.to_lowercase().contains(part))
            };
            filter.state.is_none_or(|state| user.state == state)
                && filter.role.is_none_or(|role| user.role == role)
                && text.as_ref().is_none_or(has)
        });
        listed.truncate(limit);
        Ok(listed)
    }

    fn listed_user(&mut self, user: UserId) -> Result<Option<Listed>, StoreError> {
        self.call()?;
        let Some(account) = self.accounts.get(&user.0).cloned() else { return Ok(None) };
        if account.user.email.as_str() == nobody(user) {
            return Ok(None);
        }
        let two_factor = self.two_factor_status(user)?.enabled_at.is_some();
        let created_at = DateTime::UNIX_EPOCH;
        Ok(Some(Listed { user: account.user, created_at, two_factor, password_disabled: false }))
    }

    fn lock_admins_and(&mut self, _user: UserId) -> Result<Vec<UserId>, StoreError> {
        self.call()?;
        let active = |account: &&Account| {
            (account.user.role, account.user.state) == (Role::Admin, AccountState::Active)
                && account.user.email_verified_at.is_some()
        };
        Ok(self.accounts.values().filter(active).map(|account| account.user.id).collect())
    }

    fn signed_in_users(&mut self, after: Option<UserId>, limit: usize) -> Result<Vec<UserId>, StoreError> {
        self.call()?;
        let open = self.sessions.values().filter(|session| session.revoked_at.is_none());
        let mut users: Vec<UserId> = open.map(|session| session.user_id).collect();
        users.sort_unstable();
        users.dedup();
        users.retain(|user| after.is_none_or(|after| *user > after));
        users.truncate(limit);
        Ok(users)
    }

    fn set_role(&mut self, user: UserId, role: Role, _at: DateTime<Utc>) -> Result<(), StoreError> {
        self.call()?;
        self.known(user)?.user.role = role;
        Ok(())
    }

    fn set_state(&mut self, user: UserId, state: AccountState, _at: DateTime<Utc>) -> Result<(), StoreError> {
        self.call()?;
        self.known(user)?.user.state = state;
        Ok(())
    }

    fn erase_user(
        &mut self,
        user: UserId,
        unusable: &PasswordHash,
        _at: DateTime<Utc>,
    ) -> Result<(), StoreError> {
        self.call()?;
        self.remove_factor(user)?;
        self.vault.shred(user);
        self.sessions.retain(|_, session| session.user_id != user);
        self.api_tokens.retain(|_, token| token.user_id != user);
        self.mails.retain(|mail| mail.user != Some(user));
        let account = self.known(user)?;
        account.user.email =
            nobody(user).parse().map_err(|_| StoreError::new(StoreErrorKind::Other, "no address"))?;
        account.user.display_name = None;
        account.user.role = Role::User;
        account.user.email_verified_at = None;
        account.password_hash = unusable.clone();
        Ok(())
    }
}
