//! `POST /webhooks/outbound/{id}/rotate`.

use actix_web::http::StatusCode;
use actix_web::{HttpResponse, post, web};
use plimsoll_core_domain::audit::{AuditLog, AuditOutcome};
use plimsoll_crypto::{OsRandom, WebhookSecret};
use plimsoll_storage::Tx;
use plimsoll_storage::platform::outbound::Rotated;
use secrecy::ExposeSecret;
use serde_json::json;

use super::{OutboundWebhook, OutboundWebhookWithSecret, hook_id, none, unreadable};
use crate::body::NoQuery;
use crate::caller::SessionCaller;
use crate::idempotent::{Asked, OptionalKey, reply};
use crate::problem::Problem;
use crate::schema;
use crate::state::AppState;

/// Gives a webhook a new secret, which is shown here and never again. For 24 hours messages are signed by the one before as
/// well, so that the receiver can change in peace; a second rotation ends the older one at once.
#[utoipa::path(
    params(("id" = String, Path, description = "The webhook's id."), ("Idempotency-Key" = Option<String>, Header)),
    responses(
        (status = 200, body = OutboundWebhookWithSecret),
        (status = 401, body = schema::ProblemDetails, content_type = "application/problem+json"),
        (status = 403, body = schema::ProblemDetails, content_type = "application/problem+json"),
        (status = 400, body = schema::ProblemDetails, content_type = "application/problem+json"),
        (status = 409, body = schema::ProblemDetails, content_type = "application/problem+json"),
        (status = 404, body = schema::ProblemDetails, content_type = "application/problem+json"),
        (status = 422, body = schema::ProblemDetails, content_type = "application/problem+json"),
        (status = 503, body = schema::ProblemDetails, content_type = "application/problem+json"),
    ),
    tag = "webhooks",
    security(("bearer" = []))
)]
#[post("/webhooks/outbound/{id}/rotate")]
pub async fn rotate(
    state: web::Data<AppState>,
    caller: SessionCaller,
    key: OptionalKey,
    path: web::Path<String>,
    _: web::Query<NoQuery>,
) -> Result<HttpResponse, Problem> {
    let hook = hook_id(&path)?;
    let secret = WebhookSecret::generate(&mut OsRandom);
    let text = secret.expose_text();
    let (user, now) = (caller.user, state.clock.now());
    let entry = caller.audit("webhook.rotate", AuditOutcome::Success, now, json!({ "hook_id": hook }));
    let path = format!("/webhooks/outbound/{hook}/rotate");
    let asked = Asked { route: "POST /webhooks/outbound/{id}/rotate", path: &path, body: b"", secret: true };
    let rotated = move |tx: &mut Tx<'_>| match tx.rotate_outbound_secret(user, hook, &secret, now)? {
        Rotated::Done(hook) => {
            AuditLog::append_audit(tx, Some(user), &entry)?;
            let shown = OutboundWebhookWithSecret {
                secret: text.expose_secret().to_owned(),
                webhook: OutboundWebhook::from(&hook),
            };
            reply(StatusCode::OK, &shown)
        }
        Rotated::NotFound => Err(none()),
        Rotated::Unreadable => Err(unreadable()),
    };
    key.run(&state, user, asked, rotated).await
}
