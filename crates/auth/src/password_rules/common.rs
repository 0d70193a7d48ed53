//! The bundled list of common passwords, as fingerprints.

use plimsoll_crypto::tokens::TokenDigest;

/// Bytes kept of each entry's SHA-256: with some fifty thousand entries, one good password in twenty million is
/// mistaken for a common one.
pub const FINGERPRINT_BYTES: usize = 5;

/// Sorted fingerprints. `cargo run -p plimsoll-auth --example common_passwords` makes the file from lists of words.
const LIST: &[u8] = include_bytes!("../../data/common-passwords.bin");

/// The fingerprint of a password in lower case and NFC.
#[must_use]
pub fn fingerprint(folded: &str) -> [u8; FINGERPRINT_BYTES] {
    let TokenDigest(digest) = TokenDigest::of(folded.as_bytes());
    std::array::from_fn(|at| digest[at])
}

/// Whether the list has it.
pub(super) fn is_listed(folded: &str) -> bool {
    entries().binary_search(&fingerprint(folded)).is_ok()
}

fn entries() -> &'static [[u8; FINGERPRINT_BYTES]] {
    LIST.as_chunks().0
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_list_is_sorted_whole_and_long() {
        assert_eq!(LIST.len() % FINGERPRINT_BYTES, 0);
        assert!(entries().is_sorted_by(|one, next| one < next));
        assert!(entries().len() > 50_000, "{}", entries().len());
    }
}
