//! Version 1 of the stored form, which is only opened: version (1 byte, 1), key id (8 bytes), nonce (24 bytes),
//! ciphertext with its tag. Associated data: version, key id, table, column, row and owner, as canonical fields.

use chacha20poly1305::XChaCha20Poly1305;
use secrecy::SecretSlice;

use super::{Aad, OpenError, TAG_BYTES, decrypt};
use crate::KeyId;
use crate::canonical::Encoder;

pub(super) const VERSION: u8 = 1;
const NONCE: std::ops::Range<usize> = 9..33;
pub(super) const OVERHEAD: usize = NONCE.end + TAG_BYTES;

/// `sealed` is of this version and long enough.
pub(super) fn open(
    cipher: &XChaCha20Poly1305,
    id: KeyId,
    place: &Aad<'_>,
    sealed: &[u8],
) -> Result<SecretSlice<u8>, OpenError> {
    let aad = Encoder::new("plimsoll sealed value")
        .bytes(&[VERSION])
        .bytes(id.as_bytes())
        .text(place.table)
        .text(place.column)
        .text(place.row)
        .optional_int(place.owner)
        .finish();
    let nonce = sealed[NONCE].try_into().expect("the length was checked");
    decrypt(cipher, &nonce, &aad, &sealed[NONCE.end..])
}
