//! `PATCH /webhooks/inbound/{id}`.

use std::collections::BTreeMap;

use actix_web::{HttpResponse, patch, web};
use plimsoll_core_domain::audit::AuditOutcome;
use plimsoll_core_domain::order::Environment;
use plimsoll_storage::Tx;
use plimsoll_storage::platform::signals::HookSettings;
use serde::Deserialize;
use serde_json::json;
use utoipa::ToSchema;

use super::{
    InboundWebhook, WantedSizing, actions, auth, environment, hook_id, max_age, name, networks, none,
    silence, symbol_map, symbols, view,
};
use crate::body::{Body, NoQuery};
use crate::caller::SessionCaller;
use crate::problem::Problem;
use crate::schema;
use crate::state::AppState;

/// What is to be changed; what is not named stays.
#[derive(Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct PatchInboundWebhook {
    /// What you call it.
    name: Option<String>,
    /// `paper`, or `live`, which needs a factor proven a moment ago.
    environment: Option<String>,
    /// Whether it takes signals.
    enabled: Option<bool>,
    /// Symbols that are traded; an empty list: any.
    symbols: Option<Vec<String>>,
    /// `buy`, `sell`, `exit`, `cancel`; an empty list: all.
    actions: Option<Vec<String>>,
    /// Tickers of the sender and the symbols that they stand for; the whole map anew.
    symbol_map: Option<BTreeMap<String, String>>,
    /// How orders are sized.
    sizing: Option<WantedSizing>,
    /// A signal that says that it is older is refused; `null`: of any age.
    #[serde(default, deserialize_with = "super::present")]
    #[schema(value_type = Option<i64>)]
    max_age_s: Option<Option<i64>>,
    /// Addresses and networks that signals may come from; an empty list: from anywhere.
    allowed_ips: Option<Vec<String>>,
    /// `any`, `body_secret` or `hmac`.
    auth: Option<String>,
    /// After so long without a signal you are told; `null`: never.
    #[serde(default, deserialize_with = "super::present")]
    #[schema(value_type = Option<i64>)]
    silent_alert_after_s: Option<Option<i64>>,
}

impl PatchInboundWebhook {
    fn apply(&self, settings: &mut HookSettings) -> Result<(), Problem> {
        if let Some(text) = &self.name {
            settings.name = name(text)?;
        }
        if let Some(text) = &self.environment {
            settings.environment = environment(text)?;
        }
        if let Some(enabled) = self.enabled {
            settings.enabled = enabled;
        }
        if let Some(texts) = &self.symbols {
            settings.rules.symbols = symbols(texts)?;
        }
        if let Some(texts) = &self.actions {
            settings.rules.actions = actions(texts)?;
        }
        if let Some(pairs) = &self.symbol_map {
            settings.rules.symbol_map = symbol_map(pairs)?;
        }
        if let Some(sizing) = &self.sizing {
            settings.rules.sizing = sizing.read()?;
        }
        if let Some(seconds) = self.max_age_s {
            settings.rules.max_age = max_age(seconds)?;
        }
        if let Some(texts) = &self.allowed_ips {
            settings.allowed_ips = networks(texts)?;
        }
        if let Some(text) = &self.auth {
            settings.auth = auth(text)?;
        }
        if let Some(seconds) = self.silent_alert_after_s {
            settings.silent_alert_after_s = silence(seconds)?;
        }
        Ok(())
    }
}

/// Changes what a hook allows. Its secret stays. A hook that trades with real money, or is to, wants a factor proven a moment
/// ago.
#[utoipa::path(
    params(("id" = String, Path, description = "The hook's id.")),
    request_body = PatchInboundWebhook,
    responses(
        (status = 200, body = InboundWebhook),
        (status = 400, body = schema::ProblemDetails, content_type = "application/problem+json"),
        (status = 401, body = schema::ProblemDetails, content_type = "application/problem+json"),
        (status = 403, body = schema::ProblemDetails, content_type = "application/problem+json"),
        (status = 404, body = schema::ProblemDetails, content_type = "application/problem+json"),
        (status = 409, body = schema::ProblemDetails, content_type = "application/problem+json"),
        (status = 413, body = schema::ProblemDetails, content_type = "application/problem+json"),
        (status = 415, body = schema::ProblemDetails, content_type = "application/problem+json"),
        (status = 422, body = schema::ProblemDetails, content_type = "application/problem+json"),
        (status = 503, body = schema::ProblemDetails, content_type = "application/problem+json"),
    ),
    tag = "webhooks",
    security(("bearer" = []))
)]
#[patch("/webhooks/inbound/{id}")]
pub async fn patch(
    state: web::Data<AppState>,
    caller: SessionCaller,
    path: web::Path<String>,
    _: web::Query<NoQuery>,
    body: Body<PatchInboundWebhook>,
) -> Result<HttpResponse, Problem> {
    let (user, id, now) = (caller.user, hook_id(&path)?, state.clock.now());
    // What is wrong with the wish itself is said whoever asks.
    let mut seen = state.db.read(move |tx| tx.hook(user, id)).await?.ok_or_else(none)?.settings;
    let was_live = seen.environment == Environment::Live;
    body.value.apply(&mut seen)?;
    if was_live || seen.environment == Environment::Live {
        caller.prove(&state).await?;
    }
    let (by, wish) = (caller.clone(), body.value);
    let work = move |tx: &mut Tx<'_>| {
        // As it is now: of two changes at once neither is lost.
        let Some(hook) = tx.lock_hook(user, id)? else { return Ok(None) };
        let mut settings = hook.settings;
        if settings.environment == Environment::Live && !was_live {
            let detail = "the hook was changed meanwhile: look at it and try again";
            return Err(Problem::new("duplicate", detail));
        }
        wish.apply(&mut settings)?;
        let detail = json!({
            "hook_id": id, "environment": settings.environment.as_str(), "enabled": settings.enabled,
            "sizing": settings.rules.sizing.mode(),
            "sizing_value": settings.rules.sizing.value().map(|value| value.to_string()),
        });
        let changed = tx.update_hook(user, id, &settings, now)?;
        if changed.is_some() {
            tx.append_audit(Some(user), &by.audit("hook.change", AuditOutcome::Success, now, detail))?;
        }
        Ok(changed)
    };
    let changed = state.db.run(work).await?;
    Ok(HttpResponse::Ok().json(view(&state.settings.public_url, &changed.ok_or_else(none)?)))
}
