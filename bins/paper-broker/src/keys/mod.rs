//! Clients' keys. The database knows the SHA-256 of a secret; the secret itself is in a file that only its owner reads.

mod file;

use std::collections::HashMap;
use std::sync::{PoisonError, RwLock};

use data_encoding::BASE32_NOPAD;
use plimsoll_paper_exchange::AccountId;
use plimsoll_storage::paper::ApiKey;
use rand::TryCryptoRng;
use serde::{Deserialize, Serialize};
use sha2::{Digest, Sha256};

pub(crate) use file::KeyFile;
pub use file::KeyFileError;

/// A key with its secret, as it is printed at the start.
#[derive(Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Login {
    /// The account it opens.
    pub account_id: AccountId,
    /// Sent in `APCA-API-KEY-ID`.
    pub api_key: String,
    /// Sent in `APCA-API-SECRET-KEY`.
    pub api_secret: String,
}

impl std::fmt::Debug for Login {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Login")
            .field("account_id", &self.account_id)
            .field("api_key", &self.api_key)
            .finish_non_exhaustive()
    }
}

impl Login {
    /// A new key pair in the paper environment's form: `PK` and 18 characters, and a secret of 40.
    ///
    /// # Errors
    /// Where the generator fails.
    pub(crate) fn generate<R: TryCryptoRng>(account_id: AccountId, rng: &mut R) -> Result<Self, R::Error> {
        let (mut key, mut secret) = ([0; 12], [0; 25]);
        rng.try_fill_bytes(&mut key)?;
        rng.try_fill_bytes(&mut secret)?;
        let key = BASE32_NOPAD.encode(&key);
        Ok(Self {
            account_id,
            api_key: format!("PK{}", &key[..18]),
            api_secret: BASE32_NOPAD.encode(&secret),
        })
    }

    /// What the database keeps of it.
    pub(crate) fn row(&self) -> ApiKey {
        ApiKey {
            key_id: self.api_key.clone(),
            account: self.account_id,
            secret_sha256: hash(&self.api_secret),
        }
    }
}

/// Whether a text may be a key id or secret: 1 to 128 visible ASCII characters.
pub(crate) fn is_key_text(text: &str) -> bool {
    (1..=128).contains(&text.len()) && text.bytes().all(|byte| byte.is_ascii_graphic())
}

fn hash(secret: &str) -> [u8; 32] {
    Sha256::digest(secret.as_bytes()).into()
}

/// All keys, by id.
#[derive(Debug, Default)]
pub(crate) struct Keys {
    by_id: RwLock<HashMap<String, ApiKey>>,
}

impl Keys {
    pub(crate) fn new(keys: impl IntoIterator<Item = ApiKey>) -> Self {
        Self { by_id: RwLock::new(keys.into_iter().map(|key| (key.key_id.clone(), key)).collect()) }
    }

    pub(crate) fn add(&self, key: ApiKey) {
        self.by_id.write().unwrap_or_else(PoisonError::into_inner).insert(key.key_id.clone(), key);
    }

    /// Forgets a key, and tells its account.
    pub(crate) fn revoke(&self, key_id: &str) -> Option<AccountId> {
        let mut keys = self.by_id.write().unwrap_or_else(PoisonError::into_inner);
        keys.remove(key_id).map(|key| key.account)
    }

    pub(crate) fn account_of(&self, key_id: &str) -> Option<AccountId> {
        let keys = self.by_id.read().unwrap_or_else(PoisonError::into_inner);
        keys.get(key_id).map(|key| key.account)
    }

    pub(crate) fn contains(&self, key_id: &str) -> bool {
        self.by_id.read().unwrap_or_else(PoisonError::into_inner).contains_key(key_id)
    }

    /// The account that a key pair opens. What is compared is a hash, so the time it takes tells nothing of the secret.
    pub(crate) fn authenticate(&self, key_id: &str, secret: &str) -> Option<AccountId> {
        let keys = self.by_id.read().unwrap_or_else(PoisonError::into_inner);
        keys.get(key_id).filter(|key| key.secret_sha256 == hash(secret)).map(|key| key.account)
    }

    /// Whether `login` is what the database knows.
    pub(crate) fn knows(&self, login: &Login) -> bool {
        self.authenticate(&login.api_key, &login.api_secret) == Some(login.account_id)
    }

    /// What an account goes by in fault rules: its id and its key ids.
    pub(crate) fn names_of(&self, account: AccountId) -> Vec<String> {
        let keys = self.by_id.read().unwrap_or_else(PoisonError::into_inner);
        let own = keys.values().filter(|key| key.account == account).map(|key| key.key_id.clone());
        std::iter::once(account.to_string()).chain(own).collect()
    }
}

#[cfg(test)]
mod tests {
    use rand::SeedableRng;
    use rand::rngs::StdRng;

    use super::*;

    #[test]
    fn a_key_pair_has_the_paper_form_and_opens_its_account_only() {
        let mut rng = StdRng::seed_from_u64(1);
        let login = Login::generate(AccountId::from_u128(7), &mut rng).unwrap();
        assert_eq!((login.api_key.len(), login.api_secret.len()), (20, 40));
        assert!(login.api_key.starts_with("PK") && is_key_text(&login.api_key));
        let keys = Keys::new([login.row()]);
        assert!(keys.knows(&login));
        assert_eq!(keys.authenticate(&login.api_key, "wrong"), None);
        assert_eq!(keys.authenticate("PKNOBODY", &login.api_secret), None);
        assert_eq!(keys.names_of(login.account_id), [login.account_id.to_string(), login.api_key.clone()]);
        assert!(!format!("{login:?}").contains(&login.api_secret));
    }
}
