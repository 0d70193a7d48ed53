//! Why a command of the server fails, and its exit code.

use std::io;
use std::net::SocketAddr;
use std::path::PathBuf;

use plimsoll_core_domain::{StoreError, StoreErrorKind};
use plimsoll_reliability::backup::BackupError;
use plimsoll_storage::migrate::MigrateError;
use plimsoll_storage::platform::keys::KeysError;
use plimsoll_storage::private_postgres;

/// Why something did not start: one line for the operator.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum StartError {
    /// A folder or file of ours cannot be used.
    #[error("{} cannot be used: {source}", path.display())]
    File {
        /// The file or folder.
        path: PathBuf,
        /// Why.
        source: io::Error,
    },
    /// A file of ours holds something else.
    #[error("{} {what}", path.display())]
    Content {
        /// The file.
        path: PathBuf,
        /// What is wrong with it.
        what: String,
    },
    /// The port is busy, or not ours to take.
    #[error("cannot listen on {address}: {source}; stop what listens there or set {setting}")]
    Bind {
        /// Where it should listen.
        address: SocketAddr,
        /// The setting that says so.
        setting: &'static str,
        /// Why not.
        source: io::Error,
    },
    /// Another server runs on this data folder.
    #[error("{} is in use by another running instance; stop it or set DATA_DIR and BIND_ADDR", data_dir.display())]
    SecondInstance {
        /// The data folder.
        data_dir: PathBuf,
    },
    /// A setting, or the value of a master key.
    #[error("{setting}: {message}")]
    Setting {
        /// Its name.
        setting: &'static str,
        /// What is wrong.
        message: String,
    },
    /// The private PostgreSQL does not start.
    #[error(transparent)]
    Postgres(#[from] private_postgres::StartError),
    /// The database cannot be brought to this build's schema.
    #[error("the database: {0}")]
    Migrate(#[from] MigrateError),
    /// The installation's keys.
    #[error(transparent)]
    Keys(#[from] KeysError),
    /// The database cannot be used.
    #[error("the database: {0}")]
    Store(#[from] StoreError),
    /// A backup or restore.
    #[error(transparent)]
    Backup(#[from] BackupError),
    /// The paper broker does not start.
    #[error("the paper broker: {0}")]
    Paper(#[from] plimsoll_paper_broker::StartError),
    /// The system gives no more threads, memory or files.
    #[error("{what}: {source}")]
    System {
        /// What was tried.
        what: &'static str,
        /// Why not.
        source: io::Error,
    },
    /// A command had nothing to work on, or was refused.
    #[error("{0}")]
    Refused(String),
}

impl StartError {
    /// `map_err(StartError::file(path))`.
    pub(crate) fn file(path: impl Into<PathBuf>) -> impl FnOnce(io::Error) -> Self {
        let path = path.into();
        move |source| Self::File { path, source }
    }

    /// 1: failed; 2: wrong use or configuration; 3: the database is not to be reached.
    #[must_use]
    pub fn exit_code(&self) -> u8 {
        let store = |error: &StoreError| if error.kind() == StoreErrorKind::Unavailable { 3 } else { 1 };
        match self {
            Self::Store(error)
            | Self::Backup(BackupError::Store(error))
            | Self::Migrate(MigrateError::Store(error))
            | Self::Keys(KeysError::Store(error)) => store(error),
            Self::Paper(plimsoll_paper_broker::StartError::Store(error)) => store(error),
            Self::Paper(plimsoll_paper_broker::StartError::Migrate(MigrateError::Store(error))) => {
                store(error)
            }
            Self::Migrate(MigrateError::Failed { .. })
            | Self::System { .. }
            | Self::Backup(_)
            | Self::Refused(_) => 1,
            _ => 2,
        }
    }
}

/// The first line of the innermost cause, where there is one: the driver's own words.
pub(crate) fn root_cause(error: &dyn std::error::Error) -> Option<String> {
    let innermost = std::iter::successors(error.source(), |cause| cause.source()).last()?;
    innermost.to_string().lines().next().map(|line| line.trim().to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn away() -> StoreError {
        StoreError::new(StoreErrorKind::Unavailable, "away")
    }

    #[test]
    fn the_exit_code_says_who_can_help() {
        assert_eq!(StartError::Store(away()).exit_code(), 3);
        assert_eq!(StartError::Migrate(MigrateError::Store(away())).exit_code(), 3);
        let newer = MigrateError::SchemaNewer { unknown: vec!["2099".to_owned()] };
        assert_eq!(StartError::Migrate(newer).exit_code(), 2);
        let source = io::Error::from(io::ErrorKind::AddrInUse);
        let busy = StartError::Bind { address: ([127, 0, 0, 1], 1).into(), setting: "BIND_ADDR", source };
        assert_eq!(busy.exit_code(), 2);
        assert!(busy.to_string().contains("127.0.0.1:1"));
        assert_eq!(StartError::Refused("no".to_owned()).exit_code(), 1);
    }

    #[test]
    fn the_innermost_cause_is_one_line() {
        let cause = io::Error::other("connection refused\n\tIs the server running?");
        let error = StartError::Store(away().caused_by(cause));
        assert_eq!(root_cause(&error).as_deref(), Some("connection refused"));
        assert_eq!(root_cause(&StartError::Refused("no".to_owned())), None);
    }
}
