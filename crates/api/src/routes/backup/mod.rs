//! Backups and restores, for administrators who have just proven a factor. What takes longer is a job, asked after at
//! `GET /backup/jobs/{id}`.

pub mod cleanup;
pub mod create;
pub mod job;
pub mod list;
pub mod pin;
pub mod release;
pub mod restore;
pub mod restore_to;
pub mod undo;
pub mod verify;

use std::sync::Arc;

use actix_web::{HttpResponse, web};
use plimsoll_core_domain::UserId;
use plimsoll_core_domain::audit::AuditOutcome;
use plimsoll_core_domain::views::At;
use plimsoll_reliability::backup::{BackupError, BackupName, Item};
use plimsoll_reliability::idempotency::IdempotencyKey;
use serde::Serialize;
use serde_json::Value;
use utoipa::ToSchema;
use uuid::Uuid;

use crate::backups::{Asked, BackupDesk, BackupWork};
use crate::caller::AdminSteppedUp;
use crate::idempotent::reused;
use crate::problem::Problem;
use crate::state::AppState;

/// Makes job ids of idempotency keys.
const KEYS: Uuid = Uuid::from_u128(0x8d0e_54b1_7b0c_4c6a_9a3f_2f1c_6f0d_a7e1);

/// A job that was begun.
#[derive(Debug, Serialize, ToSchema)]
#[schema(as = BackupJobBegun)]
pub struct BegunView {
    /// Asked after at `GET /backup/jobs/{id}`.
    #[schema(value_type = String, format = Uuid)]
    job_id: Uuid,
}

/// A backup.
#[derive(Debug, Serialize, ToSchema)]
#[schema(as = Backup)]
pub struct BackupView {
    /// Its name; its file is called so, with `.plmb`.
    name: String,
    /// `manual`, `scheduled`, `pre_restore`, `pre_migration` or `shutdown`.
    kind: &'static str,
    /// When it was made.
    #[schema(value_type = DateTime<Utc>)]
    created_at: At,
    /// Bytes of its file.
    size_bytes: u64,
    /// What somebody said about it.
    description: Option<String>,
    /// The newest migration in it.
    schema_version: String,
    /// The release that made it.
    app_version: String,
    /// Rows of all tables, where that is known.
    rows: Option<u64>,
    /// `v0`, `v1` or `v2`.
    verified_level: Option<&'static str>,
    /// When it was verified last.
    #[schema(value_type = Option<DateTime<Utc>>)]
    verified_at: Option<At>,
    /// Retention leaves it alone.
    pinned: bool,
}

impl From<Item> for BackupView {
    fn from(item: Item) -> Self {
        Self {
            name: item.name.to_string(),
            kind: item.header.kind.as_str(),
            created_at: At(item.header.created_at),
            size_bytes: item.size_bytes,
            schema_version: item.header.snapshot.schema_version().to_owned(),
            description: item.header.description,
            app_version: item.header.app_version,
            rows: item.state.rows,
            verified_level: item.state.level.map(|level| level.as_str()),
            verified_at: item.state.verified_at.map(At),
            pinned: item.state.pinned,
        }
    }
}

/// The desk, where this server has one.
fn desk(state: &AppState) -> Result<Arc<dyn BackupDesk>, Problem> {
    let none = || Problem::new("unavailable", "this server has no backups");
    state.backups.clone().ok_or_else(none)
}

/// A backup's name in a path. What is none names nothing.
fn name(text: &str) -> Result<BackupName, Problem> {
    BackupName::parse(text).map_err(|_| BackupError::NotFound.into())
}

/// Runs what waits for the disk.
async fn blocking<T, F>(work: F) -> Result<T, Problem>
where
    F: FnOnce() -> Result<T, BackupError> + Send + 'static,
    T: Send + 'static,
{
    match web::block(work).await {
        Ok(done) => Ok(done?),
        Err(_) => Err(Problem::internal("a thread of backups ended early")),
    }
}

/// The id of the job of a key: whoever repeats a request, also after a restore that knows nothing of it, meets its job.
fn job_of(user: UserId, route: &str, key: &IdempotencyKey) -> Uuid {
    Uuid::new_v5(&KEYS, format!("{user}\n{route}\n{}", key.as_str()).as_bytes())
}

/// Writes down who asked for what, and has it done.
async fn ask(
    state: &AppState,
    caller: &AdminSteppedUp,
    id: Uuid,
    work: BackupWork,
    action: &'static str,
    detail: Value,
) -> Result<HttpResponse, Problem> {
    let desk = desk(state)?;
    let now = state.clock.now();
    let (seen, wanted) = (Arc::clone(&desk), work.clone());
    let asked = blocking(move || seen.ask(id, wanted, now)).await?;
    match asked {
        Asked::Other => Err(reused()),
        Asked::There => Ok(HttpResponse::Accepted()
            .insert_header(("Idempotency-Replayed", "true"))
            .json(BegunView { job_id: id })),
        Asked::Begun => {
            record(state, caller, action, detail).await?;
            Ok(HttpResponse::Accepted().json(BegunView { job_id: id }))
        }
    }
}

/// An entry in the audit log.
async fn record(
    state: &AppState,
    caller: &AdminSteppedUp,
    action: &'static str,
    detail: Value,
) -> Result<(), Problem> {
    let by = Some(caller.user);
    let entry = caller.act(state).entry(action, AuditOutcome::Success, by, by, detail);
    state.db.run(move |tx| tx.append_audit(by, &entry)).await?;
    Ok(())
}

/// Replacing the database is meant only with its name.
fn confirmed(desk: &dyn BackupDesk, confirm: &str) -> Result<(), Problem> {
    if confirm == desk.database() {
        return Ok(());
    }
    Err(Problem::field(
        "/confirm",
        "not_confirmed",
        "must be the name of the database that is to be replaced",
    ))
}
