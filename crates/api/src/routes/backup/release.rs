//! `POST /backup/release`.

use actix_web::{HttpResponse, post, web};
use plimsoll_core_domain::StoreError;
use plimsoll_core_domain::audit::AuditOutcome;
use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

use crate::body::{Body, NoQuery};
use crate::caller::AdminSteppedUp;
use crate::problem::Problem;
use crate::schema;
use crate::state::AppState;

/// Kinds in one request.
const MOST: usize = 100;

/// Which jobs.
#[derive(Debug, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct ReleaseJobs {
    /// Kinds of jobs, at most 100; none: only say what is held.
    #[schema(max_items = 100)]
    kinds: Vec<String>,
}

/// Jobs of one kind.
#[derive(Debug, Serialize, ToSchema)]
#[schema(as = HeldJobs)]
pub struct HeldView {
    /// The kind.
    kind: String,
    /// How many are held still.
    jobs: i64,
}

/// What became of held jobs.
#[derive(Debug, Serialize, ToSchema)]
#[schema(as = ReleasedJobs)]
pub struct ReleasedView {
    /// They run now.
    released: u64,
    /// Mails that were too old to be sent.
    dropped: u64,
    /// What is held still.
    held: Vec<HeldView>,
}

/// Lets jobs run that came with a restore and were held. An order whose deadline has passed is not sent; mails older than an
/// hour are dropped.
#[utoipa::path(
    request_body = ReleaseJobs,
    responses(
        (status = 200, body = ReleasedView),
        (status = 400, body = schema::ProblemDetails, content_type = "application/problem+json"),
        (status = 401, body = schema::ProblemDetails, content_type = "application/problem+json"),
        (status = 403, body = schema::ProblemDetails, content_type = "application/problem+json"),
        (status = 413, body = schema::ProblemDetails, content_type = "application/problem+json"),
        (status = 415, body = schema::ProblemDetails, content_type = "application/problem+json"),
        (status = 422, body = schema::ProblemDetails, content_type = "application/problem+json"),
        (status = 429, body = schema::ProblemDetails, content_type = "application/problem+json"),
        (status = 503, body = schema::ProblemDetails, content_type = "application/problem+json"),
    ),
    tag = "backup",
    security(("bearer" = []))
)]
#[post("/backup/release")]
pub async fn release(
    state: web::Data<AppState>,
    caller: AdminSteppedUp,
    _: web::Query<NoQuery>,
    body: Body<ReleaseJobs>,
) -> Result<HttpResponse, Problem> {
    let kinds = body.value.kinds;
    if kinds.len() > MOST || kinds.iter().any(|kind| kind.len() > MOST || kind.contains('\0')) {
        return Err(Problem::field("/kinds", "out_of_range", "must be at most 100 kinds of jobs"));
    }
    let (by, act, now) = (Some(caller.user), caller.act(&state), state.clock.now());
    let (released, held) = state
        .db
        .run(move |tx| {
            let released = tx.release_held_jobs(&kinds, now)?;
            let detail = serde_json::json!({
                "kinds": kinds, "released": released.released, "dropped": released.dropped,
            });
            tx.append_audit(by, &act.entry("backup.release", AuditOutcome::Success, by, by, detail))?;
            Ok::<_, StoreError>((released, tx.held_jobs()?))
        })
        .await?;
    let held = held.into_iter().map(|held| HeldView { kind: held.kind, jobs: held.jobs }).collect();
    let (released, dropped) = (released.released, released.dropped);
    Ok(HttpResponse::Ok().json(ReleasedView { released, dropped, held }))
}
