//! The content of a backup, before it is compressed and sealed.
//!
//! ```text
//! for each table of the header, in its order:
//!     1 byte 'T', 4 bytes the table's place
//!     blocks: 4 bytes length (1 to 1 MiB), then so many bytes of binary COPY; a length of 0 ends them
//!     8 bytes rows, 8 bytes length of all blocks, 32 bytes SHA-256 of all blocks
//! 1 byte 'S', 4 bytes length, JSON: the values of the sequences
//! 1 byte 'E', 4 bytes length, JSON: the manifest, which says all of the above once more
//! ```
//!
//! Numbers are big-endian. Nothing follows the manifest.

use std::io::{self, Read, Write};

use data_encoding::HEXLOWER;
use serde::{Deserialize, Serialize};
use sha2::{Digest, Sha256};

use super::meter::Meter;
use super::rows::RowCounter;
use super::{BackupError, TableShape};

const TABLE: u8 = b'T';
const SEQUENCES: u8 = b'S';
const END: u8 = b'E';
/// Bytes of a block at most; a writer's blocks are smaller.
const LARGEST_BLOCK: usize = 1 << 20;
const BLOCK: usize = 128 * 1024;
/// Of the JSON texts.
const LONGEST_TEXT: u32 = 16 << 20;

/// Where a sequence stands.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct SequenceValue {
    /// The sequence.
    pub name: String,
    /// The value it gave last; `None`: none yet.
    pub last: Option<i64>,
}

/// What a backup has of one table.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct TableTotal {
    /// The table.
    pub name: String,
    /// Its rows.
    pub rows: u64,
    /// Bytes of its content.
    pub bytes: u64,
    /// Their SHA-256, in hexadecimal digits.
    pub sha256: String,
}

/// What a backup has in all.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Totals {
    /// Of each table, in the order of the header.
    pub tables: Vec<TableTotal>,
    /// SHA-256 of the sequences' JSON, in hexadecimal digits.
    pub sequences: String,
}

impl Totals {
    /// Rows of all tables.
    #[must_use]
    pub fn rows(&self) -> u64 {
        self.tables.iter().map(|table| table.rows).sum()
    }

    /// Bytes of all tables' content.
    #[must_use]
    pub fn bytes(&self) -> u64 {
        self.tables.iter().map(|table| table.bytes).sum()
    }
}

/// Follows what passes of one table.
struct Passing<'a> {
    meter: &'a Meter,
    rows: RowCounter,
    hash: Sha256,
    bytes: u64,
}

impl<'a> Passing<'a> {
    fn new(table: &TableShape, meter: &'a Meter) -> Result<Self, BackupError> {
        let columns = u16::try_from(table.columns.len())
            .map_err(|_| BackupError::Inconsistent(format!("table {} has too many columns", table.name)))?;
        Ok(Self { meter, rows: RowCounter::new(columns), hash: Sha256::new(), bytes: 0 })
    }

    fn follow(&mut self, bytes: &[u8]) -> Result<(), BackupError> {
        self.meter.pass(bytes.len())?;
        self.rows.follow(bytes)?;
        self.hash.update(bytes);
        self.bytes += bytes.len() as u64;
        Ok(())
    }

    fn finish(self, table: &TableShape) -> Result<(TableTotal, [u8; 32]), BackupError> {
        let digest: [u8; 32] = self.hash.finalize().into();
        let sha256 = HEXLOWER.encode(&digest);
        let rows = self.rows.finish()?;
        self.meter.table_done();
        Ok((TableTotal { name: table.name.clone(), rows, bytes: self.bytes, sha256 }, digest))
    }
}

/// Writes the content.
pub(super) struct ContentWriter<'a, W> {
    out: W,
    meter: &'a Meter,
    totals: Totals,
}

impl<'a, W: Write> ContentWriter<'a, W> {
    pub(super) fn new(out: W, meter: &'a Meter) -> Self {
        Self { out, meter, totals: Totals::default() }
    }

