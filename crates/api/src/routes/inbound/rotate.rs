//! `POST /webhooks/inbound/{id}/rotate`.

use actix_web::http::StatusCode;
use actix_web::{HttpResponse, post, web};
use chrono::TimeDelta;
use plimsoll_core_domain::audit::AuditOutcome;
use plimsoll_core_domain::order::Environment;
use plimsoll_crypto::{OsRandom, WebhookSecret};
use plimsoll_storage::Tx;
use secrecy::ExposeSecret;
use serde_json::json;

use super::{InboundWebhookWithSecret, hook_id, none, sealed, unreadable, view};
use crate::body::NoQuery;
use crate::caller::SessionCaller;
use crate::idempotent::{Asked, OptionalKey, reply};
use crate::problem::Problem;
use crate::schema;
use crate::state::AppState;

/// How long the secret before is still good.
const OVERLAP: TimeDelta = TimeDelta::hours(24);

/// Gives a hook a new secret, which is shown here and never again; one that trades with real money wants a factor proven a
/// moment ago. The one before is good for another 24 hours, one before
/// that no more.
#[utoipa::path(
    params(("id" = String, Path, description = "The hook's id."), ("Idempotency-Key" = Option<String>, Header)),
    responses(
        (status = 200, body = InboundWebhookWithSecret),
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
#[post("/webhooks/inbound/{id}/rotate")]
pub async fn rotate(
    state: web::Data<AppState>,
    caller: SessionCaller,
    key: OptionalKey,
    path: web::Path<String>,
    _: web::Query<NoQuery>,
) -> Result<HttpResponse, Problem> {
    let (user, id, now) = (caller.user, hook_id(&path)?, state.clock.now());
    let hook = state.db.read(move |tx| tx.hook(user, id)).await?.ok_or_else(none)?;
    let live = hook.settings.environment == Environment::Live;
    if live {
        caller.prove(&state).await?;
    }
    let secret = WebhookSecret::generate(&mut OsRandom);
    let (text, keys) = (secret.expose_text(), state.keys.clone());
    let entry = caller.audit("hook.rotate_secret", AuditOutcome::Success, now, json!({ "hook_id": id }));
    let path = format!("/webhooks/inbound/{id}/rotate");
    let asked = Asked { route: "POST /webhooks/inbound/{id}/rotate", path: &path, body: b"", secret: true };
    let public_url = state.settings.public_url.clone();
    let made = move |tx: &mut Tx<'_>| {
        let hook = tx.lock_hook(user, id)?.ok_or_else(none)?;
        if hook.settings.environment == Environment::Live && !live {
            return Err(Problem::new(
                "duplicate",
                "the hook was changed meanwhile: look at it and try again",
            ));
        }
        if hook.builtin {
            let detail = "the secret of POST /webhook is the setting WEBHOOK_SECRET";
            return Err(Problem::new("business_rule", detail));
        }
        let Ok(secret) = sealed(tx, &keys.ring, (user, id), &secret, now)? else { return Err(unreadable()) };
        let hook = tx.rotate_hook(user, id, &secret, now + OVERLAP, now)?.ok_or_else(none)?;
        tx.append_audit(Some(user), &entry)?;
        let shown = InboundWebhookWithSecret {
            secret: text.expose_secret().to_owned(),
            webhook: view(&public_url, &hook),
        };
        reply(StatusCode::OK, &shown)
    };
    key.run(&state, user, asked, made).await
}
