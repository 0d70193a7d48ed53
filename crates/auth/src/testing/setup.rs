use chrono::{DateTime, Utc};
use plimsoll_core_domain::StoreError;
use plimsoll_crypto::tokens::TokenDigest;
use uuid::Uuid;

use super::MemoryStore;
use crate::Role;
use crate::ports::SetupStore;

/// A setup token.
#[derive(Debug, Clone)]
pub(super) struct Kept {
    digest: TokenDigest,
    expires_at: DateTime<Utc>,
    used: bool,
}

impl Kept {
    fn is_live(&self, digest: &TokenDigest, at: DateTime<Utc>) -> bool {
        self.digest == *digest && !self.used && self.expires_at > at
    }
}

impl SetupStore for MemoryStore {
    fn lock_setup(&mut self) -> Result<(), StoreError> {
        self.call()
    }

    fn is_set_up(&mut self) -> Result<bool, StoreError> {
        self.call()?;
        let admin = self.accounts.values().any(|account| account.user.role == Role::Admin);
        Ok(admin || self.setup_tokens.iter().any(|token| token.used))
    }

    fn replace_setup_token(
        &mut self,
        _id: Uuid,
        digest: &TokenDigest,
        _created_at: DateTime<Utc>,
        expires_at: DateTime<Utc>,
    ) -> Result<(), StoreError> {
        self.call()?;
        self.setup_tokens.retain(|token| token.used);
        self.setup_tokens.push(Kept { digest: *digest, expires_at, used: false });
        Ok(())
    }

    fn setup_token_is_live(&mut self, digest: &TokenDigest, at: DateTime<Utc>) -> Result<bool, StoreError> {
        self.call()?;
        Ok(self.setup_tokens.iter().any(|token| token.is_live(digest, at)))
    }

    fn use_setup_token(&mut self, digest: &TokenDigest, at: DateTime<Utc>) -> Result<bool, StoreError> {
        self.call()?;
        let live = self.setup_tokens.iter_mut().find(|token| token.is_live(digest, at));
        Ok(live.map(|token| token.used = true).is_some())
    }
}
