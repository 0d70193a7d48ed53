use std::collections::BTreeMap;
use std::fmt;
use std::str::FromStr;
use std::sync::{Arc, PoisonError, RwLock};

use chacha20poly1305::{KeyInit, XChaCha20Poly1305};
use data_encoding::HEXLOWER;
use sha2::{Digest, Sha256};

use crate::{MasterKey, SecretKey};

const ID_LABEL: &[u8] = b"plimsoll/v1/key-id";
const SEALING_LABEL: &[u8] = b"plimsoll/v1/sealing/";
const DERIVED_LABEL: &[u8] = b"plimsoll/v1/derived/";

/// Names a master key without telling anything about it: the first 8 bytes of SHA-256 over a labelled HKDF output.
///
/// Text form: 16 lower-case hexadecimal digits. It is stored beside everything the key sealed, so it doubles as the
/// key-check value: a start with a wrong pass phrase yields another id, and is found out before the first use.
#[derive(Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct KeyId([u8; 8]);

/// The text is not 16 lower-case hexadecimal digits.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("a key id has 16 lower-case hexadecimal digits")]
pub struct ParseKeyIdError;

impl KeyId {
    /// An id as it stands in a sealed value.
    #[must_use]
    pub fn from_bytes(bytes: [u8; 8]) -> Self {
        Self(bytes)
    }

    /// The eight bytes of the id.
    #[must_use]
    pub fn as_bytes(&self) -> &[u8; 8] {
        &self.0
    }

    pub(crate) fn of(master: &SecretKey) -> Self {
        let digest = Sha256::digest(master.derive(None, &[ID_LABEL]).expose());
        Self(digest[..8].try_into().expect("SHA-256 has 32 bytes"))
    }
}

impl fmt::Display for KeyId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&HEXLOWER.encode(&self.0))
    }
}

impl fmt::Debug for KeyId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "KeyId({self})")
    }
}

impl FromStr for KeyId {
    type Err = ParseKeyIdError;

    fn from_str(text: &str) -> Result<Self, ParseKeyIdError> {
        let bytes = HEXLOWER.decode(text.as_bytes()).map_err(|_| ParseKeyIdError)?;
        bytes.try_into().map(Self).map_err(|_| ParseKeyIdError)
    }
}

/// Why a ring cannot be made or does not have what was asked for.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum KeyRingError {
    /// The same key stands twice, most likely as the active and as an old one.
    #[error("key {0} is given twice")]
    Duplicate(KeyId),
    /// No key of this ring has the id.
    #[error("no key {0} in the ring")]
    UnknownKey(KeyId),
}

/// The master keys: one active, which seals; any number of older ones, which only open what they once sealed.
///
/// A key is found by its id, never by trial: the cipher does not commit to its key.
///
/// Subkeys are derived once and kept. Clones share them, so a ring is cheap to clone; all is wiped with the last one.
#[derive(Clone)]
pub struct KeyRing {
    active: KeyId,
    keys: BTreeMap<KeyId, Arc<Master>>,
}

/// Columns whose subkeys one master key keeps. There are far fewer; whoever has more derives those each time.
const MAX_SUBKEYS: usize = 64;

struct Master {
    key: SecretKey,
    subkeys: RwLock<Vec<Arc<Subkey>>>,
}

/// What seals the values of one column under one master key.
pub(crate) struct Subkey {
    table: String,
    column: String,
    pub(crate) cipher: XChaCha20Poly1305,
}

impl Master {
    fn new(key: SecretKey) -> Arc<Self> {
        Arc::new(Self { key, subkeys: RwLock::default() })
    }

    fn subkey(&self, table: &str, column: &str) -> Arc<Subkey> {
        let found = |subkeys: &[Arc<Subkey>]| {
            subkeys.iter().find(|subkey| subkey.column == column && subkey.table == table).cloned()
        };
        if let Some(subkey) = found(&self.subkeys.read().unwrap_or_else(PoisonError::into_inner)) {
            return subkey;
        }
        let key = self.key.derive(None, &[SEALING_LABEL, table.as_bytes(), b".", column.as_bytes()]);
        let cipher = XChaCha20Poly1305::new_from_slice(key.expose()).expect("the cipher's key has 32 bytes");
        let subkey = Arc::new(Subkey { table: table.to_owned(), column: column.to_owned(), cipher });
        let mut subkeys = self.subkeys.write().unwrap_or_else(PoisonError::into_inner);
        if subkeys.len() < MAX_SUBKEYS && found(&subkeys).is_none() {
            subkeys.push(Arc::clone(&subkey));
        }
        subkey
    }
}

impl KeyRing {
    /// A ring of one key.
    #[must_use]
    pub fn new(active: &MasterKey) -> Self {
        let id = KeyId::of(&active.key);
        Self { active: id, keys: BTreeMap::from([(id, Master::new(active.key.clone()))]) }
    }

    /// Adds a key that opens but no longer seals.
    ///
    /// # Errors
    ///
    /// [`KeyRingError::Duplicate`] when the ring has it already.
    pub fn with_old(mut self, old: &MasterKey) -> Result<Self, KeyRingError> {
        let id = KeyId::of(&old.key);
        match self.keys.insert(id, Master::new(old.key.clone())) {
            None => Ok(self),
            Some(_) => Err(KeyRingError::Duplicate(id)),
        }
    }

    /// The keys of this ring, all of them only opening, and another one that seals.
    pub(crate) fn with_active(&self, key: &SecretKey) -> Self {
        let active = KeyId::of(key);
        let mut keys = self.keys.clone();
        keys.insert(active, Master::new(key.clone()));
        Self { active, keys }
    }

