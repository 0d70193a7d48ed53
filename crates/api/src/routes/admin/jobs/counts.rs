//! `GET /admin/jobs/counts`.

use actix_web::{HttpResponse, get, web};
use plimsoll_core_domain::views::At;
use serde::Serialize;
use utoipa::ToSchema;

use crate::body::NoQuery;
use crate::caller::AdminCaller;
use crate::problem::Problem;
use crate::schema;
use crate::state::AppState;

/// How many jobs of a kind stand where.
#[derive(Debug, Serialize, ToSchema)]
#[schema(as = JobCount)]
pub struct JobCountView {
    queue: String,
    kind: String,
    /// `ready`, `leased`, `held` or `dead`.
    state: &'static str,
    jobs: u64,
    /// When the first of them was or is due; of dead ones, when the first was given up.
    #[schema(value_type = DateTime<Utc>)]
    oldest: At,
}

/// The numbers of open jobs and open dead letters.
#[derive(Debug, Serialize, ToSchema)]
#[schema(as = JobCounts)]
pub struct JobCountsView {
    items: Vec<JobCountView>,
}

/// How many jobs of each kind are open, and how many dead letters nothing became of yet.
#[utoipa::path(
    responses(
        (status = 200, body = JobCountsView),
        (status = 401, body = schema::ProblemDetails, content_type = "application/problem+json"),
        (status = 403, body = schema::ProblemDetails, content_type = "application/problem+json"),
        (status = 422, body = schema::ProblemDetails, content_type = "application/problem+json"),
        (status = 429, body = schema::ProblemDetails, content_type = "application/problem+json"),
        (status = 503, body = schema::ProblemDetails, content_type = "application/problem+json"),
    ),
    tag = "admin",
    security(("bearer" = []))
)]
#[get("/admin/jobs/counts")]
pub async fn counts(
    state: web::Data<AppState>,
    _: AdminCaller,
    _: web::Query<NoQuery>,
) -> Result<HttpResponse, Problem> {
    let counts = state.db.read(|tx| tx.job_counts()).await?;
    let items = counts
        .into_iter()
        .map(|count| JobCountView {
            queue: count.queue,
            kind: count.kind,
            state: count.state.as_str(),
            jobs: count.jobs,
            oldest: At(count.oldest),
        })
        .collect();
    Ok(HttpResponse::Ok().json(JobCountsView { items }))
}
