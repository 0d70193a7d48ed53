//! `GET /webhooks/outbound`.

use actix_web::{HttpRequest, HttpResponse, get, web};
use plimsoll_core_domain::views::json;
use serde::{Deserialize, Serialize};
use utoipa::{IntoParams, ToSchema};
use uuid::Uuid;

use super::OutboundWebhook;
use crate::caller::Caller;
use crate::page::{bad_cursor, decode_cursor, encode_cursor, limit, page};
use crate::problem::Problem;
use crate::schema;
use crate::state::AppState;

/// Which webhooks.
#[derive(Debug, Deserialize, IntoParams)]
#[serde(deny_unknown_fields)]
pub struct OutboundWebhooksQuery {
    /// Rows, 1 to 500; 50 by default.
    limit: Option<i64>,
    /// Where the page before ended.
    cursor: Option<String>,
}

/// Webhooks.
#[derive(Serialize, ToSchema)]
pub struct OutboundWebhookList {
    items: Vec<OutboundWebhook>,
    next_cursor: Option<String>,
}

/// The caller's webhooks, newest first; never their secrets.
#[utoipa::path(
    params(OutboundWebhooksQuery),
    responses(
        (status = 200, body = OutboundWebhookList),
        (status = 400, body = schema::ProblemDetails, content_type = "application/problem+json"),
        (status = 401, body = schema::ProblemDetails, content_type = "application/problem+json"),
        (status = 403, body = schema::ProblemDetails, content_type = "application/problem+json"),
        (status = 422, body = schema::ProblemDetails, content_type = "application/problem+json"),
        (status = 503, body = schema::ProblemDetails, content_type = "application/problem+json"),
    ),
    tag = "webhooks",
    security(("bearer" = []))
)]
#[get("/webhooks/outbound")]
pub async fn list(
    state: web::Data<AppState>,
    caller: Caller,
    request: HttpRequest,
    query: web::Query<OutboundWebhooksQuery>,
) -> Result<HttpResponse, Problem> {
    let query = query.into_inner();
    let wanted = usize::try_from(limit(query.limit)?).unwrap_or(usize::MAX);
    let after: Option<Uuid> = match &query.cursor {
        Some(cursor) => Some(decode_cursor("outbound-webhooks", cursor)?.parse().map_err(|_| bad_cursor())?),
        None => None,
    };
    let user = caller.user;
    let mut hooks = state.db.read(move |tx| tx.outbound_hooks_of(user)).await?;
    if let Some(after) = after {
        // Ids are of rising time: one that is gone has its place all the same.
        hooks.retain(|hook| hook.id < after);
    }
    let more = hooks.len() > wanted;
    hooks.truncate(wanted);
    let next =
        hooks.last().filter(|_| more).map(|hook| encode_cursor("outbound-webhooks", &hook.id.to_string()));
    let rows: Vec<String> = hooks.iter().map(|hook| json(&OutboundWebhook::from(hook))).collect();
    Ok(page("/webhooks/outbound", request.query_string(), &rows, next))
}
