//! `GET /reconciliation/runs`.

use actix_web::{HttpRequest, HttpResponse, get, web};
use chrono::{DateTime, Utc};
use plimsoll_core_domain::views::json;
use serde::Deserialize;
use utoipa::{IntoParams, ToSchema};
use uuid::Uuid;

use super::{RunView, Whose};
use crate::page::{bad_cursor, decode_cursor, encode_cursor, limit, page};
use crate::problem::Problem;
use crate::schema;
use crate::state::AppState;

/// Which runs.
#[derive(Debug, Deserialize, IntoParams)]
#[serde(deny_unknown_fields)]
pub struct RunsQuery {
    /// The account's id, instead of the caller's accounts; another user's is for administrators.
    account: Option<i64>,
    /// Rows, 1 to 500; 50 by default.
    limit: Option<i64>,
    /// Where the page before ended.
    cursor: Option<String>,
}

/// Runs.
#[derive(ToSchema)]
#[schema(as = ReconciliationRunList)]
#[expect(dead_code, reason = "only its schema is used")]
pub struct RunList {
    items: Vec<RunView>,
    next_cursor: Option<String>,
}

fn place(text: &str) -> Result<(DateTime<Utc>, Uuid), Problem> {
    let (micros, id) = text.split_once('/').ok_or_else(bad_cursor)?;
    let micros: i64 = micros.parse().map_err(|_| bad_cursor())?;
    let started_at = DateTime::from_timestamp_micros(micros).ok_or_else(bad_cursor)?;
    Ok((started_at, id.parse().map_err(|_| bad_cursor())?))
}

/// Comparisons with the broker, newest first; they are kept for 90 days. A look at open orders alone that found nothing has
/// no row.
#[utoipa::path(
    params(RunsQuery),
    responses(
        (status = 200, body = RunList),
        (status = 400, body = schema::ProblemDetails, content_type = "application/problem+json"),
        (status = 401, body = schema::ProblemDetails, content_type = "application/problem+json"),
        (status = 403, body = schema::ProblemDetails, content_type = "application/problem+json"),
        (status = 404, body = schema::ProblemDetails, content_type = "application/problem+json"),
        (status = 422, body = schema::ProblemDetails, content_type = "application/problem+json"),
        (status = 429, body = schema::ProblemDetails, content_type = "application/problem+json"),
        (status = 503, body = schema::ProblemDetails, content_type = "application/problem+json"),
    ),
    tag = "reconciliation",
    security(("bearer" = []))
)]
#[get("/reconciliation/runs")]
pub async fn list(
    state: web::Data<AppState>,
    request: HttpRequest,
    query: web::Query<RunsQuery>,
) -> Result<HttpResponse, Problem> {
    let query = query.into_inner();
    let whose = Whose::of(&state, &request, query.account).await?;
    let wanted = limit(query.limit)?;
    let read = |cursor: &str| place(&decode_cursor("reconciliation-runs", cursor)?);
    let before = query.cursor.as_deref().map(read).transpose()?;
    let (user, account) = (whose.user, whose.account);
    let mut rows = state.db.read(move |tx| tx.runs_page(user, account, before, wanted + 1)).await?;
    let wanted = usize::try_from(wanted).unwrap_or(usize::MAX);
    let more = rows.len() > wanted;
    rows.truncate(wanted);
    let next = rows.last().filter(|_| more).map(|last| {
        let place = format!("{}/{}", last.started_at.timestamp_micros(), last.id);
        encode_cursor("reconciliation-runs", &place)
    });
    let items: Vec<String> = rows.iter().map(|row| json(&RunView::from(row))).collect();
    Ok(page("/reconciliation/runs", request.query_string(), &items, next))
}
