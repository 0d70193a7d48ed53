//! `POST /webhooks/inbound/{id}/rotate`.

use actix_web::{HttpResponse, post, web};
use chrono::TimeDelta;
use plimsoll_core_domain::StoreError;
use plimsoll_core_domain::audit::AuditOutcome;
use plimsoll_crypto::{OsRandom, WebhookSecret};
use plimsoll_storage::platform::signals::InboundHook;
use secrecy::ExposeSecret;
use serde_json::json;

use super::{InboundWebhookWithSecret, hook_id, none, sealed, unreadable, view};
use crate::body::NoQuery;
use crate::caller::SessionCaller;
use crate::problem::Problem;
use crate::schema;
use crate::state::AppState;

/// How long the secret before is still good.
const OVERLAP: TimeDelta = TimeDelta::hours(24);

enum Made {
    Done(Box<InboundHook>),
    Nothing { builtin: bool },
    Unreadable,
}

/// Gives a hook a new secret, which is shown here and never again. The one before is good for another 24 hours, one before
/// that no more.
#[utoipa::path(
    params(("id" = String, Path, description = "The hook's id.")),
    responses(
        (status = 200, body = InboundWebhookWithSecret),
        (status = 401, body = schema::ProblemDetails, content_type = "application/problem+json"),
        (status = 403, body = schema::ProblemDetails, content_type = "application/problem+json"),
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
    path: web::Path<String>,
    _: web::Query<NoQuery>,
) -> Result<HttpResponse, Problem> {
    let (user, id, now) = (caller.user, hook_id(&path)?, state.clock.now());
    let secret = WebhookSecret::generate(&mut OsRandom);
    let (text, keys) = (secret.expose_text(), state.keys.clone());
    let entry = caller.audit("hook.rotate_secret", AuditOutcome::Success, now, json!({ "hook_id": id }));
    let made = state
        .db
        .run(move |tx| {
            let Some(hook) = tx.hook(user, id)? else { return Ok(Made::Nothing { builtin: false }) };
            if hook.builtin {
                return Ok(Made::Nothing { builtin: true });
            }
            let Ok(secret) = sealed(tx, &keys.ring, (user, id), &secret, now)? else {
                return Ok(Made::Unreadable);
            };
            let Some(hook) = tx.rotate_hook(user, id, &secret, now + OVERLAP, now)? else {
                return Ok(Made::Nothing { builtin: false });
            };
            tx.append_audit(Some(user), &entry)?;
            Ok::<_, StoreError>(Made::Done(Box::new(hook)))
        })
        .await?;
    match made {
        Made::Done(hook) => Ok(HttpResponse::Ok().json(InboundWebhookWithSecret {
            secret: text.expose_secret().to_owned(),
            webhook: view(&state, &hook),
        })),
        Made::Nothing { builtin: false } => Err(none()),
        Made::Nothing { builtin: true } => {
            Err(Problem::new("business_rule", "the secret of POST /webhook is the setting WEBHOOK_SECRET"))
        }
        Made::Unreadable => Err(unreadable()),
    }
}
