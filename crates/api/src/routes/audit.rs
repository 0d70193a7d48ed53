//! `GET /audit`: what happened to the caller's account.

use actix_web::{HttpRequest, HttpResponse, get, web};
use chrono::{DateTime, Utc};
use plimsoll_core_domain::UserId;
use plimsoll_core_domain::audit::AuditOutcome;
use plimsoll_core_domain::views::{At, json};
use plimsoll_storage::platform::audit::{AuditFilter, AuditRecord};
use serde::{Deserialize, Serialize};
use utoipa::IntoParams;
use uuid::Uuid;

use crate::caller::Caller;
use crate::page::{bad_cursor, decode_cursor, encode_cursor, limit, page};
use crate::problem::Problem;
use crate::schema;
use crate::state::AppState;

/// Which entries.
#[derive(Debug, Deserialize, IntoParams)]
#[serde(deny_unknown_fields)]
pub struct AuditQuery {
    /// Exactly this action, such as `login`.
    action: Option<String>,
    /// `success`, `failure` or `denied`.
    #[param(value_type = Option<schema::AuditOutcomeWord>)]
    outcome: Option<String>,
    /// At or after.
    from: Option<DateTime<Utc>>,
    /// Before.
    to: Option<DateTime<Utc>>,
    /// Rows, 1 to 500; 50 by default.
    limit: Option<i64>,
    /// Where the page before ended.
    cursor: Option<String>,
}

/// A filter from what a query says.
///
/// # Errors
/// 422 for an outcome or action that cannot be one.
pub(super) fn filter(
    action: Option<String>,
    outcome: Option<&str>,
    from: Option<DateTime<Utc>>,
    to: Option<DateTime<Utc>>,
) -> Result<AuditFilter, Problem> {
    let outcome: Option<AuditOutcome> = outcome
        .map(str::parse)
        .transpose()
        .map_err(|why: &str| Problem::field("?outcome", "invalid", why))?;
    let word = |text: &String| text.len() <= 64 && text.bytes().all(|byte| byte.is_ascii_graphic());
    if !action.as_ref().is_none_or(word) {
        return Err(Problem::field("?action", "invalid", "an action is a word of at most 64 characters"));
    }
    Ok(AuditFilter { action, outcome, from, to })
}

/// An entry as the API shows it.
#[derive(Serialize)]
pub(super) struct EntryView<'a> {
    id: String,
    at: At,
    action: &'a str,
    outcome: &'static str,
    actor_id: Option<UserId>,
    subject_id: Option<UserId>,
    ip: Option<&'a str>,
    user_agent: Option<&'a str>,
    request_id: Option<Uuid>,
    detail: &'a serde_json::Value,
}

impl<'a> From<&'a AuditRecord> for EntryView<'a> {
    fn from(record: &'a AuditRecord) -> Self {
        let entry = &record.entry;
        Self {
            id: record.id(),
            at: At(entry.at),
            action: &entry.action,
            outcome: entry.outcome.as_str(),
            actor_id: entry.actor_id,
            subject_id: entry.subject_id,
            ip: entry.ip.as_deref(),
            user_agent: entry.user_agent.as_deref(),
            request_id: entry.request_id,
            detail: &entry.detail,
        }
    }
}

impl EntryView<'_> {
    /// The entry as `user` may see it: where somebody else acted, not from where.
    fn shown_to(mut self, user: UserId) -> Self {
        if self.actor_id.is_some_and(|actor| actor != user) {
            (self.ip, self.user_agent) = (None, None);
        }
        self
    }
}

/// Security and trading events of the caller's account, newest first.
#[utoipa::path(
    params(AuditQuery),
    responses(
        (status = 200, body = schema::AuditList),
        (status = 400, body = schema::ProblemDetails, content_type = "application/problem+json"),
        (status = 401, body = schema::ProblemDetails, content_type = "application/problem+json"),
        (status = 403, body = schema::ProblemDetails, content_type = "application/problem+json"),
        (status = 422, body = schema::ProblemDetails, content_type = "application/problem+json"),
        (status = 503, body = schema::ProblemDetails, content_type = "application/problem+json"),
    ),
    tag = "audit",
    security(("bearer" = []))
)]
#[get("/audit")]
pub async fn audit(
    state: web::Data<AppState>,
    caller: Caller,
    request: HttpRequest,
    query: web::Query<AuditQuery>,
) -> Result<HttpResponse, Problem> {
    let query = query.into_inner();
    let limit = usize::try_from(limit(query.limit)?).unwrap_or_default();
    let before = match &query.cursor {
        Some(cursor) => Some(decode_cursor("audit", cursor)?.parse().map_err(|_| bad_cursor())?),
        None => None,
    };
    let filter = filter(query.action, query.outcome.as_deref(), query.from, query.to)?;
    let user = caller.user;
    let mut records = state.db.read(move |tx| tx.audit_entries(user, &filter, before, limit + 1)).await?;
    let more = records.len() > limit;
    records.truncate(limit);
    let next = records.last().filter(|_| more).map(|last| encode_cursor("audit", &last.seq.to_string()));
    let rows: Vec<String> =
        records.iter().map(|record| json(&EntryView::from(record).shown_to(user))).collect();
    Ok(page("/audit", request.query_string(), &rows, next))
}
