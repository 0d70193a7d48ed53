//! `POST /webhooks/inbound/{id}/test`.

use std::sync::Arc;
use std::time::Duration;

use actix_web::{HttpResponse, post, web};
use plimsoll_core_domain::order::{NewOrder, OrderSize};
use plimsoll_core_domain::signals::{Fields, Message, Refusal};
use plimsoll_core_domain::{StoreError, StoreErrorKind};
use plimsoll_storage::platform::signals::InboundHook;
use serde::Serialize;
use utoipa::ToSchema;

use super::{hook_id, none};
use crate::body::NoQuery;
use crate::caller::SessionCaller;
use crate::problem::Problem;
use crate::schema;
use crate::signals::act::{Asked, Decision, decide};
use crate::signals::facts::{NoFacts, asked};
use crate::state::AppState;

/// How long the broker is asked.
const ASKED_WITHIN: Duration = Duration::from_secs(2);

/// The order that would follow.
#[derive(Serialize, ToSchema)]
pub struct TrialOrder {
    symbol: String,
    side: &'static str,
    #[serde(rename = "type")]
    order_type: &'static str,
    time_in_force: &'static str,
    qty: Option<String>,
    notional: Option<String>,
    limit_price: Option<String>,
    stop_price: Option<String>,
    order_class: &'static str,
}

/// What would be made of a signal.
#[derive(Serialize, ToSchema)]
pub struct Trial {
    /// `accepted` or `refused`.
    verdict: &'static str,
    reason: Option<&'static str>,
    detail: Option<String>,
    symbol: Option<String>,
    action: Option<&'static str>,
    /// The position that it would lead to, negative when short.
    target: Option<String>,
    order: Option<TrialOrder>,
    /// A second order would follow once the first one is filled.
    more: bool,
}

impl From<&NewOrder> for TrialOrder {
    fn from(order: &NewOrder) -> Self {
        let (qty, notional) = match order.size {
            OrderSize::Qty(qty) => (Some(qty.to_string()), None),
            OrderSize::Notional(amount) => (None, Some(amount.to_string())),
        };
        Self {
            symbol: order.symbol.as_str().to_owned(),
            side: order.side.as_str(),
            order_type: order.pricing.order_type().as_str(),
            time_in_force: order.time_in_force.as_str(),
            qty,
            notional,
            limit_price: order.pricing.limit_price().map(|price| price.to_string()),
            stop_price: order.pricing.stop_price().map(|price| price.to_string()),
            order_class: order.class.as_str(),
        }
    }
}

/// A trial's transaction, which is always taken back.
enum TakenBack {
    Decided(Box<Decision>),
    Failed(StoreError),
}

impl From<StoreError> for TakenBack {
    fn from(error: StoreError) -> Self {
        Self::Failed(error)
    }
}

fn refused(message: Option<&Message>, refusal: Refusal) -> Trial {
    Trial {
        verdict: "refused",
        reason: Some(refusal.reason.as_str()),
        detail: Some(refusal.detail),
        symbol: message.map(|message| message.ticker.clone()),
        action: message.map(Message::action_word),
        target: None,
        order: None,
        more: false,
    }
}

