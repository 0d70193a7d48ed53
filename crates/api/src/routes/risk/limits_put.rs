//! `PUT /risk/limits`.

use std::collections::BTreeSet;

use actix_web::{HttpRequest, HttpResponse, put, web};
use plimsoll_core_domain::audit::AuditOutcome;
use plimsoll_core_domain::risk::{HaltLevel, RiskLimits};
use plimsoll_core_domain::{Price, Symbol};
use plimsoll_storage::Tx;
use plimsoll_storage::platform::risk::StoredLimits;
use serde::Deserialize;
use utoipa::ToSchema;

use super::limits_view;
use crate::body::{Body, DecimalText, Decimals, NoQuery};
use crate::caller::Caller;
use crate::problem::{FieldProblem, Problem};
use crate::schema;
use crate::state::AppState;

/// All limits: what is absent or null is no limit.
#[derive(Debug, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct PutLimits {
    /// The value of one order that opens or enlarges a position.
    #[schema(value_type = Option<String>)]
    max_order_notional: Option<DecimalText>,
    /// The value of a position, should every open order on its side fill.
    #[schema(value_type = Option<String>)]
    max_position_notional: Option<DecimalText>,
    /// The loss since the last session's close.
    #[schema(value_type = Option<String>)]
    max_daily_loss: Option<DecimalText>,
    /// Orders that are not final, at most 10,000.
    max_open_orders: Option<u32>,
    /// Orders accepted within a minute, at most 10,000.
    max_orders_per_minute: Option<u32>,
    /// Only these are traded; an empty list allows nothing. At most 500.
    allowed_symbols: Option<Vec<String>>,
    /// These are not traded. At most 500.
    denied_symbols: Option<Vec<String>>,
    /// The level of the halt at `max_daily_loss`; `block_entries` when absent.
    #[schema(value_type = Option<schema::HaltLevelWord>)]
    daily_loss_action: Option<HaltLevel>,
}

fn symbols(
    field: &str,
    list: Option<Vec<String>>,
    errors: &mut Vec<FieldProblem>,
) -> Option<BTreeSet<Symbol>> {
    let list = list?;
    let mut set = BTreeSet::new();
    for (at, text) in list.into_iter().enumerate() {
        match Symbol::new(text) {
            Ok(symbol) => {
                set.insert(symbol);
            }
            Err(error) => errors.push(FieldProblem {
                pointer: format!("/{field}/{at}"),
                code: "invalid_symbol".into(),
                detail: error.to_string(),
            }),
        }
    }
    Some(set)
}

impl PutLimits {
    fn into_domain(self) -> Result<RiskLimits, Problem> {
        let mut decimals = Decimals::default();
        let mut amount = |pointer: &str, text: Option<&DecimalText>| {
            let value = decimals.read(pointer, text)?;
            Price::new(value).map_err(|error| decimals.note(pointer, &error)).ok()
        };
        let (order, position, loss) = (
            amount("/max_order_notional", self.max_order_notional.as_ref()),
            amount("/max_position_notional", self.max_position_notional.as_ref()),
            amount("/max_daily_loss", self.max_daily_loss.as_ref()),
        );
        decimals.done()?;
        let mut errors = Vec::new();
        let limits = RiskLimits {
            max_order_notional: order,
            max_position_notional: position,
            max_daily_loss: loss,
            max_open_orders: self.max_open_orders,
            max_orders_per_minute: self.max_orders_per_minute,
            allowed_symbols: symbols("allowed_symbols", self.allowed_symbols, &mut errors),
            denied_symbols: symbols("denied_symbols", self.denied_symbols, &mut errors),
            daily_loss_action: self.daily_loss_action.unwrap_or(HaltLevel::BlockEntries),
        };
        for error in limits.validate().err().into_iter().flatten() {
            errors.push(FieldProblem {
                pointer: format!("/{}", error.field),
                code: "out_of_range".into(),
                detail: error.why,
            });
        }
        if errors.is_empty() { Ok(limits) } else { Err(Problem::invalid(errors)) }
    }
}

/// Sets the caller's risk limits, all of them. They hold for every order that is accepted afterwards. What loosens one needs
/// a factor that was proven a moment ago.
#[utoipa::path(
    request_body = PutLimits,
    responses(
        (status = 200, body = schema::RiskLimits),
        (status = 400, body = schema::ProblemDetails, content_type = "application/problem+json"),
        (status = 401, body = schema::ProblemDetails, content_type = "application/problem+json"),
        (status = 403, body = schema::ProblemDetails, content_type = "application/problem+json"),
        (status = 413, body = schema::ProblemDetails, content_type = "application/problem+json"),
        (status = 415, body = schema::ProblemDetails, content_type = "application/problem+json"),
        (status = 422, body = schema::ProblemDetails, content_type = "application/problem+json"),
        (status = 503, body = schema::ProblemDetails, content_type = "application/problem+json"),
    ),
    tag = "risk",
    security(("bearer" = []))
)]
#[put("/risk/limits")]
pub async fn put(
    state: web::Data<AppState>,
    caller: Caller,
    request: HttpRequest,
    _: web::Query<NoQuery>,
    body: Body<PutLimits>,
) -> Result<HttpResponse, Problem> {
    let limits = body.value.into_domain()?;
    let set = |proven: bool| {
        let (caller, limits, now) = (caller.clone(), limits.clone(), state.clock.now());
        state.db.run(move |tx| set_limits(tx, &caller, limits, proven, now))
    };
    let stored = match set(false).await? {
        Some(stored) => stored,
        None => {
            caller.check_proven(&request).await?;
            set(true).await?.ok_or_else(|| Problem::internal("limits were not set by who may set them"))?
        }
    };
    Ok(HttpResponse::Ok().json(limits_view(&stored)))
}

/// Sets limits; `None`, and nothing changed, when that loosens one and the caller has not proven a factor.
fn set_limits(
    tx: &mut Tx<'_>,
    caller: &Caller,
    limits: RiskLimits,
    proven: bool,
    now: chrono::DateTime<chrono::Utc>,
) -> Result<Option<StoredLimits>, Problem> {
    let before = tx.lock_risk_limits(caller.user)?.limits;
    let loosened = before.loosened_by(&limits);
    if !loosened.is_empty() && !proven {
        return Ok(None);
    }
    tx.set_risk_limits(caller.user, &limits, now)?;
    let detail = serde_json::json!({ "before": before, "after": limits, "loosened": loosened });
    tx.append_audit(Some(caller.user), &caller.audit("risk.limits", AuditOutcome::Success, now, detail))?;
    Ok(Some(StoredLimits { limits, updated_at: Some(now) }))
}
