//! `DELETE /admin/dead-letters/{id}`.

use actix_web::{HttpResponse, delete, web};
use plimsoll_storage::platform::letters::check_reason;
use serde::Deserialize;
use utoipa::IntoParams;

use super::{done, letter_id};
use crate::caller::AdminSteppedUp;
use crate::problem::Problem;
use crate::schema;
use crate::state::AppState;

/// Why.
#[derive(Debug, Deserialize, IntoParams)]
#[serde(deny_unknown_fields)]
pub struct DiscardQuery {
    /// Why nobody has to do it, in 1 to 500 characters on one line.
    reason: Option<String>,
}

/// Discards a dead letter: nobody has to do it. It stays on record with the reason.
#[utoipa::path(
    params(("id" = String, Path, description = "The dead letter's id."), DiscardQuery),
    responses(
        (status = 204),
        (status = 401, body = schema::ProblemDetails, content_type = "application/problem+json"),
        (status = 403, body = schema::ProblemDetails, content_type = "application/problem+json"),
        (status = 404, body = schema::ProblemDetails, content_type = "application/problem+json"),
        (status = 409, body = schema::ProblemDetails, content_type = "application/problem+json"),
        (status = 422, body = schema::ProblemDetails, content_type = "application/problem+json"),
        (status = 429, body = schema::ProblemDetails, content_type = "application/problem+json"),
        (status = 503, body = schema::ProblemDetails, content_type = "application/problem+json"),
    ),
    tag = "admin",
    security(("bearer" = []))
)]
#[delete("/admin/dead-letters/{id}")]
pub async fn discard(
    state: web::Data<AppState>,
    caller: AdminSteppedUp,
    path: web::Path<String>,
    query: web::Query<DiscardQuery>,
) -> Result<HttpResponse, Problem> {
    let id = letter_id(&path)?;
    let given = query.into_inner().reason.unwrap_or_default();
    let reason = check_reason(&given).map_err(|why| Problem::field("?reason", "invalid", why))?.to_owned();
    let (by, act) = (Some(caller.user), caller.act(&state));
    let outcome = state.db.run(move |tx| tx.discard_letter(&act, by, id, &reason)).await?;
    done(outcome)?;
    Ok(HttpResponse::NoContent().finish())
}
