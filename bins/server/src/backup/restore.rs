//! Restoring: the live database is not touched before a sound copy stands beside it, and then it is swapped in one
//! transaction. What was live stays for a week, to be swapped back.
//!
//! A note in the backup folder says how far a restore came. It is read by the next one, and by the next start: what a
//! killed process left is put in order then.

use std::sync::Arc;

use chrono::{DateTime, TimeDelta, Utc};
use plimsoll_auth::Act;
use plimsoll_core_domain::Clock;
use plimsoll_core_domain::audit::AuditOutcome;
use plimsoll_crypto::{KeyRing, OsRandom};
use plimsoll_reliability::backup::{
    BackupError, BackupKind, BackupName, FolderLock, Header, Meter, Totals, free_bytes,
};
use plimsoll_storage::platform::backup::{
    OtherDatabase, Scratch, can_undo, check, database_bytes, drop_database, may_restore, open_database,
    other_databases, pre_name, pre_taken_at, put_to_rest, repair, scratch_name, swap,
};
use plimsoll_storage::platform::keys::PlatformKeys;
use plimsoll_storage::{Db, DbSettings, PoolKind};
use serde::{Deserialize, Serialize};
use serde_json::json;

use super::{Backups, fresh};
use crate::upkeep;

const NOTE: &str = "restore.json";
/// A copy that nobody works on any more is dropped after this.
const LEFT_AFTER: TimeDelta = TimeDelta::hours(24);

/// What to restore.
#[derive(Debug)]
pub struct RestoreRequest<'a> {
    /// The backup.
    pub backup: &'a BackupName,
    /// The keys that open it.
    pub ring: &'a KeyRing,
    /// The name of the live database, as somebody typed it.
    pub confirm: &'a str,
    /// Back up what is live first. Only for a live database that cannot be read is there another way.
    pub safety: bool,
}

/// How far a restore is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Step {
    /// The backup is read whole.
    Verifying,
    /// What is live is backed up.
    SafetyBackup,
    /// The backup is loaded into a copy.
    Loading,
    /// The copy is looked at, migrated, and put to rest.
    Checking,
    /// The copy takes the live database's place.
    Swapping,
    /// It has.
    Done,
    /// It has not; the live database is as it was.
    Failed,
}

impl Step {
    /// For people.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Verifying => "reading the backup",
            Self::SafetyBackup => "backing up what is live",
            Self::Loading => "loading the copy",
            Self::Checking => "checking the copy",
            Self::Swapping => "swapping",
            Self::Done => "done",
            Self::Failed => "failed",
        }
    }
}

/// The note.
#[derive(Clone, Debug, Serialize, Deserialize)]
struct Note {
    backup: String,
    database: String,
    copy: String,
    before: String,
    safety: Option<String>,
    step: Step,
    began_at: DateTime<Utc>,
    error: Option<String>,
}

/// A restore that was done.
#[derive(Debug)]
pub struct Restored {
    /// Of the backup.
    pub header: Header,
    /// What was in it.
    pub totals: Totals,
    /// The backup of what was live before.
    pub safety: Option<BackupName>,
    /// Where that is now.
    pub before: String,
    /// Somebody had changed the schema of the backup by hand, which the copy does not have.
    pub schema_differs: bool,
}

/// A restore that was taken back.
#[derive(Debug)]
pub struct Undone {
    /// When what is live again was put aside.
    pub put_aside_at: DateTime<Utc>,
    /// Where the database of the restore is now.
    pub before: String,
}

/// Whether a database is the copy of a restore or rehearsal whose process is gone.
pub(super) fn is_left(live: &str, other: &OtherDatabase, now: DateTime<Utc>) -> bool {
    let tail = other.name.rsplit_once("_restore_").map(|(_, tail)| tail);
    let ours = tail
        .and_then(|tail| u32::from_str_radix(tail, 16).ok())
        .is_some_and(|id| scratch_name(live, id) == other.name);
    let begun = other.comment.rsplit_once(", begun ").map(|(_, at)| at);
    let begun = begun.and_then(|at| DateTime::parse_from_rfc3339(at).ok());
    ours && begun.is_some_and(|at| now.signed_duration_since(at) > LEFT_AFTER)
}

