//! `GET /backup/list`.

use actix_web::{HttpResponse, get, web};
use serde::Serialize;
use utoipa::ToSchema;

use super::{BackupView, blocking, desk};
use crate::body::NoQuery;
use crate::caller::AdminSteppedUp;
use crate::problem::Problem;
use crate::schema;
use crate::state::AppState;

/// All backups, newest first.
#[derive(Debug, Serialize, ToSchema)]
#[schema(as = Backups)]
pub struct BackupsView {
    /// At most as many as are kept.
    items: Vec<BackupView>,
    /// Always null: they are all here.
    next_cursor: Option<String>,
}

/// Lists all backups, newest first. Files that cannot be read are not among them.
#[utoipa::path(
    responses(
        (status = 200, body = BackupsView),
        (status = 401, body = schema::ProblemDetails, content_type = "application/problem+json"),
        (status = 403, body = schema::ProblemDetails, content_type = "application/problem+json"),
        (status = 429, body = schema::ProblemDetails, content_type = "application/problem+json"),
        (status = 503, body = schema::ProblemDetails, content_type = "application/problem+json"),
    ),
    tag = "backup",
    security(("bearer" = []))
)]
#[get("/backup/list")]
pub async fn list(
    state: web::Data<AppState>,
    _: AdminSteppedUp,
    _: web::Query<NoQuery>,
) -> Result<HttpResponse, Problem> {
    let desk = desk(&state)?;
    let items = blocking(move || desk.list()).await?;
    let items = items.into_iter().map(BackupView::from).collect();
    Ok(HttpResponse::Ok().json(BackupsView { items, next_cursor: None }))
}
