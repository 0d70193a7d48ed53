use std::fmt;

use hkdf::Hkdf;
use rand::CryptoRng;
use sha2::Sha256;
use subtle::{Choice, ConstantTimeEq};
use zeroize::{Zeroize, ZeroizeOnDrop};

/// 32 secret bytes: wiped when dropped, compared in constant time, never printed.
#[derive(Clone, Zeroize, ZeroizeOnDrop)]
pub struct SecretKey([u8; 32]);

impl SecretKey {
    /// Takes bytes that are already a key. The caller wipes its own copy.
    #[must_use]
    pub fn from_bytes(bytes: [u8; 32]) -> Self {
        Self(bytes)
    }

    /// A new random key.
    pub fn generate<R: CryptoRng + ?Sized>(rng: &mut R) -> Self {
        let mut key = Self([0; 32]);
        rng.fill_bytes(&mut key.0);
        key
    }

    /// The bytes, for a cipher or a MAC. Do not copy them anywhere that is not wiped.
    #[must_use]
    pub fn expose(&self) -> &[u8; 32] {
        &self.0
    }

    /// HKDF-SHA256 (RFC 5869) with this key as input keying material.
    pub(crate) fn derive(&self, salt: Option<&[u8]>, info: &[&[u8]]) -> Self {
        let mut derived = Self([0; 32]);
        hkdf(&self.0, salt, info, &mut derived.0);
        derived
    }
}

fn hkdf(secret: &[u8], salt: Option<&[u8]>, info: &[&[u8]], out: &mut [u8]) {
    Hkdf::<Sha256>::new(salt, secret)
        .expand_multi_info(info, out)
        .expect("keys are far below HKDF's limit of 255 blocks");
}

impl TryFrom<&[u8]> for SecretKey {
    type Error = std::array::TryFromSliceError;

    fn try_from(bytes: &[u8]) -> Result<Self, Self::Error> {
        Ok(Self(bytes.try_into()?))
    }
}

impl ConstantTimeEq for SecretKey {
    fn ct_eq(&self, other: &Self) -> Choice {
        self.0.ct_eq(&other.0)
    }
}

impl PartialEq for SecretKey {
    fn eq(&self, other: &Self) -> bool {
        self.ct_eq(other).into()
    }
}

impl Eq for SecretKey {}

impl fmt::Debug for SecretKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("SecretKey(redacted)")
    }
}

#[cfg(test)]
mod tests {
    use data_encoding::HEXLOWER;

    use super::*;

    /// RFC 5869, appendix A, test cases 1 and 3, with the info whole and in pieces.
    #[test]
    fn hkdf_agrees_with_rfc_5869() {
        let (salt, info): (Vec<u8>, Vec<u8>) = ((0..13).collect(), (0xf0..0xfa).collect());
        for pieces in [&[&info[..]][..], &[&info[..4], &[], &info[4..]]] {
            let mut out = [0; 42];
            hkdf(&[0x0b; 22], Some(&salt), pieces, &mut out);
            assert_eq!(
                HEXLOWER.encode(&out),
                "3cb25f25faacd57a90434f64d0362f2a2d2d0a90cf1a5a4c5db02d56ecc4c5bf34007208d5b887185865"
            );
        }
        let mut out = [0; 42];
        hkdf(&[0x0b; 22], None, &[], &mut out);
        assert_eq!(
            HEXLOWER.encode(&out),
            "8da4e775a563c18f715f802a063c5a31b8a11f5c5ee1879ec3454e5f3c738d2d9d201395faa4b61a96c8"
        );
    }

    #[test]
    fn keys_of_another_length_are_refused() {
        for length in [0, 31, 33, 64] {
            assert!(SecretKey::try_from(&vec![1; length][..]).is_err());
        }
        assert_eq!(SecretKey::try_from(&[1; 32][..]).unwrap(), SecretKey::from_bytes([1; 32]));
    }

    #[test]
    fn a_wiped_key_is_zero() {
        let mut key = SecretKey::from_bytes([7; 32]);
        key.zeroize();
        assert_eq!(key.expose(), &[0; 32]);
    }
}
