use std::fmt;

use plimsoll_crypto::tokens::SecretToken;
use secrecy::{ExposeSecret, SecretString};
use serde::{Deserialize, Deserializer, Serialize, Serializer};

/// A token inside a mail. It serialises as its text, because mails are stored sealed; it is never printed.
#[derive(Clone)]
pub struct MailToken(SecretString);

impl MailToken {
    /// The text for a link.
    #[must_use]
    pub fn expose(&self) -> &str {
        self.0.expose_secret()
    }
}

impl From<&SecretToken> for MailToken {
    fn from(token: &SecretToken) -> Self {
        Self(token.expose_text())
    }
}

impl PartialEq for MailToken {
    fn eq(&self, other: &Self) -> bool {
        self.expose() == other.expose()
    }
}

impl Eq for MailToken {}

impl fmt::Debug for MailToken {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("MailToken(redacted)")
    }
}

impl Serialize for MailToken {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_str(self.expose())
    }
}

impl<'de> Deserialize<'de> for MailToken {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        String::deserialize(deserializer).map(|text| Self(text.into()))
    }
}
