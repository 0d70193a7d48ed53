//! `POST /backup/undo`.

use actix_web::{HttpResponse, post, web};
use serde::Deserialize;
use utoipa::ToSchema;

use super::{BegunView, ask, confirmed, desk};
use crate::backups::BackupWork;
use crate::body::{Body, NoQuery};
use crate::caller::AdminSteppedUp;
use crate::problem::Problem;
use crate::schema;
use crate::state::AppState;

/// That it is meant.
#[derive(Debug, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct UndoRestore {
    /// The name of the database that is to be replaced.
    confirm: String,
}

/// Swaps back what was live before the last restore of the last seven days.
#[utoipa::path(
    request_body = UndoRestore,
    responses(
        (status = 202, body = BegunView),
        (status = 400, body = schema::ProblemDetails, content_type = "application/problem+json"),
        (status = 401, body = schema::ProblemDetails, content_type = "application/problem+json"),
        (status = 403, body = schema::ProblemDetails, content_type = "application/problem+json"),
        (status = 409, body = schema::ProblemDetails, content_type = "application/problem+json"),
        (status = 413, body = schema::ProblemDetails, content_type = "application/problem+json"),
        (status = 415, body = schema::ProblemDetails, content_type = "application/problem+json"),
        (status = 422, body = schema::ProblemDetails, content_type = "application/problem+json"),
        (status = 429, body = schema::ProblemDetails, content_type = "application/problem+json"),
        (status = 503, body = schema::ProblemDetails, content_type = "application/problem+json"),
    ),
    tag = "backup",
    security(("bearer" = []))
)]
#[post("/backup/undo")]
pub async fn undo(
    state: web::Data<AppState>,
    caller: AdminSteppedUp,
    _: web::Query<NoQuery>,
    body: Body<UndoRestore>,
) -> Result<HttpResponse, Problem> {
    confirmed(&*desk(&state)?, &body.value.confirm)?;
    let id = state.ids.request_id();
    let detail = serde_json::json!({ "job": id });
    ask(&state, &caller, id, BackupWork::Undo, "backup.undo", detail).await
}
