//! The head of a backup file: a fixed prefix, a header in JSON, and their MAC.
//!
//! ```text
//! 8 bytes   "plmb", and four bytes that a transfer as text would change
//! 2 bytes   version of the form
//! 4 bytes   length of the header
//! n bytes   the header: canonical JSON
//! 32 bytes  HMAC-SHA256 over all of the above
//! ```
//!
//! Numbers are big-endian. The keys are derived from the master key that the header names, and its salt: one for this MAC,
//! one for the content, whose derivation has the header in it as well.

use std::io::{self, Read};

use chrono::{DateTime, Utc};
use data_encoding::HEXLOWER;
use hmac::{Hmac, KeyInit, Mac};
use plimsoll_crypto::{KeyId, KeyRing, SecretKey, StreamKey, Stretching};
use serde::{Deserialize, Serialize};
use sha2::Sha256;

use super::{BackupError, BackupName};
use crate::idempotency::canonical_json;

/// The version of the form that this program writes, and the only one it reads.
pub const VERSION: u16 = 1;

const MAGIC: [u8; 8] = *b"plmb\r\n\x1a\n";
const PREFIX: usize = MAGIC.len() + 2 + 4;
const MAC: usize = 32;
/// A header is a few dozen kilobytes; a length beyond this was not written by us.
const LONGEST: u32 = 1 << 20;
const PURPOSE: &str = "backup";
const MAC_PURPOSE: &[u8] = b"backup header";
const STATE_PURPOSE: &[u8] = b"backup state";

/// Why a backup was made.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum BackupKind {
    /// Somebody asked for it.
    Manual,
    /// It was due.
    Scheduled,
    /// Before a restore, so that it can be taken back.
    PreRestore,
    /// Before migrations.
    PreMigration,
    /// At the end of the server.
    Shutdown,
}

impl BackupKind {
    /// As it stands in names and answers.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Manual => "manual",
            Self::Scheduled => "scheduled",
            Self::PreRestore => "pre_restore",
            Self::PreMigration => "pre_migration",
            Self::Shutdown => "shutdown",
        }
    }
}

/// One table of a backup, and its columns in the order of the content.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct TableShape {
    /// The table.
    pub name: String,
    /// Its columns, without generated ones.
    pub columns: Vec<String>,
}

/// What a snapshot is of.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct SnapshotFacts {
    /// When it was taken, by the database's clock.
    pub at: DateTime<Utc>,
    /// Where the write-ahead log was then; empty where the server does not say.
    pub lsn: String,
    /// The server's own identifier; empty where it does not say.
    pub system_identifier: String,
    /// Its timeline; 0 where it does not say.
    pub timeline: u32,
    /// Its version.
    pub server_version: String,
    /// The database.
    pub database: String,
    /// Versions of the migrations that made its schema, ascending.
    pub migrations: Vec<String>,
    /// SHA-256 over the definitions of all objects of the schema, in hexadecimal digits.
    pub catalogue: String,
    /// Objects that migrations did not make, and that the backup therefore lacks.
    pub foreign_objects: Vec<String>,
    /// The tables, in the order of the content.
    pub tables: Vec<TableShape>,
    /// Bytes of all tables on the server's disk: for a guess at how far a backup is.
    pub table_bytes: u64,
    /// How a pass phrase became the master key, where it was one.
    pub stretching: Option<StretchingFacts>,
}

/// How a pass phrase becomes a master key. It is kept in the database; without it a backup of a lost database could not be
/// opened by the pass phrase alone. Not secret.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct StretchingFacts {
    /// In hexadecimal digits.
    pub salt: String,
    /// How often.
    pub iterations: u32,
}

impl StretchingFacts {
    /// As a key is made with it.
    ///
    /// # Errors
    /// It is out of bounds, so this program did not write it.
    pub fn stretching(&self) -> Result<Stretching, BackupError> {
        let salt = HEXLOWER.decode(self.salt.as_bytes()).map_err(|_| BackupError::TamperedHeader)?;
        Stretching::new(salt, self.iterations).map_err(|_| BackupError::TamperedHeader)
    }
}

impl SnapshotFacts {
    /// The newest migration; empty when there is none.
    #[must_use]
    pub fn schema_version(&self) -> &str {
        self.migrations.last().map_or("", String::as_str)
    }
}

/// The header of a backup file.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Header {
    /// The backup's own name, whatever its file is called.
    pub name: String,
    /// Why it was made.
    pub kind: BackupKind,
    /// When.
    pub created_at: DateTime<Utc>,
    /// What somebody said about it.
    pub description: Option<String>,
    /// The program's version.
    pub app_version: String,
    /// Of what.
    pub snapshot: SnapshotFacts,
    /// How the content is compressed: zstd of this level.
    pub zstd_level: i32,
    /// Bytes of content in a sealed chunk.
    pub chunk_bytes: u32,
    /// The master key.
    pub key_id: String,
    /// 32 bytes, in hexadecimal digits.
    pub salt: String,
}

