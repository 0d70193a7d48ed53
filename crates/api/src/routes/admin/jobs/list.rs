//! `GET /admin/jobs`.

use actix_web::{HttpRequest, HttpResponse, get, web};
use plimsoll_core_domain::audit::AuditOutcome;
use plimsoll_core_domain::views::json;
use plimsoll_reliability::jobs::{JobFilter, JobId, JobState};
use plimsoll_storage::Tx;
use serde::Deserialize;
use utoipa::IntoParams;

use super::{JobListView, JobView, name};
use crate::caller::AdminCaller;
use crate::page::{bad_cursor, decode_cursor, encode_cursor, limit, page};
use crate::problem::Problem;
use crate::schema;
use crate::state::AppState;

/// Which jobs.
#[derive(Debug, Deserialize, IntoParams)]
#[serde(deny_unknown_fields)]
pub struct JobsQuery {
    /// Of this queue.
    queue: Option<String>,
    /// Of this kind.
    kind: Option<String>,
    /// `ready` (due now or later), `leased` (being done), `done`, `dead`, `cancelled` or `held`.
    state: Option<String>,
    /// Rows, 1 to 500; 50 by default.
    limit: Option<i64>,
    /// Where the page before ended.
    cursor: Option<String>,
}

/// Jobs, newest first; done ones are kept for a day. The look is recorded.
#[utoipa::path(
    params(JobsQuery),
    responses(
        (status = 200, body = JobListView),
        (status = 400, body = schema::ProblemDetails, content_type = "application/problem+json"),
        (status = 401, body = schema::ProblemDetails, content_type = "application/problem+json"),
        (status = 403, body = schema::ProblemDetails, content_type = "application/problem+json"),
        (status = 422, body = schema::ProblemDetails, content_type = "application/problem+json"),
        (status = 429, body = schema::ProblemDetails, content_type = "application/problem+json"),
        (status = 503, body = schema::ProblemDetails, content_type = "application/problem+json"),
    ),
    tag = "admin",
    security(("bearer" = []))
)]
#[get("/admin/jobs")]
pub async fn list(
    state: web::Data<AppState>,
    caller: AdminCaller,
    request: HttpRequest,
    query: web::Query<JobsQuery>,
) -> Result<HttpResponse, Problem> {
    let query = query.into_inner();
    let wanted = usize::try_from(limit(query.limit)?).unwrap_or(usize::MAX);
    let in_state = query.state.as_deref().map(str::parse::<JobState>).transpose();
    let filter = JobFilter {
        queue: name("?queue", query.queue)?,
        kind: name("?kind", query.kind)?,
        state: in_state.map_err(|why| Problem::field("?state", "invalid", why.to_string()))?,
    };
    let place = |cursor: &str| decode_cursor("jobs", cursor)?.parse().map(JobId).map_err(|_| bad_cursor());
    let before = query.cursor.as_deref().map(place).transpose()?;
    let (by, act) = (Some(caller.user), caller.act(&state));
    let read = move |tx: &mut Tx<'_>| {
        let jobs = tx.job_records(&filter, before, wanted.saturating_add(1))?;
        let detail = serde_json::json!({ "queue": filter.queue, "kind": filter.kind });
        tx.append_audit(None, &act.entry("admin.jobs_list", AuditOutcome::Success, by, None, detail))?;
        Ok::<_, Problem>(jobs)
    };
    let mut jobs = state.db.run(read).await?;
    let more = jobs.len() > wanted;
    jobs.truncate(wanted);
    let next = jobs.last().filter(|_| more).map(|last| encode_cursor("jobs", &last.id.to_string()));
    let rows: Vec<String> = jobs.iter().map(|job| json(&JobView::from(job))).collect();
    Ok(page("/admin/jobs", request.query_string(), &rows, next))
}
