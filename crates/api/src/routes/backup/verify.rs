//! `POST /backup/verify/{name}`.

use actix_web::{HttpResponse, post, web};
use serde::Deserialize;
use utoipa::ToSchema;

use super::{BegunView, ask, blocking, desk, name};
use crate::backups::BackupWork;
use crate::body::{Body, NoQuery};
use crate::caller::AdminSteppedUp;
use crate::problem::Problem;
use crate::schema;
use crate::state::AppState;

/// How far to verify.
#[derive(Debug, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct VerifyBackup {
    /// Also restore it into a database of its own, look at that, and drop it.
    #[serde(default)]
    rehearse: bool,
}

/// Reads a backup whole and checks every chunk, row count and checksum.
#[utoipa::path(
    params(("name" = String, Path, description = "The backup's name.")),
    request_body = VerifyBackup,
    responses(
        (status = 202, body = BegunView),
        (status = 400, body = schema::ProblemDetails, content_type = "application/problem+json"),
        (status = 401, body = schema::ProblemDetails, content_type = "application/problem+json"),
        (status = 403, body = schema::ProblemDetails, content_type = "application/problem+json"),
        (status = 404, body = schema::ProblemDetails, content_type = "application/problem+json"),
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
#[post("/backup/verify/{name}")]
pub async fn verify(
    state: web::Data<AppState>,
    caller: AdminSteppedUp,
    path: web::Path<String>,
    _: web::Query<NoQuery>,
    body: Body<VerifyBackup>,
) -> Result<HttpResponse, Problem> {
    let (name, rehearse) = (name(&path)?, body.value.rehearse);
    let (desk, wanted) = (desk(&state)?, name.clone());
    blocking(move || desk.item(&wanted)).await?;
    let id = state.ids.request_id();
    let detail = serde_json::json!({ "job": id, "backup": name.as_str(), "rehearse": rehearse });
    ask(&state, &caller, id, BackupWork::Verify { name, rehearse }, "backup.verify", detail).await
}
