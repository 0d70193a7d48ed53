//! Secrets and signatures of Standard Webhooks.

use std::fmt;
use std::sync::LazyLock;

use data_encoding::{BASE64, Encoding, Specification};
use hmac::{Hmac, KeyInit, Mac};
use rand::CryptoRng;
use secrecy::SecretString;
use sha2::Sha256;
use subtle::ConstantTimeEq;
use zeroize::Zeroizing;

use crate::SecretKey;
use crate::tokens::MalformedToken;

/// The secret that both sides of a webhook share: 32 random bytes, in text `whsec_` and their base64.
///
/// A signature is `v1,` and the base64 of HMAC-SHA256 over `id.timestamp.body`, the body byte by byte as it is sent.
#[derive(Clone, PartialEq, Eq)]
pub struct WebhookSecret(SecretKey);

impl WebhookSecret {
    /// Every secret's text begins so.
    pub const PREFIX: &'static str = "whsec_";

    /// A new secret.
    pub fn generate<R: CryptoRng + ?Sized>(rng: &mut R) -> Self {
        Self(SecretKey::generate(rng))
    }

    /// Takes the bytes of a secret that was kept sealed.
    ///
    /// # Errors
    ///
    /// [`MalformedToken`] when they are not 32.
    pub fn from_bytes(bytes: &[u8]) -> Result<Self, MalformedToken> {
        SecretKey::try_from(bytes).map(Self).map_err(|_| MalformedToken)
    }

    /// The bytes, to be sealed.
    #[must_use]
    pub fn expose(&self) -> &[u8; 32] {
        self.0.expose()
    }

    /// Reads the text form, with or without padding.
    ///
    /// # Errors
    ///
    /// [`MalformedToken`] for anything else.
    pub fn parse(text: &str) -> Result<Self, MalformedToken> {
        let text = text.strip_prefix(Self::PREFIX).ok_or(MalformedToken)?;
        let mut padded = Zeroizing::new(text.trim_end_matches('=').to_owned());
        padded.push('=');
        let bytes = BASE64.decode(padded.as_bytes()).map_err(|_| MalformedToken)?;
        Self::from_bytes(&Zeroizing::new(bytes))
    }

    /// The text form, to be shown to its owner once.
    #[must_use]
    pub fn expose_text(&self) -> SecretString {
        let mut text = String::with_capacity(Self::PREFIX.len() + 44); // exact, so that no copy is left behind
        text.push_str(Self::PREFIX);
        BASE64.encode_append(self.0.expose(), &mut text);
        text.into()
    }

    fn mac(&self, id: &str, timestamp: &str, body: &[u8]) -> [u8; 32] {
        let mut mac =
            Hmac::<Sha256>::new_from_slice(self.0.expose()).expect("HMAC takes a key of any length");
        mac.update(id.as_bytes());
        mac.update(b".");
        mac.update(timestamp.as_bytes());
        mac.update(b".");
        mac.update(body);
        mac.finalize().into_bytes().into()
    }

    /// The signature of a message, as it stands in `webhook-signature`. `timestamp` is the text of `webhook-timestamp`:
    /// seconds since 1970.
    #[must_use]
    pub fn sign(&self, id: &str, timestamp: &str, body: &[u8]) -> String {
        format!("v1,{}", BASE64.encode(&self.mac(id, timestamp, body)))
    }

    /// Whether one of the signatures in `header`, which spaces part, is this secret's for the message. Compares in constant
    /// time; the age of the timestamp is not looked at.
    #[must_use]
    pub fn verify(&self, id: &str, timestamp: &str, body: &[u8], header: &str) -> bool {
        let expected = self.mac(id, timestamp, body);
        let mut found = subtle::Choice::from(0);
        let signatures = header.split(' ').take(MOST_SIGNATURES);
        for signature in signatures.filter_map(|signature| signature.strip_prefix("v1,")) {
            if let Ok(given) = LENIENT.decode(signature.as_bytes()) {
                found |= expected.as_slice().ct_eq(&given);
            }
        }
        found.into()
    }
}

/// Signatures of one message that are looked at: during a rotation there are two.
const MOST_SIGNATURES: usize = 10;

/// Base64 with its padding or without.
static LENIENT: LazyLock<Encoding> = LazyLock::new(|| {
    let mut specification: Specification = BASE64.specification();
    specification.padding = None;
    specification.ignore.push('=');
    specification.encoding().expect("base64 that passes over its padding")
});

impl fmt::Debug for WebhookSecret {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("WebhookSecret(redacted)")
    }
}

#[cfg(test)]
mod tests {
    use secrecy::ExposeSecret;

    use super::*;
    use crate::OsRandom;

    const TEXT: &str = "whsec_AAECAwQFBgcICQoLDA0ODxAREhMUFRYXGBkaGxwdHh8=";

    /// WHK-1: the form is that of Standard Webhooks; the expected value was computed apart, with another implementation.
    #[test]
    fn a_signature_is_that_of_the_specification() {
        let secret = WebhookSecret::parse(TEXT).unwrap();
        assert_eq!(secret.expose_text().expose_secret(), TEXT);
        let signature = secret.sign("msg_1", "1800000000", b"{\"type\":\"order_filled\"}");
        assert_eq!(signature, "v1,0ROde29ouJpAOoWVjk+2IXUfQekzRuxzJ0lBnmtE/UM=");
    }

    #[test]
    fn a_signature_holds_for_its_own_message_only() {
        let (secret, other) =
            (WebhookSecret::generate(&mut OsRandom), WebhookSecret::generate(&mut OsRandom));
        let good = secret.sign("a", "1", b"body");
        let both = format!("{} {good}", other.sign("a", "1", b"body"));
        assert!(secret.verify("a", "1", b"body", &good) && secret.verify("a", "1", b"body", &both));
        assert!(secret.verify("a", "1", b"body", good.trim_end_matches('=')), "without its padding");
        for (id, timestamp, body) in [("b", "1", &b"body"[..]), ("a", "2", b"body"), ("a", "1", b"body ")] {
            assert!(!secret.verify(id, timestamp, body, &good));
        }
        for header in ["", "v1,", "v1,%%%", "v2,AAAA", &good[3..], &good[..20]] {
            assert!(!secret.verify("a", "1", b"body", header), "{header}");
        }
        assert!(!other.verify("a", "1", b"body", &good));
        let many = |before: usize| format!("{}{good}", "v1, ".repeat(before));
        assert!(secret.verify("a", "1", b"body", &many(9)) && !secret.verify("a", "1", b"body", &many(10)));
    }

    #[test]
    fn texts_that_are_no_secret_are_refused() {
        for text in ["", "whsec_", "whsec_AAEC", "AAECAwQFBgcICQoLDA0ODxAREhMUFRYXGBkaGxwdHh8=", "whsec_%%%"]
        {
            assert!(WebhookSecret::parse(text).is_err(), "{text}");
        }
        assert!(WebhookSecret::parse(TEXT.trim_end_matches('=')).is_ok());
        assert_eq!(format!("{:?}", WebhookSecret::parse(TEXT).unwrap()), "WebhookSecret(redacted)");
    }
}
