//! Backups over HTTP: one job at a time, on a thread of its own. Each leaves a note in the backup folder, which answers for
//! it after a restore and after a restart.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::thread;
use std::time::Instant;

use chrono::{DateTime, Utc};
use plimsoll_api::backups::{Asked, BackupDesk, BackupJob, BackupWork};
use plimsoll_core_domain::Clock;
use plimsoll_reliability::backup::{BackupError, BackupKind, BackupName, Item, Meter, Progress};
use serde::{Deserialize, Serialize};
use serde_json::{Value, json};
use uuid::Uuid;

use super::{Backups, LONGEST, RestoreRequest};

/// The desk of a server.
pub struct Desk {
    inner: Arc<Inner>,
}

struct Inner {
    backups: Arc<Backups>,
    clock: Arc<dyn Clock>,
    running: Mutex<HashMap<Uuid, Running>>,
}

struct Running {
    work: BackupWork,
    meter: Arc<Meter>,
}

/// What is kept of a job.
#[derive(Clone, Debug, Serialize, Deserialize)]
struct Note {
    kind: String,
    /// What was asked for, so that another request under the same key is told.
    work: String,
    state: String,
    asked_at: DateTime<Utc>,
    result: Option<Value>,
    error: Option<Value>,
}

impl Desk {
    /// A desk over the backups.
    #[must_use]
    pub fn new(backups: Arc<Backups>, clock: Arc<dyn Clock>) -> Self {
        Self { inner: Arc::new(Inner { backups, clock, running: Mutex::default() }) }
    }
}

fn file(id: Uuid) -> String {
    format!("job-{id}.json")
}

impl Inner {
    fn running(&self) -> MutexGuard<'_, HashMap<Uuid, Running>> {
        self.running.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn note(&self, id: Uuid) -> Result<Option<Note>, BackupError> {
        Ok(self.backups.folder.read_note(&file(id))?.and_then(|text| serde_json::from_str(&text).ok()))
    }

    fn write(&self, id: Uuid, note: &Note) -> Result<(), BackupError> {
        let text = serde_json::to_string(note).expect("texts serialise");
        self.backups.folder.write_note(&file(id), &text)
    }

    fn done(&self, work: &BackupWork, meter: &Meter) -> Result<Value, BackupError> {
        let (backups, ring, now) = (&self.backups, &self.backups.ring, self.clock.now());
        Ok(match work {
            BackupWork::Create { description, pinned } => {
                let made = backups.create(BackupKind::Manual, description.clone(), *pinned, meter, now)?;
                json!({ "name": made.name.as_str(), "rows": made.state.rows, "size_bytes": made.size_bytes })
            }
            BackupWork::Verify { name, rehearse: false } => {
                let totals = backups.folder.verify(name, ring, meter, now)?;
                json!({ "name": name.as_str(), "verified_level": "v1", "rows": totals.rows() })
            }
            BackupWork::Verify { name, rehearse: true } => {
                let totals = backups.rehearse(name, ring, meter, now)?;
                json!({ "name": name.as_str(), "verified_level": "v2", "rows": totals.rows() })
            }
            BackupWork::Restore { name } => {
                let live = backups.live()?;
                let request = RestoreRequest { backup: name, ring, confirm: &live, safety: true };
                let restored = backups.restore(&request, &*self.clock, meter, |step| {
                    tracing::info!(backup.name = %name, step = step.as_str(), "A restore goes on.");
                })?;
                json!({
                    "name": name.as_str(),
                    "at": restored.header.snapshot.at,
                    "rows": restored.totals.rows(),
                    "safety_backup": restored.safety.as_ref().map(BackupName::as_str),
                    "before": restored.before,
                    "schema_differs": restored.schema_differs,
                })
            }
            BackupWork::Undo => {
                let undone = backups.undo(&backups.live()?, &*self.clock)?;
                json!({ "put_aside_at": undone.put_aside_at, "before": undone.before })
            }
            BackupWork::Cleanup => {
                let cleaned = backups.clean_up(now)?;
                let names: Vec<&str> = cleaned.deleted.iter().map(BackupName::as_str).collect();
                json!({ "deleted": names, "unfinished": cleaned.partials })
            }
        })
    }

