//! `POST /backup/restore/{name}`.

use actix_web::{HttpResponse, post, web};
use serde::Deserialize;
use utoipa::ToSchema;

use super::{BegunView, ask, blocking, confirmed, desk, job_of, name};
use crate::backups::BackupWork;
use crate::body::{Body, NoQuery};
use crate::caller::AdminSteppedUp;
use crate::idempotent::RequiredKey;
use crate::problem::Problem;
use crate::schema;
use crate::state::AppState;

/// That it is meant.
#[derive(Debug, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct RestoreBackup {
    /// The name of the database that is to be replaced.
    confirm: String,
}

/// Replaces the database by what it was at a backup. What is live is backed up first, and kept for seven days. Every session
/// ends with the swap: log in again, and ask for the job, which answers as before.
#[utoipa::path(
    params(
        ("name" = String, Path, description = "The backup's name."),
        ("Idempotency-Key" = String, Header, description = "One per restore that is wanted."),
    ),
    request_body = RestoreBackup,
    responses(
        (status = 202, body = BegunView),
        (status = 400, body = schema::ProblemDetails, content_type = "application/problem+json"),
        (status = 401, body = schema::ProblemDetails, content_type = "application/problem+json"),
        (status = 403, body = schema::ProblemDetails, content_type = "application/problem+json"),
        (status = 404, body = schema::ProblemDetails, content_type = "application/problem+json"),
        (status = 409, body = schema::ProblemDetails, content_type = "application/problem+json"),
        (status = 413, body = schema::ProblemDetails, content_type = "application/problem+json"),
        (status = 415, body = schema::ProblemDetails, content_type = "application/problem+json"),
        (status = 422, body = schema::ProblemDetails, content_type = "application/problem+json"),
        (status = 429, body = schema::ProblemDetails, content_type = "application/problem+json"),
        (status = 503, body = schema::ProblemDetails, content_type = "application/problem+json"),
    ),
    tag = "backup",
    security(("bearer" = []))
)]
#[post("/backup/restore/{name}")]
pub async fn restore(
    state: web::Data<AppState>,
    caller: AdminSteppedUp,
    key: RequiredKey,
    path: web::Path<String>,
    _: web::Query<NoQuery>,
    body: Body<RestoreBackup>,
) -> Result<HttpResponse, Problem> {
    let (name, desk) = (name(&path)?, desk(&state)?);
    confirmed(&*desk, &body.value.confirm)?;
    let wanted = name.clone();
    blocking(move || desk.item(&wanted)).await?;
    let id = job_of(caller.user, "restore", &key.0);
    let detail = serde_json::json!({ "job": id, "backup": name.as_str() });
    ask(&state, &caller, id, BackupWork::Restore { name }, "backup.restore", detail).await
}