impl Header {
    /// What stands at the head of the file, and the key of what follows.
    ///
    /// # Errors
    /// The ring lacks the key, or the header is too long.
    pub(super) fn seal(&self, ring: &KeyRing) -> Result<(Vec<u8>, StreamKey), BackupError> {
        let plain = serde_json::to_vec(self).expect("texts and numbers serialise");
        let json = canonical_json(&plain).map_err(|why| BackupError::Inconsistent(why.to_string()))?;
        let length = u32::try_from(json.len()).ok().filter(|length| *length <= LONGEST);
        let length = length.ok_or_else(|| BackupError::Inconsistent("the header is too long".to_owned()))?;
        let mut head = Vec::with_capacity(PREFIX + json.len() + MAC);
        head.extend_from_slice(&MAGIC);
        head.extend_from_slice(&VERSION.to_be_bytes());
        head.extend_from_slice(&length.to_be_bytes());
        head.extend_from_slice(&json);
        let keys = self.keys(ring)?;
        let content = keys.content(&head)?;
        head.extend_from_slice(&mac(&keys.mac, &head).finalize().into_bytes());
        Ok((head, content))
    }

    /// Reads and authenticates a header; what follows in `file` opens with the key.
    ///
    /// # Errors
    /// Every finding about a header.
    pub(super) fn open(file: &mut impl Read, ring: &KeyRing) -> Result<(Self, StreamKey), BackupError> {
        let (header, head, tag) = Self::parse(file)?;
        let keys = header.keys(ring)?;
        mac(&keys.mac, &head).verify_slice(&tag).map_err(|_| BackupError::TamperedHeader)?;
        let content = keys.content(&head)?;
        Ok((header, content))
    }

    /// What a header says, unproven, with its bytes and its MAC.
    pub(super) fn parse(file: &mut impl Read) -> Result<(Self, Vec<u8>, [u8; MAC]), BackupError> {
        let mut head = vec![0; PREFIX];
        let got = fill(file, &mut head)?;
        let magic = got.min(MAGIC.len());
        if head[..magic] != MAGIC[..magic] {
            return Err(BackupError::NotABackup);
        }
        if got < PREFIX {
            return Err(BackupError::Truncated);
        }
        let version = u16::from_be_bytes([head[8], head[9]]);
        if version != VERSION {
            return Err(BackupError::UnsupportedVersion { version });
        }
        let length = u32::from_be_bytes([head[10], head[11], head[12], head[13]]);
        if length > LONGEST {
            return Err(BackupError::TamperedHeader);
        }
        head.resize(PREFIX + length as usize, 0);
        let mut tag = [0; MAC];
        if fill(file, &mut head[PREFIX..])? < length as usize || fill(file, &mut tag)? < MAC {
            return Err(BackupError::Truncated);
        }
        let header: Self =
            serde_json::from_slice(&head[PREFIX..]).map_err(|_| BackupError::TamperedHeader)?;
        Ok((header, head, tag))
    }

    /// The backup's name.
    ///
    /// # Errors
    /// It is none: then whoever wrote the file was not this program.
    pub fn name(&self) -> Result<BackupName, BackupError> {
        BackupName::parse(&self.name).map_err(|_| BackupError::TamperedHeader)
    }

    /// The MAC of what is kept beside the file: [`State`](super::State).
    pub(super) fn state_mac(&self, ring: &KeyRing, text: &[u8]) -> Result<Hmac<Sha256>, BackupError> {
        let (id, salt) = self.key()?;
        Ok(mac(&derive(ring, id, &salt, STATE_PURPOSE)?, text))
    }

    fn keys<'a>(&self, ring: &'a KeyRing) -> Result<Keys<'a>, BackupError> {
        let (id, salt) = self.key()?;
        Ok(Keys { ring, id, salt, mac: derive(ring, id, &salt, MAC_PURPOSE)? })
    }

    fn key(&self) -> Result<(KeyId, [u8; 32]), BackupError> {
        let id: KeyId = self.key_id.parse().map_err(|_| BackupError::TamperedHeader)?;
        let salt = HEXLOWER.decode(self.salt.as_bytes()).ok().and_then(|salt| salt.try_into().ok());
        Ok((id, salt.ok_or(BackupError::TamperedHeader)?))
    }
}

struct Keys<'a> {
    ring: &'a KeyRing,
    id: KeyId,
    salt: [u8; 32],
    mac: SecretKey,
}

impl Keys<'_> {
    fn content(&self, head: &[u8]) -> Result<StreamKey, BackupError> {
        StreamKey::derive(self.ring, self.id, &self.salt, PURPOSE, head).map_err(|_| wrong_key(self.id))
    }
}

fn derive(ring: &KeyRing, id: KeyId, salt: &[u8; 32], purpose: &[u8]) -> Result<SecretKey, BackupError> {
    ring.derive(id, salt, purpose).map_err(|_| wrong_key(id))
}

fn wrong_key(id: KeyId) -> BackupError {
    BackupError::WrongKey { key_id: id.to_string() }
}

fn mac(key: &SecretKey, text: &[u8]) -> Hmac<Sha256> {
    let mut mac = Hmac::<Sha256>::new_from_slice(key.expose()).expect("HMAC takes keys of any length");
    mac.update(text);
    mac
}

/// Reads until the buffer is full or the file ends; answers how much there was.
fn fill(file: &mut impl Read, into: &mut [u8]) -> Result<usize, BackupError> {
    let mut got = 0;
    while got < into.len() {
        match file.read(&mut into[got..]) {
            Ok(0) => break,
            Ok(read) => got += read,
            Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
            Err(source) => return Err(BackupError::Io { what: "reading the backup", source }),
        }
    }
    Ok(got)
}
