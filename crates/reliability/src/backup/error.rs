use std::io;

use plimsoll_core_domain::StoreError;
use plimsoll_crypto::stream::StreamError;

use super::BackupNameError;

/// Why a backup was not made, read, verified or restored. What is wrong with a file is told apart, since each asks for
/// something else: another key, another copy of the file, or a newer program.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum BackupError {
    /// The file was sealed with a key that is not at hand. Nothing says that it is damaged.
    #[error(
        "the backup was sealed with key {key_id}, which is neither ENCRYPTION_KEY nor among ENCRYPTION_KEYS_OLD"
    )]
    WrongKey {
        /// The id of the key that is needed.
        key_id: String,
    },
    /// The header is not the one that was written.
    #[error("the backup's header was changed or is damaged")]
    TamperedHeader,
    /// A chunk of the content is not what was written at its place.
    #[error("chunk {chunk} of the backup is corrupt")]
    Corrupt {
        /// Its zero-based number.
        chunk: u32,
    },
    /// The end is missing.
    #[error("the backup is truncated: its end is missing")]
    Truncated,
    /// Something follows the end.
    #[error("the backup is followed by data that is not part of it")]
    TrailingData,
    /// The file is of a later form than this program reads.
    #[error("the backup has format version {version}; this program reads version {}", super::VERSION)]
    UnsupportedVersion {
        /// The file's version.
        version: u16,
    },
    /// The file is no backup at all.
    #[error("the file is not a backup")]
    NotABackup,
    /// The content is authentic, but does not add up: a fault of whoever wrote it.
    #[error("the backup's content does not add up: {0}")]
    Inconsistent(String),
    /// The backup has migrations that this program does not know.
    #[error("the backup's schema is newer than this program (it has {}); use a newer version", unknown.join(", "))]
    NewerSchema {
        /// Versions of the migrations that are not known.
        unknown: Vec<String>,
    },
    /// No backup has the name.
    #[error("there is no such backup")]
    NotFound,
    /// The name is none, or leads to something else than a plain file.
    #[error(transparent)]
    Name(BackupNameError),
    /// Another backup or restore is running.
    #[error("another backup or restore is running")]
    Busy,
    /// The disk has too little room; nothing was written.
    #[error("the backup folder has {free} bytes free, and {needed} are needed")]
    NoSpace {
        /// Bytes that a new backup is expected to need.
        needed: u64,
        /// Bytes there are.
        free: u64,
    },
    /// Somebody asked to stop, or the time was up.
    #[error("the backup was stopped before its end")]
    Stopped,
    /// What was restored does not pass its checks.
    #[error("the restored copy is not sound: {0}")]
    Unsound(String),
    /// The request cannot be done here, for the reason given; nothing was changed.
    #[error("{0}")]
    Refused(String),
    /// A file cannot be read or written.
    #[error("{what}: {source}")]
    Io {
        /// What was tried.
        what: &'static str,
        /// Why not.
        source: io::Error,
    },
    /// The database refused.
    #[error(transparent)]
    Store(#[from] StoreError),
}

impl BackupError {
    /// The stable code of a finding about a file, as clients get it; `None` for all else.
    #[must_use]
    pub fn code(&self) -> Option<&'static str> {
        Some(match self {
            Self::WrongKey { .. } => "backup_wrong_key",
            Self::TamperedHeader => "backup_tampered_header",
            Self::Corrupt { .. } | Self::Inconsistent(_) | Self::NotABackup | Self::Unsound(_) => {
                "backup_corrupt"
            }
            Self::Truncated => "backup_truncated",
            Self::TrailingData => "backup_trailing_data",
            Self::UnsupportedVersion { .. } => "backup_unsupported_version",
            Self::NewerSchema { .. } => "backup_newer_schema",
            Self::NotFound | Self::Name(_) => "backup_not_found",
            _ => return None,
        })
    }

    /// Whether the finding is about the file itself, so that another copy of it may do.
    #[must_use]
    pub fn is_damage(&self) -> bool {
        self.code().is_some_and(|code| !matches!(code, "backup_not_found" | "backup_newer_schema"))
    }

    pub(super) fn io(what: &'static str) -> impl FnOnce(io::Error) -> Self {
        move |source| Self::from_io(what, source)
    }

    /// An error of reading or writing, or the finding that travelled inside one.
    #[must_use]
    pub fn from_io(what: &'static str, error: io::Error) -> Self {
        if let Some(stream) = StreamError::of(&error) {
            return match stream {
                StreamError::Truncated { .. } => Self::Truncated,
                StreamError::TrailingData => Self::TrailingData,
                StreamError::Corrupt { chunk } => Self::Corrupt { chunk },
                StreamError::TooLong | StreamError::Broken => Self::Io { what, source: error },
            };
        }
        if error.get_ref().is_some_and(|inner| inner.is::<Self>()) {
            let inner = error.into_inner().and_then(|inner| inner.downcast::<Self>().ok());
            return *inner.expect("its type was looked at");
        }
        Self::Io { what, source: error }
    }
}

impl From<BackupError> for io::Error {
    fn from(error: BackupError) -> Self {
        match error {
            BackupError::Io { source, .. } => source,
            other => Self::other(other),
        }
    }
}

impl From<BackupNameError> for BackupError {
    fn from(error: BackupNameError) -> Self {
        match error {
            BackupNameError::Io(source) if source.kind() == io::ErrorKind::NotFound => Self::NotFound,
            BackupNameError::Io(source) => Self::Io { what: "looking at the backup", source },
            other => Self::Name(other),
        }
    }
}