    /// The id of the key that seals.
    #[must_use]
    pub fn active(&self) -> KeyId {
        self.active
    }

    /// All ids, in no meaningful order.
    pub fn ids(&self) -> impl Iterator<Item = KeyId> {
        self.keys.keys().copied()
    }

    /// Whether the ring can open what this key sealed.
    #[must_use]
    pub fn contains(&self, id: KeyId) -> bool {
        self.keys.contains_key(&id)
    }

    /// A key derived from a master key for use outside the sealing of rows, such as the keys of one backup file:
    /// HKDF-SHA256 with the given salt and purpose. It changes when the master key does.
    ///
    /// # Errors
    ///
    /// [`KeyRingError::UnknownKey`].
    pub fn derive(&self, id: KeyId, salt: &[u8], purpose: &[u8]) -> Result<SecretKey, KeyRingError> {
        let master = self.keys.get(&id).ok_or(KeyRingError::UnknownKey(id))?;
        Ok(master.key.derive(Some(salt), &[DERIVED_LABEL, purpose]))
    }

    /// The sealing subkey of one table column.
    pub(crate) fn subkey(&self, id: KeyId, table: &str, column: &str) -> Option<Arc<Subkey>> {
        self.keys.get(&id).map(|master| master.subkey(table, column))
    }
}

impl fmt::Debug for KeyRing {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("KeyRing").field("active", &self.active).field("ids", &self.keys.keys()).finish()
    }
}

#[cfg(test)]
pub(crate) mod tests {
    use chacha20poly1305::aead::Aead;

    use super::*;

    pub(crate) fn master(seed: u8) -> MasterKey {
        MasterKey::from_key(SecretKey::from_bytes(std::array::from_fn(|i| seed.wrapping_add(i as u8 + 1))))
            .unwrap()
    }

    #[test]
    fn the_id_is_pinned() {
        // hmac-based, computed apart with another implementation of HKDF.
        assert_eq!(KeyRing::new(&master(100)).active().to_string(), "1e15bb5a8d8c17a9");
    }

    #[test]
    fn an_id_survives_its_text_form_and_nothing_else_parses() {
        let id = KeyRing::new(&master(100)).active();
        assert_eq!(id.to_string().parse(), Ok(id));
        assert_eq!(KeyId::from_bytes(*id.as_bytes()), id);
        for bad in ["", "00", "zz00000000000000", "000000000000000000", "AB00000000000000"] {
            assert_eq!(bad.parse::<KeyId>(), Err(ParseKeyIdError), "{bad}");
        }
    }

    #[test]
    fn a_ring_knows_its_keys() {
        let ring = KeyRing::new(&master(100)).with_old(&master(101)).unwrap();
        let old = KeyRing::new(&master(101)).active();
        assert!(ring.contains(ring.active()) && ring.contains(old) && ring.active() != old);
        assert_eq!(ring.ids().count(), 2);
        assert_eq!(ring.clone().with_old(&master(100)).unwrap_err(), KeyRingError::Duplicate(ring.active()));
        assert_eq!(ring.clone().with_old(&master(101)).unwrap_err(), KeyRingError::Duplicate(old));
    }

    #[test]
    fn derived_keys_differ_by_key_salt_purpose_and_use() {
        let ring = KeyRing::new(&master(100)).with_old(&master(101)).unwrap();
        let (active, old) = (ring.active(), KeyRing::new(&master(101)).active());
        let key = |id, salt: &[u8], purpose: &[u8]| *ring.derive(id, salt, purpose).unwrap().expose();
        let all = [
            key(active, b"salt", b"data"),
            key(active, b"salt", b"mac"),
            key(active, b"tlas", b"data"),
            key(old, b"salt", b"data"),
            *master(100).key.derive(Some(b"salt"), &[SEALING_LABEL, b"data"]).expose(),
        ];
        let distinct: std::collections::HashSet<_> = all.iter().collect();
        assert_eq!(distinct.len(), all.len());
        let stranger = KeyRing::new(&master(102)).active();
        assert_eq!(ring.derive(stranger, b"", b"").unwrap_err(), KeyRingError::UnknownKey(stranger));
    }

    #[test]
    fn subkeys_are_the_same_kept_or_derived() {
        let ring = KeyRing::new(&master(100));
        let tag = |cipher: &XChaCha20Poly1305| cipher.encrypt(&[7; 24].into(), &b""[..]).unwrap();
        let mut tags = std::collections::HashSet::new();
        for i in 0..4 * MAX_SUBKEYS {
            let column = format!("column{}", i % (2 * MAX_SUBKEYS));
            let kept = tag(&ring.clone().subkey(ring.active(), "table", &column).unwrap().cipher);
            let derived = master(100).key.derive(None, &[SEALING_LABEL, b"table.", column.as_bytes()]);
            assert_eq!(kept, tag(&XChaCha20Poly1305::new_from_slice(derived.expose()).unwrap()), "{column}");
            tags.insert(kept);
        }
        assert_eq!(tags.len(), 2 * MAX_SUBKEYS);
        assert_eq!(ring.keys[&ring.active()].subkeys.read().unwrap().len(), MAX_SUBKEYS);
    }

    #[test]
    fn debug_shows_ids_only() {
        let ring = KeyRing::new(&master(100));
        assert_eq!(format!("{ring:?}"), format!("KeyRing {{ active: {0:?}, ids: [{0:?}] }}", ring.active()));
    }
}