/// Says what would be made of a signal, which is the body as its sender would post it; a secret in it is not looked at.
/// Nothing is stored and nothing is traded.
#[utoipa::path(
    params(("id" = String, Path, description = "The hook's id.")),
    request_body(content = Object, description = "The signal."),
    responses(
        (status = 200, body = Trial),
        (status = 400, body = schema::ProblemDetails, content_type = "application/problem+json"),
        (status = 401, body = schema::ProblemDetails, content_type = "application/problem+json"),
        (status = 403, body = schema::ProblemDetails, content_type = "application/problem+json"),
        (status = 404, body = schema::ProblemDetails, content_type = "application/problem+json"),
        (status = 413, body = schema::ProblemDetails, content_type = "application/problem+json"),
        (status = 503, body = schema::ProblemDetails, content_type = "application/problem+json"),
    ),
    tag = "webhooks",
    security(("bearer" = []))
)]
#[post("/webhooks/inbound/{id}/test")]
pub async fn test(
    state: web::Data<AppState>,
    caller: SessionCaller,
    path: web::Path<String>,
    _: web::Query<NoQuery>,
    body: web::Bytes,
) -> Result<HttpResponse, Problem> {
    let (user, id) = (caller.user, hook_id(&path)?);
    let hook = state.db.read(move |tx| tx.hook(user, id)).await?.ok_or_else(none)?;
    let fields = Fields::parse(&body).map_err(|refusal| Problem::new("malformed", refusal.detail))?;
    let trial = match Message::read(&fields) {
        Err(refusal) => refused(None, refusal),
        Ok(message) => trial(&state, &caller, hook, message).await?,
    };
    Ok(HttpResponse::Ok().json(trial))
}

async fn trial(
    state: &AppState,
    caller: &SessionCaller,
    hook: InboundHook,
    message: Message,
) -> Result<Trial, Problem> {
    let (rules, act) = (hook.settings.rules.clone(), caller.act(state));
    let symbol = match rules.symbol_of(&message) {
        Ok(symbol) => symbol,
        Err(refusal) => return Ok(refused(Some(&message), refusal)),
    };
    let allowed = rules.check_age(message.sent_at, act.at).and_then(|()| rules.check_symbol(&symbol));
    if let Err(refusal) = allowed {
        return Ok(refused(Some(&message), refusal));
    }
    let away = || Problem::new("unavailable", "the broker cannot be asked at the moment").retry_after(2);
    let facts = asked(&*state.gateway, caller.user, &symbol, &rules.sizing);
    let facts = match tokio::time::timeout(ASKED_WITHIN, facts).await {
        Ok(Ok(facts)) => facts,
        Ok(Err(NoFacts::Refused(refusal))) => return Ok(refused(Some(&message), refusal)),
        Ok(Err(NoFacts::Away { .. })) | Err(_) => return Err(away()),
    };
    let signal = state.ids.order_id();
    let asked = Asked {
        signal: signal.0,
        hook,
        message: message.clone(),
        symbol: symbol.clone(),
        act,
        order: signal,
        submit_within: state.settings.submit_within,
    };
    let ids = Arc::clone(&state.client_order_ids);
    // The real decision, in a transaction that is taken back: limits and halts are looked at too.
    let work = move |tx: &mut plimsoll_storage::Tx<'_>| -> Result<(), TakenBack> {
        let decision = decide(tx, &asked, &facts, &*ids)?;
        Err(TakenBack::Decided(Box::new(decision)))
    };
    let decision = match state.db.run(work).await {
        Err(TakenBack::Decided(decision)) => *decision,
        Err(TakenBack::Failed(error)) => return Err(error.into()),
        Ok(()) => {
            return Err(StoreError::new(StoreErrorKind::Other, "a trial was committed").into());
        }
    };
    Ok(match decision {
        Decision::Later | Decision::Ask | Decision::MakeRoom => Trial {
            detail: Some("open orders in the symbol are waited for first".to_owned()),
            ..accepted(&message, &symbol)
        },
        Decision::Made { outcome, terms } => match outcome.refusal {
            Some(refusal) => refused(Some(&message), refusal),
            None => Trial {
                reason: outcome.note.map(plimsoll_core_domain::signals::Reason::as_str),
                target: outcome.target.map(|target| target.to_string()),
                order: terms.as_deref().map(TrialOrder::from),
                more: outcome.pending,
                ..accepted(&message, &symbol)
            },
        },
    })
}

fn accepted(message: &Message, symbol: &plimsoll_core_domain::Symbol) -> Trial {
    Trial {
        verdict: "accepted",
        reason: None,
        detail: None,
        symbol: Some(symbol.as_str().to_owned()),
        action: Some(message.action_word()),
        target: None,
        order: None,
        more: false,
    }
}
