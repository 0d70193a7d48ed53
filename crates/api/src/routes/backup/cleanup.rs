//! `POST /backup/cleanup`.

use actix_web::{HttpResponse, post, web};

use super::{BegunView, ask};
use crate::backups::BackupWork;
use crate::body::NoQuery;
use crate::caller::AdminSteppedUp;
use crate::problem::Problem;
use crate::schema;
use crate::state::AppState;

/// Deletes backups that are older or more than the settings keep.
#[utoipa::path(
    responses(
        (status = 202, body = BegunView),
        (status = 401, body = schema::ProblemDetails, content_type = "application/problem+json"),
        (status = 403, body = schema::ProblemDetails, content_type = "application/problem+json"),
        (status = 409, body = schema::ProblemDetails, content_type = "application/problem+json"),
        (status = 429, body = schema::ProblemDetails, content_type = "application/problem+json"),
        (status = 503, body = schema::ProblemDetails, content_type = "application/problem+json"),
    ),
    tag = "backup",
    security(("bearer" = []))
)]
#[post("/backup/cleanup")]
pub async fn cleanup(
    state: web::Data<AppState>,
    caller: AdminSteppedUp,
    _: web::Query<NoQuery>,
) -> Result<HttpResponse, Problem> {
    let id = state.ids.request_id();
    let detail = serde_json::json!({ "job": id });
    ask(&state, &caller, id, BackupWork::Cleanup, "backup.cleanup", detail).await
}
