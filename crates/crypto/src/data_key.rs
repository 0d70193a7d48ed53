use rand::CryptoRng;
use secrecy::ExposeSecret;

use crate::sealing::{self, Aad, OpenError};
use crate::{KeyId, KeyRing, SecretKey};

/// The key of one user: 32 random bytes, stored wrapped by the installation's key ring. All that belongs to the user is
/// sealed under it, so whoever destroys the wrapped key destroys that too, in every copy of the database.
///
/// It is never the installation's key itself and never derived from it: rotation re-wraps the same bytes, and what they
/// sealed stays as it is.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct DataKey(SecretKey);

impl DataKey {
    /// A new key.
    pub fn generate<R: CryptoRng + ?Sized>(rng: &mut R) -> Self {
        Self(SecretKey::generate(rng))
    }

    /// The id that stands in the values this key sealed.
    #[must_use]
    pub fn id(&self) -> KeyId {
        KeyId::of(&self.0)
    }

    /// The stored form (`user_keys.wrapped`): the key sealed by the ring's active key, bound to its user.
    /// [`sealed_with`](sealing::sealed_with) names the key that wrapped it.
    pub fn wrap<R: CryptoRng + ?Sized>(&self, ring: &KeyRing, user: i64, rng: &mut R) -> Vec<u8> {
        sealing::seal(ring, &place(&user.to_string(), user), self.0.expose(), rng)
    }

    /// Reads the stored form of this user's key.
    ///
    /// # Errors
    ///
    /// See [`OpenError`]; [`OpenError::Misplaced`] for the key of another user.
    pub fn unwrap(ring: &KeyRing, user: i64, wrapped: &[u8]) -> Result<Self, OpenError> {
        let bytes = sealing::open(ring, &place(&user.to_string(), user), wrapped)?;
        SecretKey::try_from(bytes.expose_secret()).map(Self).map_err(|_| OpenError::Refused)
    }

    /// A ring that seals with this key and opens what it sealed. It also opens what the installation's ring sealed:
    /// values of before their user had a key, which [`reseal`](sealing::reseal) moves under it.
    #[must_use]
    pub fn ring(&self, installation: &KeyRing) -> KeyRing {
        installation.with_active(&self.0)
    }
}

fn place(row: &str, user: i64) -> Aad<'_> {
    Aad { table: "user_keys", column: "wrapped", row, owner: Some(user) }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::OsRandom;
    use crate::key_ring::tests::master;
    use crate::sealing::{open, reseal, seal, sealed_with};

    const SECRET: Aad<'static> =
        Aad { table: "broker_credentials", column: "api_secret", row: "42:alpaca", owner: Some(42) };

    fn installation() -> KeyRing {
        KeyRing::new(&master(1))
    }

    #[test]
    fn a_wrapped_key_comes_back_for_its_own_user_only() {
        let key = DataKey::generate(&mut OsRandom);
        let wrapped = key.wrap(&installation(), 42, &mut OsRandom);
        assert_eq!(DataKey::unwrap(&installation(), 42, &wrapped), Ok(key));
        for other in [43, -42, 0, 4] {
            assert_eq!(DataKey::unwrap(&installation(), other, &wrapped), Err(OpenError::Misplaced));
        }
    }

    #[test]
    fn rotation_re_wraps_the_same_key() {
        let key = DataKey::generate(&mut OsRandom);
        let sealed = seal(&key.ring(&installation()), &SECRET, b"secret", &mut OsRandom);
        let wrapped = key.wrap(&installation(), 42, &mut OsRandom);
        let rotating = KeyRing::new(&master(2)).with_old(&master(1)).unwrap();
        let rewrapped = DataKey::unwrap(&rotating, 42, &wrapped).unwrap().wrap(&rotating, 42, &mut OsRandom);
        assert_eq!(sealed_with(&rewrapped), Ok(rotating.active()));

        let after = KeyRing::new(&master(2));
        let same = DataKey::unwrap(&after, 42, &rewrapped).unwrap();
        assert_eq!(open(&same.ring(&after), &SECRET, &sealed).unwrap().expose_secret(), b"secret");
        let unknown = OpenError::UnknownKey(installation().active());
        assert_eq!(DataKey::unwrap(&after, 42, &wrapped), Err(unknown));
    }

    #[test]
    fn its_ring_seals_with_the_data_key_alone() {
        let (key, other) = (DataKey::generate(&mut OsRandom), DataKey::generate(&mut OsRandom));
        let ring = key.ring(&installation());
        let sealed = seal(&ring, &SECRET, b"secret", &mut OsRandom);
        assert_eq!((sealed_with(&sealed), ring.active()), (Ok(key.id()), key.id()));
        assert_eq!(open(&ring, &SECRET, &sealed).unwrap().expose_secret(), b"secret");
        for without in [installation(), other.ring(&installation())] {
            assert_eq!(open(&without, &SECRET, &sealed).unwrap_err(), OpenError::UnknownKey(key.id()));
        }
    }

    #[test]
    fn values_of_before_the_data_key_open_and_move_under_it() {
        let old = seal(&installation(), &SECRET, b"secret", &mut OsRandom);
        let key = DataKey::generate(&mut OsRandom);
        let ring = key.ring(&installation());
        assert_eq!(open(&ring, &SECRET, &old).unwrap().expose_secret(), b"secret");
        let moved = reseal(&ring, &SECRET, &old, &mut OsRandom).unwrap().expect("another key sealed it");
        assert_eq!(sealed_with(&moved), Ok(key.id()));
        assert_eq!(reseal(&ring, &SECRET, &moved, &mut OsRandom), Ok(None));
        assert_eq!(open(&ring, &SECRET, &moved).unwrap().expose_secret(), b"secret");
        let refused = open(&installation(), &SECRET, &moved).unwrap_err();
        assert_eq!(refused, OpenError::UnknownKey(key.id()));
    }

    #[test]
    fn its_ring_holds_the_installations_keys_and_its_own() {
        let rotating = KeyRing::new(&master(2)).with_old(&master(1)).unwrap();
        let key = DataKey::generate(&mut OsRandom);
        let ring = key.ring(&rotating);
        assert_eq!(ring.ids().count(), 3);
        assert!(rotating.ids().all(|id| ring.contains(id) && id != key.id()));
        assert!(ring.contains(key.id()) && !rotating.contains(key.id()));
        assert_eq!(DataKey::generate(&mut OsRandom).ring(&ring).ids().count(), 4);
    }

    #[test]
    fn a_sealed_value_of_another_length_is_no_key() {
        for length in [0, 31, 33] {
            let wrapped = seal(&installation(), &place("42", 42), &vec![7; length], &mut OsRandom);
            assert_eq!(DataKey::unwrap(&installation(), 42, &wrapped), Err(OpenError::Refused));
        }
    }

    #[test]
    fn debug_does_not_show_the_key() {
        assert_eq!(format!("{:?}", DataKey::generate(&mut OsRandom)), "DataKey(SecretKey(redacted))");
    }
}
