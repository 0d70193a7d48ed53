//! `POST /admin/dead-letters/replay`.

use std::time::Duration;

use actix_web::{HttpResponse, post, web};
use chrono::{DateTime, Utc};
use plimsoll_core_domain::views::At;
use plimsoll_reliability::jobs::{JobId, LetterFilter};
use plimsoll_storage::platform::letters::ReplayRange;
use serde::{Deserialize, Serialize};
use utoipa::{IntoParams, ToSchema};

use super::part;
use crate::body::Body;
use crate::caller::AdminSteppedUp;
use crate::problem::Problem;
use crate::routes::admin::jobs::name;
use crate::schema;
use crate::state::AppState;

/// Letters of one transaction.
const AT_ONCE: usize = 200;
/// Letters replayed by one request, unless it says otherwise.
const DEFAULT_LIMIT: usize = 1_000;
/// Letters replayed by one request, at most.
const MAX_LIMIT: usize = 10_000;
/// Replays that come due in a second, unless the request says otherwise.
const DEFAULT_RATE: u32 = 10;
/// Replays that come due in a second, at most.
const MAX_RATE: u32 = 100;
/// Refusals that an answer names.
const MAX_REFUSED: usize = 100;

/// Whether to do it.
#[derive(Debug, Deserialize, IntoParams)]
#[serde(deny_unknown_fields)]
pub struct ReplayQuery {
    /// Only say what would be done.
    #[serde(default)]
    dry_run: bool,
}

/// Which dead letters to replay, and how fast. Without a filter: all that nothing became of yet.
#[derive(Debug, Default, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct ReplayLetters {
    /// Of this queue.
    queue: Option<String>,
    /// Of this kind.
    kind: Option<String>,
    /// A part of the last error, in any case.
    error: Option<String>,
    /// Given up at or after.
    from: Option<DateTime<Utc>>,
    /// Given up before.
    to: Option<DateTime<Utc>>,
    /// At most so many letters, 1 to 10,000; 1,000 by default. The oldest go first.
    limit: Option<usize>,
    /// Replays that come due in a second, 1 to 100; 10 by default.
    per_second: Option<u32>,
}

/// A dead letter that was not replayed.
#[derive(Debug, Serialize, ToSchema)]
#[schema(as = RefusedReplay)]
pub struct RefusedView {
    /// The dead letter.
    id: i64,
    /// Why not.
    reason: &'static str,
}

/// What was done, or with `dry_run` would be.
#[derive(Debug, Default, Serialize, ToSchema)]
#[schema(as = Replays)]
pub struct ReplaysView {
    /// Whether nothing was done.
    dry_run: bool,
    /// Letters that fit the filter.
    matched: usize,
    /// Jobs that do their work.
    replayed: usize,
    /// Letters that cannot be replayed.
    refused: usize,
    /// The first hundred of them.
    refusals: Vec<RefusedView>,
    /// When the last of the jobs is due.
    #[schema(value_type = Option<DateTime<Utc>>)]
    last_run_at: Option<At>,
}

/// Replays the dead letters that fit a filter, oldest first, spread over time: each replay comes due after those that wait
/// already. Letters that die meanwhile are left alone. What a request that was cut off had done stays done; the same request
/// goes on where it ended.
#[utoipa::path(
    params(ReplayQuery),
    request_body = ReplayLetters,
    responses(
        (status = 200, body = ReplaysView),
        (status = 400, body = schema::ProblemDetails, content_type = "application/problem+json"),
        (status = 401, body = schema::ProblemDetails, content_type = "application/problem+json"),
        (status = 403, body = schema::ProblemDetails, content_type = "application/problem+json"),
        (status = 413, body = schema::ProblemDetails, content_type = "application/problem+json"),
        (status = 415, body = schema::ProblemDetails, content_type = "application/problem+json"),
        (status = 422, body = schema::ProblemDetails, content_type = "application/problem+json"),
        (status = 429, body = schema::ProblemDetails, content_type = "application/problem+json"),
        (status = 503, body = schema::ProblemDetails, content_type = "application/problem+json"),
    ),
    tag = "admin",
    security(("bearer" = []))
)]
#[post("/admin/dead-letters/replay")]
pub async fn replay_many(
    state: web::Data<AppState>,
    caller: AdminSteppedUp,
    query: web::Query<ReplayQuery>,
    body: Body<ReplayLetters>,
) -> Result<HttpResponse, Problem> {
    let (asked, dry_run) = (body.value, query.dry_run);
    let most = asked.limit.unwrap_or(DEFAULT_LIMIT);
    if !(1..=MAX_LIMIT).contains(&most) {
        return Err(Problem::field("/limit", "out_of_range", "must be from 1 to 10000"));
    }
    let rate = asked.per_second.unwrap_or(DEFAULT_RATE);
    if !(1..=MAX_RATE).contains(&rate) {
        return Err(Problem::field("/per_second", "out_of_range", "must be from 1 to 100"));
    }
    let filter = LetterFilter {
        queue: name("/queue", asked.queue)?,
        kind: name("/kind", asked.kind)?,
        error: part("/error", asked.error)?,
        from: asked.from,
        to: asked.to,
    };
    let mut all = ReplaysView { dry_run, ..ReplaysView::default() };
    let Some(up_to) = state.db.read(|tx| tx.newest_letter()).await? else {
        return Ok(HttpResponse::Ok().json(all));
    };
    let pace = Duration::from_secs(1) / rate;
    let mut after = Some(JobId(0));
    while let Some(from) = after.filter(|_| all.matched < most) {
        let range = ReplayRange { after: from, up_to, most: AT_ONCE.min(most - all.matched), pace };
        let (by, act, filter) = (Some(caller.user), caller.act(&state), filter.clone());
        let done = state.db.run(move |tx| tx.replay_letters(&act, by, &filter, &range, dry_run)).await?;
        all.matched += done.matched;
        all.replayed += done.replayed;
        all.refused += done.refused.len();
        let room = MAX_REFUSED - all.refusals.len();
        let named = done.refused.iter().take(room);
        all.refusals.extend(named.map(|(id, why)| RefusedView { id: id.0, reason: why.as_str() }));
        all.last_run_at = done.last_run_at.map(At).or(all.last_run_at);
        after = done.next;
    }
    Ok(HttpResponse::Ok().json(all))
}
