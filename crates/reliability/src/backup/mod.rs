//! Backups: so far, what their files may be called and where a name leads.

mod name;

pub use name::{BackupName, BackupNameError, LONGEST_BACKUP_NAME};