    /// Writes the next table: `copy` gives its rows in binary COPY form to the writer it gets.
    pub(super) fn table(
        &mut self,
        table: &TableShape,
        copy: impl FnOnce(&mut dyn Write) -> Result<(), BackupError>,
    ) -> Result<(), BackupError> {
        let place = u32::try_from(self.totals.tables.len()).unwrap_or(u32::MAX);
        self.put(&[TABLE])?;
        self.put(&place.to_be_bytes())?;
        let passing = Passing::new(table, self.meter)?;
        let mut sink = TableSink { out: &mut self.out, passing, block: Vec::with_capacity(BLOCK) };
        copy(&mut sink)?;
        sink.write_block().map_err(BackupError::io("writing the backup"))?;
        let (total, digest) = sink.passing.finish(table)?;
        self.put(&0_u32.to_be_bytes())?;
        self.put(&total.rows.to_be_bytes())?;
        self.put(&total.bytes.to_be_bytes())?;
        self.put(&digest)?;
        self.totals.tables.push(total);
        Ok(())
    }

    /// Writes what follows the tables, and gives the writer back.
    pub(super) fn finish(mut self, sequences: &[SequenceValue]) -> Result<(W, Totals), BackupError> {
        let text = serde_json::to_vec(sequences).expect("texts and numbers serialise");
        self.totals.sequences = HEXLOWER.encode(&Sha256::digest(&text));
        self.text(SEQUENCES, &text)?;
        let manifest = serde_json::to_vec(&self.totals).expect("texts and numbers serialise");
        self.text(END, &manifest)?;
        Ok((self.out, self.totals))
    }

    fn text(&mut self, tag: u8, text: &[u8]) -> Result<(), BackupError> {
        let length = u32::try_from(text.len()).ok().filter(|length| *length <= LONGEST_TEXT);
        let length = length.ok_or_else(|| BackupError::Inconsistent("a list is too long".to_owned()))?;
        self.put(&[tag])?;
        self.put(&length.to_be_bytes())?;
        self.put(text)
    }

    fn put(&mut self, bytes: &[u8]) -> Result<(), BackupError> {
        self.out.write_all(bytes).map_err(BackupError::io("writing the backup"))
    }
}

struct TableSink<'a, W> {
    out: &'a mut W,
    passing: Passing<'a>,
    block: Vec<u8>,
}

impl<W: Write> TableSink<'_, W> {
    fn write_block(&mut self) -> io::Result<()> {
        if !self.block.is_empty() {
            self.passing.follow(&self.block)?;
            let length = u32::try_from(self.block.len()).expect("a block is small");
            self.out.write_all(&length.to_be_bytes())?;
            self.out.write_all(&self.block)?;
            self.block.clear();
        }
        Ok(())
    }
}

impl<W: Write> Write for TableSink<'_, W> {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        let taken = bytes.len().min(BLOCK - self.block.len());
        self.block.extend_from_slice(&bytes[..taken]);
        if self.block.len() == BLOCK {
            self.write_block()?;
        }
        Ok(taken)
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

/// Where the content of a backup goes.
pub trait RestoreTarget {
    /// Takes the rows of one table, in binary COPY form. What is not read of `rows` is passed over.
    ///
    /// # Errors
    /// Of reading, which are findings about the backup, or the target's own.
    fn load_table(&mut self, table: &TableShape, rows: &mut dyn Read) -> Result<(), BackupError>;

    /// Takes the values of the sequences, after all tables.
    ///
    /// # Errors
    /// The target's own.
    fn set_sequences(&mut self, values: &[SequenceValue]) -> Result<(), BackupError>;
}

/// A target that keeps nothing: for looking whether a backup is whole.
pub(super) struct Nowhere;

impl RestoreTarget for Nowhere {
    fn load_table(&mut self, _: &TableShape, _: &mut dyn Read) -> Result<(), BackupError> {
        Ok(())
    }

    fn set_sequences(&mut self, _: &[SequenceValue]) -> Result<(), BackupError> {
        Ok(())
    }
}

