//! `POST /webhooks/inbound`.

use std::collections::BTreeMap;

use actix_web::http::StatusCode;
use actix_web::{HttpResponse, post, web};
use chrono::TimeDelta;
use plimsoll_core_domain::StoreError;
use plimsoll_core_domain::audit::AuditOutcome;
use plimsoll_core_domain::order::Environment;
use plimsoll_core_domain::signals::{HookRules, Sizing};
use plimsoll_crypto::{OsRandom, WebhookSecret};
use plimsoll_storage::Tx;
use plimsoll_storage::platform::signals::{HookAuth, HookSettings};
use secrecy::ExposeSecret;
use serde::Deserialize;
use serde_json::json;
use utoipa::ToSchema;

use super::{
    InboundWebhookWithSecret, MAX_HOOKS, WantedSizing, actions, auth, environment, max_age, name, networks,
    sealed, silence, symbol_map, symbols, unreadable, view,
};
use crate::body::{Body, NoQuery};
use crate::caller::SessionCaller;
use crate::idempotent::{Asked, OptionalKey, reply};
use crate::problem::Problem;
use crate::schema;
use crate::state::AppState;

/// How old a signal may be unless the hook says otherwise.
const MAX_AGE: TimeDelta = TimeDelta::seconds(60);

/// The hook that is wanted.
#[derive(Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct CreateInboundWebhook {
    /// What you call it, 1 to 100 characters.
    name: String,
    /// `alpaca`.
    broker: Option<String>,
    /// `paper` (the default) or `live`, which needs a factor proven a moment ago.
    environment: Option<String>,
    /// Whether it takes signals; by default it does.
    enabled: Option<bool>,
    /// Symbols that are traded; none: any.
    symbols: Option<Vec<String>>,
    /// `buy`, `sell`, `exit`, `cancel`; none: all.
    actions: Option<Vec<String>>,
    /// Tickers of the sender and the symbols that they stand for, such as `{"ES1!": "SPY"}`.
    symbol_map: Option<BTreeMap<String, String>>,
    /// How orders are sized; by default as the signal says.
    sizing: Option<WantedSizing>,
    /// A signal that says that it is older is refused; 60 by default, `null`: of any age.
    #[serde(default, deserialize_with = "super::present")]
    #[schema(value_type = Option<i64>)]
    max_age_s: Option<Option<i64>>,
    /// Addresses and networks that signals may come from; none: from anywhere.
    allowed_ips: Option<Vec<String>>,
    /// `any` (the default), `body_secret` or `hmac`.
    auth: Option<String>,
    /// After so long without a signal you are told; by default never.
    silent_alert_after_s: Option<i64>,
}

impl CreateInboundWebhook {
    fn read(self) -> Result<HookSettings, Problem> {
        if self.broker.is_some_and(|broker| broker != "alpaca") {
            return Err(Problem::field("/broker", "unknown_broker", "must be alpaca"));
        }
        Ok(HookSettings {
            name: name(&self.name)?,
            environment: self.environment.as_deref().map_or(Ok(Environment::Paper), environment)?,
            enabled: self.enabled.unwrap_or(true),
            rules: HookRules {
                symbol_map: symbol_map(&self.symbol_map.unwrap_or_default())?,
                symbols: symbols(&self.symbols.unwrap_or_default())?,
                actions: actions(&self.actions.unwrap_or_default())?,
                sizing: self.sizing.map_or(Ok(Sizing::FromSignal), |sizing| sizing.read())?,
                max_age: self.max_age_s.map_or(Ok(Some(MAX_AGE)), max_age)?,
            },
            allowed_ips: networks(&self.allowed_ips.unwrap_or_default())?,
            auth: self.auth.as_deref().map_or(Ok(HookAuth::Any), auth)?,
            silent_alert_after_s: silence(self.silent_alert_after_s)?,
        })
    }
}

/// Makes a hook that signals are posted to. Its secret is shown here and never again; its owner gets a mail.
#[utoipa::path(
    params(("Idempotency-Key" = Option<String>, Header, description = "The same on every retry: then there is one hook.")),
    request_body = CreateInboundWebhook,
    responses(
        (status = 201, body = InboundWebhookWithSecret),
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
#[post("/webhooks/inbound")]
pub async fn create(
    state: web::Data<AppState>,
    caller: SessionCaller,
    key: OptionalKey,
    _: web::Query<NoQuery>,
    body: Body<CreateInboundWebhook>,
) -> Result<HttpResponse, Problem> {
    let settings = body.value.read()?;
    if settings.environment == Environment::Live {
        caller.prove(&state).await?;
    }
    let (id, secret) = (state.ids.order_id().0, WebhookSecret::generate(&mut OsRandom));
    let text = secret.expose_text();
    let (user, act, mail, keys) =
        (caller.user, caller.act(&state), state.ids.request_id(), state.keys.clone());
    let now = act.at;
    let detail =
        json!({ "hook_id": id, "name": settings.name, "environment": settings.environment.as_str() });
    let entry = caller.audit("hook.create", AuditOutcome::Success, now, detail);
    let public_url = state.settings.public_url.clone();
    let asked =
        Asked { route: "POST /webhooks/inbound", path: "/webhooks/inbound", body: &body.raw, secret: true };
    let made = move |tx: &mut Tx<'_>| {
        if tx.count_hooks(user)? >= MAX_HOOKS {
            let detail = format!("at most {MAX_HOOKS} webhooks; delete one first");
            return Err(Problem::new("too_many_webhooks", detail));
        }
        let Ok(secret) = sealed(tx, &keys.ring, (user, id), &secret, now)? else { return Err(unreadable()) };
        let hook = tx.insert_hook(user, id, &settings, Some(&secret), now)?;
        let lost = || StoreError::inconsistent("inbound_hooks", "id", id, "not there after its insert");
        let hook = hook.ok_or_else(lost)?;
        tx.tell_of_hook(&hook, mail, &act)?;
        tx.append_audit(Some(user), &entry)?;
        let shown = InboundWebhookWithSecret {
            secret: text.expose_secret().to_owned(),
            webhook: view(&public_url, &hook),
        };
        reply(StatusCode::CREATED, &shown)
    };
    key.run(&state, user, asked, made).await
}
