//! `PATCH /orders/{id}`.

use std::sync::{Arc, OnceLock};

use actix_web::{HttpResponse, patch, web};
use plimsoll_core_domain::audit::AuditOutcome;
use plimsoll_core_domain::broker::ReplaceOrder;
use plimsoll_core_domain::money::MoneyError;
use plimsoll_core_domain::order::{Environment, Order, OrderStatus, TimeInForce, Trail};
use plimsoll_core_domain::risk::RiskRefusal;
use plimsoll_core_domain::views::{OrderView, json};
use plimsoll_core_domain::{OrderId, Price, Quantity, Symbol};
use plimsoll_reliability::idempotency::StoredReply;
use plimsoll_storage::platform::orders::{NewReplacement, OrderOrigin, ReplaceWish};
use rust_decimal::Decimal;
use serde::Deserialize;
use utoipa::ToSchema;

use super::accept::{Keyed, live_disabled};
use super::place::{PlaceQuery, wait};
use super::waited::ask;
use super::{no_account, no_order, order_id};
use crate::body::{Body, DecimalText, Decimals};
use crate::caller::Caller;
use crate::idempotent::{RequiredKey, fingerprint};
use crate::problem::Problem;
use crate::routes::risk;
use crate::schema;
use crate::state::AppState;

/// What to change; what is absent stays.
#[derive(Debug, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct Replace {
    /// The new total, not what is left.
    #[schema(value_type = Option<String>)]
    qty: Option<DecimalText>,
    #[schema(value_type = Option<String>)]
    limit_price: Option<DecimalText>,
    #[schema(value_type = Option<String>)]
    stop_price: Option<DecimalText>,
    /// Of a trailing stop, in the kind that it has.
    #[schema(value_type = Option<String>)]
    trail: Option<DecimalText>,
    #[schema(value_type = Option<schema::TimeInForceWord>)]
    time_in_force: Option<TimeInForce>,
}

struct Change {
    fields: ReplaceOrder,
    trail: Option<Price>,
}

impl Replace {
    fn into_domain(self) -> Result<Change, Problem> {
        fn number<T>(
            decimals: &mut Decimals,
            pointer: &str,
            text: Option<&DecimalText>,
            make: fn(Decimal) -> Result<T, MoneyError>,
        ) -> Option<T> {
            let value = decimals.read(pointer, text)?;
            make(value).map_err(|error| decimals.note(pointer, &error)).ok()
        }
        let mut decimals = Decimals::default();
        let fields = ReplaceOrder {
            client_order_id: None,
            qty: number(&mut decimals, "/qty", self.qty.as_ref(), Quantity::new),
            limit_price: number(&mut decimals, "/limit_price", self.limit_price.as_ref(), Price::new),
            stop_price: number(&mut decimals, "/stop_price", self.stop_price.as_ref(), Price::new),
            trail: None,
            time_in_force: self.time_in_force,
        };
        let trail = number(&mut decimals, "/trail", self.trail.as_ref(), Price::new);
        decimals.done()?;
        Ok(Change { fields, trail })
    }
}