impl Backups {
    /// Restores a backup over the live database. Until the swap, any error leaves that as it is.
    ///
    /// # Errors
    /// The confirmation is another name; another backup or restore is running; the role may not; there is too little room;
    /// every finding about the backup; the copy is not sound; sessions on the live database do not end.
    pub fn restore(
        &self,
        request: &RestoreRequest<'_>,
        clock: &dyn Clock,
        meter: &Meter,
        mut tell: impl FnMut(Step),
    ) -> Result<Restored, BackupError> {
        let live = self.confirmed(request.confirm)?;
        let lock = self.folder.lock()?;
        self.recover_locked(&lock)?;
        may_restore(&self.owner)?;
        let backup = self.folder.item(request.backup, request.ring)?;
        let now = clock.now();
        let mut note = Note {
            backup: backup.name.to_string(),
            database: live.clone(),
            copy: scratch_name(&live, fresh()),
            before: pre_name(&live, now),
            safety: None,
            step: Step::Verifying,
            began_at: now,
            error: None,
        };
        let outcome = self.restore_noted(&lock, request, clock, meter, &mut note, &mut tell);
        if let Err(error) = &outcome {
            note.error = Some(error.to_string());
            note.step = Step::Failed;
            if let Err(left) = drop_database(&self.owner, &note.copy).and_then(|()| self.write(&lock, &note))
            {
                let left: &dyn std::error::Error = &left;
                tracing::warn!(error = left, "A failed restore could not be cleared away.");
            }
        }
        outcome
    }

    fn restore_noted(
        &self,
        lock: &FolderLock,
        request: &RestoreRequest<'_>,
        clock: &dyn Clock,
        meter: &Meter,
        note: &mut Note,
        tell: &mut dyn FnMut(Step),
    ) -> Result<Restored, BackupError> {
        let mut go = |note: &mut Note, step: Step| {
            note.step = step;
            tell(step);
            self.write(lock, note)
        };
        go(note, Step::Verifying)?;
        self.folder.verify(request.backup, request.ring, meter, clock.now())?;
        self.check_disk()?;
        let mut safety = None;
        if request.safety {
            go(note, Step::SafetyBackup)?;
            let why = Some(format!("before the restore of {}", request.backup));
            let made =
                self.create_locked(lock, BackupKind::PreRestore, why, false, &super::meter(), clock.now())?;
            note.safety = Some(made.name.to_string());
            safety = Some(made.name);
        }
        go(note, Step::Loading)?;
        let comment = format!("plimsoll restore of {}, begun {}", request.backup, note.began_at.to_rfc3339());
        let copy = Scratch::create(&self.owner, &note.copy, &comment)?;
        let (header, totals) = copy.load(&self.folder, request.backup, request.ring, meter)?;
        go(note, Step::Checking)?;
        let schema_differs = copy.differs_from(&header.snapshot)?;
        check(copy.url(), &totals, request.ring, &mut OsRandom)?;
        copy.migrate()?;
        put_to_rest(copy.url(), &[upkeep::QUEUE, super::job::QUEUE])?;
        self.record(copy.url(), request, note, clock.now())?;
        go(note, Step::Swapping)?;
        let aside = format!("plimsoll: live until the restore of {}", request.backup);
        swap(&self.owner, copy.name(), &note.before, &aside)?;
        // from here on it has happened, whatever else does
        if let Err(error) = go(note, Step::Done)
            .and_then(|()| self.folder.restored(request.backup, request.ring, &totals, clock.now()))
        {
            let error: &dyn std::error::Error = &error;
            tracing::warn!(error, "The restore is done, but could not be noted in the backup folder.");
        }
        Ok(Restored { header, totals, safety, before: note.before.clone(), schema_differs })
    }

    /// An entry in the audit log of the copy: the restore is part of what the log tells from now on.
    fn record(
        &self,
        url: &str,
        request: &RestoreRequest<'_>,
        note: &Note,
        now: DateTime<Utc>,
    ) -> Result<(), BackupError> {
        let db = Db::open(url, DbSettings::new(PoolKind::Jobs, 1))?;
        let keys = PlatformKeys::load_or_create(&db, request.ring, &mut OsRandom)
            .map_err(|error| BackupError::Unsound(error.to_string()))?;
        let detail = json!({ "backup": note.backup, "safety": note.safety, "before": note.before });
        let entry =
            Act::without_request(now).entry("backup.restore", AuditOutcome::Success, None, None, detail);
        Ok(db.with_keys(Arc::new(keys)).run_blocking(|tx| tx.append_audit(None, &entry))?)
    }

