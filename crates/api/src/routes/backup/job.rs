//! `GET /backup/jobs/{id}`.

use actix_web::{HttpResponse, get, web};
use serde::Serialize;
use serde_json::Value;
use utoipa::ToSchema;
use uuid::Uuid;

use super::{blocking, desk};
use crate::backups::BackupJob;
use crate::body::NoQuery;
use crate::caller::AdminSteppedUp;
use crate::problem::Problem;
use crate::schema;
use crate::state::AppState;

/// How far something is.
#[derive(Debug, Serialize, ToSchema)]
#[schema(as = BackupProgress)]
pub struct ProgressView {
    /// 0 to 100.
    percent: u8,
    /// Bytes of content that went through.
    bytes: u64,
    /// Tables that are done.
    tables_done: u32,
    /// Tables there are; 0 while that is not known.
    tables_total: u32,
    /// Seconds that are left, as it went so far.
    eta_s: Option<u64>,
}

/// A backup, a verification, a restore, or taking one back.
#[derive(Debug, Serialize, ToSchema)]
#[schema(as = BackupJob)]
pub struct JobView {
    /// Its id.
    #[schema(value_type = String, format = Uuid)]
    id: Uuid,
    /// `create`, `verify`, `restore`, `undo` or `cleanup`.
    kind: String,
    /// `queued`, `running`, `done` or `failed`.
    state: String,
    /// How far it is.
    progress: ProgressView,
    /// What came of it.
    #[schema(value_type = Option<Object>)]
    result: Option<Value>,
    /// Why it failed: `code` and `detail`.
    #[schema(value_type = Option<Object>)]
    error: Option<Value>,
}

impl From<BackupJob> for JobView {
    fn from(seen: BackupJob) -> Self {
        let progress = ProgressView {
            percent: seen.progress.percent,
            bytes: seen.progress.bytes,
            tables_done: seen.progress.tables_done,
            tables_total: seen.progress.tables_total,
            eta_s: seen.progress.eta_s,
        };
        let BackupJob { id, kind, state, result, error, .. } = seen;
        Self { id, kind, state, progress, result, error }
    }
}

/// How far a job is. It answers after a restore as before, and after a restart.
#[utoipa::path(
    params(("id" = String, Path, description = "The job's id.")),
    responses(
        (status = 200, body = JobView),
        (status = 401, body = schema::ProblemDetails, content_type = "application/problem+json"),
        (status = 403, body = schema::ProblemDetails, content_type = "application/problem+json"),
        (status = 404, body = schema::ProblemDetails, content_type = "application/problem+json"),
        (status = 429, body = schema::ProblemDetails, content_type = "application/problem+json"),
        (status = 503, body = schema::ProblemDetails, content_type = "application/problem+json"),
    ),
    tag = "backup",
    security(("bearer" = []))
)]
#[get("/backup/jobs/{id}")]
pub async fn job(
    state: web::Data<AppState>,
    _: AdminSteppedUp,
    path: web::Path<String>,
    _: web::Query<NoQuery>,
) -> Result<HttpResponse, Problem> {
    let none = || Problem::new("not_found", "there is no such job");
    let id = Uuid::parse_str(&path).map_err(|_| none())?;
    let desk = desk(&state)?;
    let seen = blocking(move || desk.job(id)).await?.ok_or_else(none)?;
    Ok(HttpResponse::Ok().json(JobView::from(seen)))
}
