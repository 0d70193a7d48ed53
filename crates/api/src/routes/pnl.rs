//! `GET /pnl`.

use actix_web::{HttpResponse, get, web};

use crate::body::NoQuery;
use crate::caller::Caller;
use crate::problem::Problem;
use crate::schema;
use crate::state::AppState;

/// Profit and loss: realised since midnight in New York and in all, and unrealised at the last prices known.
#[utoipa::path(
    responses(
        (status = 200, body = schema::Pnl),
        (status = 401, body = schema::ProblemDetails, content_type = "application/problem+json"),
        (status = 503, body = schema::ProblemDetails, content_type = "application/problem+json"),
    ),
    tag = "portfolio",
    security(("bearer" = []))
)]
#[get("/pnl")]
pub async fn pnl(
    state: web::Data<AppState>,
    caller: Caller,
    _: web::Query<NoQuery>,
) -> Result<HttpResponse, Problem> {
    let (user, now, gateway) = (caller.user, state.clock.now(), state.gateway.clone());
    let view = state.db.read(move |tx| tx.pnl(user, &|symbol| gateway.price(user, symbol), now)).await?;
    Ok(HttpResponse::Ok().json(view))
}
