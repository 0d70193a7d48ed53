//! `DELETE /positions/{symbol}`.

use std::time::{Duration, Instant};

use actix_web::{HttpRequest, HttpResponse, delete, web};
use plimsoll_core_domain::money::parse_decimal;
use plimsoll_core_domain::order::{NewOrder, OrderClass, OrderSize, Pricing, Side, TimeInForce};
use plimsoll_core_domain::views::Holding;
use plimsoll_core_domain::{Quantity, Symbol, UserId};
use rust_decimal::{Decimal, RoundingStrategy};
use serde::Deserialize;
use utoipa::IntoParams;

use super::holdings;
use crate::caller::Caller;
use crate::idempotent::{RequiredKey, fingerprint};
use crate::problem::Problem;
use crate::routes::orders::accept::{Intent, Keyed, accept, replay};
use crate::routes::orders::account_of;
use crate::routes::orders::cancel::{audit, wish};
use crate::routes::orders::place::wait;
use crate::schema;
use crate::state::AppState;

/// How long open orders in the symbol are waited for after their cancel was asked for.
const CANCELS_WITHIN: Duration = Duration::from_secs(5);

/// How much to close.
#[derive(Debug, Deserialize, IntoParams)]
#[serde(deny_unknown_fields)]
pub struct CloseQuery {
    /// Units; all when neither this nor `percentage` is given.
    qty: Option<String>,
    /// Per cent of the position, more than 0, at most 100.
    percentage: Option<String>,
    /// Cancel the open orders in the symbol first.
    #[serde(default)]
    cancel_orders: bool,
    /// How long to wait for the broker's verdict, 0 to 10,000 ms.
    wait_ms: Option<u64>,
}

fn closing_qty(held: Decimal, query: &CloseQuery) -> Result<Quantity, Problem> {
    let number = |pointer: &str, text: &str| {
        parse_decimal(text).map_err(|error| Problem::field(pointer, "not_a_number", error.to_string()))
    };
    let (pointer, qty) = match (&query.qty, &query.percentage) {
        (Some(_), Some(_)) => {
            return Err(Problem::field(
                "?percentage",
                "not_allowed",
                "give either qty or percentage, not both",
            ));
        }
        (Some(qty), None) => ("?qty", number("?qty", qty)?),
        (None, Some(text)) => {
            let percent = number("?percentage", text)?;
            if percent <= Decimal::ZERO || percent > Decimal::ONE_HUNDRED {
                return Err(Problem::field(
                    "?percentage",
                    "out_of_range",
                    "must be more than 0 and at most 100",
                ));
            }
            let part = held.abs() * percent / Decimal::ONE_HUNDRED;
            ("?percentage", part.round_dp_with_strategy(9, RoundingStrategy::ToZero))
        }
        (None, None) => ("?qty", held.abs()),
    };
    let qty =
        Quantity::new(qty).map_err(|error| Problem::field(pointer, "out_of_range", error.to_string()))?;
    if qty.get() > held.abs() {
        return Err(Problem::field(pointer, "out_of_range", format!("the position is {}", held.abs())));
    }
    Ok(qty)
}

/// Closes a position, or a part of it, by a market order: answered as `POST /orders`.
#[utoipa::path(
    params(
        ("symbol" = String, Path, description = "A pair's slash is written %2F."),
        CloseQuery,
        ("Idempotency-Key" = String, Header),
    ),
    responses(
        (status = 201, body = schema::Order),
        (status = 202, body = schema::Order),
        (status = 400, body = schema::ProblemDetails, content_type = "application/problem+json"),
        (status = 401, body = schema::ProblemDetails, content_type = "application/problem+json"),
        (status = 404, body = schema::ProblemDetails, content_type = "application/problem+json"),
        (status = 409, body = schema::ProblemDetails, content_type = "application/problem+json"),
        (status = 422, body = schema::ProblemDetails, content_type = "application/problem+json"),
        (status = 429, body = schema::ProblemDetails, content_type = "application/problem+json"),
        (status = 503, body = schema::ProblemDetails, content_type = "application/problem+json"),
    ),
    tag = "portfolio",
    security(("bearer" = []))
)]
#[delete("/positions/{symbol}")]
pub async fn close(
    state: web::Data<AppState>,
    caller: Caller,
    key: RequiredKey,
    request: HttpRequest,
    path: web::Path<String>,
    query: web::Query<CloseQuery>,
) -> Result<HttpResponse, Problem> {
    state.count_order(caller.user)?;
    let wait = wait(&state, query.wait_ms)?;
    let symbol = Symbol::new(path.into_inner()).map_err(|_| no_position())?;
    let target = format!("/positions/{symbol}?{}", request.query_string());
    let fingerprint = fingerprint("DELETE", &target, b"")?;
    // A retry of a close that happened is answered from its key: the position is smaller or flat by now.
    if let Some(reply) = replay(&state, caller.user, &key.0, fingerprint).await? {
        return Ok(reply);
    }
    let (mut side, mut qty) = closing(&state, caller.user, &symbol, &query).await?;
    if query.cancel_orders {
        cancel_open(&state, &caller, &symbol).await?;
        // What was open may have filled before its cancel: only what is held now is closed.
        (side, qty) = closing(&state, caller.user, &symbol, &query).await?;
    }
    let terms = NewOrder {
        time_in_force: if symbol.as_str().contains('/') { TimeInForce::Gtc } else { TimeInForce::Day },
        symbol,
        side,
        pricing: Pricing::Market,
        size: OrderSize::Qty(qty),
        extended_hours: false,
        class: OrderClass::Simple,
        take_profit: None,
        stop_loss: None,
    };
    let keyed = Keyed { key: key.0, route: "DELETE /positions/{symbol}", fingerprint };
    accept(&state, &caller, keyed, terms, Intent::Close, wait).await
}

