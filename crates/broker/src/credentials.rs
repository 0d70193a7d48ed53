//! Where the account's keys come from.

use std::fmt;

use plimsoll_core_domain::broker::{BoxFuture, BrokerError};
use secrecy::SecretString;

/// A key pair, handed out for one call or one connection; its memory is wiped when it is dropped.
#[derive(Clone)]
pub struct Credentials {
    /// The public half: at Alpaca `PK…` for paper and `AK…` for live accounts.
    pub key_id: String,
    /// The secret half.
    pub secret: SecretString,
}

impl fmt::Debug for Credentials {
    /// Neither half: a key id names an account.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Credentials(..)")
    }
}

/// Why there are no credentials just now. It is never a word of the broker's, who was not asked.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum CredentialError {
    /// They are not there, do not open, or the place that keeps them does not answer: what needs them is put off.
    #[error("the credentials cannot be read now: {0}")]
    Unavailable(String),
}

impl From<CredentialError> for BrokerError {
    fn from(error: CredentialError) -> Self {
        Self::Unreachable(error.to_string())
    }
}

/// Gives the key pair of one broker account, on demand.
///
/// It is asked before every call and every connection, so that a rotated or removed key takes effect at once and no
/// secret is kept in memory between calls. An implementation over a vault opens the sealed secret here, and may cache it
/// for as long as it sees fit.
pub trait CredentialSource: Send + Sync {
    /// The key pair to use now.
    ///
    /// # Errors
    /// See [`CredentialError`].
    fn credentials(&self) -> BoxFuture<'_, Result<Credentials, CredentialError>>;
}

/// A key pair known from the start, for tests and for a single account set by configuration.
#[derive(Clone, Debug)]
pub struct StaticCredentials(Credentials);

impl StaticCredentials {
    /// Keeps the pair for as long as the value lives.
    #[must_use]
    pub fn new(key_id: impl Into<String>, secret: SecretString) -> Self {
        Self(Credentials { key_id: key_id.into(), secret })
    }
}

impl CredentialSource for StaticCredentials {
    fn credentials(&self) -> BoxFuture<'_, Result<Credentials, CredentialError>> {
        Box::pin(async { Ok(self.0.clone()) })
    }
}
