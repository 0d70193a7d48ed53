//! `backup …`: backups and restores, beside a running server or without one.

use std::fmt::Write as _;
use std::io::{IsTerminal, Write as _};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;
use std::time::{Duration, Instant};

use chrono::{DateTime, Utc};
use plimsoll_core_domain::audit::AuditOutcome;
use plimsoll_core_domain::{Clock, StoreError, SystemClock};
use plimsoll_crypto::{KeyRing, OsRandom};
use plimsoll_reliability::backup::{
    BackupError, BackupFolder, BackupKind, BackupName, Item, Listing, Meter, Totals, read_stretching,
    verify_file,
};
use plimsoll_storage::platform::keys::PlatformKeys;
use plimsoll_storage::{Db, PoolKind};
use serde_json::{Value, json};

use super::BackupCommand;
use super::user_admin::{Said, act};
use crate::backup::{Backups, LONGEST, RestoreRequest, Restored, meter};
use crate::bootstrap::{Databases, Settle, StartError, key_ring, key_ring_of_backup, prepare};
use crate::config::{Environment, Settings};

/// The gap before a time was not accepted.
const NOT_ACCEPTED: u8 = 3;
const LONGEST_DESCRIPTION: usize = 200;
const TICK: Duration = Duration::from_millis(200);

/// Runs a command on backups.
///
/// # Errors
/// It is refused, or the database or the folder cannot be used.
pub(super) fn run(
    settings: &Settings,
    environment: &Environment,
    command: BackupCommand,
) -> Result<u8, StartError> {
    let place = Place { settings, environment, data_dir: prepare(&settings.data_dir)? };
    match command {
        BackupCommand::Create { description, pin, json } => {
            create(&place.with_database()?, &description, pin, json)?.print(json);
        }
        BackupCommand::List { json } => list(&place)?.print(json),
        BackupCommand::Verify { backup, rehearse: false, json } => verify(&place, &backup, json)?.print(json),
        BackupCommand::Verify { backup, rehearse: true, json } => {
            rehearse(&place, &backup, json)?.print(json);
        }
        BackupCommand::Restore { name, confirm, without_safety_backup, json } => {
            let desk = place.with_database()?;
            restore(&place, &desk, &self::name(&name)?, &confirm, !without_safety_backup, json)?.print(json);
        }
        BackupCommand::RestoreTo { time, accept_gap, confirm, json } => {
            return restore_to(&place, time, accept_gap, &confirm, json);
        }
        BackupCommand::Undo { confirm, json } => undo(&place.with_database()?, &confirm)?.print(json),
        BackupCommand::Release { kinds, json } => release(&place.with_database()?, &kinds)?.print(json),
        BackupCommand::Pin { name, off, json } => pin(&place, &self::name(&name)?, !off)?.print(json),
        BackupCommand::Cleanup { json } => clean_up(&place.with_database()?)?.print(json),
    }
    Ok(0)
}

struct Place<'a> {
    settings: &'a Settings,
    environment: &'a Environment,
    data_dir: PathBuf,
}

/// The database beside the folder.
struct Desk {
    databases: Databases,
    backups: Backups,
}

impl Place<'_> {
    fn folder(&self) -> Result<BackupFolder, StartError> {
        Ok(BackupFolder::open(&self.settings.backup.folder(&self.data_dir))?)
    }

    /// The keys that open backups, without a database. `file`: the one that is asked for; else the newest of the folder
    /// says how a pass phrase becomes the key.
    fn ring(&self, folder: &BackupFolder, file: Option<&Path>) -> Result<KeyRing, StartError> {
        let stretching = match file {
            Some(file) => read_stretching(file)?,
            None => folder.stretching()?,
        };
        key_ring_of_backup(&self.settings.keys, &self.data_dir, stretching, &mut OsRandom)
    }

    fn ring_of(&self, folder: &BackupFolder, name: &BackupName) -> Result<KeyRing, StartError> {
        let file = name.existing_file(folder.path()).map_err(BackupError::from)?;
        self.ring(folder, Some(&file))
    }

    fn with_database(&self) -> Result<Desk, StartError> {
        let folder = self.folder()?;
        let databases = Databases::open_beside(self.settings, self.environment)?;
        databases.migrate()?;
        let db = databases.pool(PoolKind::Control, 2)?;
        let ring = key_ring(&self.settings.keys, &self.data_dir, &db, Settle::Now, &mut OsRandom)?;
        let owner = databases.owner.clone();
        let disk = databases.files().map(Path::to_owned);
        let backups = Backups { folder, owner, ring, retention: self.settings.backup.retention, disk };
        Ok(Desk { databases, backups })
    }
}