/// Reads the whole content into `target` and answers with what was in it. Reads one byte past the end, and finds none.
pub(super) fn read_content(
    mut content: impl Read,
    tables: &[TableShape],
    target: &mut dyn RestoreTarget,
    meter: &Meter,
) -> Result<Totals, BackupError> {
    let mut totals = Totals::default();
    for (place, table) in tables.iter().enumerate() {
        let mut start = [0; 5];
        take(&mut content, &mut start)?;
        if start[0] != TABLE || start[1..] != u32::try_from(place).unwrap_or(u32::MAX).to_be_bytes() {
            return Err(wrong("a table is missing or out of its place"));
        }
        let passing = Passing::new(table, meter)?;
        let mut rows = TableSource { from: &mut content, passing, left: 0, ended: false };
        target.load_table(table, &mut rows)?;
        io::copy(&mut rows, &mut io::sink()).map_err(BackupError::io("reading the backup"))?;
        let (total, digest) = rows.passing.finish(table)?;
        let mut end = [0; 48];
        take(&mut content, &mut end)?;
        if end[..8] != total.rows.to_be_bytes() || end[8..16] != total.bytes.to_be_bytes() {
            return Err(wrong("a table has another number of rows than is said of it"));
        }
        if end[16..] != digest {
            return Err(wrong("the rows of a table have another checksum than is said of them"));
        }
        totals.tables.push(total);
    }
    let text = text(&mut content, SEQUENCES)?;
    totals.sequences = HEXLOWER.encode(&Sha256::digest(&text));
    let sequences: Vec<SequenceValue> =
        serde_json::from_slice(&text).map_err(|_| wrong("the sequences are unreadable"))?;
    let manifest = self::text(&mut content, END)?;
    let manifest: Totals =
        serde_json::from_slice(&manifest).map_err(|_| wrong("the manifest is unreadable"))?;
    if manifest != totals {
        return Err(wrong("the manifest says something else than the content"));
    }
    let mut one = [0];
    match content.read(&mut one).map_err(BackupError::io("reading the backup"))? {
        0 => target.set_sequences(&sequences)?,
        _ => return Err(wrong("something follows the manifest")),
    }
    Ok(totals)
}

fn text(content: &mut impl Read, tag: u8) -> Result<Vec<u8>, BackupError> {
    let mut start = [0; 5];
    take(content, &mut start)?;
    let length = u32::from_be_bytes([start[1], start[2], start[3], start[4]]);
    if start[0] != tag || length > LONGEST_TEXT {
        return Err(wrong("what follows the tables is not what should"));
    }
    let mut text = Vec::new(); // grows as it comes: the length is only somebody's word
    content.take(u64::from(length)).read_to_end(&mut text).map_err(BackupError::io("reading the backup"))?;
    if text.len() < length as usize {
        return Err(wrong("it breaks off"));
    }
    Ok(text)
}

fn take(content: &mut impl Read, into: &mut [u8]) -> Result<(), BackupError> {
    content.read_exact(into).map_err(|error| match BackupError::from_io("reading the backup", error) {
        BackupError::Io { source, .. } if source.kind() == io::ErrorKind::UnexpectedEof => {
            wrong("it breaks off")
        }
        other => other,
    })
}

struct TableSource<'a, R> {
    from: &'a mut R,
    passing: Passing<'a>,
    /// Bytes of the block that were not read yet.
    left: usize,
    ended: bool,
}

impl<R: Read> Read for TableSource<'_, R> {
    fn read(&mut self, out: &mut [u8]) -> io::Result<usize> {
        if self.ended || out.is_empty() {
            return Ok(0);
        }
        if self.left == 0 {
            let mut length = [0; 4];
            take(self.from, &mut length)?;
            self.left = u32::from_be_bytes(length) as usize;
            if self.left > LARGEST_BLOCK {
                return Err(wrong("a block is longer than blocks are").into());
            }
            if self.left == 0 {
                self.ended = true;
                return Ok(0);
            }
        }
        let wanted = out.len().min(self.left);
        let read = self.from.read(&mut out[..wanted])?;
        if read == 0 {
            return Err(wrong("it breaks off").into());
        }
        self.left -= read;
        self.passing.follow(&out[..read])?;
        Ok(read)
    }
}

fn wrong(what: &str) -> BackupError {
    BackupError::Inconsistent(what.to_owned())
}
