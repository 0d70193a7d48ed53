//! `POST /backup/restore-to`.

use actix_web::{HttpResponse, post, web};
use chrono::{DateTime, Utc};
use plimsoll_core_domain::views::At;
use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

use super::{BegunView, ask, blocking, confirmed, desk, job_of};
use crate::backups::BackupWork;
use crate::body::{Body, NoQuery};
use crate::caller::AdminSteppedUp;
use crate::idempotent::RequiredKey;
use crate::problem::Problem;
use crate::schema;
use crate::state::AppState;

/// To which time.
#[derive(Debug, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct RestoreTo {
    /// The newest verified backup at or before it is restored.
    time: DateTime<Utc>,
    /// What was written between the backup and that time is not restored.
    #[serde(default)]
    accept_gap: bool,
    /// The name of the database that is to be replaced.
    confirm: String,
}

/// The backup that would be restored.
#[derive(Debug, Serialize, ToSchema)]
#[schema(as = RestoreGap)]
pub struct GapView {
    /// Its name.
    backup: String,
    /// Its moment.
    #[schema(value_type = DateTime<Utc>)]
    at: At,
    /// Seconds between that and the time that was asked for.
    gap_s: i64,
}

/// Restores the newest verified backup at or before a time. Without `accept_gap` nothing is restored: the answer says which
/// backup it would be, and how much is missing up to the time.
#[utoipa::path(
    params(("Idempotency-Key" = String, Header, description = "One per restore that is wanted.")),
    request_body = RestoreTo,
    responses(
        (status = 200, body = GapView),
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
#[post("/backup/restore-to")]
pub async fn restore_to(
    state: web::Data<AppState>,
    caller: AdminSteppedUp,
    key: RequiredKey,
    _: web::Query<NoQuery>,
    body: Body<RestoreTo>,
) -> Result<HttpResponse, Problem> {
    let RestoreTo { time, accept_gap, confirm } = body.value;
    let desk = desk(&state)?;
    confirmed(&*desk, &confirm)?;
    let items = blocking(move || desk.list()).await?;
    let newest = items
        .into_iter()
        .filter(|item| item.state.level.is_some() && item.header.snapshot.at <= time)
        .max_by_key(|item| item.header.snapshot.at)
        .ok_or_else(|| Problem::new("backup_not_found", "no verified backup is from that time or before"))?;
    let at = newest.header.snapshot.at;
    if !accept_gap {
        let gap_s = (time - at).num_seconds();
        return Ok(HttpResponse::Ok().json(GapView { backup: newest.name.to_string(), at: At(at), gap_s }));
    }
    let id = job_of(caller.user, "restore-to", &key.0);
    let detail = serde_json::json!({ "job": id, "backup": newest.name.as_str(), "time": time });
    ask(&state, &caller, id, BackupWork::Restore { name: newest.name }, "backup.restore", detail).await
}
