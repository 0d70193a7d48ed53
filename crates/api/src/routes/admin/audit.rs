//! `GET /admin/audit`: what happened to every account.

use actix_web::{HttpRequest, HttpResponse, get, web};
use chrono::{DateTime, Utc};
use plimsoll_core_domain::UserId;
use plimsoll_core_domain::audit::AuditOutcome;
use plimsoll_core_domain::views::json;
use plimsoll_storage::Tx;
use plimsoll_storage::platform::audit::{AuditFilter, AuditPlace, AuditRecord};
use serde::Deserialize;
use utoipa::IntoParams;

use crate::caller::AdminCaller;
use crate::page::{bad_cursor, decode_cursor, encode_cursor, limit, page};
use crate::problem::Problem;
use crate::routes::audit::{EntryView, filter};
use crate::schema;
use crate::state::AppState;

/// Which entries.
#[derive(Debug, Deserialize, IntoParams)]
#[serde(deny_unknown_fields)]
pub struct AdminAuditQuery {
    /// Of this user's account only: a user's id.
    user: Option<i64>,
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

/// Where the page before ended: of one user's entries, or of all.
#[derive(Clone, Copy)]
enum Place {
    Own(i64),
    All(AuditPlace),
}

impl Place {
    const LIST: &str = "admin-audit";

    fn read(cursor: &str, user: Option<i64>) -> Result<Self, Problem> {
        let text = decode_cursor(Self::LIST, cursor)?;
        let numbers: Vec<i64> =
            text.split('/').map(str::parse).collect::<Result<_, _>>().map_err(|_| bad_cursor())?;
        match (user, numbers.as_slice()) {
            (Some(user), [of, seq]) if user == *of => Ok(Self::Own(*seq)),
            (None, [micros, chain, seq]) => {
                let at = DateTime::from_timestamp_micros(*micros).ok_or_else(bad_cursor)?;
                Ok(Self::All(AuditPlace { at, chain: *chain, seq: *seq }))
            }
            _ => Err(bad_cursor()),
        }
    }

    fn write(last: &AuditRecord, user: Option<i64>) -> String {
        let place = match user {
            Some(user) => format!("{user}/{}", last.seq),
            None => format!("{}/{}/{}", last.entry.at.timestamp_micros(), last.chain, last.seq),
        };
        encode_cursor(Self::LIST, &place)
    }
}

fn read(
    tx: &mut Tx<'_>,
    user: Option<i64>,
    filter: &AuditFilter,
    place: Option<Place>,
    most: usize,
) -> Result<Vec<AuditRecord>, Problem> {
    Ok(match (user, place) {
        (Some(user), Some(Place::Own(seq))) => tx.audit_entries(UserId(user), filter, Some(seq), most)?,
        (Some(user), _) => tx.audit_entries(UserId(user), filter, None, most)?,
        (None, Some(Place::All(place))) => tx.all_audit_entries(filter, Some(place), most)?,
        (None, _) => tx.all_audit_entries(filter, None, most)?,
    })
}

/// Entries of all accounts and of nobody's, newest first. Reading them is an entry too.
#[utoipa::path(
    params(AdminAuditQuery),
    responses(
        (status = 200, body = schema::AuditList),
        (status = 400, body = schema::ProblemDetails, content_type = "application/problem+json"),
        (status = 401, body = schema::ProblemDetails, content_type = "application/problem+json"),
        (status = 403, body = schema::ProblemDetails, content_type = "application/problem+json"),
        (status = 422, body = schema::ProblemDetails, content_type = "application/problem+json"),
        (status = 503, body = schema::ProblemDetails, content_type = "application/problem+json"),
    ),
    tag = "admin",
    security(("bearer" = []))
)]
#[get("/admin/audit")]
pub async fn audit(
    state: web::Data<AppState>,
    caller: AdminCaller,
    request: HttpRequest,
    query: web::Query<AdminAuditQuery>,
) -> Result<HttpResponse, Problem> {
    let query = query.into_inner();
    let limit = usize::try_from(limit(query.limit)?).unwrap_or_default();
    let user = query.user;
    if user.is_some_and(|user| user < 1) {
        return Err(Problem::field("?user", "invalid", "a user's id is a positive number"));
    }
    let place = query.cursor.as_deref().map(|cursor| Place::read(cursor, user)).transpose()?;
    let filter = filter(query.action, query.outcome.as_deref(), query.from, query.to)?;
    let (act, reader) = (caller.act(&state), caller.user);
    let mut records = state
        .db
        .run(move |tx| {
            let records = read(tx, user, &filter, place, limit + 1)?;
            let detail = serde_json::json!({
                "user": user,
                "action": filter.action,
                "outcome": filter.outcome.map(AuditOutcome::as_str),
                "from": filter.from.map(|time| time.to_rfc3339()),
                "to": filter.to.map(|time| time.to_rfc3339()),
                "entries": records.len().min(limit),
            });
            let subject = user.map(UserId);
            let entry = act.entry("audit.read", AuditOutcome::Success, Some(reader), subject, detail);
            tx.append_audit(Some(reader), &entry)?;
            Ok::<_, Problem>(records)
        })
        .await?;
    let more = records.len() > limit;
    records.truncate(limit);
    let next = records.last().filter(|_| more).map(|last| Place::write(last, user));
    let rows: Vec<String> = records.iter().map(|record| json(&EntryView::from(record))).collect();
    Ok(page("/admin/audit", request.query_string(), &rows, next))
}
