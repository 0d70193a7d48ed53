use std::fmt;

use rand::CryptoRng;
use secrecy::ExposeSecret;

use crate::sealing::{self, Aad, OpenError};
use crate::{KeyRing, SecretKey};

/// What a key of the installation is for. One key, one purpose.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum KeyPurpose {
    /// Derives client order ids: [`ClientOrderIdKey`](crate::ClientOrderIdKey).
    OrderId,
    /// Chains audit entries: [`MacChain`](crate::MacChain).
    AuditMac,
    /// Keyed digests of guessable values: [`Pepper`](crate::Pepper).
    Pepper,
    /// Signs device cookies.
    DeviceCookie,
}

impl KeyPurpose {
    /// Every purpose, in a fixed order.
    pub const ALL: [Self; 4] = [Self::OrderId, Self::AuditMac, Self::Pepper, Self::DeviceCookie];

    /// The stored name; it never changes.
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            Self::OrderId => "order_id",
            Self::AuditMac => "audit_mac",
            Self::Pepper => "pepper",
            Self::DeviceCookie => "device_cookie",
        }
    }

    /// The purpose with this stored name.
    #[must_use]
    pub fn from_name(name: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|purpose| purpose.name() == name)
    }

    fn aad(self) -> Aad<'static> {
        Aad { table: "installation_keys", column: "sealed", row: self.name(), owner: None }
    }
}

impl fmt::Display for KeyPurpose {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}

/// A key was given to a use it was not made for.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("a key for {needed} is needed, this one is for {given}")]
pub struct WrongPurpose {
    /// What the use needs.
    pub needed: KeyPurpose,
    /// What the key was made for.
    pub given: KeyPurpose,
}

/// 32 random bytes, made once per installation and kept for ever, stored wrapped by the key ring.
///
/// Never derived from the master key: rotating that would change every client order id and break every audit chain.
/// Rotation re-wraps the same bytes.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct InstallationKey {
    purpose: KeyPurpose,
    key: SecretKey,
}

impl InstallationKey {
    /// A new key.
    pub fn generate<R: CryptoRng + ?Sized>(purpose: KeyPurpose, rng: &mut R) -> Self {
        Self { purpose, key: SecretKey::generate(rng) }
    }

    /// What the key is for.
    #[must_use]
    pub fn purpose(&self) -> KeyPurpose {
        self.purpose
    }

    /// The stored form: the key sealed by the ring's active key, bound to its purpose.
    pub fn wrap<R: CryptoRng + ?Sized>(&self, ring: &KeyRing, rng: &mut R) -> Vec<u8> {
        sealing::seal(ring, &self.purpose.aad(), self.key.expose(), rng)
    }

    /// Reads the stored form of the key for this purpose.
    ///
    /// # Errors
    ///
    /// See [`OpenError`]. At a start, [`OpenError::UnknownKey`] says that the master key is not the one this
    /// installation was made with.
    pub fn unwrap(ring: &KeyRing, purpose: KeyPurpose, wrapped: &[u8]) -> Result<Self, OpenError> {
        let bytes = sealing::open(ring, &purpose.aad(), wrapped)?;
        let key = SecretKey::try_from(bytes.expose_secret()).map_err(|_| OpenError::Refused)?;
        Ok(Self { purpose, key })
    }

    /// The key, for the named use only.
    pub(crate) fn key_for(&self, needed: KeyPurpose) -> Result<&SecretKey, WrongPurpose> {
        if self.purpose == needed { Ok(&self.key) } else { Err(WrongPurpose { needed, given: self.purpose }) }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::OsRandom;
    use crate::key_ring::tests::master;

    #[test]
    fn a_wrapped_key_comes_back_for_its_own_purpose_only() {
        let ring = KeyRing::new(&master(1));
        for purpose in KeyPurpose::ALL {
            let key = InstallationKey::generate(purpose, &mut OsRandom);
            let wrapped = key.wrap(&ring, &mut OsRandom);
            for other in KeyPurpose::ALL {
                let back = InstallationKey::unwrap(&ring, other, &wrapped);
                assert_eq!(back, if other == purpose { Ok(key.clone()) } else { Err(OpenError::Misplaced) });
            }
        }
    }

    #[test]
    fn rotation_keeps_the_bytes() {
        let key = InstallationKey::generate(KeyPurpose::AuditMac, &mut OsRandom);
        let wrapped = key.wrap(&KeyRing::new(&master(1)), &mut OsRandom);
        let ring = KeyRing::new(&master(2)).with_old(&master(1)).unwrap();
        let rewrapped = InstallationKey::unwrap(&ring, KeyPurpose::AuditMac, &wrapped)
            .unwrap()
            .wrap(&ring, &mut OsRandom);
        let only_new = KeyRing::new(&master(2));
        assert_eq!(InstallationKey::unwrap(&only_new, KeyPurpose::AuditMac, &rewrapped), Ok(key));
        let wrong = InstallationKey::unwrap(&only_new, KeyPurpose::AuditMac, &wrapped);
        assert_eq!(wrong, Err(OpenError::UnknownKey(KeyRing::new(&master(1)).active())));
    }

    #[test]
    fn a_sealed_value_of_another_length_is_no_key() {
        let ring = KeyRing::new(&master(1));
        let wrapped = sealing::seal(&ring, &KeyPurpose::Pepper.aad(), &[0; 31], &mut OsRandom);
        assert_eq!(InstallationKey::unwrap(&ring, KeyPurpose::Pepper, &wrapped), Err(OpenError::Refused));
    }

    #[test]
    fn names_are_distinct_and_read_back() {
        for purpose in KeyPurpose::ALL {
            assert_eq!(KeyPurpose::from_name(&purpose.to_string()), Some(purpose));
        }
        assert_eq!(KeyPurpose::from_name("master"), None);
    }

    #[test]
    fn debug_does_not_show_the_key() {
        let key = InstallationKey::generate(KeyPurpose::OrderId, &mut OsRandom);
        assert_eq!(format!("{key:?}"), "InstallationKey { purpose: OrderId, key: SecretKey(redacted) }");
    }
}

/// Keys with known bytes for the pinned values of other modules' tests.
#[cfg(test)]
pub(crate) mod tests_support {
    use super::*;

    pub(crate) fn fixed_key(purpose: KeyPurpose) -> InstallationKey {
        InstallationKey { purpose, key: SecretKey::from_bytes(std::array::from_fn(|i| i as u8)) }
    }
}
