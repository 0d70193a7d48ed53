//! Sealing of secrets that are stored in rows: XChaCha20-Poly1305 under a subkey of the key ring.
//!
//! Stored form: version (1 byte, 1), key id (8 bytes), nonce (24 random bytes), ciphertext with its 16-byte tag. The
//! associated data binds version, key id, table, column, row and owner, so that a value opens only where it was sealed.

use chacha20poly1305::aead::{Aead, Payload};
use chacha20poly1305::{KeyInit, XChaCha20Poly1305, XNonce};
use rand::CryptoRng;
use secrecy::SecretSlice;

use crate::canonical::Encoder;
use crate::{KeyId, KeyRing, SecretKey};

const VERSION: u8 = 1;
const KEY_ID: std::ops::Range<usize> = 1..9;
const NONCE: std::ops::Range<usize> = 9..33;
const TAG_BYTES: usize = 16;

/// How many bytes a sealed value is longer than its plaintext.
pub const OVERHEAD: usize = NONCE.end + TAG_BYTES;

/// The place a sealed value belongs to. Nothing of it is secret, and nothing of it is stored with the value.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Aad<'a> {
    /// Name of the table. With the column it also chooses the subkey, so each kind of secret has its own.
    pub table: &'a str,
    /// Name of the column.
    pub column: &'a str,
    /// The row's primary key as text.
    pub row: &'a str,
    /// The user the secret belongs to; `None` for secrets of the installation itself.
    pub owner: Option<i64>,
}

impl Aad<'_> {
    fn encode(&self, key: KeyId) -> Vec<u8> {
        Encoder::new("plimsoll sealed value")
            .bytes(&[VERSION])
            .bytes(key.as_bytes())
            .text(self.table)
            .text(self.column)
            .text(self.row)
            .optional_int(self.owner)
            .finish()
    }
}

/// Why a sealed value does not open. Whoever sees one records it and fails; there is no way round it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum OpenError {
    /// Shorter than any sealed value can be.
    #[error("the sealed value has only {0} bytes")]
    Truncated(usize),
    /// Sealed by a later release.
    #[error("the sealed value has the unknown format version {0}")]
    UnsupportedVersion(u8),
    /// The key it was sealed with is not in the ring: a wrong master key, or an old one removed too early.
    #[error("the sealed value needs the key {0}, which is not in the ring")]
    UnknownKey(KeyId),
    /// The bytes were changed, or the value was sealed for another row, column or owner.
    #[error("the sealed value was changed or belongs to another place")]
    Refused,
}

/// Seals a plaintext for one place, with the ring's active key and a random nonce.
///
/// The same plaintext sealed twice gives unrelated values. The result is [`OVERHEAD`] bytes longer than the plaintext.
pub fn seal<R: CryptoRng + ?Sized>(ring: &KeyRing, aad: &Aad<'_>, plaintext: &[u8], rng: &mut R) -> Vec<u8> {
    let mut nonce = [0; 24];
    rng.fill_bytes(&mut nonce);
    let id = ring.active();
    let key = ring.sealing_key(id, aad.table, aad.column).expect("the active key is in the ring");
    let mut sealed = Vec::with_capacity(plaintext.len() + OVERHEAD);
    sealed.push(VERSION);
    sealed.extend_from_slice(id.as_bytes());
    sealed.extend_from_slice(&nonce);
    sealed.extend_from_slice(&encrypt(&key, &nonce, &aad.encode(id), plaintext));
    sealed
}

/// Opens a sealed value for the place it was sealed for. The result is wiped when dropped and never printed.
///
/// # Errors
///
/// See [`OpenError`].
pub fn open(ring: &KeyRing, aad: &Aad<'_>, sealed: &[u8]) -> Result<SecretSlice<u8>, OpenError> {
    let id = sealed_with(sealed)?;
    let key = ring.sealing_key(id, aad.table, aad.column).ok_or(OpenError::UnknownKey(id))?;
    let nonce: [u8; 24] = sealed[NONCE].try_into().expect("the length was checked");
    let payload = Payload { msg: &sealed[NONCE.end..], aad: &aad.encode(id) };
    let plaintext = cipher(&key).decrypt(&XNonce::from(nonce), payload).map_err(|_| OpenError::Refused)?;
    Ok(SecretSlice::from(plaintext))
}

/// The id of the key that a value was sealed with, whether or not the ring still has it.
///
/// # Errors
///
/// [`OpenError::Truncated`] and [`OpenError::UnsupportedVersion`].
pub fn sealed_with(sealed: &[u8]) -> Result<KeyId, OpenError> {
    match sealed.first() {
        Some(&VERSION) if sealed.len() >= OVERHEAD => {
            Ok(KeyId::from_bytes(sealed[KEY_ID].try_into().expect("the length was checked")))
        }
        Some(&VERSION) | None => Err(OpenError::Truncated(sealed.len())),
        Some(&other) => Err(OpenError::UnsupportedVersion(other)),
    }
}

/// Seals again with the active key, for key rotation. `None` when the active key sealed it already.
///
/// # Errors
///
/// As [`open`].
pub fn reseal<R: CryptoRng + ?Sized>(
    ring: &KeyRing,
    aad: &Aad<'_>,
    sealed: &[u8],
    rng: &mut R,
) -> Result<Option<Vec<u8>>, OpenError> {
    if sealed_with(sealed)? == ring.active() {
        return Ok(None);
    }
    let plaintext = open(ring, aad, sealed)?;
    Ok(Some(seal(ring, aad, secrecy::ExposeSecret::expose_secret(&plaintext), rng)))
}

fn cipher(key: &SecretKey) -> XChaCha20Poly1305 {
    XChaCha20Poly1305::new_from_slice(key.expose()).expect("the cipher's key has 32 bytes")
}

fn encrypt(key: &SecretKey, nonce: &[u8; 24], aad: &[u8], plaintext: &[u8]) -> Vec<u8> {
    cipher(key)
        .encrypt(&XNonce::from(*nonce), Payload { msg: plaintext, aad })
        .expect("the plaintext is below the cipher's 256 GiB")
}

#[cfg(test)]
mod tests;
