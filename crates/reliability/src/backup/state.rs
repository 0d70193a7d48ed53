use std::fs;
use std::path::Path;

use chrono::{DateTime, Utc};
use data_encoding::HEXLOWER;
use hmac::Mac;
use plimsoll_crypto::KeyRing;
use serde::{Deserialize, Serialize};

use super::folder::write_durably;
use super::{BackupError, Header};

/// How far a backup was verified.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Level {
    /// Read back whole right after it was written.
    V0,
    /// Read again later: every chunk, checksum and count.
    V1,
    /// Restored into a database of its own, and looked at there.
    V2,
}

impl Level {
    /// As it stands in answers.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Self::V0 => "v0",
            Self::V1 => "v1",
            Self::V2 => "v2",
        }
    }
}

/// What changes about a backup after it was written. It is kept beside the file and bound to it by a MAC; where it is
/// missing or of another file, nothing is known, and the backup is as good as before.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct State {
    /// Rows of all tables.
    pub rows: Option<u64>,
    /// How far it was verified.
    pub level: Option<Level>,
    /// When that was.
    pub verified_at: Option<DateTime<Utc>>,
    /// Retention leaves it alone.
    pub pinned: bool,
}

impl State {
    pub(super) fn read(path: &Path, header: &Header, ring: &KeyRing) -> Self {
        let read = || {
            let text = fs::read_to_string(path).ok()?;
            let (tag, json) = text.split_once('\n')?;
            let tag = HEXLOWER.decode(tag.as_bytes()).ok()?;
            header.state_mac(ring, json.as_bytes()).ok()?.verify_slice(&tag).ok()?;
            serde_json::from_str(json).ok()
        };
        read().unwrap_or_default()
    }

    pub(super) fn write(&self, path: &Path, header: &Header, ring: &KeyRing) -> Result<(), BackupError> {
        let json = serde_json::to_string(self).expect("texts and numbers serialise");
        let tag = header.state_mac(ring, json.as_bytes())?.finalize().into_bytes();
        write_durably(path, format!("{}\n{json}", HEXLOWER.encode(&tag)).as_bytes())
    }

    /// After a verification: a level once reached is not lost by a lesser one.
    pub(super) fn verified(&mut self, level: Level, rows: u64, at: DateTime<Utc>) {
        self.level = self.level.max(Some(level));
        self.rows = Some(rows);
        self.verified_at = Some(at);
    }
}
