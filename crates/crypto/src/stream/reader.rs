use std::fmt;
use std::io::{self, Read};

use zeroize::{Zeroize, Zeroizing};

use super::{Chunks, Opened, SEALED_CHUNK, StreamError, StreamKey};

/// Opens a sealed stream as it is read, a chunk at a time, in constant memory (one chunk).
///
/// Every byte it gives out is authentic and in its place. Only the end (a read of 0 bytes, or
/// [`finish`](OpeningReader::finish)) says that the stream is whole and nothing follows it. After a [`StreamError`] every
/// later read fails with the same one; an error of the reader below leaves the stream where it was.
pub struct OpeningReader<R> {
    inner: R,
    chunks: Chunks,
    /// Sealed bytes that were read of the next chunk, or the plaintext of the current one.
    pub(super) buffer: Zeroizing<Vec<u8>>,
    state: State,
}

enum State {
    /// The buffer holds the beginning of a sealed chunk.
    Filling,
    /// The buffer holds the plaintext of the last chunk. It is given out only when nothing follows it.
    Ending,
    /// The buffer holds plaintext, of which this many bytes were given out.
    Giving {
        given: usize,
        last: bool,
    },
    Failed(StreamError),
}

impl<R: Read> OpeningReader<R> {
    /// Opens the stream that begins at the reader's current place and goes on to its end.
    ///
    /// `inner` is read in pieces of a chunk: it needs no buffer of its own.
    pub fn new(key: StreamKey, inner: R) -> Self {
        Self::at(Chunks::new(&key), inner)
    }

    pub(super) fn at(chunks: Chunks, inner: R) -> Self {
        let buffer = Zeroizing::new(Vec::with_capacity(SEALED_CHUNK));
        Self { inner, chunks, buffer, state: State::Filling }
    }

    /// Reads to the end, throws away what is left of the plaintext, and gives the reader back: for a consumer that knows
    /// its own end, such as a decompressor, and stops before the stream's.
    ///
    /// # Errors
    ///
    /// Those of the reader, and [`StreamError`].
    pub fn finish(mut self) -> io::Result<R> {
        while let Some(left) = self.chunk()?.map(<[u8]>::len) {
            self.give(left);
        }
        Ok(self.inner)
    }

    /// Plaintext that was not given out yet, at least one byte; `None` at the end.
    fn chunk(&mut self) -> io::Result<Option<&[u8]>> {
        loop {
            match self.state {
                State::Failed(error) => return Err(error.into()),
                State::Giving { given, last } if given == self.buffer.len() => {
                    if last {
                        return Ok(None);
                    }
                    self.buffer.clear();
                    self.state = State::Filling;
                }
                State::Giving { given, .. } => return Ok(Some(&self.buffer[given..])),
                State::Filling => self.fill()?,
                State::Ending => self.end()?,
            }
        }
    }

    fn give(&mut self, bytes: usize) {
        if let State::Giving { given, .. } = &mut self.state {
            *given += bytes;
        }
    }

    fn fill(&mut self) -> io::Result<()> {
        let missing = (SEALED_CHUNK - self.buffer.len()) as u64;
        self.inner.by_ref().take(missing).read_to_end(&mut self.buffer)?;
        if self.buffer.len() < SEALED_CHUNK {
            return Err(self.fail(StreamError::Truncated { chunk: self.chunks.next }));
        }
        self.state = match self.chunks.open(&mut self.buffer) {
            Ok(Opened::More) => State::Giving { given: 0, last: false },
            Ok(Opened::Last) => State::Ending,
            Err(error) => return Err(self.fail(error)),
        };
        Ok(())
    }

    fn end(&mut self) -> io::Result<()> {
        if !self.at_end()? {
            return Err(self.fail(StreamError::TrailingData));
        }
        self.state = State::Giving { given: 0, last: true };
        Ok(())
    }

    fn fail(&mut self, error: StreamError) -> io::Error {
        self.buffer.zeroize();
        self.state = State::Failed(error);
        error.into()
    }

    fn at_end(&mut self) -> io::Result<bool> {
        let mut byte = [0];
        loop {
            match self.inner.read(&mut byte) {
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                read => return read.map(|read| read == 0),
            }
        }
    }
}

impl<R: Read> Read for OpeningReader<R> {
    fn read(&mut self, out: &mut [u8]) -> io::Result<usize> {
        if out.is_empty() {
            return Ok(0);
        }
        let Some(plaintext) = self.chunk()? else { return Ok(0) };
        let given = plaintext.len().min(out.len());
        out[..given].copy_from_slice(&plaintext[..given]);
        self.give(given);
        Ok(given)
    }
}

impl<R> fmt::Debug for OpeningReader<R> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("OpeningReader").field("chunk", &self.chunks.next).finish_non_exhaustive()
    }
}
