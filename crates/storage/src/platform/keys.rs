//! The installation's own random keys: made once, kept sealed by the key ring; and the ring's keys as the database knows them.

mod columns;
mod known;
mod rotate;

use std::fmt;
use std::sync::Arc;

use diesel::sql_types::{Binary, Text};
use diesel::{OptionalExtension, QueryableByName, RunQueryDsl};
use plimsoll_core_domain::{AccountId, ClientOrderId, StoreError, StoreErrorKind, UserId};
use plimsoll_crypto::{
    ClientOrderIdKey, CryptoRng, DeviceCookies, InstallationKey, KeyId, KeyPurpose, KeyRing, MacChain,
    OpenError, OrderOrigin, Pepper,
};

pub use self::columns::{NOT_SEALED_BY_THE_RING, SEALED_COLUMNS, SealedColumn};
pub use self::known::{KeyUse, KnownKey};
pub use self::rotate::{Place, Rotated, Rotation, RotationMode};
use super::audit::no_keys;
use super::orders::ClientOrderIds;
use crate::db::errors::StoreResult;
use crate::db::prepared::prepared;
use crate::db::{Db, Tx};

/// What the platform's transactions need of the installation's keys.
pub struct PlatformKeys {
    /// Chains the audit log.
    pub audit: MacChain,
    /// Signs the checkpoints of the audit log.
    pub checkpoints: MacChain,
    /// Derives client order ids.
    pub order_ids: ClientOrderIdKey,
    /// Keyed digests of values that could be guessed.
    pub pepper: Pepper,
    /// Signs device cookies.
    pub device_cookies: DeviceCookies,
    /// Seals what is stored sealed.
    pub ring: KeyRing,
}

impl fmt::Debug for PlatformKeys {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("PlatformKeys(redacted)")
    }
}

/// Why the installation's keys are not to be had.
#[derive(Debug, thiserror::Error)]
pub enum KeysError {
    /// Stored values need a key that is not in the ring.
    #[error("{}", not_in_ring(missing, *none))]
    NotInRing {
        /// The keys that are needed.
        missing: Vec<KeyId>,
        /// Whether the ring has none of the keys that are needed: a wrong one was given.
        none: bool,
    },
    /// The key ring has the key, but the stored bytes are not what it sealed.
    #[error("the installation's key `{name}` in the database is damaged")]
    Damaged {
        /// Which one.
        name: &'static str,
        /// How it was found.
        #[source]
        source: OpenError,
    },
    /// The store's own.
    #[error(transparent)]
    Store(#[from] StoreError),
}

/// What is wrong and what to do about it; ids only, which tell nothing of the keys.
fn not_in_ring(missing: &[KeyId], none: bool) -> String {
    let ids = missing.iter().map(ToString::to_string).collect::<Vec<_>>().join(", ");
    let keys = if missing.len() == 1 { "key" } else { "keys" };
    if none {
        format!(
            "ENCRYPTION_KEY is not the key that this database was set up with, which is {ids}: set that one, or name it \
             in ENCRYPTION_KEYS_OLD if ENCRYPTION_KEY is to replace it"
        )
    } else {
        format!(
            "stored values need the {keys} {ids}, not in ENCRYPTION_KEY and not in ENCRYPTION_KEYS_OLD: keep every \
             earlier key in ENCRYPTION_KEYS_OLD until `plimsoll key list` shows no rows for it"
        )
    }
}

impl PlatformKeys {
    /// The keys of a database, made now where it has none yet, all in one transaction, in which the ring is checked
    /// against everything that is stored and its keys are remembered by their ids.
    ///
    /// # Errors
    /// The ring does not have a key that is needed, and then nothing was made either; or the store's own.
    pub fn load_or_create<R>(db: &Db, ring: &KeyRing, rng: &mut R) -> Result<Self, KeysError>
    where
        R: CryptoRng + ?Sized,
    {
        db.run_blocking(|tx| Self::kept(tx, ring, rng))
    }

