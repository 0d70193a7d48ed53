//! Ids and tokens of a running server: the system's random bytes, and the clock for ids that sort by time.

use std::sync::Arc;

use chrono::{DateTime, Utc};
use plimsoll_api::state::IdSource;
use plimsoll_core_domain::{Clock, OrderId};
use plimsoll_crypto::tokens::SecretToken;
use plimsoll_crypto::{CryptoRng, OsRandom};
use uuid::{Builder, Uuid};

/// The source for the routes.
pub(super) struct SystemIds(pub(super) Arc<dyn Clock>);

impl IdSource for SystemIds {
    fn order_id(&self) -> OrderId {
        new_order_id(self.0.now(), &mut OsRandom)
    }

    fn request_id(&self) -> Uuid {
        random_id(&mut OsRandom)
    }

    fn session_token(&self) -> SecretToken {
        SecretToken::generate(&mut OsRandom)
    }
}

/// An order's id of a moment.
pub(crate) fn new_order_id<R: CryptoRng + ?Sized>(now: DateTime<Utc>, rng: &mut R) -> OrderId {
    let millis = u64::try_from(now.timestamp_millis()).unwrap_or_default();
    OrderId(Builder::from_unix_timestamp_millis(millis, &random_bytes(rng)).into_uuid())
}

/// A random UUID (version 4).
pub(crate) fn random_id<R: CryptoRng + ?Sized>(rng: &mut R) -> Uuid {
    Builder::from_random_bytes(random_bytes(rng)).into_uuid()
}

/// Seeds what only spreads load.
pub(crate) fn random_seed<R: CryptoRng + ?Sized>(rng: &mut R) -> u64 {
    u64::from_le_bytes(random_bytes(rng))
}

fn random_bytes<const N: usize, R: CryptoRng + ?Sized>(rng: &mut R) -> [u8; N] {
    let mut bytes = [0; N];
    rng.fill_bytes(&mut bytes);
    bytes
}

#[cfg(test)]
mod tests {
    use plimsoll_core_domain::SystemClock;

    use super::*;

    #[test]
    fn ids_are_of_the_versions_they_should_be() {
        let ids = SystemIds(Arc::new(SystemClock));
        assert_eq!(ids.order_id().0.get_version_num(), 7);
        assert_eq!(ids.request_id().get_version_num(), 4);
        assert_ne!(ids.order_id(), ids.order_id());
        assert_ne!(random_seed(&mut OsRandom), random_seed(&mut OsRandom));
    }
}
