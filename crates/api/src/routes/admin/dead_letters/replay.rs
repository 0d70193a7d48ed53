//! `POST /admin/dead-letters/{id}/replay`.

use actix_web::http::StatusCode;
use actix_web::{HttpResponse, post, web};
use plimsoll_storage::Tx;

use super::{ReplayView, done, letter_id};
use crate::body::NoQuery;
use crate::caller::AdminSteppedUp;
use crate::idempotent::{Asked, OptionalKey, reply};
use crate::problem::Problem;
use crate::schema;
use crate::state::AppState;

/// Replays a dead letter: a new job does its work, with the same key and payload, so that what was done already is not done
/// again. One that would send an order after its deadline is refused.
#[utoipa::path(
    params(("id" = String, Path, description = "The dead letter's id."), ("Idempotency-Key" = Option<String>, Header)),
    responses(
        (status = 201, body = ReplayView),
        (status = 400, body = schema::ProblemDetails, content_type = "application/problem+json"),
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
    key: OptionalKey,
    path: web::Path<String>,
    _: web::Query<NoQuery>,
) -> Result<HttpResponse, Problem> {
    let id = letter_id(&path)?;
    let (by, act) = (Some(caller.user), caller.act(&state));
    let path = format!("/admin/dead-letters/{}/replay", id.0);
    let asked =
        Asked { route: "POST /admin/dead-letters/{id}/replay", path: &path, body: b"", secret: false };
    let replayed = move |tx: &mut Tx<'_>| {
        let outcome = tx.replay_letter(&act, by, id)?;
        reply(StatusCode::CREATED, &ReplayView::from(done(outcome)?))
    };
    key.run(&state, caller.user, asked, replayed).await
}
