//! `POST /admin/dead-letters/{id}/replay`.

use actix_web::{HttpResponse, post, web};

use super::{ReplayView, done, letter_id};
use crate::body::NoQuery;
use crate::caller::AdminSteppedUp;
use crate::problem::Problem;
use crate::schema;
use crate::state::AppState;

/// Replays a dead letter: a new job does its work, with the same key and payload, so that what was done already is not done
/// again. One that would send an order after its deadline is refused.
#[utoipa::path(
    params(("id" = String, Path, description = "The dead letter's id.")),
    responses(
        (status = 201, body = ReplayView),
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
#[post("/admin/dead-letters/{id}/replay")]
pub async fn replay(
    state: web::Data<AppState>,
    caller: AdminSteppedUp,
    path: web::Path<String>,
    _: web::Query<NoQuery>,
) -> Result<HttpResponse, Problem> {
    let id = letter_id(&path)?;
    let (by, act) = (Some(caller.user), caller.act(&state));
    let outcome = state.db.run(move |tx| tx.replay_letter(&act, by, id)).await?;
    Ok(HttpResponse::Created().json(ReplayView::from(done(outcome)?)))
}
