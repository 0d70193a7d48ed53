//! Backups of the platform's database: made, rehearsed, restored and taken back, by the command line and by the clock.

mod desk;
mod job;
mod restore;
mod schedule;

use std::path::PathBuf;
use std::time::{Duration, Instant};

use chrono::{DateTime, Utc};
use plimsoll_crypto::{KeyRing, OsRandom};
use plimsoll_reliability::backup::{
    BackupError, BackupFolder, BackupKind, BackupName, BackupRequest, Cleaned, FolderLock, Item, Meter,
    Retention, Totals,
};
use plimsoll_storage::db::database_of;
use plimsoll_storage::platform::backup::{
    Scratch, Snapshot, can_undo, check, drop_database, other_databases, pre_taken_at, scratch_name,
};

use crate::service::random_seed;

pub use desk::Desk;
pub use job::{BackupHandle, BackupJobParts, start};
pub use restore::{RestoreRequest, Restored, Step, Undone};
pub use schedule::BackupSchedule;

/// A snapshot that is held longer keeps the database from cleaning up behind itself.
pub const LONGEST: Duration = Duration::from_secs(30 * 60);

/// Backups of one database in one folder.
#[derive(Clone, Debug)]
pub struct Backups {
    /// Where they are.
    pub folder: BackupFolder,
    /// The connection string of the database's owner.
    pub owner: String,
    /// The keys that new ones are sealed with.
    pub ring: KeyRing,
    /// Which may go.
    pub retention: Retention,
    /// Where the server's files are, when they are on this machine: a restore needs room for a second copy.
    pub disk: Option<PathBuf>,
}

/// A meter that begins now, for something that has no snapshot to hold.
#[must_use]
pub fn meter() -> Meter {
    Meter::new(Instant::now(), None)
}

impl Backups {
    /// Makes one.
    ///
    /// # Errors
    /// Another backup or restore is running, the database cannot be read, or the file not be written.
    pub fn create(
        &self,
        kind: BackupKind,
        description: Option<String>,
        pinned: bool,
        meter: &Meter,
        now: DateTime<Utc>,
    ) -> Result<Item, BackupError> {
        let lock = self.folder.lock()?;
        self.create_locked(&lock, kind, description, pinned, meter, now)
    }

    fn create_locked(
        &self,
        lock: &FolderLock,
        kind: BackupKind,
        description: Option<String>,
        pinned: bool,
        meter: &Meter,
        now: DateTime<Utc>,
    ) -> Result<Item, BackupError> {
        let mut snapshot = Snapshot::open(&self.owner)?;
        let app_version = env!("CARGO_PKG_VERSION").to_owned();
        let request = BackupRequest { kind, description, pinned, app_version, now };
        let item = self.folder.create(lock, &request, &self.ring, &mut snapshot, &mut OsRandom, meter)?;
        let foreign = &item.header.snapshot.foreign_objects;
        if !foreign.is_empty() {
            tracing::warn!(
                backup.name = %item.name,
                objects = foreign.join(", "),
                "The database has objects that no migration makes; a restore lacks them."
            );
        }
        tracing::info!(
            backup.name = %item.name,
            rows = item.state.rows,
            bytes = item.size_bytes,
            "A backup was made and read back."
        );
        Ok(item)
    }

    /// Restores one into a database of its own, looks at it there, and drops it: level V2.
    ///
    /// # Errors
    /// Every finding about the backup; the role may make no databases; another backup or restore is running.
    pub fn rehearse(
        &self,
        name: &BackupName,
        ring: &KeyRing,
        meter: &Meter,
        now: DateTime<Utc>,
    ) -> Result<Totals, BackupError> {
        let _lock = self.folder.lock()?;
        let live = self.live()?;
        let comment = format!("plimsoll rehearsal of {name}, begun {}", now.to_rfc3339());
        let scratch = Scratch::create(&self.owner, &scratch_name(&live, fresh()), &comment)?;
        let looked = scratch.load(&self.folder, name, ring, meter).and_then(|(_, totals)| {
            check(scratch.url(), &totals, ring, &mut OsRandom)?;
            scratch.migrate()?;
            Ok(totals)
        });
        let dropped = scratch.drop_it();
        let totals = looked?;
        dropped?;
        self.folder.restored(name, ring, &totals, now)?;
        Ok(totals)
    }

    /// Deletes the backups that the retention lets go, and databases that restores left: copies of processes that were
    /// killed, and what was live before a restore that cannot be taken back any more.
    ///
    /// # Errors
    /// Another backup or restore is running, or something cannot be deleted.
    pub fn clean_up(&self, now: DateTime<Utc>) -> Result<Cleaned, BackupError> {
        let lock = self.folder.lock()?;
        let cleaned = self.folder.clean_up(&lock, self.retention, &self.ring, now)?;
        let live = self.live()?;
        for other in other_databases(&self.owner)? {
            let spent = pre_taken_at(&live, &other.name).is_some_and(|at| !can_undo(at, now));
            let left = restore::is_left(&live, &other, now);
            if spent || left {
                drop_database(&self.owner, &other.name)?;
                tracing::info!(database = other.name, "A database that a restore left was dropped.");
            }
        }
        Ok(cleaned)
    }

    /// The name of the live database.
    ///
    /// # Errors
    /// The connection string names none.
    pub fn live(&self) -> Result<String, BackupError> {
        database_of(&self.owner)
            .ok_or_else(|| BackupError::Refused("the connection string names no database".to_owned()))
    }
}

/// Makes the name of a copy one of its kind.
fn fresh() -> u32 {
    u32::try_from(random_seed(&mut OsRandom) & u64::from(u32::MAX)).unwrap_or(0)
}
