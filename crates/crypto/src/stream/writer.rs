use std::fmt;
use std::io::{self, Write};

use zeroize::Zeroizing;

use super::{CHUNK, Chunks, SEALED_CHUNK, StreamError, StreamKey};

/// Seals what is written to it and writes that on, a chunk at a time, in constant memory (one chunk).
///
/// The stream is whole only after [`finish`](SealingWriter::finish): one that was dropped before reads as truncated.
/// `flush` writes on whole chunks only. After an error every later call fails.
pub struct SealingWriter<W> {
    inner: W,
    chunks: Chunks,
    /// Less than a chunk of plaintext between two calls.
    pub(super) buffer: Zeroizing<Vec<u8>>,
    broken: bool,
}

impl<W: Write> SealingWriter<W> {
    /// A stream that begins at the writer's current place.
    pub fn new(key: StreamKey, inner: W) -> Self {
        Self::at(Chunks::new(&key), inner)
    }

    pub(super) fn at(chunks: Chunks, inner: W) -> Self {
        Self { inner, chunks, buffer: Zeroizing::new(Vec::with_capacity(SEALED_CHUNK)), broken: false }
    }

    /// Seals the last chunk, flushes the writer and gives it back. To be durable a file must be synchronised as well.
    ///
    /// # Errors
    ///
    /// Those of the writer, and [`StreamError::Broken`].
    pub fn finish(mut self) -> io::Result<W> {
        self.check()?;
        self.chunks.seal_last(&mut self.buffer);
        self.inner.write_all(&self.buffer)?;
        self.inner.flush()?;
        Ok(self.inner)
    }

    fn check(&self) -> io::Result<()> {
        if self.broken { Err(StreamError::Broken.into()) } else { Ok(()) }
    }

    fn write_chunk(&mut self) -> io::Result<()> {
        self.broken = true;
        self.chunks.seal(&mut self.buffer)?;
        self.inner.write_all(&self.buffer)?;
        self.broken = false;
        self.buffer.clear();
        Ok(())
    }
}

impl<W: Write> Write for SealingWriter<W> {
    fn write(&mut self, data: &[u8]) -> io::Result<usize> {
        self.check()?;
        let taken = data.len().min(CHUNK - self.buffer.len());
        self.buffer.extend_from_slice(&data[..taken]);
        if self.buffer.len() == CHUNK {
            self.write_chunk()?;
        }
        Ok(taken)
    }

    fn flush(&mut self) -> io::Result<()> {
        self.check()?;
        self.inner.flush()
    }
}

impl<W> fmt::Debug for SealingWriter<W> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("SealingWriter").field("chunk", &self.chunks.next).finish_non_exhaustive()
    }
}