/// The side and the quantity that close what is held now.
async fn closing(
    state: &AppState,
    user: UserId,
    symbol: &Symbol,
    query: &CloseQuery,
) -> Result<(Side, Quantity), Problem> {
    let of_symbol = |holding: &Holding| holding.symbol == *symbol && !holding.position.qty.is_zero();
    let held = holdings(state, user).await?.into_iter().find(of_symbol).ok_or_else(no_position)?.position.qty;
    let side = if held.is_sign_negative() { Side::Buy } else { Side::Sell };
    Ok((side, closing_qty(held, query)?))
}

fn no_position() -> Problem {
    Problem::new("not_found", "position not found")
}

/// Asks for the cancel of every open order in the symbol, and waits until they are final: the broker holds the shares of
/// open orders (Alpaca's contract section 5, Close).
async fn cancel_open(state: &AppState, caller: &Caller, symbol: &Symbol) -> Result<(), Problem> {
    let deadline = Instant::now() + CANCELS_WITHIN;
    let (asking, of, now) = (caller.clone(), symbol.clone(), state.clock.now());
    state
        .db
        .run(move |tx| {
            let account = account_of(tx, asking.user)?;
            let mut taken = Vec::new();
            for order in tx.lock_open_orders(account)?.iter().filter(|order| order.terms.symbol == of) {
                match wish(tx, account, order.id, now) {
                    Ok((_, order)) => taken.push(order),
                    Err(problem) if problem.status().is_client_error() => {}
                    Err(problem) => return Err(problem),
                }
            }
            // The audit chain is locked last.
            taken.iter().try_for_each(|order| audit(tx, &asking, order, now))
        })
        .await?;
    loop {
        let (user, of) = (caller.user, symbol.clone());
        let left = state
            .db
            .read(move |tx| {
                let account = account_of(tx, user)?;
                let open = tx.open_orders(account)?;
                Ok::<_, Problem>(open.iter().filter(|order| order.terms.symbol == of).count())
            })
            .await?;
        if left == 0 {
            return Ok(());
        }
        if Instant::now() > deadline {
            let detail = format!("{left} open orders are not canceled yet; the position was not closed");
            return Err(Problem::new("unavailable", detail).retry_after(2));
        }
        tokio::time::sleep(Duration::from_millis(100)).await;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn query(qty: Option<&str>, percentage: Option<&str>) -> CloseQuery {
        let text = |text: Option<&str>| text.map(str::to_owned);
        CloseQuery { qty: text(qty), percentage: text(percentage), cancel_orders: false, wait_ms: None }
    }

    #[test]
    fn never_more_is_closed_than_is_held_long_or_short() {
        let part = |held: i64, query: &CloseQuery| closing_qty(held.into(), query).map(Quantity::get).ok();
        for held in [10, -10] {
            assert_eq!(part(held, &query(None, None)), Some(10.into()));
            assert_eq!(part(held, &query(Some("10"), None)), Some(10.into()));
            assert_eq!(part(held, &query(Some("10.000000001"), None)), None);
            assert_eq!(part(held, &query(None, Some("25"))), Some(Decimal::new(25, 1)));
            assert_eq!(part(held, &query(None, Some("100.1"))), None);
            assert_eq!(part(held, &query(None, Some("0"))), None);
            assert_eq!(part(held, &query(Some("1"), Some("10"))), None, "either, not both");
        }
    }
}
