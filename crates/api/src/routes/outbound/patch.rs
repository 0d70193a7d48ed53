//! `PATCH /webhooks/outbound/{id}`.

use actix_web::{HttpResponse, patch, web};
use plimsoll_core_domain::StoreError;
use plimsoll_core_domain::audit::{AuditLog, AuditOutcome};
use plimsoll_storage::platform::outbound::{HookChange, HookState};
use serde::Deserialize;
use serde_json::json;
use utoipa::ToSchema;

use super::{OutboundWebhook, description, events, hook_id, none, target};
use crate::body::{Body, NoQuery};
use crate::caller::SessionCaller;
use crate::problem::Problem;
use crate::schema;
use crate::state::AppState;

/// What is to be changed; what is not named stays.
#[derive(Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct PatchOutboundWebhook {
    /// Where events are posted to.
    url: Option<String>,
    /// What you call it.
    description: Option<String>,
    /// The types of events that are posted; an empty list: all.
    events: Option<Vec<String>>,
    /// Whether anything is posted. What happens while it is not enabled is not posted later.
    enabled: Option<bool>,
}

/// Changes a webhook. Making a paused or disabled one active again begins with what happens from then on. Another address,
/// and making it active, want a factor proven a moment ago; of another address its owner gets a mail.
#[utoipa::path(
    params(("id" = String, Path, description = "The webhook's id.")),
    request_body = PatchOutboundWebhook,
    responses(
        (status = 200, body = OutboundWebhook),
        (status = 400, body = schema::ProblemDetails, content_type = "application/problem+json"),
        (status = 401, body = schema::ProblemDetails, content_type = "application/problem+json"),
        (status = 403, body = schema::ProblemDetails, content_type = "application/problem+json"),
        (status = 404, body = schema::ProblemDetails, content_type = "application/problem+json"),
        (status = 413, body = schema::ProblemDetails, content_type = "application/problem+json"),
        (status = 415, body = schema::ProblemDetails, content_type = "application/problem+json"),
        (status = 422, body = schema::ProblemDetails, content_type = "application/problem+json"),
        (status = 503, body = schema::ProblemDetails, content_type = "application/problem+json"),
    ),
    tag = "webhooks",
    security(("bearer" = []))
)]
#[patch("/webhooks/outbound/{id}")]
pub async fn patch(
    state: web::Data<AppState>,
    caller: SessionCaller,
    path: web::Path<String>,
    _: web::Query<NoQuery>,
    body: Body<PatchOutboundWebhook>,
) -> Result<HttpResponse, Problem> {
    let hook = hook_id(&path)?;
    let wanted = body.value;
    let target = wanted.url.as_deref().map(|url| target(&state.webhooks, url)).transpose()?;
    let change = HookChange {
        name: wanted.description.as_deref().map(description).transpose()?,
        url: target.as_ref().map(|target| target.as_str().to_owned()),
        events: wanted.events.as_deref().map(events).transpose()?,
        state: wanted.enabled.map(|enabled| if enabled { HookState::Active } else { HookState::Paused }),
    };
    if change.url.is_some() || change.state == Some(HookState::Active) {
        caller.prove(&state).await?;
    }
    let (user, act, mail) = (caller.user, caller.act(&state), state.ids.request_id());
    let host = target.as_ref().map(|target| target.host().to_owned());
    let detail = json!({
        "hook_id": hook,
        "description": change.name,
        "host": host,
        "events": change.events.as_ref().map(|events| events.names()),
        "enabled": wanted.enabled,
    });
    let entry = caller.audit("webhook.change", AuditOutcome::Success, act.at, detail);
    let changed = state
        .db
        .run(move |tx| {
            let changed = tx.change_outbound_hook(user, hook, &change, act.at)?;
            if let Some((before, after)) = &changed {
                if let Some(host) = host.filter(|_| before.url != after.url) {
                    tx.tell_of_webhook(after, &host, true, mail, &act)?;
                }
                AuditLog::append_audit(tx, Some(user), &entry)?;
            }
            Ok::<_, StoreError>(changed)
        })
        .await?;
    let (_, hook) = changed.ok_or_else(none)?;
    Ok(HttpResponse::Ok().json(OutboundWebhook::from(&hook)))
}
