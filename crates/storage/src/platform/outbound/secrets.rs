//! The secrets of hooks, sealed under their owner's data key.

use chrono::{DateTime, Utc};
use plimsoll_auth::vault::{existing_ring, user_ring};
use plimsoll_core_domain::{StoreError, UserId};
use plimsoll_crypto::{Aad, KeyRing, OsRandom, WebhookSecret, open, seal};
use secrecy::ExposeSecret;
use uuid::Uuid;

use crate::db::Tx;

/// The column of the secret in use.
pub(super) const SECRET: &str = "secret";
/// The column of the one before.
pub(super) const OLD_SECRET: &str = "old_secret";

/// A secret that is stored does not open: its owner can replace it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Unreadable;

fn sealed_at<'a>(column: &'a str, row: &'a str, user: UserId) -> Aad<'a> {
    Aad { table: "outbound_hooks", column, row, owner: Some(user.0) }
}

/// The secret in a column of a hook.
pub(super) fn unsealed(
    ring: &KeyRing,
    user: UserId,
    hook: Uuid,
    column: &str,
    sealed: &[u8],
) -> Result<WebhookSecret, Unreadable> {
    let row = hook.to_string();
    let plain = open(ring, &sealed_at(column, &row, user), sealed).map_err(|_| Unreadable)?;
    WebhookSecret::from_bytes(plain.expose_secret()).map_err(|_| Unreadable)
}

/// A secret as it is stored in a column of a hook.
pub(super) fn sealed(
    ring: &KeyRing,
    user: UserId,
    hook: Uuid,
    column: &str,
    secret: &WebhookSecret,
) -> Vec<u8> {
    let row = hook.to_string();
    seal(ring, &sealed_at(column, &row, user), secret.expose(), &mut OsRandom)
}

impl Tx<'_> {
    /// The ring under which the user's secrets are sealed; made where there is none yet.
    pub(super) fn ring_of(
        &mut self,
        user: UserId,
        at: DateTime<Utc>,
    ) -> Result<Result<KeyRing, Unreadable>, StoreError> {
        let keys = self.platform_keys()?;
        Ok(user_ring(self, &keys.ring, user, at, &mut OsRandom)?.map_err(|_| Unreadable))
    }

    /// The same, of a user who has one.
    pub(super) fn present_ring_of(
        &mut self,
        user: UserId,
    ) -> Result<Result<KeyRing, Unreadable>, StoreError> {
        let keys = self.platform_keys()?;
        let ring = existing_ring(self, &keys.ring, user)?;
        Ok(ring.ok_or(Unreadable).and_then(|ring| ring.map_err(|_| Unreadable)))
    }
}
