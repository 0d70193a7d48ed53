//! `GET /webhooks/inbound`.

use actix_web::{HttpRequest, HttpResponse, get, web};
use plimsoll_core_domain::views::json;
use serde::Deserialize;
use utoipa::{IntoParams, ToSchema};

use super::{InboundWebhook, view};
use crate::caller::Caller;
use crate::page::{bad_cursor, decode_cursor, encode_cursor, limit, page};
use crate::problem::Problem;
use crate::schema;
use crate::state::AppState;

/// Which hooks.
#[derive(Debug, Deserialize, IntoParams)]
#[serde(deny_unknown_fields)]
pub struct InboundQuery {
    /// Rows, 1 to 500; 50 by default.
    pub(super) limit: Option<i64>,
    /// Where the page before ended.
    pub(super) cursor: Option<String>,
}

/// Hooks.
#[derive(ToSchema)]
#[expect(dead_code, reason = "only its schema is used")]
pub struct InboundWebhookList {
    items: Vec<InboundWebhook>,
    next_cursor: Option<String>,
}

/// The caller's hooks, newest first; never their secrets.
#[utoipa::path(
    params(InboundQuery),
    responses(
        (status = 200, body = InboundWebhookList),
        (status = 400, body = schema::ProblemDetails, content_type = "application/problem+json"),
        (status = 401, body = schema::ProblemDetails, content_type = "application/problem+json"),
        (status = 403, body = schema::ProblemDetails, content_type = "application/problem+json"),
        (status = 422, body = schema::ProblemDetails, content_type = "application/problem+json"),
        (status = 503, body = schema::ProblemDetails, content_type = "application/problem+json"),
    ),
    tag = "webhooks",
    security(("bearer" = []))
)]
#[get("/webhooks/inbound")]
pub async fn list(
    state: web::Data<AppState>,
    caller: Caller,
    request: HttpRequest,
    query: web::Query<InboundQuery>,
) -> Result<HttpResponse, Problem> {
    let wanted = limit(query.limit)?;
    let read = |cursor: &String| decode_cursor("hooks", cursor)?.parse().map_err(|_| bad_cursor());
    let after = query.cursor.as_ref().map(read).transpose()?;
    let user = caller.user;
    let mut hooks = state.db.read(move |tx| tx.hooks(user, after, wanted + 1)).await?;
    let more = i64::try_from(hooks.len()).is_ok_and(|rows| rows > wanted);
    hooks.truncate(usize::try_from(wanted).unwrap_or(usize::MAX));
    let next = hooks.last().filter(|_| more).map(|hook| encode_cursor("hooks", &hook.id.to_string()));
    let rows: Vec<String> = hooks.iter().map(|hook| json(&view(&state.settings.public_url, hook))).collect();
    Ok(page("/webhooks/inbound", request.query_string(), &rows, next))
}