impl Desk {
    /// A pool on whatever is live now.
    fn db(&self) -> Result<Db, StartError> {
        let db = self.databases.pool(PoolKind::Control, 2)?;
        let keys = PlatformKeys::load_or_create(&db, &self.backups.ring, &mut OsRandom)?;
        Ok(db.with_keys(Arc::new(keys)))
    }

    fn audit(&self, action: &'static str, mut detail: Value) -> Result<(), StartError> {
        detail["via"] = "cli".into();
        let entry = act().entry(action, AuditOutcome::Success, None, None, detail);
        self.db()?.run_blocking(|tx| tx.append_audit(None, &entry))?;
        Ok(())
    }
}

fn name(text: &str) -> Result<BackupName, StartError> {
    Ok(BackupName::parse(text.strip_suffix(".plmb").unwrap_or(text)).map_err(BackupError::from)?)
}

fn create(desk: &Desk, description: &str, pin: bool, quiet: bool) -> Result<Said, StartError> {
    if description.chars().count() > LONGEST_DESCRIPTION || description.chars().any(char::is_control) {
        let why = format!("--description must be one line of at most {LONGEST_DESCRIPTION} characters");
        return Err(StartError::Refused(why));
    }
    let description = (!description.is_empty()).then(|| description.to_owned());
    let meter = Meter::new(Instant::now(), Some(LONGEST));
    let item = watched(quiet, "backing up", &meter, || {
        desk.backups.create(BackupKind::Manual, description, pin, &meter, SystemClock.now())
    })?;
    desk.audit("backup.create", json!({ "backup": item.name.as_str(), "rows": item.state.rows }))?;
    let foreign = &item.header.snapshot.foreign_objects;
    if !foreign.is_empty() {
        eprintln!("plimsoll: not in the backup, since no migration makes it: {}", foreign.join(", "));
    }
    Ok(Said { line: line(&item), json: in_json(&item) })
}

fn list(place: &Place<'_>) -> Result<Said, StartError> {
    let folder = place.folder()?;
    let Listing { items, unreadable } = folder.list(&place.ring(&folder, None)?)?;
    let mut text = String::new();
    for item in &items {
        // A String takes whatever is written.
        let _ = writeln!(text, "{}", line(item));
    }
    for (file, why) in &unreadable {
        let _ = writeln!(text, "{file}  UNREADABLE: {why}");
    }
    if text.is_empty() {
        let _ = write!(text, "there are no backups in {}", folder.path().display());
    }
    let bad: Vec<Value> = unreadable
        .iter()
        .map(|(file, why)| json!({ "file": file, "code": why.code(), "error": why.to_string() }))
        .collect();
    let items: Vec<Value> = items.iter().map(in_json).collect();
    Ok(Said { line: text.trim_end().to_owned(), json: json!({ "items": items, "unreadable": bad }) })
}

fn verify(place: &Place<'_>, backup: &str, quiet: bool) -> Result<Said, StartError> {
    let folder = place.folder()?;
    let meter = meter();
    let totals = match name(backup) {
        // a name that stands for no backup here may still be a file's
        Ok(name) if !Path::new(backup).is_file() => {
            let ring = place.ring_of(&folder, &name)?;
            watched(quiet, "reading", &meter, || folder.verify(&name, &ring, &meter, SystemClock.now()))?
        }
        _ => {
            let ring = place.ring(&folder, Some(Path::new(backup)))?;
            watched(quiet, "reading", &meter, || verify_file(Path::new(backup), &ring, &meter))?.1
        }
    };
    Ok(verified(backup, "v1", &totals))
}

fn rehearse(place: &Place<'_>, backup: &str, quiet: bool) -> Result<Said, StartError> {
    let desk = place.with_database()?;
    let name = name(backup)?;
    let ring = place.ring_of(&desk.backups.folder, &name)?;
    let meter = meter();
    let totals = watched(quiet, "restoring a copy", &meter, || {
        desk.backups.rehearse(&name, &ring, &meter, SystemClock.now())
    })?;
    Ok(verified(backup, "v2", &totals))
}

