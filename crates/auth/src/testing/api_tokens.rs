use std::collections::HashMap;
use std::net::IpAddr;

use chrono::{DateTime, Utc};
use plimsoll_core_domain::{StoreError, StoreErrorKind, UserId};
use plimsoll_crypto::tokens::TokenDigest;
use uuid::Uuid;

use super::MemoryStore;
use crate::api_tokens::{After, DueNotice, TokenRecord};
use crate::ports::{ApiTokenStore, FoundToken};
use crate::{AccountState, two_factor};

/// Tokens by their digest.
pub(super) type Tokens = HashMap<TokenDigest, TokenRecord>;

impl MemoryStore {
    /// All API tokens, ended ones too, oldest first.
    #[must_use]
    pub fn api_tokens(&self) -> Vec<TokenRecord> {
        let mut tokens: Vec<TokenRecord> = self.api_tokens.values().cloned().collect();
        tokens.sort_by_key(|token| (token.created_at, token.id));
        tokens
    }

    pub(super) fn revoke_all_api_tokens_of(&mut self, user: UserId, at: DateTime<Utc>) {
        let live = |token: &&mut TokenRecord| token.user_id == user && token.revoked_at.is_none();
        self.api_tokens.values_mut().filter(live).for_each(|token| token.revoked_at = Some(at));
    }

    fn api_token_mut(&mut self, user: UserId, id: Uuid) -> Option<&mut TokenRecord> {
        self.api_tokens.values_mut().find(|token| token.user_id == user && token.id == id)
    }
}

impl ApiTokenStore for MemoryStore {
    fn insert_api_token(&mut self, digest: &TokenDigest, token: &TokenRecord) -> Result<(), StoreError> {
        self.call()?;
        if self.api_tokens.contains_key(digest) {
            return Err(StoreError::new(StoreErrorKind::Duplicate, "the token is taken"));
        }
        self.api_tokens.insert(*digest, token.clone());
        Ok(())
    }

    fn api_token_by_digest(&mut self, digest: &TokenDigest) -> Result<Option<FoundToken>, StoreError> {
        self.call()?;
        let Some(token) = self.api_tokens.get(digest).cloned() else { return Ok(None) };
        let two_factor = two_factor::is_enabled(self, token.user_id)?;
        let account = self.accounts.get(&token.user_id.0);
        Ok(account.map(|account| FoundToken { token, user: account.user.clone(), two_factor }))
    }

    fn touch_api_token(
        &mut self,
        user: UserId,
        token: Uuid,
        ip: Option<IpAddr>,
        at: DateTime<Utc>,
    ) -> Result<(), StoreError> {
        self.call()?;
        if let Some(token) = self.api_token_mut(user, token)
            && token.last_used_at.is_none_or(|last| last < at)
        {
            (token.last_used_at, token.last_used_ip) = (Some(at), ip);
        }
        Ok(())
    }

    fn live_api_tokens_of(
        &mut self,
        user: UserId,
        after: Option<After>,
        limit: usize,
        now: DateTime<Utc>,
    ) -> Result<Vec<TokenRecord>, StoreError> {
        self.call()?;
        let mut tokens = self.api_tokens();
        tokens.reverse();
        tokens.retain(|token| {
            token.user_id == user
                && token.is_live(now)
                && after.is_none_or(|after| (token.created_at, token.id) < after)
        });
        tokens.truncate(limit);
        Ok(tokens)
    }

    fn revoke_api_token(&mut self, user: UserId, token: Uuid, at: DateTime<Utc>) -> Result<bool, StoreError> {
        self.call()?;
        let live = self.api_token_mut(user, token).filter(|token| token.is_live(at));
        Ok(live.map(|token| token.revoked_at = Some(at)).is_some())
    }

    fn api_tokens_ending(
        &mut self,
        now: DateTime<Utc>,
        until: DateTime<Utc>,
        limit: usize,
    ) -> Result<Vec<DueNotice>, StoreError> {
        self.call()?;
        let mut tokens = self.api_tokens();
        tokens.retain(|token| token.is_live(now) && token.expires_at <= until && token.warned_at.is_none());
        tokens.sort_by_key(|token| (token.expires_at, token.id));
        let notice = |token: TokenRecord| {
            let user = self.accounts.get(&token.user_id.0)?.user.clone();
            (user.state == AccountState::Active).then_some(DueNotice { user, token })
        };
        Ok(tokens.into_iter().filter_map(notice).take(limit).collect())
    }

    fn mark_api_token_warned(
        &mut self,
        user: UserId,
        token: Uuid,
        at: DateTime<Utc>,
    ) -> Result<bool, StoreError> {
        self.call()?;
        let due =
            self.api_token_mut(user, token).filter(|token| token.is_live(at) && token.warned_at.is_none());
        Ok(due.map(|token| token.warned_at = Some(at)).is_some())
    }
}
