use std::collections::{BTreeMap, HashMap, HashSet};

use chrono::{DateTime, Utc};
use plimsoll_core_domain::{StoreError, UserId};
use plimsoll_crypto::tokens::TokenDigest;

use super::MemoryStore;
use crate::login::{AttemptRecord, PasswordState, Place};
use crate::ports::{CancelStore, CancelToken, LoginStore};

/// Attempts, places, blocks and cancel links.
#[derive(Debug, Default, Clone)]
pub(super) struct Logins {
    passwords: BTreeMap<i64, PasswordState>,
    attempts: Vec<AttemptRecord>,
    pairs: HashMap<([u8; 32], [u8; 32]), DateTime<Utc>>,
    blocks: HashMap<(String, Vec<u8>), DateTime<Utc>>,
    places: HashSet<(i64, Place, [u8; 32])>,
    cancels: Vec<(TokenDigest, CancelToken, bool)>,
}

impl MemoryStore {
    /// The attempts to sign in, oldest first.
    #[must_use]
    pub fn login_attempts(&self) -> &[AttemptRecord] {
        &self.logins.attempts
    }

    fn password(&mut self, user: UserId) -> &mut PasswordState {
        self.logins.passwords.entry(user.0).or_default()
    }
}

impl LoginStore for MemoryStore {
    fn password_state(&mut self, user: UserId) -> Result<PasswordState, StoreError> {
        self.call()?;
        Ok(*self.password(user))
    }

    fn add_password_failure(&mut self, user: UserId) -> Result<u32, StoreError> {
        self.call()?;
        let state = self.password(user);
        state.failures += 1;
        Ok(state.failures)
    }

    fn clear_password_failures(&mut self, user: UserId) -> Result<(), StoreError> {
        self.call()?;
        *self.password(user) = PasswordState::default();
        Ok(())
    }

    fn disable_password(&mut self, user: UserId, at: DateTime<Utc>) -> Result<(), StoreError> {
        self.call()?;
        self.password(user).disabled_at = Some(at);
        Ok(())
    }

    fn record_login_attempt(&mut self, attempt: &AttemptRecord) -> Result<(), StoreError> {
        self.call()?;
        self.logins.attempts.push(attempt.clone());
        Ok(())
    }

    fn add_failed_pair(
        &mut self,
        network: &[u8; 32],
        pair: &[u8; 32],
        since: DateTime<Utc>,
        at: DateTime<Utc>,
    ) -> Result<u32, StoreError> {
        self.call()?;
        self.logins.pairs.insert((*network, *pair), at);
        let recent = self.logins.pairs.iter().filter(|((of, _), at)| of == network && **at >= since);
        Ok(u32::try_from(recent.count()).unwrap_or(u32::MAX))
    }

    fn block(
        &mut self,
        kind: &str,
        key: &[u8],
        until: DateTime<Utc>,
        _at: DateTime<Utc>,
    ) -> Result<(), StoreError> {
        self.call()?;
        let blocked = self.logins.blocks.entry((kind.to_owned(), key.to_vec())).or_insert(until);
        *blocked = (*blocked).max(until);
        Ok(())
    }

    fn blocked_until(
        &mut self,
        kind: &str,
        key: &[u8],
        now: DateTime<Utc>,
    ) -> Result<Option<DateTime<Utc>>, StoreError> {
        self.call()?;
        let until = self.logins.blocks.get(&(kind.to_owned(), key.to_vec()));
        Ok(until.copied().filter(|until| *until > now))
    }

    fn see_place(
        &mut self,
        user: UserId,
        place: Place,
        digest: &[u8; 32],
        _at: DateTime<Utc>,
    ) -> Result<bool, StoreError> {
        self.call()?;
        Ok(self.logins.places.insert((user.0, place, *digest)))
    }

    fn has_places(&mut self, user: UserId) -> Result<bool, StoreError> {
        self.call()?;
        Ok(self.logins.places.iter().any(|(of, _, _)| *of == user.0))
    }
}

impl CancelStore for MemoryStore {
    fn insert_cancel_token(&mut self, digest: &TokenDigest, token: &CancelToken) -> Result<(), StoreError> {
        self.call()?;
        self.logins.cancels.push((*digest, token.clone(), false));
        Ok(())
    }

    fn cancel_token_owner(
        &mut self,
        digest: &TokenDigest,
        now: DateTime<Utc>,
    ) -> Result<Option<UserId>, StoreError> {
        self.call()?;
        let live = |(known, token, used): &&(TokenDigest, CancelToken, bool)| {
            known == digest && !used && now < token.expires_at
        };
        Ok(self.logins.cancels.iter().find(live).map(|(_, token, _)| token.user))
    }

    fn take_cancel_token(
        &mut self,
        digest: &TokenDigest,
        now: DateTime<Utc>,
    ) -> Result<Option<CancelToken>, StoreError> {
        self.call()?;
        let live = |(known, token, used): &&mut (TokenDigest, CancelToken, bool)| {
            known == digest && !*used && now < token.expires_at
        };
        Ok(self.logins.cancels.iter_mut().find(live).map(|(_, token, used)| {
            *used = true;
            token.clone()
        }))
    }
}