fn verified(backup: &str, level: &str, totals: &Totals) -> Said {
    let (rows, tables, bytes) = (totals.rows(), totals.tables.len(), totals.bytes());
    let how = if level == "v2" { "restores and is sound" } else { "reads whole" };
    Said {
        line: format!("{backup} {how}: {rows} rows in {tables} tables"),
        json: json!({ "backup": backup, "level": level, "rows": rows, "tables": tables, "bytes": bytes }),
    }
}

fn restore(
    place: &Place<'_>,
    desk: &Desk,
    backup: &BackupName,
    confirm: &str,
    safety: bool,
    quiet: bool,
) -> Result<Said, StartError> {
    let ring = place.ring_of(&desk.backups.folder, backup)?;
    let request = RestoreRequest { backup, ring: &ring, confirm, safety };
    let meter = meter();
    let restored = watched(quiet, "restoring", &meter, || {
        desk.backups.restore(&request, &SystemClock, &meter, |step| {
            if !quiet {
                eprintln!("{}", step.as_str());
            }
        })
    })?;
    let Restored { header, totals, safety, before, schema_differs } = restored;
    if schema_differs {
        eprintln!(
            "plimsoll: somebody had changed the schema by hand; the restored one is as its migrations make it"
        );
    }
    let held = held_now(desk, &ring)?;
    let safety = safety.map(|name| name.to_string());
    let at = header.snapshot.at;
    let mut line = format!(
        "the database is as it was at {}: {} rows\nwhat was live is kept for seven days as {before}; `plimsoll backup undo` swaps it back",
        at.to_rfc3339(),
        totals.rows()
    );
    if !held.is_empty() {
        let kinds: Vec<String> = held.iter().map(|(kind, jobs)| format!("{kind} ({jobs})")).collect();
        let _ = write!(
            line,
            "\njobs wait that were pending then: {}; see `plimsoll backup release`",
            kinds.join(", ")
        );
    }
    let held: Vec<Value> = held.iter().map(|(kind, jobs)| json!({ "kind": kind, "jobs": jobs })).collect();
    let json = json!({
        "backup": backup.as_str(), "at": at, "rows": totals.rows(), "safety_backup": safety, "before": before,
        "schema_differs": schema_differs, "held": held,
    });
    Ok(Said { line, json })
}

/// Held jobs by kind, in what is live after a restore, whose keys are those of the backup.
fn held_now(desk: &Desk, ring: &KeyRing) -> Result<Vec<(String, i64)>, StartError> {
    let db = desk.databases.pool(PoolKind::Control, 2)?;
    db.read_blocking(|tx| tx.check_key_ring(ring))?;
    let held = db.read_blocking(|tx| tx.held_jobs())?;
    Ok(held.into_iter().map(|held| (held.kind, held.jobs)).collect())
}

fn restore_to(
    place: &Place<'_>,
    time: DateTime<Utc>,
    accept_gap: bool,
    confirm: &str,
    quiet: bool,
) -> Result<u8, StartError> {
    let folder = place.folder()?;
    let listing = folder.list(&place.ring(&folder, None)?)?;
    let fitting = listing.items.into_iter().filter(|item| item.state.level.is_some());
    let newest = fitting
        .filter(|item| item.header.snapshot.at <= time)
        .max_by_key(|item| item.header.snapshot.at)
        .ok_or_else(|| {
            StartError::Refused("there is no verified backup at or before that time".to_owned())
        })?;
    let at = newest.header.snapshot.at;
    let gap = time - at;
    if !accept_gap {
        let said = Said {
            line: format!(
                "the newest verified backup before is {} of {}: {} s are missing up to the time; say --accept-gap to restore it",
                newest.name,
                at.to_rfc3339(),
                gap.num_seconds()
            ),
            json: json!({ "backup": newest.name.as_str(), "at": at, "gap_s": gap.num_seconds() }),
        };
        said.print(quiet);
        return Ok(NOT_ACCEPTED);
    }
    restore(place, &place.with_database()?, &newest.name, confirm, true, quiet)?.print(quiet);
    Ok(0)
}

fn undo(desk: &Desk, confirm: &str) -> Result<Said, StartError> {
    let undone = desk.backups.undo(confirm, &SystemClock)?;
    desk.audit("backup.undo", json!({ "before": undone.before }))?;
    Ok(Said {
        line: format!(
            "the restore is taken back: the database is as it was at {}\nwhat the restore had made is kept for seven days as {}",
            undone.put_aside_at.to_rfc3339(),
            undone.before
        ),
        json: json!({ "put_aside_at": undone.put_aside_at, "before": undone.before }),
    })
}

