//! Reading of Fernet tokens (<https://github.com/fernet/spec>), the form in which an earlier platform kept its secrets.
//! They are read once, on import, and never made.
//!
//! A token is base64url of: version (1 byte, 0x80), seconds since 1970 (8 bytes), IV (16), AES-128-CBC ciphertext with
//! PKCS #7 padding, HMAC-SHA256 over all of it (32). A token names no place: whatever it holds can have been swapped with
//! another one under the same key.

use std::fmt;

use aes::Aes128;
use cbc::cipher::block_padding::Pkcs7;
use cbc::cipher::{BlockModeDecrypt, KeyIvInit};
use data_encoding::{BASE64URL, BASE64URL_NOPAD};
use hmac::{Hmac, KeyInit, Mac};
use pbkdf2::pbkdf2_hmac;
use secrecy::SecretSlice;
use sha2::Sha256;
use zeroize::Zeroizing;

use crate::{SecretKey, encoded};

/// PBKDF2-HMAC-SHA256 iterations of keys made from a password, where nothing else is known.
pub const DEFAULT_PASSWORD_ITERATIONS: u32 = 100_000;

const MAX_PASSWORD_ITERATIONS: u32 = 20_000_000;
const VERSION: u8 = 0x80;
const BLOCK: usize = 16;
const IV_AT: usize = 9;
const CIPHERTEXT_AT: usize = IV_AT + BLOCK;
const MAC_BYTES: usize = 32;
const SHORTEST: usize = CIPHERTEXT_AT + BLOCK + MAC_BYTES;

/// Why something is no Fernet key.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum FernetKeyError {
    /// Not the base64url of exactly 32 bytes.
    #[error("a Fernet key is 32 bytes in base64url, 44 characters")]
    Malformed,
    /// A password without a character.
    #[error("the password of the Fernet key is empty")]
    EmptyPassword,
    /// None, or more than 20,000,000.
    #[error("{0} PBKDF2 iterations are outside 1 to 20000000")]
    Iterations(u32),
}

/// Why a token does not open.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum FernetError {
    /// Some character is not of base64url, or the last ones cannot be.
    #[error("the token is not base64url")]
    NotBase64,
    /// Fewer bytes than the shortest token has.
    #[error("the token has only {0} bytes, the shortest one has 73")]
    TooShort(usize),
    /// Long enough, but not whole blocks: most likely characters are missing at the end.
    #[error("no token has {0} bytes: characters are missing or too many")]
    NotWholeBlocks(usize),
    /// The first byte is not 0x80, so this is something else than a Fernet token.
    #[error("the token has the unknown version {0:#04x}")]
    UnknownVersion(u8),
    /// Another key made it, or it was changed. Which of both cannot be told.
    #[error("the token was made with another key, or it was changed")]
    WrongKeyOrChanged,
    /// Whoever had the key padded it wrongly.
    #[error("the token is authentic, but what it holds is not padded as it must be")]
    Padding,
}

/// A Fernet key: 16 bytes for the MAC and 16 for the cipher. Wiped when dropped, never printed.
#[derive(Clone)]
pub struct FernetKey(SecretKey);

/// What a token holds.
#[derive(Debug)]
pub struct FernetMessage {
    /// When the token was made, in seconds since 1970, by the clock of whoever made it.
    pub created_at_s: u64,
    /// The plaintext: wiped when dropped, never printed.
    pub plaintext: SecretSlice<u8>,
}

impl FernetKey {
    /// Reads a key in the form that Fernet libraries print: base64url of 32 bytes, with or without the padding. White
    /// space around it is ignored.
    ///
    /// # Errors
    ///
    /// [`FernetKeyError::Malformed`].
    pub fn parse(text: &str) -> Result<Self, FernetKeyError> {
        let bytes = decode(text).ok_or(FernetKeyError::Malformed)?;
        SecretKey::try_from(&bytes[..]).map(Self).map_err(|_| FernetKeyError::Malformed)
    }

    /// Derives a key from a password, exactly as given: PBKDF2-HMAC-SHA256 with 32 bytes of output. `salt` and
    /// `iterations` are those of the platform that made the tokens; any other ones give another key.
    ///
    /// # Errors
    ///
    /// [`FernetKeyError::EmptyPassword`] and [`FernetKeyError::Iterations`].
    pub fn from_password(password: &str, salt: &[u8], iterations: u32) -> Result<Self, FernetKeyError> {
        if password.is_empty() {
            return Err(FernetKeyError::EmptyPassword);
        }
        if !(1..=MAX_PASSWORD_ITERATIONS).contains(&iterations) {
            return Err(FernetKeyError::Iterations(iterations));
        }
        let mut key = Zeroizing::new([0; 32]);
        pbkdf2_hmac::<Sha256>(password.as_bytes(), salt, iterations, &mut *key);
        Ok(Self(SecretKey::from_bytes(*key)))
    }

    /// Opens a token; white space around it is ignored. Its age is not looked at.
    ///
    /// # Errors
    ///
    /// See [`FernetError`]. The MAC is checked, in constant time, before anything is decrypted.
    pub fn open(&self, token: &str) -> Result<FernetMessage, FernetError> {
        let token = decode(token).ok_or(FernetError::NotBase64)?;
        if token.len() < SHORTEST {
            return Err(FernetError::TooShort(token.len()));
        }
        if token[0] != VERSION {
            return Err(FernetError::UnknownVersion(token[0]));
        }
        let (signed, mac) = token.split_at(token.len() - MAC_BYTES);
        let (header, ciphertext) = signed.split_at(CIPHERTEXT_AT);
        if ciphertext.len() % BLOCK != 0 {
            return Err(FernetError::NotWholeBlocks(token.len()));
        }
        let (signing, encryption) = self.0.expose().split_at(BLOCK);
        Hmac::<Sha256>::new_from_slice(signing)
            .expect("HMAC takes a key of any length")
            .chain_update(signed)
            .verify_slice(mac)
            .map_err(|_| FernetError::WrongKeyOrChanged)?;

        let mut text = Zeroizing::new(ciphertext.to_vec());
        let length = cbc::Decryptor::<Aes128>::new_from_slices(encryption, &header[IV_AT..])
            .expect("key and IV have 16 bytes")
            .decrypt_padded::<Pkcs7>(&mut text)
            .map_err(|_| FernetError::Padding)?
            .len();
        let created_at = header[1..IV_AT].try_into().expect("the header has 25 bytes");
        Ok(FernetMessage {
            created_at_s: u64::from_be_bytes(created_at),
            plaintext: SecretSlice::from(text[..length].to_vec()),
        })
    }
}

impl fmt::Debug for FernetKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("FernetKey(redacted)")
    }
}

fn decode(text: &str) -> Option<Zeroizing<Vec<u8>>> {
    let text = text.trim().as_bytes();
    encoded::decode(&BASE64URL, text).or_else(|| encoded::decode(&BASE64URL_NOPAD, text))
}

#[cfg(test)]
mod tests;
