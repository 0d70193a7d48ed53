//! `GET /broker/credentials`.

use actix_web::{HttpRequest, HttpResponse, get, web};
use plimsoll_auth::vault;
use plimsoll_core_domain::views::json;

use super::Shown;
use crate::body::NoQuery;
use crate::caller::SessionCaller;
use crate::page::page;
use crate::problem::Problem;
use crate::schema;
use crate::state::AppState;

/// The caller's credentials, by broker; never the keys themselves.
#[utoipa::path(
    responses(
        (status = 200, body = schema::BrokerCredentialList),
        (status = 401, body = schema::ProblemDetails, content_type = "application/problem+json"),
        (status = 403, body = schema::ProblemDetails, content_type = "application/problem+json"),
        (status = 422, body = schema::ProblemDetails, content_type = "application/problem+json"),
        (status = 503, body = schema::ProblemDetails, content_type = "application/problem+json"),
    ),
    tag = "broker",
    security(("bearer" = []))
)]
#[get("/broker/credentials")]
pub async fn list(
    state: web::Data<AppState>,
    caller: SessionCaller,
    request: HttpRequest,
    _: web::Query<NoQuery>,
) -> Result<HttpResponse, Problem> {
    let user = caller.user;
    let credentials = state.db.read(move |tx| vault::list(tx, user)).await?;
    let rows: Vec<String> = credentials.iter().map(|view| json(&Shown::from(view))).collect();
    Ok(page("/broker/credentials", request.query_string(), &rows, None))
}
