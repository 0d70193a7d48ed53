//! Backups by the clock: one instance makes each, then verifies older ones and deletes what may go.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;
use std::time::{Duration, Instant};

use chrono::{DateTime, TimeDelta, Utc};
use plimsoll_auth::Act;
use plimsoll_core_domain::Clock;
use plimsoll_core_domain::audit::AuditOutcome;
use plimsoll_reliability::backup::{BackupError, BackupKind, Item, Level, Meter};
use plimsoll_reliability::jobs::{
    Handler, Job, JobContext, JobFailure, Schedule, Scheduler, Settled, Settlement, Workers,
};
use plimsoll_storage::Db;
use serde_json::json;
use tokio_util::sync::CancellationToken;

use super::{BackupSchedule, Backups, LONGEST};
use crate::workers::JobParts;

/// The queue of this job.
pub(super) const QUEUE: &str = "backup";
const KIND: &str = "scheduled_backup";
const THREADS: usize = 1;
/// Backup, verification and rehearsal together.
const AT_MOST: Duration = Duration::from_secs(2 * 60 * 60);
const BUSY_PAUSE: Duration = Duration::from_secs(60);
const REHEARSE_EVERY: TimeDelta = TimeDelta::days(7);
const STOP_CHECK: Duration = Duration::from_millis(100);

/// What backups by the clock need of the rest of the server.
pub struct BackupJobParts {
    /// What all job threads need.
    pub job: JobParts,
    /// The backups.
    pub backups: Arc<Backups>,
    /// `BACKUP_SCHEDULE`.
    pub schedule: BackupSchedule,
}

/// Backups by the clock, while they run.
pub struct BackupHandle {
    workers: Workers<Db>,
    scheduler: Scheduler,
}

/// Starts the thread of the job, and what asks for it. A schedule of `off` has the thread all the same: another instance
/// may have asked.
///
/// # Errors
/// A thread cannot be started.
pub fn start(parts: BackupJobParts) -> std::io::Result<BackupHandle> {
    let BackupJobParts { job, backups, schedule } = parts;
    let clock = Arc::clone(&job.clock);
    let since = backups.folder.made_at().unwrap_or_else(|| clock.now());
    let handler = Scheduled { backups, schedule, since, clock };
    let workers = job
        .runner(QUEUE)
        .handle(KIND, job.timings.internal(), handler)
        .within(KIND, AT_MOST)
        .start(THREADS, &job.wake)?;
    let schedules = match schedule {
        BackupSchedule::Off => Vec::new(),
        _ => vec![Schedule::new(QUEUE, KIND, job.timings.upkeep_sweep)],
    };
    let scheduler = Scheduler::start(job.jobs, schedules)?;
    Ok(BackupHandle { workers, scheduler })
}

impl BackupHandle {
    /// Asks for nothing more, stops a backup under way, which leaves no file, and gives its job back. Blocks.
    pub fn stop(self, limit: Duration) {
        self.scheduler.stop();
        self.workers.stop(limit);
    }
}

struct Scheduled {
    backups: Arc<Backups>,
    schedule: BackupSchedule,
    /// When there was nothing yet.
    since: DateTime<Utc>,
    clock: Arc<dyn Clock>,
}

impl Handler<Db> for Scheduled {
    fn run(&self, context: &JobContext<'_, Db>, _job: &Job) -> Result<Settled, JobFailure> {
        let now = self.clock.now();
        let before = self.backups.folder.list(&self.backups.ring).map_err(failure)?.items;
        let newest = before.iter().map(|item| item.header.created_at).max();
        if self.schedule.is_due(newest, self.since, now) {
            let meter = Meter::new(Instant::now(), Some(LONGEST));
            let made = until_stopped(context.stop_signal(), &meter, || {
                self.backups.create(BackupKind::Scheduled, None, false, &meter, now)
            });
            let made = made.map_err(failure)?;
            let detail =
                json!({ "backup": made.name.as_str(), "rows": made.state.rows, "bytes": made.size_bytes });
            context.transaction(|tx| {
                let act = Act::without_request(now);
                let entry = act.entry("backup.create", AuditOutcome::Success, None, None, detail.clone());
                Ok(tx.append_audit(None, &entry)?)
            })?;
            self.look_after(context.stop_signal(), &before, &made, now);
        }
        context.finish(&Settlement::Done)
    }
}

impl Scheduled {
    /// Reads the one before again, rehearses the new one when that was not done for a week, and cleans up. What fails here
    /// is told, and tried again with the next backup: the one that was made stays made.
    fn look_after(&self, stop: &CancellationToken, before: &[Item], made: &Item, now: DateTime<Utc>) {
        let ring = &self.backups.ring;
        let told = |what: &'static str, outcome: Result<(), BackupError>| {
            if let Err(error) = outcome {
                let error: &dyn std::error::Error = &error;
                tracing::error!(error, what, "A backup could not be looked after.");
            }
        };
        if let Some(last) = before.first().filter(|item| item.state.level < Some(Level::V1)) {
            let meter = super::meter();
            let outcome =
                until_stopped(stop, &meter, || self.backups.folder.verify(&last.name, ring, &meter, now));
            told("verification", outcome.map(|_| ()));
        }
        let rehearsed = before
            .iter()
            .filter(|item| item.state.level == Some(Level::V2))
            .filter_map(|item| item.state.verified_at)
            .max();
        if rehearsed.is_none_or(|at| now - at >= REHEARSE_EVERY) {
            let meter = super::meter();
            let outcome =
                until_stopped(stop, &meter, || self.backups.rehearse(&made.name, ring, &meter, now));
            told("rehearsal", outcome.map(|_| ()));
        }
        told("clean-up", self.backups.clean_up(now).map(|_| ()));
    }
}

fn failure(error: BackupError) -> JobFailure {
    match error {
        BackupError::Busy => JobFailure::put_off(BUSY_PAUSE, "another backup or restore is running"),
        other => {
            let error: &dyn std::error::Error = &other;
            tracing::error!(error, "A backup that was due failed.");
            JobFailure::transient(other.to_string())
        }
    }
}

/// Does `work`, and stops its meter when the process is about to end.
fn until_stopped<T>(stop: &CancellationToken, meter: &Meter, work: impl FnOnce() -> T) -> T {
    let done = AtomicBool::new(false);
    thread::scope(|scope| {
        scope.spawn(|| {
            while !done.load(Ordering::Relaxed) {
                if stop.is_cancelled() {
                    meter.stop();
                    return;
                }
                thread::sleep(STOP_CHECK);
            }
        });
        let out = work();
        done.store(true, Ordering::Relaxed);
        out
    })
}
