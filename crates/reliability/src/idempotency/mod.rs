//! Idempotency keys: the same request sent twice has one effect and one reply.
//!
//! The first statement of a request's transaction claims its key; the reply is stored under the key in the same
//! transaction as the effect. A twin that comes meanwhile waits for the claim or is told to come back, one that comes
//! later gets the stored reply, byte for byte.

mod canonical_json;
mod fingerprint;
mod once;

use std::time::Duration;

use plimsoll_core_domain::{StoreError, UserId};

pub use canonical_json::{CanonicalJsonError, canonical_json};
pub use fingerprint::Fingerprint;
pub use once::{Once, OnceError, once};

/// A client's key: 1 to 255 visible ASCII characters.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct IdempotencyKey(String);

/// Not an idempotency key.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("an idempotency key has 1 to 255 visible ASCII characters")]
pub struct BadKey;

impl IdempotencyKey {
    /// Takes the text as it is.
    ///
    /// # Errors
    /// It is empty, too long, or has other characters.
    pub fn new(text: impl Into<String>) -> Result<Self, BadKey> {
        let text = text.into();
        let good = (1..=255).contains(&text.len()) && text.bytes().all(|b| (0x21..=0x7e).contains(&b));
        if good { Ok(Self(text)) } else { Err(BadKey) }
    }

    /// The text.
    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

/// A reply as it was sent, to be sent again byte for byte.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct StoredReply {
    /// HTTP status or the protocol's counterpart.
    pub status: u16,
    /// At most 64 KiB; no secrets.
    pub body: Vec<u8>,
}

/// What a request claims.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct KeyClaim {
    /// Whose key; keys of different users never meet.
    pub user: UserId,
    /// The key.
    pub key: IdempotencyKey,
    /// The route's pattern, such as `POST /orders`.
    pub route: String,
    /// Of the request.
    pub fingerprint: Fingerprint,
    /// How long the reply is kept, from now by the store's clock.
    pub keep: Duration,
}

/// What is on record under a key.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct KeyRecord {
    /// Of the request that claimed it.
    pub fingerprint: Fingerprint,
    /// `None` while that request runs.
    pub reply: Option<StoredReply>,
}

/// Whose the key is.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Claimed {
    /// This transaction's: it must store a reply before it commits.
    Fresh,
    /// Someone else's.
    Taken(KeyRecord),
}

/// Where keys and replies are kept. The methods run inside one transaction.
pub trait IdempotencyStore {
    /// Inserts the key unless it is there. An expired key counts as absent and is replaced. Waits for a transaction
    /// that holds the same key, up to the store's lock time-out.
    ///
    /// # Errors
    /// Kind `Contention` when that transaction is still running after the wait; else the store's own.
    fn claim_key(&mut self, claim: &KeyClaim) -> Result<Claimed, StoreError>;

    /// Stores the reply under a key that this transaction has claimed.
    ///
    /// # Errors
    /// The store's.
    fn store_reply(&mut self, claim: &KeyClaim, reply: &StoredReply) -> Result<(), StoreError>;
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn keys_are_visible_ascii() {
        assert_eq!(IdempotencyKey::new("a-1").unwrap().as_str(), "a-1");
        assert!(IdempotencyKey::new("k".repeat(255)).is_ok());
        for bad in ["", "a b", "ü", "a\n", &"k".repeat(256)] {
            assert_eq!(IdempotencyKey::new(bad), Err(BadKey), "{bad:?}");
        }
    }
}
