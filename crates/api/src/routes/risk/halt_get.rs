//! `GET /risk/halt`.

use actix_web::{HttpResponse, get, web};

use super::state_view;
use crate::body::NoQuery;
use crate::caller::Caller;
use crate::problem::Problem;
use crate::schema;
use crate::state::AppState;

/// What is halted for the caller: by halts of the caller's own, and of everybody.
#[utoipa::path(
    responses(
        (status = 200, body = schema::HaltState),
        (status = 401, body = schema::ProblemDetails, content_type = "application/problem+json"),
        (status = 422, body = schema::ProblemDetails, content_type = "application/problem+json"),
        (status = 503, body = schema::ProblemDetails, content_type = "application/problem+json"),
    ),
    tag = "risk",
    security(("bearer" = []))
)]
#[get("/risk/halt")]
pub async fn get(
    state: web::Data<AppState>,
    caller: Caller,
    _: web::Query<NoQuery>,
) -> Result<HttpResponse, Problem> {
    let user = caller.user;
    let halts = state.db.read(move |tx| tx.halt_state(Some(user))).await?;
    Ok(HttpResponse::Ok().json(state_view(&halts, &caller)))
}
