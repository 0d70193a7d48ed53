//! Claim, effect and reply in one transaction.

use plimsoll_core_domain::{StoreError, StoreErrorKind};

use super::{Claimed, IdempotencyStore, KeyClaim, StoredReply};

/// A reply to send.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Once {
    /// The effect happened now.
    Fresh(StoredReply),
    /// It had happened before: say so in the reply's headers.
    Replay(StoredReply),
}

/// Why there is none. Everything is to be rolled back.
#[derive(Debug, thiserror::Error)]
pub enum OnceError<E> {
    /// The same request is still running: tell the client to come back.
    #[error("a request with this idempotency key is still running")]
    InFlight,
    /// The key belongs to another request: the client's mistake.
    #[error("the idempotency key was used for another request")]
    Reused,
    /// The effect's own error; nothing is kept, so a retry is safe.
    #[error(transparent)]
    Effect(E),
    /// The store's.
    #[error(transparent)]
    Store(StoreError),
}

impl<E> From<StoreError> for OnceError<E> {
    fn from(error: StoreError) -> Self {
        Self::Store(error)
    }
}

/// Runs `effect` unless a request under the same key has had it; call it first in a transaction, and roll back on any
/// error.
///
/// # Errors
/// See [`OnceError`].
pub fn once<S, E>(
    store: &mut S,
    claim: &KeyClaim,
    effect: impl FnOnce(&mut S) -> Result<StoredReply, E>,
) -> Result<Once, OnceError<E>>
where
    S: IdempotencyStore + ?Sized,
{
    match store.claim_key(claim) {
        Ok(Claimed::Fresh) => {
            let reply = effect(store).map_err(OnceError::Effect)?;
            store.store_reply(claim, &reply)?;
            Ok(Once::Fresh(reply))
        }
        Ok(Claimed::Taken(record)) if record.fingerprint != claim.fingerprint => Err(OnceError::Reused),
        Ok(Claimed::Taken(record)) => record.reply.map(Once::Replay).ok_or(OnceError::InFlight),
        Err(error) if error.kind() == StoreErrorKind::Contention => Err(OnceError::InFlight),
        Err(error) => Err(error.into()),
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use plimsoll_core_domain::UserId;

    use super::*;
    use crate::idempotency::{Fingerprint, IdempotencyKey};
    use crate::jobs::JobStore;
    use crate::testing::MemoryStore;

    #[derive(Debug, PartialEq)]
    struct Refused;

    fn claim(key: &str, body: &str) -> KeyClaim {
        KeyClaim {
            user: UserId(7),
            key: IdempotencyKey::new(key).unwrap(),
            route: "POST /things".into(),
            fingerprint: Fingerprint::of("POST", "/things", body.as_bytes()).unwrap(),
            keep: Duration::from_secs(60),
        }
    }

    fn ask(
        store: &MemoryStore,
        claim: &KeyClaim,
        outcome: Result<&str, Refused>,
    ) -> Result<Once, OnceError<Refused>> {
        store.transaction(|tx| {
            once(tx, claim, |tx| {
                tx.note_effect();
                match &outcome {
                    Ok(body) => Ok(StoredReply { status: 201, body: body.as_bytes().to_vec() }),
                    Err(Refused) => Err(Refused),
                }
            })
        })
    }

    #[test]
    fn the_second_request_gets_the_first_ones_reply() {
        let store = MemoryStore::stopped();
        let reply = StoredReply { status: 201, body: b"first".to_vec() };
        assert_eq!(ask(&store, &claim("k", "{}"), Ok("first")).unwrap(), Once::Fresh(reply.clone()));
        assert_eq!(ask(&store, &claim("k", " {} "), Ok("second")).unwrap(), Once::Replay(reply));
        assert_eq!(store.effects(), 1);
    }

    #[test]
    fn another_body_under_the_same_key_is_refused() {
        let store = MemoryStore::stopped();
        ask(&store, &claim("k", "{}"), Ok("first")).unwrap();
        assert!(matches!(ask(&store, &claim("k", "[]"), Ok("second")), Err(OnceError::Reused)));
        assert_eq!(store.effects(), 1);
    }

    #[test]
    fn a_refusal_leaves_the_key_free() {
        let store = MemoryStore::stopped();
        assert!(matches!(ask(&store, &claim("k", "{}"), Err(Refused)), Err(OnceError::Effect(Refused))));
        assert_eq!(store.effects(), 0, "rolled back");
        assert!(matches!(ask(&store, &claim("k", "{}"), Ok("now")), Ok(Once::Fresh(_))));
    }

    #[test]
    fn keys_of_users_never_meet_and_expire() {
        let store = MemoryStore::stopped();
        ask(&store, &claim("k", "{}"), Ok("first")).unwrap();
        let other = KeyClaim { user: UserId(8), ..claim("k", "[]") };
        assert!(matches!(ask(&store, &other, Ok("other")), Ok(Once::Fresh(_))));
        store.advance(Duration::from_secs(61));
        assert!(matches!(ask(&store, &claim("k", "[]"), Ok("later")), Ok(Once::Fresh(_))));
    }

    #[test]
    fn a_running_twin_is_in_flight() {
        struct Locked(Option<StoreErrorKind>);
        impl IdempotencyStore for Locked {
            fn claim_key(&mut self, claim: &KeyClaim) -> Result<Claimed, StoreError> {
                match self.0 {
                    Some(kind) => Err(StoreError::new(kind, "lock time-out")),
                    None => Ok(Claimed::Taken(crate::idempotency::KeyRecord {
                        fingerprint: claim.fingerprint,
                        reply: None,
                    })),
                }
            }
            fn store_reply(&mut self, _: &KeyClaim, _: &StoredReply) -> Result<(), StoreError> {
                unreachable!("nothing was claimed")
            }
        }
        let ask = |kind| {
            once(&mut Locked(kind), &claim("k", "{}"), |_| -> Result<StoredReply, Refused> { Err(Refused) })
        };
        assert!(matches!(ask(Some(StoreErrorKind::Contention)), Err(OnceError::InFlight)));
        assert!(matches!(ask(None), Err(OnceError::InFlight)));
        assert!(matches!(ask(Some(StoreErrorKind::Unavailable)), Err(OnceError::Store(_))));
    }
}