    /// Swaps back what was live before the last restore, with everything put to rest that would act by itself.
    ///
    /// # Errors
    /// The confirmation is another name; nothing is there to be swapped back; another backup or restore is running;
    /// sessions on the live database do not end.
    pub fn undo(&self, confirm: &str, clock: &dyn Clock) -> Result<Undone, BackupError> {
        let live = self.confirmed(confirm)?;
        let lock = self.folder.lock()?;
        self.recover_locked(&lock)?;
        may_restore(&self.owner)?;
        let now = clock.now();
        let newest = other_databases(&self.owner)?
            .into_iter()
            .filter_map(|other| Some((pre_taken_at(&live, &other.name)?, other.name)))
            .filter(|(at, _)| can_undo(*at, now))
            .max();
        let (put_aside_at, name) = newest.ok_or_else(|| {
            BackupError::Refused("there is no restore of the last seven days to take back".to_owned())
        })?;
        open_database(&self.owner, &name, true)?;
        put_to_rest(
            &plimsoll_storage::db::with_database(&self.owner, &name),
            &[upkeep::QUEUE, super::job::QUEUE],
        )?;
        let before = pre_name(&live, now);
        swap(&self.owner, &name, &before, "plimsoll: a restore that was taken back")?;
        Ok(Undone { put_aside_at, before })
    }

    /// Puts in order what a killed restore left: opens the live database again, drops the copy. Where another process is at
    /// it, nothing is done.
    ///
    /// # Errors
    /// The database server is away, or refuses.
    pub fn recover(&self) -> Result<(), BackupError> {
        match self.folder.lock() {
            Ok(lock) => self.recover_locked(&lock),
            Err(BackupError::Busy) => Ok(()),
            Err(error) => Err(error),
        }
    }

    fn recover_locked(&self, lock: &FolderLock) -> Result<(), BackupError> {
        let Some(text) = self.folder.read_note(NOTE)? else { return Ok(()) };
        let Ok(mut note) = serde_json::from_str::<Note>(&text) else {
            tracing::warn!("The note on the last restore is unreadable; it is not gone by.");
            return Ok(());
        };
        if matches!(note.step, Step::Done | Step::Failed) || note.database != self.live()? {
            return Ok(());
        }
        repair(&self.owner)?;
        if other_databases(&self.owner)?.iter().any(|other| other.name == note.before) {
            note.step = Step::Done;
            tracing::info!(backup.name = note.backup, "A restore had ended before its process said so.");
        } else {
            drop_database(&self.owner, &note.copy)?;
            note.error = Some(format!("its process ended while {}", note.step.as_str()));
            note.step = Step::Failed;
            tracing::warn!(
                backup.name = note.backup,
                "A restore was cut short; the live database is as it was, the copy is gone."
            );
        }
        self.write(lock, &note)
    }

    fn write(&self, _lock: &FolderLock, note: &Note) -> Result<(), BackupError> {
        let text = serde_json::to_string_pretty(note).expect("texts serialise");
        self.folder.write_note(NOTE, &text)
    }

    fn confirmed(&self, confirm: &str) -> Result<String, BackupError> {
        let live = self.live()?;
        if confirm == live {
            return Ok(live);
        }
        Err(BackupError::Refused(format!("to replace the database, confirm with its name, which is {live}")))
    }

    fn check_disk(&self) -> Result<(), BackupError> {
        let Some(disk) = &self.disk else { return Ok(()) };
        let size = database_bytes(&self.owner)?;
        let (needed, free) = (size + size / 5, free_bytes(disk)?);
        if free < needed { Err(BackupError::NoSpace { needed, free }) } else { Ok(()) }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_copies_of_dead_processes_are_left_behind() {
        let now: DateTime<Utc> = "2026-11-24T12:00:00Z".parse().unwrap();
        let left = |name: &str, comment: &str| {
            is_left("app", &OtherDatabase { name: name.to_owned(), comment: comment.to_owned() }, now)
        };
        let old = "plimsoll restore of x, begun 2026-11-23T11:00:00+00:00";
        assert!(left("app_restore_0000000a", old));
        assert!(!left("app_restore_0000000a", "plimsoll restore of x, begun 2026-11-24T11:00:00+00:00"));
        for (name, comment) in [
            ("other_restore_0000000a", old),
            ("app_restore_a", old),
            ("app_restore_theirs", old),
            ("app", old),
            ("app_restore_0000000a", ""),
        ] {
            assert!(!left(name, comment), "{name} {comment}");
        }
    }
}