    /// As [`load_or_create`](Self::load_or_create), but what that would have written is taken back. For a trial: keys
    /// that were not there are good for this process alone.
    ///
    /// # Errors
    /// As there.
    pub fn load_or_pretend<R>(db: &Db, ring: &KeyRing, rng: &mut R) -> Result<Self, KeysError>
    where
        R: CryptoRng + ?Sized,
    {
        let mut keys = None;
        let taken_back = db.run_blocking(|tx| {
            keys = Some(Self::kept(tx, ring, rng)?);
            Err::<(), KeysError>(
                StoreError::new(StoreErrorKind::Other, "a trial ends without a commit").into(),
            )
        });
        match (keys, taken_back) {
            (Some(keys), _) => Ok(keys),
            (None, Err(error)) => Err(error),
            (None, Ok(())) => Err(no_keys().into()),
        }
    }

    fn kept<R>(tx: &mut Tx<'_>, ring: &KeyRing, rng: &mut R) -> Result<Self, KeysError>
    where
        R: CryptoRng + ?Sized,
    {
        tx.check_key_ring(ring)?;
        tx.register_keys(ring)?;
        let mut key = |purpose| tx.installation_key(ring, purpose, rng);
        let (audit, order_ids, pepper, devices) = (
            key(KeyPurpose::AuditMac)?,
            key(KeyPurpose::OrderId)?,
            key(KeyPurpose::Pepper)?,
            key(KeyPurpose::DeviceCookie)?,
        );
        let fault = |why: String| StoreError::new(StoreErrorKind::Other, why);
        Ok(Self {
            audit: MacChain::new(&audit).map_err(|why| fault(why.to_string()))?,
            checkpoints: MacChain::of_checkpoints(&audit).map_err(|why| fault(why.to_string()))?,
            order_ids: ClientOrderIdKey::new(&order_ids).map_err(|why| fault(why.to_string()))?,
            pepper: Pepper::new(&pepper).map_err(|why| fault(why.to_string()))?,
            device_cookies: DeviceCookies::new(&devices).map_err(|why| fault(why.to_string()))?,
            ring: ring.clone(),
        })
    }
}

#[derive(QueryableByName)]
struct Sealed {
    #[diesel(sql_type = Binary)]
    sealed: Vec<u8>,
}

impl ClientOrderIds for PlatformKeys {
    fn derive(&self, account: AccountId, user: UserId, origin: OrderOrigin<'_>) -> ClientOrderId {
        let id = self.order_ids.derive(&account.to_string(), user.0, origin);
        ClientOrderId::new(id).expect("a derived id is 36 visible ASCII characters")
    }
}

impl Db {
    /// The same pool, whose transactions may write audit entries and derive order ids.
    #[must_use]
    pub fn with_keys(self, keys: Arc<PlatformKeys>) -> Self {
        self.with_extension(keys)
    }
}

impl Tx<'_> {
    /// The installation's key for a purpose, made from `rng` and kept now when there is none yet. Two instances that
    /// start at once agree on one: the second waits for the first one's commit.
    ///
    /// # Errors
    /// The ring does not open it, or the store's own.
    pub fn installation_key<R>(
        &mut self,
        ring: &KeyRing,
        purpose: KeyPurpose,
        rng: &mut R,
    ) -> Result<InstallationKey, KeysError>
    where
        R: CryptoRng + ?Sized,
    {
        let fresh = InstallationKey::generate(purpose, rng);
        prepared(
            "INSERT INTO installation_keys (name, key_id, sealed) VALUES (?, ?, ?) ON CONFLICT (name) DO NOTHING",
        )
        .bind::<Text, _>(purpose.name())
        .bind::<Text, _>(ring.active().to_string())
        .bind::<Binary, _>(fresh.wrap(ring, rng))
        .execute(self.conn())
        .store()?;
        let kept = prepared("SELECT sealed FROM installation_keys WHERE name = ?")
            .bind::<Text, _>(purpose.name())
            .get_result::<Sealed>(self.conn())
            .optional()
            .store()?
            .ok_or_else(|| {
                StoreError::inconsistent("installation_keys", "name", purpose.name(), "gone after its insert")
            })?;
        InstallationKey::unwrap(ring, purpose, &kept.sealed).map_err(|source| match source {
            OpenError::UnknownKey(id) => KeysError::NotInRing { missing: vec![id], none: true },
            _ => KeysError::Damaged { name: purpose.name(), source },
        })
    }

    /// The installation's keys.
    pub(crate) fn platform_keys(&self) -> Result<Arc<PlatformKeys>, StoreError> {
        self.extension::<PlatformKeys>().ok_or_else(no_keys)
    }
}
