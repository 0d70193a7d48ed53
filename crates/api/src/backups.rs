//! What the routes of backups need of the server. They only ask and tell: the work is the server's, on threads of its own.

use chrono::{DateTime, Utc};
use plimsoll_reliability::backup::{BackupError, BackupName, Item, Progress};
use serde_json::Value;
use uuid::Uuid;

/// The backups of a server. Every method may wait for the disk: call it on a thread that may block.
pub trait BackupDesk: Send + Sync {
    /// The name of the live database, which a restore is confirmed with.
    fn database(&self) -> String;

    /// All that can be read, newest first.
    ///
    /// # Errors
    /// The folder cannot be read.
    fn list(&self) -> Result<Vec<Item>, BackupError>;

    /// One of them.
    ///
    /// # Errors
    /// There is none of that name, or its header does not open.
    fn item(&self, name: &BackupName) -> Result<Item, BackupError>;

    /// Has `work` done under the id, or answers with the job that has the id already.
    ///
    /// # Errors
    /// Another backup or restore is running; then nothing was begun.
    fn ask(&self, id: Uuid, work: BackupWork, now: DateTime<Utc>) -> Result<Asked, BackupError>;

    /// The job of an id; `None`: no job has it, or it is too long ago.
    ///
    /// # Errors
    /// The folder cannot be read.
    fn job(&self, id: Uuid) -> Result<Option<BackupJob>, BackupError>;

    /// Lets retention leave a backup alone, or not any more.
    ///
    /// # Errors
    /// There is none of that name, or that cannot be written.
    fn pin(&self, name: &BackupName, pinned: bool) -> Result<Item, BackupError>;
}

/// What can be asked for.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum BackupWork {
    /// A new backup.
    Create {
        /// What to remember about it.
        description: Option<String>,
        /// Retention leaves it alone.
        pinned: bool,
    },
    /// Reading one whole; with `rehearse`, restoring it into a copy as well.
    Verify {
        /// Which.
        name: BackupName,
        /// Level V2 instead of V1.
        rehearse: bool,
    },
    /// Replacing the database.
    Restore {
        /// By which.
        name: BackupName,
    },
    /// Swapping back what was live before the last restore.
    Undo,
    /// Deleting what may go.
    Cleanup,
}

impl BackupWork {
    /// As it stands in a job.
    #[must_use]
    pub fn kind(&self) -> &'static str {
        match self {
            Self::Create { .. } => "create",
            Self::Verify { .. } => "verify",
            Self::Restore { .. } => "restore",
            Self::Undo => "undo",
            Self::Cleanup => "cleanup",
        }
    }
}

/// What became of asking.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Asked {
    /// It was begun.
    Begun,
    /// The id has a job already, for the same work.
    There,
    /// The id has a job already, for other work.
    Other,
}

/// How far a job is.
#[derive(Clone, Debug, PartialEq)]
pub struct BackupJob {
    /// Its id.
    pub id: Uuid,
    /// What it does.
    pub kind: String,
    /// `queued`, `running`, `done` or `failed`.
    pub state: String,
    /// How far it is.
    pub progress: Progress,
    /// What came of it.
    pub result: Option<Value>,
    /// Why it failed: `{code, detail}`.
    pub error: Option<Value>,
}