/// Replaces an order by a new one: 200 with the replacement once the broker has it, 202 while that is not known.
///
/// An order that is not working at the broker yet, or of which a change is under way, cannot be replaced now: 422
/// `not_replaceable` says why. When the broker refuses the replacement (422 `order_rejected`), the old order goes on.
///
/// The `qty` of the request is the new total, with what is filled already; the replacement is an order of its own for what
/// is left of it.
#[utoipa::path(
    params(("id" = String, Path, description = "The order's id."), PlaceQuery, ("Idempotency-Key" = String, Header)),
    request_body = Replace,
    responses(
        (status = 200, body = schema::Order, description = "The broker has the replacement."),
        (status = 202, body = schema::Order, description = "On disk; the broker's verdict is not known yet."),
        (status = 400, body = schema::ProblemDetails, content_type = "application/problem+json"),
        (status = 401, body = schema::ProblemDetails, content_type = "application/problem+json"),
        (status = 404, body = schema::ProblemDetails, content_type = "application/problem+json"),
        (status = 409, body = schema::ProblemDetails, content_type = "application/problem+json"),
        (status = 413, body = schema::ProblemDetails, content_type = "application/problem+json"),
        (status = 415, body = schema::ProblemDetails, content_type = "application/problem+json"),
        (status = 422, body = schema::ProblemDetails, content_type = "application/problem+json"),
        (status = 429, body = schema::ProblemDetails, content_type = "application/problem+json"),
        (status = 503, body = schema::ProblemDetails, content_type = "application/problem+json"),
    ),
    tag = "orders",
    security(("bearer" = []))
)]
#[patch("/orders/{id}")]
pub async fn replace(
    state: web::Data<AppState>,
    caller: Caller,
    key: RequiredKey,
    path: web::Path<String>,
    query: web::Query<PlaceQuery>,
    body: Body<Replace>,
) -> Result<HttpResponse, Problem> {
    state.count_order(caller.user)?;
    let id = order_id(&path)?;
    let wait = wait(&state, query.wait_ms)?;
    let fingerprint = fingerprint("PATCH", &format!("/orders/{id}"), &body.raw)?;
    let change = body.value.into_domain()?;
    let (user, now) = (caller.user, state.clock.now());
    let (new_id, ids) = (state.ids.order_id(), state.client_order_ids.clone());
    let deadline = now + state.settings.submit_within.1;
    let idempotency_key = key.0.clone();
    let keyed = Keyed { key: key.0, route: "PATCH /orders/{id}", fingerprint };
    let detail = serde_json::json!({ "order_id": id, "replacement_id": new_id });
    let entry = caller.audit("order.replace", AuditOutcome::Success, now, detail);
    let refused = Arc::new(OnceLock::new());
    let refusal = Arc::clone(&refused);
    let gateway = Arc::clone(&state.gateway);
    let reply = ask(&state, user, keyed, new_id, wait, move |tx| {
        let account = tx.account_of_user(user)?.ok_or_else(no_account)?;
        if account.environment == Environment::Live && !account.live_enabled {
            return Err(live_disabled());
        }
        let account = account.id;
        let new = NewReplacement {
            id: new_id,
            client_order_id: ids.derive(account, user, OrderOrigin::IdempotencyKey(idempotency_key.as_str())),
            deadline,
        };
        let replacement =
            wish(tx, account, id, change, new, &|symbol| gateway.price_seen(user, symbol), now, &refused)?;
        tx.append_audit(Some(user), &entry)?;
        Ok(StoredReply { status: 202, body: json(&OrderView::new(&replacement, &[])).into_bytes() })
    })
    .await;
    if let Some(refusal) = refusal.get() {
        let detail = serde_json::json!({ "order_id": id });
        risk::record_refusal(&state, &caller, "order.replace", refusal, detail, now).await?;
    }
    reply
}

#[expect(clippy::too_many_arguments, reason = "all of them are the request's")]
fn wish(
    tx: &mut plimsoll_storage::Tx<'_>,
    account: plimsoll_core_domain::AccountId,
    id: OrderId,
    change: Change,
    new: NewReplacement,
    price_of: &dyn Fn(&Symbol) -> Option<Price>,
    now: chrono::DateTime<chrono::Utc>,
    refused: &OnceLock<RiskRefusal>,
) -> Result<Box<plimsoll_core_domain::order::Order>, Problem> {
    let mut fields = change.fields;
    if let Some(by) = change.trail {
        // Its kind is the order's own.
        let old = tx.order(account, id)?.ok_or_else(no_order)?;
        fields.trail = Some(match old.terms.pricing.trail() {
            Some(Trail::Percent(_)) => Trail::Percent(by),
            _ => Trail::Price(by),
        });
    }
    match tx.wish_replace(account, id, &fields, new, price_of, now)? {
        ReplaceWish::NoOrder => Err(no_order()),
        ReplaceWish::NotOpen(order) => Err(Problem::new(
            "order_not_open",
            format!("an order that is {} cannot be replaced", order.status),
        )
        .with("order_status", order.status.as_str())),
        ReplaceWish::NotNow(order) => Err(not_now(&order)),
        ReplaceWish::Unfit(pointer, code, why) => Err(Problem::field(pointer, code, why)),
        ReplaceWish::Risk(refusal) => {
            // The transaction is taken back, so that the key stays free; the refusal goes on record after it.
            refused.set(refusal.clone()).ok();
            Err(refusal.into())
        }
        ReplaceWish::Asked(order) => Ok(order),
    }
}

/// Why an order that is open takes no replacement at this moment.
fn not_now(order: &Order) -> Problem {
    let why = match order.status {
        OrderStatus::PendingSubmit | OrderStatus::Submitting => {
            "it is not at the broker yet: ask again when it is, or cancel it"
        }
        OrderStatus::Unknown => {
            "whether it is at the broker is not known yet: ask again when it is, or cancel it"
        }
        OrderStatus::Accepted => {
            "the broker holds it and does not work it yet, and replaces it only then: ask again later, or cancel it and place a new one"
        }
        OrderStatus::PendingCancel => "it is being canceled",
        OrderStatus::PendingReplace => "another change of it is under way: ask again when that is done",
        _ => "it rests at the broker and takes no change meanwhile: ask again later, or cancel it",
    };
    Problem::new(
        "not_replaceable",
        format!("the order is {} and cannot be replaced now: {why}", order.status),
    )
    .with("order_status", order.status.as_str())
}