    fn work(&self, id: Uuid, mut note: Note, work: &BackupWork, meter: &Meter) {
        match self.done(work, meter) {
            Ok(result) => {
                "done".clone_into(&mut note.state);
                note.result = Some(result);
            }
            Err(error) => {
                let told: &dyn std::error::Error = &error;
                tracing::error!(error = told, job.id = %id, kind = note.kind, "A job on backups failed.");
                "failed".clone_into(&mut note.state);
                // what the database or the disk says is for the log
                let detail = match &error {
                    BackupError::Store(_) | BackupError::Io { .. } => "the server's log says why".to_owned(),
                    other => other.to_string(),
                };
                note.error = Some(json!({ "code": error.code().unwrap_or("internal"), "detail": detail }));
            }
        }
        if let Err(error) = self.write(id, &note) {
            let error: &dyn std::error::Error = &error;
            tracing::error!(error, job.id = %id, "What came of a job on backups could not be written down.");
        }
        self.running().remove(&id);
    }
}

impl BackupDesk for Desk {
    fn database(&self) -> String {
        self.inner.backups.live().unwrap_or_default()
    }

    fn list(&self) -> Result<Vec<Item>, BackupError> {
        let listing = self.inner.backups.folder.list(&self.inner.backups.ring)?;
        for (file, error) in &listing.unreadable {
            let error: &dyn std::error::Error = error;
            tracing::warn!(error, file, "A file in the backup folder is no backup that can be read.");
        }
        Ok(listing.items)
    }

    fn item(&self, name: &BackupName) -> Result<Item, BackupError> {
        self.inner.backups.folder.item(name, &self.inner.backups.ring)
    }

    fn ask(&self, id: Uuid, work: BackupWork, now: DateTime<Utc>) -> Result<Asked, BackupError> {
        let asked = |same: bool| if same { Asked::There } else { Asked::Other };
        let mut running = self.inner.running();
        if let Some(there) = running.get(&id) {
            return Ok(asked(there.work == work));
        }
        let words = format!("{work:?}");
        if let Some(note) = self.inner.note(id)? {
            return Ok(asked(note.work == words));
        }
        if !running.is_empty() {
            return Err(BackupError::Busy);
        }
        // nor may another process be at it; whoever comes between here and the thread makes the job fail
        drop(self.inner.backups.folder.lock()?);
        let (kind, state) = (work.kind().to_owned(), "running".to_owned());
        let note = Note { kind, work: words, state, asked_at: now, result: None, error: None };
        self.inner.write(id, &note)?;
        let limit = matches!(work, BackupWork::Create { .. }).then_some(LONGEST);
        let meter = Arc::new(Meter::new(Instant::now(), limit));
        running.insert(id, Running { work: work.clone(), meter: Arc::clone(&meter) });
        let inner = Arc::clone(&self.inner);
        let thread = thread::Builder::new().name("backup".to_owned());
        let started = thread.spawn(move || inner.work(id, note, &work, &meter));
        if let Err(source) = started {
            running.remove(&id);
            return Err(BackupError::Io { what: "starting a thread", source });
        }
        Ok(Asked::Begun)
    }

    fn job(&self, id: Uuid) -> Result<Option<BackupJob>, BackupError> {
        if let Some(there) = self.inner.running().get(&id) {
            return Ok(Some(BackupJob {
                id,
                kind: there.work.kind().to_owned(),
                state: "running".to_owned(),
                progress: there.meter.progress(),
                result: None,
                error: None,
            }));
        }
        let Some(mut note) = self.inner.note(id)? else { return Ok(None) };
        // of another process; without its lock that is gone
        if note.state == "running" && self.inner.backups.folder.lock().is_ok() {
            "failed".clone_into(&mut note.state);
            note.error = Some(json!({ "code": "internal", "detail": "its process ended before it did" }));
        }
        let percent = if note.state == "done" { 100 } else { 0 };
        let progress = Progress { percent, bytes: 0, tables_done: 0, tables_total: 0, eta_s: None };
        let Note { kind, state, result, error, .. } = note;
        Ok(Some(BackupJob { id, kind, state, progress, result, error }))
    }

    fn pin(&self, name: &BackupName, pinned: bool) -> Result<Item, BackupError> {
        self.inner.backups.folder.pin(name, &self.inner.backups.ring, pinned)
    }
}
