//! `POST /webhooks/outbound`.

use actix_web::http::StatusCode;
use actix_web::{HttpResponse, post, web};
use plimsoll_core_domain::audit::{AuditLog, AuditOutcome};
use plimsoll_crypto::{OsRandom, WebhookSecret};
use plimsoll_storage::Tx;
use plimsoll_storage::platform::outbound::{Created, HookChange, HookState, MAX_HOOKS, NewHook};
use secrecy::ExposeSecret;
use serde::Deserialize;
use serde_json::json;
use utoipa::ToSchema;

use super::{OutboundWebhook, OutboundWebhookWithSecret, description, events, target, unreadable};
use crate::body::{Body, NoQuery};
use crate::caller::SessionCaller;
use crate::idempotent::{Asked, OptionalKey, reply};
use crate::problem::Problem;
use crate::schema;
use crate::state::AppState;

/// The webhook that is wanted.
#[derive(Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct CreateOutboundWebhook {
    /// Where events are posted to: https, public, port 443 or from 1024 up. Put no credentials into it: it is no secret.
    url: String,
    /// What you call it, 1 to 100 characters; the url's host by default.
    description: Option<String>,
    /// The types of events that are posted; none: all.
    #[serde(default)]
    events: Vec<String>,
    /// Whether something is posted from now on, which is the default.
    enabled: Option<bool>,
}

/// Makes a webhook: what happens from now on is posted to it, signed as Standard Webhooks says. Its secret is shown here
/// and never again. It wants a factor proven a moment ago; its owner gets a mail.
#[utoipa::path(
    params(("Idempotency-Key" = Option<String>, Header, description = "The same on every retry: then there is one webhook.")),
    request_body = CreateOutboundWebhook,
    responses(
        (status = 201, body = OutboundWebhookWithSecret),
        (status = 400, body = schema::ProblemDetails, content_type = "application/problem+json"),
        (status = 401, body = schema::ProblemDetails, content_type = "application/problem+json"),
        (status = 403, body = schema::ProblemDetails, content_type = "application/problem+json"),
        (status = 409, body = schema::ProblemDetails, content_type = "application/problem+json"),
        (status = 413, body = schema::ProblemDetails, content_type = "application/problem+json"),
        (status = 415, body = schema::ProblemDetails, content_type = "application/problem+json"),
        (status = 422, body = schema::ProblemDetails, content_type = "application/problem+json"),
        (status = 503, body = schema::ProblemDetails, content_type = "application/problem+json"),
    ),
    tag = "webhooks",
    security(("bearer" = []))
)]
#[post("/webhooks/outbound")]
pub async fn create(
    state: web::Data<AppState>,
    caller: SessionCaller,
    key: OptionalKey,
    _: web::Query<NoQuery>,
    body: Body<CreateOutboundWebhook>,
) -> Result<HttpResponse, Problem> {
    let wanted = body.value;
    let target = target(&state.webhooks, &wanted.url)?;
    let host = target.host().to_owned();
    let name = match &wanted.description {
        Some(text) => description(text)?,
        None => host.chars().take(super::MAX_NAME_CHARS).collect(),
    };
    let new = NewHook {
        id: state.ids.order_id().0,
        name,
        url: target.as_str().to_owned(),
        events: events(&wanted.events)?,
        secret: WebhookSecret::generate(&mut OsRandom),
    };
    caller.prove(&state).await?;
    let (secret, enabled) = (new.secret.expose_text(), wanted.enabled.unwrap_or(true));
    let (user, act, mail) = (caller.user, caller.act(&state), state.ids.request_id());
    let detail = json!({ "hook_id": new.id, "description": new.name, "host": host, "events": new.events.names(), "enabled": enabled });
    let entry = caller.audit("webhook.create", AuditOutcome::Success, act.at, detail);
    let asked =
        Asked { route: "POST /webhooks/outbound", path: "/webhooks/outbound", body: &body.raw, secret: true };
    let made = move |tx: &mut Tx<'_>| {
        let mut hook = match tx.create_outbound_hook(user, &new, act.at)? {
            Created::Done(hook) => hook,
            Created::TooMany => {
                let detail = format!("at most {MAX_HOOKS} webhooks; delete one first");
                return Err(Problem::new("too_many_webhooks", detail));
            }
            Created::Unreadable => return Err(unreadable()),
        };
        if !enabled {
            let paused = HookChange { state: Some(HookState::Paused), ..HookChange::default() };
            if let Some((_, changed)) = tx.change_outbound_hook(user, new.id, &paused, act.at)? {
                hook = changed;
            }
        }
        tx.tell_of_webhook(&hook, &host, false, mail, &act)?;
        AuditLog::append_audit(tx, Some(user), &entry)?;
        let shown = OutboundWebhookWithSecret {
            secret: secret.expose_secret().to_owned(),
            webhook: OutboundWebhook::from(&hook),
        };
        reply(StatusCode::CREATED, &shown)
    };
    key.run(&state, user, asked, made).await
}
