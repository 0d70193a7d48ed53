//! `DELETE /broker/credentials/{broker}`.

use actix_web::{HttpResponse, delete, web};
use plimsoll_auth::vault;

use super::{broker, no_credential};
use crate::body::NoQuery;
use crate::caller::SteppedUp;
use crate::problem::Problem;
use crate::schema;
use crate::state::AppState;

/// Deletes the caller's keys for a broker: the connection ends, and nothing is traded until there are new ones. Open
/// orders stay open at the broker.
#[utoipa::path(
    params(("broker" = String, Path, description = "`alpaca`.")),
    responses(
        (status = 204),
        (status = 401, body = schema::ProblemDetails, content_type = "application/problem+json"),
        (status = 403, body = schema::ProblemDetails, content_type = "application/problem+json"),
        (status = 404, body = schema::ProblemDetails, content_type = "application/problem+json"),
        (status = 422, body = schema::ProblemDetails, content_type = "application/problem+json"),
        (status = 503, body = schema::ProblemDetails, content_type = "application/problem+json"),
    ),
    tag = "broker",
    security(("bearer" = []))
)]
#[delete("/broker/credentials/{broker}")]
pub async fn delete(
    state: web::Data<AppState>,
    caller: SteppedUp,
    path: web::Path<String>,
    _: web::Query<NoQuery>,
) -> Result<HttpResponse, Problem> {
    let broker = broker(&path)?;
    let (user, act) = (caller.user, caller.act(&state));
    if state.db.run(move |tx| vault::remove(tx, Some(user), user, broker, &act)).await? {
        return Ok(HttpResponse::NoContent().finish());
    }
    Err(no_credential())
}
