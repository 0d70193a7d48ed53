//! Sealing of data too large for memory, such as a backup: STREAM (Hoang, Reyhanitabar, Rogaway and Vizár, 2015) over
//! ChaCha20-Poly1305, as [`SealingWriter`] and [`OpeningReader`].
//!
//! The plaintext is cut into chunks of 64 KiB. The last one is filled up by a byte `0x80` and zeros (ISO/IEC 7816-4), so it
//! holds less than 64 KiB of the plaintext, and every chunk on the disk has the same size: a cut file is told from a
//! damaged one. Chunk *n* has the nonce: 7 zero bytes, *n* as four big-endian bytes, and one byte that is 1 for the last
//! chunk and 0 for every other (`StreamBE32` of the `aead-stream` crate). So no chunk can be altered, swapped, repeated or
//! left out, and no end can be cut off or put on.
//!
//! Each stream has a key of its own ([`StreamKey`]), which is why the nonce needs no random part. The key is derived from
//! the ring's key, a random salt, the purpose and the header of the file: bytes that are not secret, but belong to the
//! data. A header that was changed yields another key, under which no chunk opens. Associated data would do the same, but
//! at the cost of the whole header once more for each chunk, and only if nobody forgets it.
//!
//! What an [`OpeningReader`] has given out is authentic, but only its end says that nothing is missing: do not act on a
//! stream before it.

use std::io;

use chacha20poly1305::{ChaCha20Poly1305, KeyInit};
use sha2::{Digest, Sha256};

use aead_stream::{NewStream, Nonce, StreamBE32, StreamPrimitive};

use crate::canonical::Encoder;
use crate::{KeyId, KeyRing, KeyRingError, SecretKey};

mod reader;
mod writer;

pub use reader::OpeningReader;
pub use writer::SealingWriter;

/// Bytes of plaintext in every chunk but the last, which has fewer.
pub const CHUNK: usize = 64 * 1024;

/// Bytes of every chunk as it is written: 64 KiB and the tag.
pub const SEALED_CHUNK: usize = CHUNK + TAG_BYTES;

const TAG_BYTES: usize = 16;
const PADDING: u8 = 0x80;

/// How many bytes a plaintext of this length is when sealed. At least one chunk, and at most 16 bytes for every 64 KiB
/// and one chunk longer than the plaintext.
#[must_use]
pub const fn sealed_len(plaintext: u64) -> u64 {
    (plaintext / CHUNK as u64 + 1) * SEALED_CHUNK as u64
}

/// What is wrong with a stream. As [`io::Read`] and [`io::Write`] demand, it arrives inside an [`io::Error`];
/// [`StreamError::of`] takes it out.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum StreamError {
    /// The stream ends before its last chunk does: something was cut off.
    #[error("the sealed stream is truncated: it ends in or before chunk {chunk}")]
    Truncated {
        /// Zero-based number of the first chunk that is not whole.
        chunk: u32,
    },
    /// Something follows the last chunk.
    #[error("the sealed stream is followed by data that is not part of it")]
    TrailingData,
    /// A chunk is not what was written at this place: changed, swapped, of another stream, or the key or the header is
    /// not the right one (then it is chunk 0).
    #[error("chunk {chunk} of the sealed stream is corrupt")]
    Corrupt {
        /// Zero-based number of the chunk.
        chunk: u32,
    },
    /// More than 2³² chunks (256 TiB): the counter would repeat.
    #[error("the stream is longer than 256 TiB")]
    TooLong,
    /// An earlier write failed halfway, so what has been written is no stream.
    #[error("an earlier write to the sealed stream failed")]
    Broken,
}

impl StreamError {
    /// The stream's own error in an error of reading or writing; `None` when that came from the reader or writer below.
    #[must_use]
    pub fn of(error: &io::Error) -> Option<Self> {
        error.get_ref()?.downcast_ref().copied()
    }
}

impl From<StreamError> for io::Error {
    fn from(error: StreamError) -> Self {
        let kind = match error {
            StreamError::Truncated { .. } => io::ErrorKind::UnexpectedEof,
            StreamError::TrailingData | StreamError::Corrupt { .. } => io::ErrorKind::InvalidData,
            StreamError::TooLong => io::ErrorKind::FileTooLarge,
            StreamError::Broken => io::ErrorKind::BrokenPipe,
        };
        Self::new(kind, error)
    }
}

/// The key of one stream. It is not `Clone`, and sealing takes it: two streams under one key would share their nonces.
#[derive(Debug)]
pub struct StreamKey(SecretKey);

impl StreamKey {
    /// Derives the key of one stream: HKDF-SHA256 of a key of the ring, with `salt` as the salt, and `purpose` and
    /// SHA-256 of `header` as the info.
    ///
    /// To seal, draw 32 new random bytes of salt and take the ring's active key; store salt and key id in the header, and
    /// the header before the stream. To open, read them from there.
    ///
    /// # Errors
    ///
    /// [`KeyRingError::UnknownKey`].
    pub fn derive(
        ring: &KeyRing,
        id: KeyId,
        salt: &[u8; 32],
        purpose: &str,
        header: &[u8],
    ) -> Result<Self, KeyRingError> {
        let info = Encoder::new("plimsoll stream").text(purpose).bytes(&Sha256::digest(header)).finish();
        ring.derive(id, salt, &info).map(Self)
    }
}

/// The chunks of one stream, in order.
struct Chunks {
    stream: StreamBE32<ChaCha20Poly1305>,
    next: u32,
}

impl Chunks {
    fn new(key: &StreamKey) -> Self {
        let cipher = ChaCha20Poly1305::new_from_slice(key.0.expose()).expect("the cipher's key has 32 bytes");
        let prefix = Nonce::<ChaCha20Poly1305, StreamBE32<_>>::default();
        Self { stream: StreamBE32::from_aead(cipher, &prefix), next: 0 }
    }

    /// Seals a whole chunk that is not the last one.
    fn seal(&mut self, chunk: &mut Vec<u8>) -> Result<(), StreamError> {
        let after = self.next.checked_add(1).ok_or(StreamError::TooLong)?;
        self.stream.encrypt_in_place(self.next, false, &[], chunk).expect("a chunk has 64 KiB");
        self.next = after;
        Ok(())
    }

    /// Fills up and seals the last chunk.
    fn seal_last(&self, chunk: &mut Vec<u8>) {
        chunk.push(PADDING);
        chunk.resize(CHUNK, 0);
        self.stream.encrypt_in_place(self.next, true, &[], chunk).expect("a chunk has 64 KiB");
    }

    /// Opens the next chunk, a whole one. A chunk that does not open is left as it is, since the tag is checked first.
    fn open(&mut self, chunk: &mut Vec<u8>) -> Result<Opened, StreamError> {
        if let Some(after) = self.next.checked_add(1)
            && self.stream.decrypt_in_place(self.next, false, &[], chunk).is_ok()
        {
            self.next = after;
            return Ok(Opened::More);
        }
        let corrupt = StreamError::Corrupt { chunk: self.next };
        self.stream.decrypt_in_place(self.next, true, &[], chunk).map_err(|_| corrupt)?;
        let end =
            chunk.iter().rposition(|&byte| byte != 0).filter(|&at| chunk[at] == PADDING).ok_or(corrupt)?;
        chunk.truncate(end);
        Ok(Opened::Last)
    }
}

enum Opened {
    More,
    Last,
}

#[cfg(test)]
mod tests;
