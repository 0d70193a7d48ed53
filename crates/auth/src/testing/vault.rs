use std::collections::BTreeMap;

use chrono::{DateTime, Utc};
use plimsoll_core_domain::order::Environment;
use plimsoll_core_domain::{StoreError, UserId};

use super::MemoryStore;
use crate::ports::VaultStore;
use crate::vault::{
    Alert, Audience, BrokerName, CredentialState, CredentialView, NewCredential, SealedCredential,
};

/// What the vault keeps.
#[derive(Debug, Default, Clone)]
pub(super) struct Vault {
    keys: BTreeMap<i64, Vec<u8>>,
    credentials: BTreeMap<(i64, BrokerName), SealedCredential>,
    last_version: i64,
    trades_in: BTreeMap<(i64, BrokerName), Environment>,
    orders_open: bool,
    live: BTreeMap<(i64, BrokerName), bool>,
    alerts: Vec<(Audience, Alert)>,
}

impl Vault {
    pub(super) fn shred(&mut self, user: UserId) {
        self.keys.remove(&user.0);
        self.credentials.retain(|(owner, _), _| *owner != user.0);
    }
}

impl MemoryStore {
    /// Whether every user has an order that is not final.
    pub fn set_orders_open(&mut self, open: bool) {
        self.vault.orders_open = open;
    }

    /// The stored credential, to look at or to change behind a use case's back.
    pub fn sealed_credential_mut(
        &mut self,
        user: UserId,
        broker: BrokerName,
    ) -> Option<&mut SealedCredential> {
        self.vault.credentials.get_mut(&(user.0, broker))
    }

    /// The stored data key of a user.
    pub fn wrapped_key_mut(&mut self, user: UserId) -> Option<&mut Vec<u8>> {
        self.vault.keys.get_mut(&user.0)
    }

    /// Puts a credential back as it once was, as whoever has a copy of the database could.
    pub fn restore_credential(&mut self, user: UserId, sealed: SealedCredential) {
        self.vault.credentials.insert((user.0, sealed.view.broker), sealed);
    }

    /// In which environment a user trades.
    #[must_use]
    pub fn trades_in(&self, user: UserId, broker: BrokerName) -> Option<Environment> {
        self.vault.trades_in.get(&(user.0, broker)).copied()
    }

    /// Whether a user may trade with real money.
    #[must_use]
    pub fn live_enabled(&self, user: UserId, broker: BrokerName) -> bool {
        self.vault.live.get(&(user.0, broker)).copied().unwrap_or(false)
    }

    /// The alerts, oldest first.
    #[must_use]
    pub fn alerts(&self) -> &[(Audience, Alert)] {
        &self.vault.alerts
    }
}

impl VaultStore for MemoryStore {
    fn wrapped_key(&mut self, user: UserId) -> Result<Option<Vec<u8>>, StoreError> {
        self.call()?;
        Ok(self.vault.keys.get(&user.0).cloned())
    }

    fn keep_key(&mut self, user: UserId, wrapped: &[u8], _at: DateTime<Utc>) -> Result<Vec<u8>, StoreError> {
        self.call()?;
        Ok(self.vault.keys.entry(user.0).or_insert_with(|| wrapped.to_vec()).clone())
    }

    fn sealed_credential(
        &mut self,
        user: UserId,
        broker: BrokerName,
    ) -> Result<Option<SealedCredential>, StoreError> {
        self.call()?;
        Ok(self.vault.credentials.get(&(user.0, broker)).cloned())
    }

    fn credentials_of(&mut self, user: UserId) -> Result<Vec<CredentialView>, StoreError> {
        self.call()?;
        let of_user = self.vault.credentials.iter().filter(|((owner, _), _)| *owner == user.0);
        Ok(of_user.map(|(_, sealed)| sealed.view.clone()).collect())
    }

    fn put_credential(
        &mut self,
        user: UserId,
        credential: &NewCredential,
        at: DateTime<Utc>,
    ) -> Result<CredentialView, StoreError> {
        self.call()?;
        self.vault.last_version += 1;
        let view = CredentialView {
            broker: credential.broker,
            environment: credential.environment,
            key_last4: credential.key_last4.clone(),
            fingerprint: credential.fingerprint.clone(),
            state: CredentialState::Unverified,
            updated_at: at,
            version: self.vault.last_version,
        };
        let sealed = SealedCredential {
            view: view.clone(),
            api_key: credential.api_key.clone(),
            api_secret: credential.api_secret.clone(),
        };
        self.vault.credentials.insert((user.0, credential.broker), sealed);
        Ok(view)
    }

    fn remove_credential(
        &mut self,
        user: UserId,
        broker: BrokerName,
    ) -> Result<Option<CredentialView>, StoreError> {
        self.call()?;
        Ok(self.vault.credentials.remove(&(user.0, broker)).map(|sealed| sealed.view))
    }

    fn set_credential_state(
        &mut self,
        user: UserId,
        broker: BrokerName,
        version: i64,
        state: CredentialState,
        _reason: Option<&str>,
        _at: DateTime<Utc>,
    ) -> Result<Option<CredentialView>, StoreError> {
        self.call()?;
        let stored = self.vault.credentials.get_mut(&(user.0, broker));
        let Some(stored) = stored.filter(|stored| stored.view.version == version) else { return Ok(None) };
        let before = stored.view.clone();
        stored.view.state = state;
        Ok(Some(before))
    }

    fn trade_in(
        &mut self,
        user: UserId,
        broker: BrokerName,
        environment: Environment,
        _at: DateTime<Utc>,
    ) -> Result<bool, StoreError> {
        self.call()?;
        let present = self.trades_in(user, broker);
        if self.vault.orders_open && present.is_some_and(|present| present != environment) {
            return Ok(false);
        }
        self.vault.trades_in.insert((user.0, broker), environment);
        Ok(true)
    }

    fn set_live_enabled(
        &mut self,
        user: UserId,
        broker: BrokerName,
        enabled: bool,
        _at: DateTime<Utc>,
    ) -> Result<bool, StoreError> {
        self.call()?;
        Ok(self.vault.live.insert((user.0, broker), enabled).unwrap_or(false) != enabled)
    }

    fn alert(&mut self, to: Audience, alert: &Alert, _at: DateTime<Utc>) -> Result<(), StoreError> {
        self.call()?;
        self.vault.alerts.push((to, alert.clone()));
        Ok(())
    }
}
