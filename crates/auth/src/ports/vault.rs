use chrono::{DateTime, Utc};
use plimsoll_core_domain::order::Environment;
use plimsoll_core_domain::{StoreError, UserId};

use crate::vault::{
    Alert, Audience, BrokerName, CredentialState, CredentialView, NewCredential, SealedCredential,
};

/// Where the keys that users trade with are kept, sealed, and the data keys that seal them.
pub trait VaultStore {
    /// The user's data key as it is stored, without a lock.
    ///
    /// # Errors
    ///
    /// When the store fails.
    fn wrapped_key(&mut self, user: UserId) -> Result<Option<Vec<u8>>, StoreError>;

    /// Keeps a data key unless the user has one already, and returns the one that is kept: whoever comes second takes the
    /// first one's.
    ///
    /// # Errors
    ///
    /// When the store fails.
    fn keep_key(&mut self, user: UserId, wrapped: &[u8], at: DateTime<Utc>) -> Result<Vec<u8>, StoreError>;

    /// A user's credential for a broker, sealed, without a lock.
    ///
    /// # Errors
    ///
    /// When the store fails.
    fn sealed_credential(
        &mut self,
        user: UserId,
        broker: BrokerName,
    ) -> Result<Option<SealedCredential>, StoreError>;

    /// What a user may see of their credentials, by broker.
    ///
    /// # Errors
    ///
    /// When the store fails.
    fn credentials_of(&mut self, user: UserId) -> Result<Vec<CredentialView>, StoreError>;

    /// Stores a credential in the place of the one for the same broker, unverified, under a version that was never used
    /// before.
    ///
    /// # Errors
    ///
    /// When the store fails.
    fn put_credential(
        &mut self,
        user: UserId,
        credential: &NewCredential,
        at: DateTime<Utc>,
    ) -> Result<CredentialView, StoreError>;

    /// Deletes a credential, and returns what it was.
    ///
    /// # Errors
    ///
    /// When the store fails.
    fn remove_credential(
        &mut self,
        user: UserId,
        broker: BrokerName,
    ) -> Result<Option<CredentialView>, StoreError>;

    /// Notes what the broker says of the credential with this version, and returns how it was before; `None` when that
    /// version is not the stored one any more.
    ///
    /// # Errors
    ///
    /// When the store fails.
    fn set_credential_state(
        &mut self,
        user: UserId,
        broker: BrokerName,
        version: i64,
        state: CredentialState,
        reason: Option<&str>,
        at: DateTime<Utc>,
    ) -> Result<Option<CredentialView>, StoreError>;

    /// Lets the user trade in an environment from now on: its account is made where there is none, and the account of
    /// the other environment rests. `false`, and nothing is changed, while an order of the account that would rest is not
    /// final. Locks the user's accounts.
    ///
    /// # Errors
    ///
    /// When the store fails.
    fn trade_in(
        &mut self,
        user: UserId,
        broker: BrokerName,
        environment: Environment,
        at: DateTime<Utc>,
    ) -> Result<bool, StoreError>;

    /// Allows or forbids orders with real money, also before there is an account for them. `false` when it was so before.
    ///
    /// # Errors
    ///
    /// When the store fails.
    fn set_live_enabled(
        &mut self,
        user: UserId,
        broker: BrokerName,
        enabled: bool,
        at: DateTime<Utc>,
    ) -> Result<bool, StoreError>;

    /// Publishes an alert as an event.
    ///
    /// # Errors
    ///
    /// When the store fails.
    fn alert(&mut self, to: Audience, alert: &Alert, at: DateTime<Utc>) -> Result<(), StoreError>;
}
