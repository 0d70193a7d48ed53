//! Writing a backup file. The rows come in one thread, are compressed and sealed in another, and never wait for each other
//! longer than a few pieces; memory is the same for any size.

use std::fs::{File, OpenOptions};
use std::io::{self, BufWriter, Write};
use std::os::unix::fs::OpenOptionsExt;
use std::path::Path;
use std::sync::mpsc::{Receiver, SyncSender, sync_channel};
use std::thread;

use plimsoll_crypto::{KeyRing, SealingWriter, StreamKey};

use super::content::ContentWriter;
use super::{BackupError, Header, Meter, SequenceValue, SnapshotFacts, TableShape, Totals};

const PIECE: usize = 256 * 1024;
/// Pieces between the two threads.
const WAITING: usize = 8;

/// One moment of a database, as long as it is held.
pub trait SnapshotSource {
    /// What it is of.
    fn facts(&self) -> &SnapshotFacts;

    /// Writes the rows of one of its tables in binary COPY form. The writer's errors are passed on as they are.
    ///
    /// # Errors
    /// The source's own, and the writer's.
    fn copy_table(&mut self, table: &TableShape, sink: &mut dyn Write) -> Result<(), BackupError>;

    /// Where its sequences stand.
    ///
    /// # Errors
    /// The source's own.
    fn sequences(&mut self) -> Result<Vec<SequenceValue>, BackupError>;
}

/// Writes a whole backup to a new file that only its owner may read, and makes it durable. What an error leaves is for the
/// caller to delete.
pub(super) fn write_file(
    path: &Path,
    header: &Header,
    ring: &KeyRing,
    source: &mut dyn SnapshotSource,
    meter: &Meter,
) -> Result<Totals, BackupError> {
    let (head, key) = header.seal(ring)?;
    let failed = "writing the backup";
    let mut file = OpenOptions::new()
        .write(true)
        .create_new(true)
        .mode(0o600)
        .open(path)
        .map_err(BackupError::io("making the backup's file"))?;
    file.write_all(&head).map_err(BackupError::io(failed))?;
    let (sender, pieces) = sync_channel(WAITING);
    let level = header.zstd_level;
    let (packed, written) = thread::scope(|scope| {
        let packer = scope.spawn(move || pack(file, key, level, &pieces));
        let written = write_content(source, Pieces { sender, piece: Vec::with_capacity(PIECE) }, meter);
        (packer.join().unwrap_or_else(|_| Err(io::Error::other("the compressor panicked"))), written)
    });
    match (packed, written) {
        (Err(error), Ok(_) | Err(BackupError::Io { .. })) => Err(BackupError::from_io(failed, error)),
        (_, Err(error)) => Err(error),
        (Ok(()), Ok(totals)) => Ok(totals),
    }
}

fn write_content(
    source: &mut dyn SnapshotSource,
    pieces: Pieces,
    meter: &Meter,
) -> Result<Totals, BackupError> {
    let facts = source.facts();
    meter.expect(facts.tables.len(), facts.table_bytes);
    let tables = facts.tables.clone();
    let mut content = ContentWriter::new(pieces, meter);
    for table in &tables {
        content.table(table, |sink| source.copy_table(table, sink))?;
    }
    let sequences = source.sequences()?;
    let (pieces, totals) = content.finish(&sequences)?;
    pieces.end().map_err(BackupError::io("writing the backup"))?;
    Ok(totals)
}

/// Compresses and seals what comes, and makes the file durable. Without the word that it was all, no end is written: what
/// is there then reads as truncated.
fn pack(file: File, key: StreamKey, level: i32, pieces: &Receiver<Piece>) -> io::Result<()> {
    let sealing = SealingWriter::new(key, BufWriter::with_capacity(PIECE, file));
    let mut packing = zstd::Encoder::new(sealing, level)?;
    loop {
        match pieces.recv() {
            Ok(Piece::Bytes(bytes)) => packing.write_all(&bytes)?,
            Ok(Piece::End) => break,
            Err(_) => return Ok(()),
        }
    }
    let file = packing.finish()?.finish()?.into_inner().map_err(io::IntoInnerError::into_error)?;
    file.sync_all()
}

enum Piece {
    Bytes(Vec<u8>),
    End,
}

/// The sender's side of the two threads.
struct Pieces {
    sender: SyncSender<Piece>,
    piece: Vec<u8>,
}

impl Pieces {
    fn send(&mut self) -> io::Result<()> {
        let piece = std::mem::replace(&mut self.piece, Vec::with_capacity(PIECE));
        self.sender.send(Piece::Bytes(piece)).map_err(|_| io::ErrorKind::BrokenPipe.into())
    }

    fn end(mut self) -> io::Result<()> {
        self.send()?;
        self.sender.send(Piece::End).map_err(|_| io::ErrorKind::BrokenPipe.into())
    }
}

impl Write for Pieces {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        let taken = bytes.len().min(PIECE - self.piece.len());
        self.piece.extend_from_slice(&bytes[..taken]);
        if self.piece.len() == PIECE {
            self.send()?;
        }
        Ok(taken)
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}
