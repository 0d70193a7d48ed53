//! `POST /admin/alerts`.

use actix_web::http::StatusCode;
use actix_web::{HttpResponse, post, web};
use plimsoll_core_domain::audit::AuditOutcome;
use plimsoll_core_domain::stream::{EventKind, NewEvent, StreamId};
use plimsoll_storage::Tx;
use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

use crate::body::{Body, NoQuery};
use crate::caller::AdminCaller;
use crate::idempotent::{Asked, OptionalKey, reply};
use crate::problem::Problem;
use crate::routes::events::Published;
use crate::schema;
use crate::state::AppState;

/// How bad it is.
#[derive(Clone, Copy, Debug, Deserialize, Serialize, ToSchema)]
#[serde(rename_all = "snake_case")]
pub enum Severity {
    /// Good to know.
    Info,
    /// To be looked at.
    Warning,
    /// To be looked at now.
    Critical,
}

/// A message to everybody.
#[derive(Debug, Deserialize, Serialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct NewAlert {
    /// 1 to 500 characters.
    #[schema(min_length = 1, max_length = 500)]
    message: String,
    severity: Severity,
}

/// Sends an alert to everybody who listens, as a `system_alert` event of the broadcast; who comes back within a day hears
/// it too.
#[utoipa::path(
    params(("Idempotency-Key" = Option<String>, Header)),
    request_body = NewAlert,
    responses(
        (status = 201, body = Published),
        (status = 400, body = schema::ProblemDetails, content_type = "application/problem+json"),
        (status = 401, body = schema::ProblemDetails, content_type = "application/problem+json"),
        (status = 403, body = schema::ProblemDetails, content_type = "application/problem+json"),
        (status = 409, body = schema::ProblemDetails, content_type = "application/problem+json"),
        (status = 413, body = schema::ProblemDetails, content_type = "application/problem+json"),
        (status = 415, body = schema::ProblemDetails, content_type = "application/problem+json"),
        (status = 422, body = schema::ProblemDetails, content_type = "application/problem+json"),
        (status = 429, body = schema::ProblemDetails, content_type = "application/problem+json"),
        (status = 503, body = schema::ProblemDetails, content_type = "application/problem+json"),
    ),
    tag = "admin",
    security(("bearer" = []))
)]
#[post("/admin/alerts")]
pub async fn alerts(
    state: web::Data<AppState>,
    caller: AdminCaller,
    key: OptionalKey,
    _: web::Query<NoQuery>,
    body: Body<NewAlert>,
) -> Result<HttpResponse, Problem> {
    let alert = body.value;
    if alert.message.trim().is_empty() || alert.message.chars().count() > 500 {
        return Err(Problem::field("/message", "out_of_range", "must have 1 to 500 characters"));
    }
    let data = plimsoll_core_domain::views::json(&alert);
    let event = NewEvent { kind: EventKind::SystemAlert, data: data.into() };
    let (by, now) = (caller.0.clone(), state.clock.now());
    let detail = serde_json::json!({ "message": alert.message, "severity": alert.severity });
    let entry = by.audit("alert.publish", AuditOutcome::Success, now, detail);
    let asked = Asked { route: "POST /admin/alerts", path: "/admin/alerts", body: &body.raw, secret: false };
    let write = move |tx: &mut Tx<'_>| {
        let written = tx.append_event(StreamId::Broadcast, &event, now)?;
        tx.append_audit(Some(by.user), &entry)?;
        reply(StatusCode::CREATED, &Published::from(&written))
    };
    key.run(&state, caller.user, asked, write).await
}
