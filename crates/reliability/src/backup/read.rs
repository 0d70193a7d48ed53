//! Reading a backup file: its header alone, or all of it into a target. One thread opens and decompresses, the caller's
//! takes it from there.

use std::fs::{File, OpenOptions};
use std::io::{self, Read};
use std::path::Path;
use std::sync::mpsc::{Receiver, SyncSender, sync_channel};
use std::thread;

use plimsoll_crypto::{KeyRing, OpeningReader, StreamKey, Stretching};

use super::content::{Nowhere, read_content};
use super::{BackupError, Header, Meter, RestoreTarget, StretchingFacts, Totals};

const PIECE: usize = 256 * 1024;
const WAITING: usize = 8;
/// Of the decompressor's window: 128 MiB, whatever the file asks for.
const LARGEST_WINDOW_LOG: u32 = 27;

/// Reads and authenticates the header of a file; the rest of it is not looked at.
///
/// # Errors
/// Every finding about a header, and those of reading.
pub fn read_header(path: &Path, ring: &KeyRing) -> Result<Header, BackupError> {
    Ok(Header::open(&mut open(path)?, ring)?.0)
}

/// How a pass phrase becomes the key of a file, as its header says: needed before the key is there that would prove the
/// header, and of no use to anybody who changed it, since another key opens nothing.
///
/// # Errors
/// The file has no header of ours.
pub fn read_stretching(path: &Path) -> Result<Option<Stretching>, BackupError> {
    let (header, _, _) = Header::parse(&mut open(path)?)?;
    header.snapshot.stretching.as_ref().map(StretchingFacts::stretching).transpose()
}

/// Reads a whole file into `target`. What the target gets is authentic as it comes, but only `Ok` says that nothing is
/// missing: a target keeps nothing before that.
///
/// # Errors
/// Every finding about a file, those of reading, and the target's.
pub fn read_into(
    path: &Path,
    ring: &KeyRing,
    target: &mut dyn RestoreTarget,
    meter: &Meter,
) -> Result<(Header, Totals), BackupError> {
    let mut file = open(path)?;
    let (header, key) = Header::open(&mut file, ring)?;
    let totals = read_rest(file, key, &header, target, meter)?;
    Ok((header, totals))
}

/// Reads a whole file and keeps nothing: level V1.
///
/// # Errors
/// Every finding about a file, and those of reading.
pub fn verify_file(path: &Path, ring: &KeyRing, meter: &Meter) -> Result<(Header, Totals), BackupError> {
    read_into(path, ring, &mut Nowhere, meter)
}

pub(super) fn read_rest(
    file: impl Read + Send,
    key: StreamKey,
    header: &Header,
    target: &mut dyn RestoreTarget,
    meter: &Meter,
) -> Result<Totals, BackupError> {
    meter.expect(header.snapshot.tables.len(), header.snapshot.table_bytes);
    let (sender, pieces) = sync_channel(WAITING);
    thread::scope(|scope| {
        scope.spawn(move || unpack(file, key, &sender));
        let content = Unpacked { pieces, piece: Vec::new(), given: 0, ended: false };
        read_content(content, &header.snapshot.tables, target, meter)
    })
}

fn open(path: &Path) -> Result<File, BackupError> {
    OpenOptions::new().read(true).open(path).map_err(|error| match error.kind() {
        io::ErrorKind::NotFound => BackupError::NotFound,
        _ => BackupError::Io { what: "opening the backup", source: error },
    })
}

/// Sends what the file holds, and at its true end an empty piece.
fn unpack(file: impl Read, key: StreamKey, pieces: &SyncSender<io::Result<Vec<u8>>>) {
    let outcome = (|| {
        let mut content = zstd::Decoder::new(OpeningReader::new(key, file))?;
        content.window_log_max(LARGEST_WINDOW_LOG)?;
        loop {
            let mut piece = vec![0; PIECE];
            let read = content.read(&mut piece)?;
            piece.truncate(read);
            if pieces.send(Ok(piece)).is_err() || read == 0 {
                return Ok(());
            }
        }
    })();
    if let Err(error) = outcome {
        // nobody who listens any more has an error of their own
        let _ = pieces.send(Err(error));
    }
}

struct Unpacked {
    pieces: Receiver<io::Result<Vec<u8>>>,
    piece: Vec<u8>,
    given: usize,
    ended: bool,
}

impl Read for Unpacked {
    fn read(&mut self, out: &mut [u8]) -> io::Result<usize> {
        if self.given == self.piece.len() && !self.ended && !out.is_empty() {
            let gone = |_| io::Error::other("the decompressor stopped");
            self.piece = self.pieces.recv().map_err(gone)??;
            self.given = 0;
            self.ended = self.piece.is_empty();
        }
        let given = out.len().min(self.piece.len() - self.given);
        out[..given].copy_from_slice(&self.piece[self.given..self.given + given]);
        self.given += given;
        Ok(given)
    }
}
