//! Backups: encrypted files that are read back before they count, and the rules by which they are kept.
//!
//! A database is reached through two traits only: [`SnapshotSource`] gives one moment of it, [`RestoreTarget`] takes a
//! backup in. [`BackupFolder`] is everything else: making, listing, verifying, keeping and deleting.

mod content;
mod error;
mod folder;
mod header;
mod meter;
mod name;
mod read;
mod retention;
mod rows;
mod state;
mod write;

pub use content::{RestoreTarget, SequenceValue, TableTotal, Totals};
pub use error::BackupError;
pub use folder::{BackupFolder, BackupRequest, Cleaned, FolderLock, Item, Listing, free_bytes};
pub use header::{BackupKind, Header, SnapshotFacts, StretchingFacts, TableShape, VERSION};
pub use meter::{Meter, Progress};
pub use name::{BackupName, BackupNameError, LONGEST_BACKUP_NAME};
pub use read::{read_header, read_into, read_stretching, verify_file};
pub use retention::{Kept, Retention, expired};
pub use state::{Level, State};
pub use write::SnapshotSource;

#[cfg(test)]
mod tests;
