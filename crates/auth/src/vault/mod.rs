//! The vault: the keys with which users trade at a broker.
//!
//! A user has one credential per broker. It is sealed under a data key of the user's own, which is kept wrapped by the
//! installation's key ring: whoever deletes that key destroys every secret of the user, in copies of the database too.
//! Nothing but [`open`] gives the keys themselves; what people see is a [`CredentialView`].

mod change;
mod keys;
mod live;
mod read;

use chrono::{DateTime, Utc};
use plimsoll_core_domain::order::Environment;
use plimsoll_core_domain::{StoreError, UserId};
use plimsoll_crypto::{Aad, KeyRing, Pepper};

use crate::UnknownName;
use crate::ports::VaultStore;

pub use change::{Judgement, Saved, judge, remove, save};
pub use keys::{BrokerKeys, BrokerKeysError, KeyPart, MAX_KEY_BYTES, MAX_SECRET_BYTES, MIN_KEY_BYTES};
pub use live::{LiveChange, set_live};
pub(crate) use live::{record_withdrawn, withdraw};
pub use read::{Opened, existing_ring, open, user_ring};

/// A broker whose credentials the vault keeps.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum BrokerName {
    /// Alpaca, or whatever speaks its protocol.
    Alpaca,
}

impl BrokerName {
    /// Every broker.
    pub const ALL: [Self; 1] = [Self::Alpaca];

    /// The stored and transmitted name.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Alpaca => "alpaca",
        }
    }
}

impl std::fmt::Display for BrokerName {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(self.as_str())
    }
}

impl std::str::FromStr for BrokerName {
    type Err = UnknownName;

    fn from_str(name: &str) -> Result<Self, UnknownName> {
        Self::ALL.into_iter().find(|broker| broker.as_str() == name).ok_or(UnknownName("broker"))
    }
}

/// The broker's word on a credential.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum CredentialState {
    /// Not asked yet.
    Unverified,
    /// The broker took it.
    Valid,
    /// The broker refused it: nothing trades with it.
    Invalid,
}

impl CredentialState {
    /// The stored and transmitted name.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Unverified => "unverified",
            Self::Valid => "valid",
            Self::Invalid => "invalid",
        }
    }
}

impl std::str::FromStr for CredentialState {
    type Err = UnknownName;

    fn from_str(name: &str) -> Result<Self, UnknownName> {
        [Self::Unverified, Self::Valid, Self::Invalid]
            .into_iter()
            .find(|state| state.as_str() == name)
            .ok_or(UnknownName("credential state"))
    }
}

/// What may be shown of a credential. It opens nothing.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct CredentialView {
    /// Where it trades.
    pub broker: BrokerName,
    /// With whose money.
    pub environment: Environment,
    /// The last four characters of the key's id.
    pub key_last4: String,
    /// 16 hexadecimal digits of a keyed digest: the same keys have the same one, for every user.
    pub fingerprint: String,
    /// The broker's word on it.
    pub state: CredentialState,
    /// When it was saved.
    pub updated_at: DateTime<Utc>,
    /// Which of all credentials that were ever saved; a later one is greater.
    pub version: i64,
}

/// A credential about to be stored.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct NewCredential {
    /// For which broker.
    pub broker: BrokerName,
    /// With whose money it trades.
    pub environment: Environment,
    /// The key's id, sealed.
    pub api_key: Vec<u8>,
    /// Its secret, sealed.
    pub api_secret: Vec<u8>,
    /// See [`CredentialView::key_last4`].
    pub key_last4: String,
    /// See [`CredentialView::fingerprint`].
    pub fingerprint: String,
}

/// A credential as it is stored.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SealedCredential {
    /// What may be shown of it.
    pub view: CredentialView,
    /// The key's id, sealed.
    pub api_key: Vec<u8>,
    /// Its secret, sealed.
    pub api_secret: Vec<u8>,
}

/// The installation's keys, as saving needs them.
#[derive(Debug, Clone, Copy)]
pub struct VaultKeys<'a> {
    /// Wraps the users' data keys.
    pub ring: &'a KeyRing,
    /// Makes fingerprints that nobody outside can try keys against.
    pub pepper: &'a Pepper,
}

/// Who is told of an alert.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Audience {
    /// One user.
    User(UserId),
    /// Every active administrator.
    Administrators,
}

/// A message from the server: the data of a `system_alert` event.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Alert {
    /// What happened, at most 500 characters.
    pub message: String,
    /// `info`, `warning` or `critical`.
    pub severity: &'static str,
}

/// What a user may see of their credentials, by broker.
///
/// # Errors
///
/// When the store fails.
pub fn list<S>(store: &mut S, user: UserId) -> Result<Vec<CredentialView>, StoreError>
where
    S: VaultStore + ?Sized,
{
    store.credentials_of(user)
}

const TABLE: &str = "broker_credentials";
const API_KEY: &str = "api_key";
const API_SECRET: &str = "api_secret";

fn row(user: UserId, broker: BrokerName) -> String {
    format!("{user}:{broker}")
}

fn place<'a>(column: &'a str, row: &'a str, user: UserId) -> Aad<'a> {
    Aad { table: TABLE, column, row, owner: Some(user.0) }
}

#[cfg(test)]
mod tests;
