//! `POST /backup/create`.

use actix_web::{HttpResponse, post, web};
use serde::Deserialize;
use utoipa::ToSchema;

use super::{BegunView, ask, job_of};
use crate::backups::BackupWork;
use crate::body::{Body, NoQuery};
use crate::caller::AdminSteppedUp;
use crate::idempotent::RequiredKey;
use crate::problem::Problem;
use crate::schema;
use crate::state::AppState;

const LONGEST: usize = 200;

/// What to remember about a backup.
#[derive(Debug, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct CreateBackup {
    /// One line of at most 200 characters.
    #[schema(max_length = 200)]
    description: Option<String>,
    /// Retention leaves it alone.
    #[serde(default)]
    pinned: bool,
}

/// Makes a backup. It counts, and is listed, once it was read back whole.
#[utoipa::path(
    params(("Idempotency-Key" = String, Header, description = "One per backup that is wanted.")),
    request_body = CreateBackup,
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
#[post("/backup/create")]
pub async fn create(
    state: web::Data<AppState>,
    caller: AdminSteppedUp,
    key: RequiredKey,
    _: web::Query<NoQuery>,
    body: Body<CreateBackup>,
) -> Result<HttpResponse, Problem> {
    let CreateBackup { description, pinned } = body.value;
    let bad = |text: &String| text.chars().count() > LONGEST || text.chars().any(char::is_control);
    if description.as_ref().is_some_and(bad) {
        let detail = "must be one line of at most 200 characters";
        return Err(Problem::field("/description", "invalid", detail));
    }
    let id = job_of(caller.user, "create", &key.0);
    let detail = serde_json::json!({ "job": id, "description": description, "pinned": pinned });
    let work = BackupWork::Create { description, pinned };
    ask(&state, &caller, id, work, "backup.create", detail).await
}
