//! `GET /reconciliation/runs/{id}`.

use actix_web::{HttpRequest, HttpResponse, get, web};

use super::{AccountQuery, ReportView, Whose};
use crate::problem::Problem;
use crate::schema;
use crate::state::AppState;

pub(super) fn no_run() -> Problem {
    Problem::new("not_found", "there is no such run")
}

/// A comparison with everything that it found.
#[utoipa::path(
    params(("id" = String, Path, description = "The run's id."), AccountQuery),
    responses(
        (status = 200, body = ReportView),
        (status = 401, body = schema::ProblemDetails, content_type = "application/problem+json"),
        (status = 403, body = schema::ProblemDetails, content_type = "application/problem+json"),
        (status = 404, body = schema::ProblemDetails, content_type = "application/problem+json"),
        (status = 422, body = schema::ProblemDetails, content_type = "application/problem+json"),
        (status = 429, body = schema::ProblemDetails, content_type = "application/problem+json"),
        (status = 503, body = schema::ProblemDetails, content_type = "application/problem+json"),
    ),
    tag = "reconciliation",
    security(("bearer" = []))
)]
#[get("/reconciliation/runs/{id}")]
pub async fn get(
    state: web::Data<AppState>,
    request: HttpRequest,
    path: web::Path<String>,
    query: web::Query<AccountQuery>,
) -> Result<HttpResponse, Problem> {
    let whose = Whose::of(&state, &request, query.account).await?;
    let id = path.parse().map_err(|_| no_run())?;
    let user = whose.user;
    let row = state.db.read(move |tx| tx.run_of(user, id)).await?;
    let row = row.filter(|row| whose.wants(row.account_id)).ok_or_else(no_run)?;
    Ok(HttpResponse::Ok().json(ReportView::new(row)?))
}
