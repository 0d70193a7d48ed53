//! `GET /admin/dead-letters/{id}`.

use actix_web::{HttpResponse, get, web};
use chrono::{DateTime, Utc};
use plimsoll_core_domain::audit::AuditOutcome;
use plimsoll_reliability::jobs::JobState;
use plimsoll_storage::Tx;
use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

use super::{letter_id, no_letter};
use crate::body::NoQuery;
use crate::caller::AdminCaller;
use crate::problem::Problem;
use crate::routes::admin::jobs::JobView;
use crate::schema;
use crate::state::AppState;

/// One failed attempt.
#[derive(Debug, Serialize, Deserialize, ToSchema)]
#[schema(as = JobError)]
pub struct JobErrorView {
    /// When.
    at: DateTime<Utc>,
    /// Which attempt.
    attempt: i32,
    /// What went wrong.
    error: String,
}

/// A dead letter.
#[derive(Debug, Serialize, ToSchema)]
#[schema(as = DeadLetter)]
pub struct LetterView {
    #[serde(flatten)]
    job: JobView,
    /// The last ten failed attempts, oldest first.
    errors: Vec<JobErrorView>,
}

/// One dead letter, without what could be a secret. The look is recorded.
#[utoipa::path(
    params(("id" = String, Path, description = "The dead letter's id.")),
    responses(
        (status = 200, body = LetterView),
        (status = 401, body = schema::ProblemDetails, content_type = "application/problem+json"),
        (status = 403, body = schema::ProblemDetails, content_type = "application/problem+json"),
        (status = 404, body = schema::ProblemDetails, content_type = "application/problem+json"),
        (status = 422, body = schema::ProblemDetails, content_type = "application/problem+json"),
        (status = 429, body = schema::ProblemDetails, content_type = "application/problem+json"),
        (status = 503, body = schema::ProblemDetails, content_type = "application/problem+json"),
    ),
    tag = "admin",
    security(("bearer" = []))
)]
#[get("/admin/dead-letters/{id}")]
pub async fn get(
    state: web::Data<AppState>,
    caller: AdminCaller,
    path: web::Path<String>,
    _: web::Query<NoQuery>,
) -> Result<HttpResponse, Problem> {
    let id = letter_id(&path)?;
    let (by, act) = (Some(caller.user), caller.act(&state));
    let read = move |tx: &mut Tx<'_>| {
        let letter = tx.job_record(id)?.filter(|job| job.state == JobState::Dead).ok_or_else(no_letter)?;
        let detail = serde_json::json!({ "job": id.0, "kind": letter.kind });
        let entry = act.entry("admin.dead_letter_read", AuditOutcome::Success, by, None, detail);
        tx.append_audit(None, &entry)?;
        Ok::<_, Problem>(letter)
    };
    let letter = state.db.run(read).await?;
    let errors = Vec::<JobErrorView>::deserialize(&letter.errors)
        .map_err(|why| Problem::internal(format!("the errors of job {id} cannot be read: {why}")))?;
    Ok(HttpResponse::Ok().json(LetterView { job: JobView::from(&letter), errors }))
}
