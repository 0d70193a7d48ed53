//! `DELETE /orders`.

use actix_web::{HttpResponse, delete, web};
use plimsoll_reliability::idempotency::StoredReply;
use serde::Serialize;
use serde_json::value::RawValue;

use super::account_of;
use super::cancel::{audit, wish_all};
use crate::body::NoQuery;
use crate::caller::Caller;
use crate::idempotent::{RequiredKey, fingerprint, run_once};
use crate::problem::Problem;
use crate::schema;
use crate::state::AppState;

#[derive(Serialize)]
struct Row {
    id: String,
    status: u16,
    #[serde(skip_serializing_if = "Option::is_none")]
    problem: Option<Box<RawValue>>,
}

#[derive(Serialize)]
struct Rows {
    items: Vec<Row>,
}

/// Asks for the cancel of every open order: 207 with a status for each.
#[utoipa::path(
    params(("Idempotency-Key" = String, Header)),
    responses(
        (status = 207, body = schema::CancelResults),
        (status = 400, body = schema::ProblemDetails, content_type = "application/problem+json"),
        (status = 401, body = schema::ProblemDetails, content_type = "application/problem+json"),
        (status = 404, body = schema::ProblemDetails, content_type = "application/problem+json"),
        (status = 409, body = schema::ProblemDetails, content_type = "application/problem+json"),
        (status = 422, body = schema::ProblemDetails, content_type = "application/problem+json"),
        (status = 503, body = schema::ProblemDetails, content_type = "application/problem+json"),
    ),
    tag = "orders",
    security(("bearer" = []))
)]
#[delete("/orders")]
pub async fn cancel_all(
    state: web::Data<AppState>,
    caller: Caller,
    key: RequiredKey,
    _: web::Query<NoQuery>,
) -> Result<HttpResponse, Problem> {
    let fingerprint = fingerprint("DELETE", "/orders", b"")?;
    let (user, now) = (caller.user, state.clock.now());
    run_once(&state, user, key.0, "DELETE /orders", fingerprint, move |tx| {
        let account = account_of(tx, user)?;
        let wished = wish_all(tx, account, now)?;
        let mut items = Vec::with_capacity(wished.len());
        let mut taken = Vec::with_capacity(wished.len());
        for (id, wished) in wished {
            let (status, problem) = match wished {
                Ok((status, order)) => {
                    taken.push(order);
                    (status, None)
                }
                Err(problem) => (problem.status().as_u16(), RawValue::from_string(problem.body()).ok()),
            };
            items.push(Row { id: id.to_string(), status, problem });
        }
        for order in &taken {
            audit(tx, &caller, order, now)?;
        }
        let body =
            serde_json::to_vec(&Rows { items }).map_err(|error| Problem::internal(error.to_string()))?;
        Ok(StoredReply { status: 207, body })
    })
    .await
}