fn release(desk: &Desk, kinds: &[String]) -> Result<Said, StartError> {
    let db = desk.db()?;
    if kinds.is_empty() {
        let held = db.read_blocking(|tx| tx.held_jobs())?;
        let lines: Vec<String> = held.iter().map(|held| format!("{}  {}", held.kind, held.jobs)).collect();
        let line = if lines.is_empty() { "no jobs are held".to_owned() } else { lines.join("\n") };
        let json = held.iter().map(|held| json!({ "kind": held.kind, "jobs": held.jobs })).collect();
        return Ok(Said { line, json });
    }
    let now = SystemClock.now();
    let released = db.run_blocking(|tx| {
        let released = tx.release_held_jobs(kinds, now)?;
        let detail = json!({
            "kinds": kinds, "released": released.released, "dropped": released.dropped, "via": "cli",
        });
        let entry = act().entry("backup.release", AuditOutcome::Success, None, None, detail);
        tx.append_audit(None, &entry)?;
        Ok::<_, StoreError>(released)
    })?;
    Ok(Said {
        line: format!(
            "{} jobs run now; {} mails were too old to be sent",
            released.released, released.dropped
        ),
        json: json!({ "released": released.released, "dropped": released.dropped }),
    })
}

fn pin(place: &Place<'_>, name: &BackupName, pinned: bool) -> Result<Said, StartError> {
    let folder = place.folder()?;
    let item = folder.pin(name, &place.ring_of(&folder, name)?, pinned)?;
    Ok(Said { line: line(&item), json: in_json(&item) })
}

fn clean_up(desk: &Desk) -> Result<Said, StartError> {
    let cleaned = desk.backups.clean_up(SystemClock.now())?;
    let names: Vec<&str> = cleaned.deleted.iter().map(BackupName::as_str).collect();
    desk.audit("backup.cleanup", json!({ "deleted": names }))?;
    let line = match &names[..] {
        [] => "nothing is old enough to go".to_owned(),
        names => format!("deleted {}", names.join(", ")),
    };
    Ok(Said { line, json: json!({ "deleted": names, "unfinished": cleaned.partials }) })
}

fn line(item: &Item) -> String {
    let level = item.state.level.map_or("unverified", |level| level.as_str());
    let rows = item.state.rows.map_or_else(|| "?".to_owned(), |rows| rows.to_string());
    let pinned = if item.state.pinned { "  pinned" } else { "" };
    let description = item.header.description.as_deref().map(|text| format!("  {text}")).unwrap_or_default();
    let at = item.header.snapshot.at.format("%Y-%m-%dT%H:%M:%SZ");
    format!("{}  {at}  {} bytes  {rows} rows  {level}{pinned}{description}", item.name, item.size_bytes)
}

fn in_json(item: &Item) -> Value {
    json!({
        "name": item.name.as_str(),
        "kind": item.header.kind,
        "created_at": item.header.created_at,
        "size_bytes": item.size_bytes,
        "description": item.header.description,
        "schema_version": item.header.snapshot.schema_version(),
        "app_version": item.header.app_version,
        "rows": item.state.rows,
        "verified_level": item.state.level,
        "verified_at": item.state.verified_at,
        "pinned": item.state.pinned,
    })
}

/// Does `work` while a line on the terminal tells how far it is.
fn watched<T>(quiet: bool, what: &str, meter: &Meter, work: impl FnOnce() -> T) -> T {
    if quiet || !std::io::stderr().is_terminal() {
        return work();
    }
    let done = AtomicBool::new(false);
    thread::scope(|scope| {
        scope.spawn(|| {
            while !done.load(Ordering::Relaxed) {
                thread::sleep(TICK);
                let progress = meter.progress();
                let left = progress.eta_s.map_or_else(String::new, |eta| format!("  {eta} s left"));
                eprint!(
                    "\r{what}  {:>3}%  {} MB  {} of {} tables{left}\x1b[K",
                    progress.percent,
                    progress.bytes / 1_000_000,
                    progress.tables_done,
                    progress.tables_total
                );
                let _ = std::io::stderr().flush();
            }
            eprint!("\r\x1b[K");
        });
        let out = work();
        done.store(true, Ordering::Relaxed);
        out
    })
}
