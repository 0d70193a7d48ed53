//! `GET /webhooks/inbound/{id}/signals`.

use actix_web::{HttpRequest, HttpResponse, get, web};
use data_encoding::HEXLOWER;
use plimsoll_core_domain::StoreError;
use plimsoll_core_domain::views::{At, json};
use plimsoll_storage::platform::signals::SignalRow;
use serde::Serialize;
use serde_json::value::RawValue;
use utoipa::ToSchema;
use uuid::Uuid;

use super::list::InboundQuery;
use super::{hook_id, none};
use crate::caller::Caller;
use crate::page::{bad_cursor, decode_cursor, encode_cursor, limit, page};
use crate::problem::Problem;
use crate::schema;
use crate::state::AppState;

/// A delivery to a hook, and what was made of it.
#[derive(Serialize, ToSchema)]
pub struct SignalEntry {
    #[schema(value_type = String)]
    id: Uuid,
    #[schema(value_type = chrono::DateTime<chrono::Utc>)]
    received_at: At,
    /// `accepted`, `duplicate` or `refused`.
    verdict: &'static str,
    /// A stable code.
    reason: Option<String>,
    /// A sentence.
    detail: Option<String>,
    /// What follows is not decided yet, or a second order is still to come.
    pending: bool,
    /// From its arrival to the decision.
    latency_ms: Option<i64>,
    symbol: Option<String>,
    /// `buy`, `sell` or `exit`.
    action: Option<String>,
    /// The position that it is to lead to, negative when short.
    target: Option<String>,
    /// Its order.
    #[schema(value_type = Option<String>)]
    order_id: Option<Uuid>,
    /// The second order of a reversal.
    #[schema(value_type = Option<String>)]
    next_order_id: Option<Uuid>,
    /// The signal that came first.
    #[schema(value_type = Option<String>)]
    duplicate_of: Option<Uuid>,
    #[schema(value_type = Option<chrono::DateTime<chrono::Utc>>)]
    sent_at: Option<At>,
    ip: Option<String>,
    size_bytes: i64,
    /// Of the body, in hex.
    sha256: String,
    /// As it came, without its secrets; nothing of what could not be read or was not from the sender.
    #[schema(value_type = Option<Object>)]
    body: Option<Box<RawValue>>,
}

/// Signals.
#[derive(ToSchema)]
#[expect(dead_code, reason = "only its schema is used")]
pub struct SignalList {
    items: Vec<SignalEntry>,
    next_cursor: Option<String>,
}

impl From<SignalRow> for SignalEntry {
    fn from(row: SignalRow) -> Self {
        Self {
            id: row.id,
            received_at: At(row.received_at),
            verdict: row.verdict.as_str(),
            reason: row.reason,
            detail: row.detail,
            pending: row.pending,
            latency_ms: row.decided_at.map(|at| (at - row.received_at).num_milliseconds().max(0)),
            symbol: row.symbol,
            action: row.action,
            target: row.target.map(|target| target.to_string()),
            order_id: row.order_id,
            next_order_id: row.next_order_id,
            duplicate_of: row.duplicate_of,
            sent_at: row.sent_at.map(At),
            ip: row.ip,
            size_bytes: row.size_bytes,
            sha256: HEXLOWER.encode(&row.sha256),
            body: row.body.and_then(|body| RawValue::from_string(body).ok()),
        }
    }
}

/// Every delivery to a hook, newest first, with its verdict, reason, order and latency.
#[utoipa::path(
    params(("id" = String, Path, description = "The hook's id."), InboundQuery),
    responses(
        (status = 200, body = SignalList),
        (status = 400, body = schema::ProblemDetails, content_type = "application/problem+json"),
        (status = 401, body = schema::ProblemDetails, content_type = "application/problem+json"),
        (status = 403, body = schema::ProblemDetails, content_type = "application/problem+json"),
        (status = 404, body = schema::ProblemDetails, content_type = "application/problem+json"),
        (status = 422, body = schema::ProblemDetails, content_type = "application/problem+json"),
        (status = 503, body = schema::ProblemDetails, content_type = "application/problem+json"),
    ),
    tag = "webhooks",
    security(("bearer" = []))
)]
#[get("/webhooks/inbound/{id}/signals")]
pub async fn signals(
    state: web::Data<AppState>,
    caller: Caller,
    request: HttpRequest,
    path: web::Path<String>,
    query: web::Query<InboundQuery>,
) -> Result<HttpResponse, Problem> {
    let (user, id, wanted) = (caller.user, hook_id(&path)?, limit(query.limit)?);
    let read = |cursor: &String| decode_cursor("signals", cursor)?.parse().map_err(|_| bad_cursor());
    let after = query.cursor.as_ref().map(read).transpose()?;
    let rows = state
        .db
        .read(move |tx| {
            let known = tx.hook(user, id)?.is_some();
            if !known {
                return Ok(None);
            }
            tx.signals_of(user, id, after, wanted + 1).map(Some)
        })
        .await;
    let mut rows: Vec<SignalRow> =
        rows.map_err(|error: StoreError| Problem::from(error))?.ok_or_else(none)?;
    let more = i64::try_from(rows.len()).is_ok_and(|rows| rows > wanted);
    rows.truncate(usize::try_from(wanted).unwrap_or(usize::MAX));
    let next = rows.last().filter(|_| more).map(|row| encode_cursor("signals", &row.id.to_string()));
    let items: Vec<String> = rows.into_iter().map(|row| json(&SignalEntry::from(row))).collect();
    Ok(page(&format!("/webhooks/inbound/{id}/signals"), request.query_string(), &items, next))
}
