//! What makes two requests the same.

use plimsoll_crypto::canonical::Encoder;
use sha2::{Digest, Sha256};

use super::canonical_json::{CanonicalJsonError, canonical_json};

/// SHA-256 of a request: method, route (with its parameters filled in) and canonical body.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Fingerprint(pub [u8; 32]);

impl Fingerprint {
    /// Of a request with a JSON body; an empty body is that of a request without one.
    ///
    /// # Errors
    /// The body is no JSON.
    pub fn of(method: &str, path: &str, body: &[u8]) -> Result<Self, CanonicalJsonError> {
        let body = if body.is_empty() { Vec::new() } else { canonical_json(body)? };
        let request = Encoder::new("idempotent request").text(method).text(path).bytes(&body).finish();
        Ok(Self(Sha256::digest(&request).into()))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_part_counts_and_form_does_not() {
        let of = |method, path, body: &str| Fingerprint::of(method, path, body.as_bytes()).unwrap();
        let base = of("POST", "/orders", r#"{"a":1,"b":2}"#);
        assert_eq!(base, of("POST", "/orders", r#"{ "b": 2, "a": 1 }"#));
        for other in [
            of("PUT", "/orders", r#"{"a":1,"b":2}"#),
            of("POST", "/orders/1", r#"{"a":1,"b":2}"#),
            of("POST", "/orders", r#"{"a":1,"b":3}"#),
            of("POST", "/orders", ""),
        ] {
            assert_ne!(base, other);
        }
        assert!(Fingerprint::of("POST", "/orders", b"{").is_err());
    }

    #[test]
    fn the_form_is_pinned() {
        let hex: String = Fingerprint::of("DELETE", "/orders/7", b"")
            .unwrap()
            .0
            .iter()
            .map(|b| format!("{b:02x}"))
            .collect();
        let bytes = b"s\0\0\0\x12idempotent requests\0\0\0\x06DELETEs\0\0\0\x09/orders/7b\0\0\0\0";
        let expected: String = Sha256::digest(bytes).iter().map(|b| format!("{b:02x}")).collect();
        assert_eq!(hex, expected);
    }
}
