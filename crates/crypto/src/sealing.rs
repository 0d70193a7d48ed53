//! Sealing of secrets that are stored in rows: XChaCha20-Poly1305 under a subkey of the key ring.
//!
//! Stored form: version (1 byte, 2), key id (8 bytes), place (32 bytes), nonce (24 random bytes), ciphertext with its
//! 16-byte tag. The place is SHA-256 over table, column, row and owner. All that stands before the ciphertext is
//! associated data, so a value opens only where it was sealed, and only unchanged. That the place is stored as well tells
//! a value that somebody moved, whose tag is good, from one that was damaged.
//!
//! Values of version 1, which had the fields of the place as associated data and stored nothing of it, still open.

use chacha20poly1305::aead::AeadInOut;
use chacha20poly1305::{Tag, XChaCha20Poly1305, XNonce};
use rand::CryptoRng;
use secrecy::{ExposeSecret, SecretSlice};
use sha2::{Digest, Sha256};

use crate::canonical::Encoder;
use crate::{KeyId, KeyRing};

mod v1;

const VERSION: u8 = 2;
const KEY_ID: std::ops::Range<usize> = 1..9;
const PLACE_DIGEST: std::ops::Range<usize> = 9..41;
const NONCE: std::ops::Range<usize> = 41..65;
const TAG_BYTES: usize = 16;

/// How many bytes a sealed value is longer than its plaintext.
pub const OVERHEAD: usize = NONCE.end + TAG_BYTES;

/// The place a sealed value belongs to. Nothing of it is secret.
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
    fn digest(&self) -> [u8; 32] {
        let fields = Encoder::new("plimsoll sealed place")
            .text(self.table)
            .text(self.column)
            .text(self.row)
            .optional_int(self.owner)
            .finish();
        Sha256::digest(fields).into()
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
    /// Some byte was changed, removed or added, or the value was sealed for another table or column, whose key is
    /// another one. For a value of version 1 also what [`OpenError::Misplaced`] says.
    #[error("the sealed value was changed or belongs to another column")]
    Refused,
    /// The value is as it was sealed, but for another row or another owner: somebody moved it.
    #[error("the sealed value belongs to another row or another owner")]
    Misplaced,
}

/// Seals a plaintext for one place, with the ring's active key and a random nonce.
///
/// The same plaintext sealed twice gives unrelated values. The result is [`OVERHEAD`] bytes longer than the plaintext.
pub fn seal<R: CryptoRng + ?Sized>(ring: &KeyRing, aad: &Aad<'_>, plaintext: &[u8], rng: &mut R) -> Vec<u8> {
    let mut nonce = [0; 24];
    rng.fill_bytes(&mut nonce);
    let id = ring.active();
    let subkey = ring.subkey(id, aad.table, aad.column).expect("the active key is in the ring");
    let mut sealed = Vec::with_capacity(plaintext.len() + OVERHEAD);
    sealed.push(VERSION);
    sealed.extend_from_slice(id.as_bytes());
    sealed.extend_from_slice(&aad.digest());
    sealed.extend_from_slice(&nonce);
    sealed.extend_from_slice(plaintext);
    let (header, body) = sealed.split_at_mut(NONCE.end);
    let tag = encrypt(&subkey.cipher, &nonce, header, body);
    sealed.extend_from_slice(&tag);
    sealed
}

/// Opens a sealed value for the place it was sealed for. The result is wiped when dropped and never printed.
///
/// # Errors
///
/// See [`OpenError`].
pub fn open(ring: &KeyRing, aad: &Aad<'_>, sealed: &[u8]) -> Result<SecretSlice<u8>, OpenError> {
    let id = sealed_with(sealed)?;
    let subkey = ring.subkey(id, aad.table, aad.column).ok_or(OpenError::UnknownKey(id))?;
    if sealed[0] == v1::VERSION {
        return v1::open(&subkey.cipher, id, aad, sealed);
    }
    let (header, ciphertext) = sealed.split_at(NONCE.end);
    let nonce = header[NONCE].try_into().expect("the header ends with the nonce");
    let plaintext = decrypt(&subkey.cipher, &nonce, header, ciphertext)?;
    if aad.digest() == header[PLACE_DIGEST] { Ok(plaintext) } else { Err(OpenError::Misplaced) }
}

/// The id of the key that a value was sealed with, whether or not the ring still has it.
///
/// # Errors
///
/// [`OpenError::Truncated`] and [`OpenError::UnsupportedVersion`].
pub fn sealed_with(sealed: &[u8]) -> Result<KeyId, OpenError> {
    let shortest = match sealed.first() {
        Some(&VERSION) => OVERHEAD,
        Some(&v1::VERSION) => v1::OVERHEAD,
        Some(&other) => return Err(OpenError::UnsupportedVersion(other)),
        None => return Err(OpenError::Truncated(0)),
    };
    if sealed.len() < shortest {
        return Err(OpenError::Truncated(sealed.len()));
    }
    Ok(KeyId::from_bytes(sealed[KEY_ID].try_into().expect("the length was checked")))
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
    Ok(Some(seal(ring, aad, plaintext.expose_secret(), rng)))
}

/// Encrypts in place and returns the tag.
fn encrypt(cipher: &XChaCha20Poly1305, nonce: &[u8; 24], aad: &[u8], text: &mut [u8]) -> Tag {
    cipher
        .encrypt_inout_detached(&XNonce::from(*nonce), aad, text.into())
        .expect("the plaintext is below the cipher's 256 GiB")
}

/// Checks and decrypts a ciphertext that its tag follows.
fn decrypt(
    cipher: &XChaCha20Poly1305,
    nonce: &[u8; 24],
    aad: &[u8],
    ciphertext: &[u8],
) -> Result<SecretSlice<u8>, OpenError> {
    let (body, tag) = ciphertext.split_last_chunk::<TAG_BYTES>().ok_or(OpenError::Refused)?;
    let mut text = body.to_vec();
    cipher
        .decrypt_inout_detached(&XNonce::from(*nonce), aad, text.as_mut_slice().into(), &Tag::from(*tag))
        .map_err(|_| OpenError::Refused)?;
    Ok(SecretSlice::from(text))
}

#[cfg(test)]
mod tests;
