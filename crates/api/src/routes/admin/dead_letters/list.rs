//! `GET /admin/dead-letters`.

use actix_web::{HttpRequest, HttpResponse, get, web};
use chrono::{DateTime, Utc};
use plimsoll_core_domain::audit::AuditOutcome;
use plimsoll_core_domain::views::json;
use plimsoll_reliability::jobs::{JobId, LetterFilter, Resolution};
use plimsoll_storage::Tx;
use serde::Deserialize;
use utoipa::IntoParams;

use super::part;
use crate::caller::AdminCaller;
use crate::page::{bad_cursor, decode_cursor, encode_cursor, limit, page};
use crate::problem::Problem;
use crate::routes::admin::jobs::{JobListView, JobView, name};
use crate::schema;
use crate::state::AppState;

/// Which dead letters.
#[derive(Debug, Deserialize, IntoParams)]
#[serde(deny_unknown_fields)]
pub struct LettersQuery {
    /// Of this queue.
    queue: Option<String>,
    /// Of this kind.
    kind: Option<String>,
    /// A part of the last error, in any case.
    error: Option<String>,
    /// Given up at or after.
    from: Option<DateTime<Utc>>,
    /// Given up before.
    to: Option<DateTime<Utc>>,
    /// Those that were `replayed` or `discarded`, instead of those that nothing became of yet.
    resolution: Option<String>,
    /// Rows, 1 to 500; 50 by default.
    limit: Option<i64>,
    /// Where the page before ended.
    cursor: Option<String>,
}

/// Dead letters that nothing became of yet, newest first. They are kept for 90 days. The look is recorded.
#[utoipa::path(
    params(LettersQuery),
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
#[get("/admin/dead-letters")]
pub async fn list(
    state: web::Data<AppState>,
    caller: AdminCaller,
    request: HttpRequest,
    query: web::Query<LettersQuery>,
) -> Result<HttpResponse, Problem> {
    let query = query.into_inner();
    let wanted = usize::try_from(limit(query.limit)?).unwrap_or(usize::MAX);
    let how = query.resolution.as_deref().map(str::parse::<Resolution>).transpose();
    let how = how.map_err(|why| Problem::field("?resolution", "invalid", why.to_string()))?;
    let filter = LetterFilter {
        queue: name("?queue", query.queue)?,
        kind: name("?kind", query.kind)?,
        error: part("?error", query.error)?,
        from: query.from,
        to: query.to,
    };
    let place =
        |cursor: &str| decode_cursor("dead-letters", cursor)?.parse().map(JobId).map_err(|_| bad_cursor());
    let before = query.cursor.as_deref().map(place).transpose()?;
    let (by, act) = (Some(caller.user), caller.act(&state));
    let read = move |tx: &mut Tx<'_>| {
        let letters = tx.letters(&filter, how, before, wanted.saturating_add(1))?;
        let detail = serde_json::json!({ "queue": filter.queue, "kind": filter.kind });
        let entry = act.entry("admin.dead_letters_list", AuditOutcome::Success, by, None, detail);
        tx.append_audit(None, &entry)?;
        Ok::<_, Problem>(letters)
    };
    let mut letters = state.db.run(read).await?;
    let more = letters.len() > wanted;
    letters.truncate(wanted);
    let next =
        letters.last().filter(|_| more).map(|last| encode_cursor("dead-letters", &last.id.to_string()));
    let rows: Vec<String> = letters.iter().map(|letter| json(&JobView::from(letter))).collect();
    Ok(page("/admin/dead-letters", request.query_string(), &rows, next))
}
