use chrono::{DateTime, Utc};
use plimsoll_core_domain::{StoreError, StoreErrorKind, UserId};
use plimsoll_crypto::tokens::TokenDigest;
use uuid::Uuid;

use super::MemoryStore;
use crate::ports::{
    AccountStore, EmailChange, EmailChangeStore, PasswordReset, ResetStore, VerificationStore,
};
use crate::{ClientInfo, EmailAddress};

#[derive(Debug, Clone)]
struct Entry<T> {
    digest: TokenDigest,
    value: T,
    ended: bool,
}

/// Links for new passwords and new addresses.
#[derive(Debug, Default, Clone)]
pub(super) struct Changes {
    resets: Vec<Entry<PasswordReset>>,
    emails: Vec<Entry<EmailChange>>,
}

impl Changes {
    pub(super) fn void_open_of(&mut self, user: UserId) {
        self.void_resets_of(user);
        let open = |change: &&mut Entry<EmailChange>| {
            change.value.user == user && change.value.confirmed_at.is_none()
        };
        self.emails.iter_mut().filter(open).for_each(|change| change.ended = true);
    }

    fn void_resets_of(&mut self, user: UserId) {
        self.resets.iter_mut().filter(|reset| reset.value.user == user).for_each(|reset| reset.ended = true);
    }
}

impl ResetStore for MemoryStore {
    fn insert_password_reset(
        &mut self,
        digest: &TokenDigest,
        reset: &PasswordReset,
    ) -> Result<(), StoreError> {
        self.call()?;
        self.changes.void_resets_of(reset.user);
        self.changes.resets.push(Entry { digest: *digest, value: reset.clone(), ended: false });
        Ok(())
    }

    fn open_password_reset(
        &mut self,
        digest: &TokenDigest,
        now: DateTime<Utc>,
    ) -> Result<Option<PasswordReset>, StoreError> {
        self.call()?;
        let open = |reset: &&Entry<PasswordReset>| {
            reset.digest == *digest && !reset.ended && now < reset.value.expires_at
        };
        Ok(self.changes.resets.iter().find(open).map(|reset| reset.value.clone()))
    }

    fn take_password_reset(
        &mut self,
        digest: &TokenDigest,
        _used: &ClientInfo,
        now: DateTime<Utc>,
    ) -> Result<Option<PasswordReset>, StoreError> {
        let found = self.open_password_reset(digest, now)?;
        self.changes.resets.iter_mut().filter(|r| r.digest == *digest).for_each(|r| r.ended = true);
        Ok(found)
    }

    fn void_password_reset(
        &mut self,
        user: UserId,
        id: Uuid,
        now: DateTime<Utc>,
    ) -> Result<bool, StoreError> {
        self.call()?;
        let open = |reset: &&mut Entry<PasswordReset>| {
            let value = &reset.value;
            value.user == user && value.id == id && !reset.ended && now < value.expires_at
        };
        Ok(self.changes.resets.iter_mut().find(open).map(|reset| reset.ended = true).is_some())
    }
}

impl EmailChangeStore for MemoryStore {
    fn insert_email_change(&mut self, digest: &TokenDigest, change: &EmailChange) -> Result<(), StoreError> {
        self.call()?;
        for other in self.changes.emails.iter_mut().filter(|other| other.value.user == change.user) {
            other.ended |= other.value.confirmed_at.is_none();
        }
        self.changes.emails.push(Entry { digest: *digest, value: change.clone(), ended: false });
        Ok(())
    }

    fn open_email_change(
        &mut self,
        digest: &TokenDigest,
        now: DateTime<Utc>,
    ) -> Result<Option<EmailChange>, StoreError> {
        self.call()?;
        let open = |change: &&Entry<EmailChange>| {
            let value = &change.value;
            change.digest == *digest
                && !change.ended
                && value.confirmed_at.is_none()
                && now < value.expires_at
        };
        Ok(self.changes.emails.iter().find(open).map(|change| change.value.clone()))
    }

    fn confirm_email_change(
        &mut self,
        user: UserId,
        id: Uuid,
        now: DateTime<Utc>,
    ) -> Result<bool, StoreError> {
        self.call()?;
        let open = |change: &&mut Entry<EmailChange>| {
            let value = &change.value;
            value.user == user
                && value.id == id
                && !change.ended
                && value.confirmed_at.is_none()
                && now < value.expires_at
        };
        let found = self.changes.emails.iter_mut().find(open);
        Ok(found.map(|change| change.value.confirmed_at = Some(now)).is_some())
    }

    fn cancel_email_change(
        &mut self,
        user: UserId,
        id: Uuid,
        _now: DateTime<Utc>,
    ) -> Result<Option<EmailChange>, StoreError> {
        self.call()?;
        let one = |change: &&Entry<EmailChange>| {
            change.value.user == user && change.value.id == id && !change.ended
        };
        let Some(found) = self.changes.emails.iter().find(one).map(|change| change.value.clone()) else {
            return Ok(None);
        };
        let later = |change: &&mut Entry<EmailChange>| {
            change.value.user == user && change.value.created_at >= found.created_at
        };
        self.changes.emails.iter_mut().filter(later).for_each(|change| change.ended = true);
        Ok(Some(found))
    }

    fn release_unconfirmed_email(
        &mut self,
        email: &EmailAddress,
        at: DateTime<Utc>,
    ) -> Result<bool, StoreError> {
        let Some(holder) = self.account_by_email(email)?.map(|account| account.user) else {
            return Ok(false);
        };
        if holder.email_verified_at.is_some() {
            return Ok(false);
        }
        let released = format!("released-{}@released.invalid", holder.id);
        if let (Some(account), Ok(released)) = (self.account_mut(holder.id), released.parse()) {
            account.user.email = released;
        }
        self.close_verifications_of(holder.id, at)?;
        Ok(true)
    }

    fn set_email(
        &mut self,
        user: UserId,
        email: &EmailAddress,
        _at: DateTime<Utc>,
    ) -> Result<(), StoreError> {
        if self.account_by_email(email)?.is_some_and(|owner| owner.user.id != user) {
            return Err(StoreError::new(StoreErrorKind::Duplicate, "the address is taken"));
        }
        if let Some(account) = self.account_mut(user) {
            account.user.email = email.clone();
        }
        Ok(())
    }
}
