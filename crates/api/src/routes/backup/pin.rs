//! `PATCH /backup/{name}`.

use actix_web::{HttpResponse, patch, web};
use serde::Deserialize;
use utoipa::ToSchema;

use super::{BackupView, blocking, desk, name, record};
use crate::body::{Body, NoQuery};
use crate::caller::AdminSteppedUp;
use crate::problem::Problem;
use crate::schema;
use crate::state::AppState;

/// What to change about a backup.
#[derive(Debug, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct PatchBackup {
    /// Whether retention leaves it alone.
    pinned: bool,
}

/// Keeps a backup whatever its age, or lets it age again.
#[utoipa::path(
    params(("name" = String, Path, description = "The backup's name.")),
    request_body = PatchBackup,
    responses(
        (status = 200, body = BackupView),
        (status = 400, body = schema::ProblemDetails, content_type = "application/problem+json"),
        (status = 401, body = schema::ProblemDetails, content_type = "application/problem+json"),
        (status = 403, body = schema::ProblemDetails, content_type = "application/problem+json"),
        (status = 404, body = schema::ProblemDetails, content_type = "application/problem+json"),
        (status = 413, body = schema::ProblemDetails, content_type = "application/problem+json"),
        (status = 415, body = schema::ProblemDetails, content_type = "application/problem+json"),
        (status = 422, body = schema::ProblemDetails, content_type = "application/problem+json"),
        (status = 429, body = schema::ProblemDetails, content_type = "application/problem+json"),
        (status = 503, body = schema::ProblemDetails, content_type = "application/problem+json"),
    ),
    tag = "backup",
    security(("bearer" = []))
)]
#[patch("/backup/{name}")]
pub async fn pin(
    state: web::Data<AppState>,
    caller: AdminSteppedUp,
    path: web::Path<String>,
    _: web::Query<NoQuery>,
    body: Body<PatchBackup>,
) -> Result<HttpResponse, Problem> {
    let (name, pinned, desk) = (name(&path)?, body.value.pinned, desk(&state)?);
    let detail = serde_json::json!({ "backup": name.as_str(), "pinned": pinned });
    let item = blocking(move || desk.pin(&name, pinned)).await?;
    record(&state, &caller, "backup.pin", detail).await?;
    Ok(HttpResponse::Ok().json(BackupView::from(item)))
}
