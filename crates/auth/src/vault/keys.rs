use std::fmt;

use plimsoll_crypto::Pepper;
use secrecy::{ExposeSecret, SecretString};

use super::BrokerName;

/// Fewest characters of a key's id and of its secret: with fewer, the four that are shown would tell too much.
pub const MIN_KEY_BYTES: usize = 8;
/// Most characters of a key's id.
pub const MAX_KEY_BYTES: usize = 128;
/// Most characters of a secret.
pub const MAX_SECRET_BYTES: usize = 256;

/// What a user trades with. Wiped when dropped, never printed.
#[derive(Debug, Clone)]
pub struct BrokerKeys {
    /// The key's id.
    pub api_key: SecretString,
    /// Its secret.
    pub api_secret: SecretString,
}

/// One of the two parts of a credential.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum KeyPart {
    /// The key's id.
    ApiKey,
    /// Its secret.
    ApiSecret,
}

impl KeyPart {
    /// The field's name.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Self::ApiKey => "api_key",
            Self::ApiSecret => "api_secret",
        }
    }
}

impl fmt::Display for KeyPart {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

/// Why text is no credential. It quotes nothing of it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum BrokerKeysError {
    /// Too short or too long.
    #[error("{0} must have {MIN_KEY_BYTES} to {1} characters")]
    Length(KeyPart, usize),
    /// A space, a control character, or one outside ASCII.
    #[error("{0} must have visible ASCII characters only")]
    Characters(KeyPart),
}

impl BrokerKeysError {
    /// Which part is wrong.
    #[must_use]
    pub fn part(self) -> KeyPart {
        match self {
            Self::Length(part, _) | Self::Characters(part) => part,
        }
    }
}

impl BrokerKeys {
    /// Takes the two parts as they were typed or read.
    ///
    /// # Errors
    ///
    /// When one of them cannot be what a broker gave out.
    pub fn parse(api_key: SecretString, api_secret: SecretString) -> Result<Self, BrokerKeysError> {
        for (part, text, longest) in
            [(KeyPart::ApiKey, &api_key, MAX_KEY_BYTES), (KeyPart::ApiSecret, &api_secret, MAX_SECRET_BYTES)]
        {
            let text = text.expose_secret();
            if !text.bytes().all(|byte| byte.is_ascii_graphic()) {
                return Err(BrokerKeysError::Characters(part));
            }
            if !(MIN_KEY_BYTES..=longest).contains(&text.len()) {
                return Err(BrokerKeysError::Length(part, longest));
            }
        }
        Ok(Self { api_key, api_secret })
    }

    /// The last four characters of the key's id; nothing of an id that is shorter than [`MIN_KEY_BYTES`].
    #[must_use]
    pub fn last4(&self) -> String {
        let key = self.api_key.expose_secret();
        let from = key.char_indices().rev().nth(3).map_or(key.len(), |(at, _)| at);
        if key.len() < MIN_KEY_BYTES { String::new() } else { key[from..].to_owned() }
    }

    /// The same for the same keys, and of no use to whoever lacks the pepper.
    #[must_use]
    pub fn fingerprint(&self, broker: BrokerName, pepper: &Pepper) -> String {
        let key = self.api_key.expose_secret().as_bytes();
        let secret = self.api_secret.expose_secret().as_bytes();
        // The length first, so that no other pair of texts makes the same bytes.
        let mut value = zeroize::Zeroizing::new(Vec::with_capacity(8 + key.len() + secret.len()));
        value.extend_from_slice(&(key.len() as u64).to_be_bytes());
        value.extend_from_slice(key);
        value.extend_from_slice(secret);
        let digest = pepper.digest("broker credential", broker.as_str(), &value);
        data_encoding::HEXLOWER.encode(&digest[..8])
    }
}
