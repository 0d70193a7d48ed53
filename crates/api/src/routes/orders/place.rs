//! `POST /orders`.

use std::time::Duration;

use actix_web::{HttpResponse, post, web};
use plimsoll_core_domain::order::{NewOrder, OrderClass, OrderRequest, OrderType, Side, TimeInForce};
use serde::Deserialize;
use utoipa::{IntoParams, ToSchema};

use super::accept::{Intent, Keyed, accept};
use crate::body::{Body, DecimalText, Decimals};
use crate::caller::Caller;
use crate::idempotent::{RequiredKey, fingerprint};
use crate::problem::Problem;
use crate::schema;
use crate::state::AppState;

/// An order to place.
#[derive(Debug, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct PlaceOrder {
    /// Case-sensitive, such as `SPY` or `BTC/USD`.
    symbol: String,
    #[schema(value_type = schema::SideWord)]
    side: Option<Side>,
    #[serde(rename = "type")]
    #[schema(value_type = schema::OrderTypeWord)]
    order_type: Option<OrderType>,
    #[schema(value_type = schema::TimeInForceWord)]
    time_in_force: Option<TimeInForce>,
    /// Units; either this or `notional`.
    #[schema(value_type = Option<String>)]
    qty: Option<DecimalText>,
    /// Amount of money; either this or `qty`.
    #[schema(value_type = Option<String>)]
    notional: Option<DecimalText>,
    #[schema(value_type = Option<String>)]
    limit_price: Option<DecimalText>,
    #[schema(value_type = Option<String>)]
    stop_price: Option<DecimalText>,
    #[schema(value_type = Option<String>)]
    trail_price: Option<DecimalText>,
    #[schema(value_type = Option<String>)]
    trail_percent: Option<DecimalText>,
    #[serde(default)]
    extended_hours: bool,
    #[schema(value_type = Option<schema::OrderClassWord>)]
    order_class: Option<OrderClass>,
    take_profit: Option<TakeProfit>,
    stop_loss: Option<StopLoss>,
}

/// The exit with a gain.
#[derive(Debug, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct TakeProfit {
    #[schema(value_type = String)]
    limit_price: Option<DecimalText>,
}

/// The exit with a loss.
#[derive(Debug, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct StopLoss {
    #[schema(value_type = String)]
    stop_price: Option<DecimalText>,
    #[schema(value_type = Option<String>)]
    limit_price: Option<DecimalText>,
}

/// How the request is answered.
#[derive(Debug, Deserialize, IntoParams)]
#[serde(deny_unknown_fields)]
pub struct PlaceQuery {
    /// How long to wait for the broker's verdict, 0 to 10,000 ms; 2,000 by default.
    #[param(maximum = 10000, minimum = 0)]
    pub(super) wait_ms: Option<u64>,
}

impl PlaceOrder {
    fn into_domain(self) -> Result<NewOrder, Problem> {
        let mut decimals = Decimals::default();
        let request = OrderRequest {
            symbol: self.symbol,
            side: self.side,
            order_type: self.order_type,
            time_in_force: self.time_in_force,
            qty: decimals.read("/qty", self.qty.as_ref()),
            notional: decimals.read("/notional", self.notional.as_ref()),
            limit_price: decimals.read("/limit_price", self.limit_price.as_ref()),
            stop_price: decimals.read("/stop_price", self.stop_price.as_ref()),
            trail_price: decimals.read("/trail_price", self.trail_price.as_ref()),
            trail_percent: decimals.read("/trail_percent", self.trail_percent.as_ref()),
            extended_hours: self.extended_hours,
            class: self.order_class,
            take_profit: self
                .take_profit
                .and_then(|exit| decimals.read("/take_profit/limit_price", exit.limit_price.as_ref())),
            stop_loss: self.stop_loss.map(|exit| {
                (
                    decimals.read("/stop_loss/stop_price", exit.stop_price.as_ref()),
                    decimals.read("/stop_loss/limit_price", exit.limit_price.as_ref()),
                )
            }),
        };
        decimals.done()?;
        Ok(request.validate()?)
    }
}

/// Places an order: 201 with the state it reached, or 202 while the broker's verdict is not known.
///
/// An order that is answered with 2xx is on disk and reaches the broker at most once.
#[utoipa::path(
    params(PlaceQuery, ("Idempotency-Key" = String, Header, description = "One per intended order; the same on every retry.")),
    request_body = PlaceOrder,
    responses(
        (status = 201, body = schema::Order, description = "The broker has it."),
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
#[post("/orders")]
pub async fn place(
    state: web::Data<AppState>,
    caller: Caller,
    key: RequiredKey,
    query: web::Query<PlaceQuery>,
    body: Body<PlaceOrder>,
) -> Result<HttpResponse, Problem> {
    state.count_order(caller.user)?;
    let wait = wait(&state, query.wait_ms)?;
    let fingerprint = fingerprint("POST", "/orders", &body.raw)?;
    let terms = body.value.into_domain()?;
    let keyed = Keyed { key: key.0, route: "POST /orders", fingerprint };
    accept(&state, &caller, keyed, terms, Intent::Trade, wait).await
}

/// How long a request waits for the broker's verdict.
pub(crate) fn wait(state: &AppState, wait_ms: Option<u64>) -> Result<Duration, Problem> {
    match wait_ms {
        None => Ok(state.settings.default_wait),
        Some(ms @ 0..=10_000) => Ok(Duration::from_millis(ms)),
        Some(_) => Err(Problem::field("?wait_ms", "out_of_range", "must be from 0 to 10000")),
    }
}
