//! Jobs, for administrators.

pub mod counts;
pub mod list;

use plimsoll_core_domain::UserId;
use plimsoll_core_domain::views::At;
use plimsoll_reliability::jobs::{JobRecord, redacted};
use serde::Serialize;
use utoipa::ToSchema;

use crate::problem::Problem;

/// A job as administrators see one.
#[derive(Debug, Serialize, ToSchema)]
#[schema(as = Job)]
pub struct JobView {
    /// Its id.
    id: i64,
    /// Which workers do it.
    queue: String,
    /// What is to be done.
    kind: String,
    /// `ready`, `leased`, `done`, `dead`, `cancelled` or `held`.
    state: &'static str,
    /// Smaller goes first.
    priority: i16,
    /// Not before.
    #[schema(value_type = DateTime<Utc>)]
    run_at: At,
    /// Attempts that were begun and count.
    attempt: u32,
    /// The last one that will be made.
    max_attempts: u32,
    /// How often in a row a worker vanished with it.
    crash_count: u32,
    /// At most one open job of a kind has this key.
    dedup_key: Option<String>,
    /// Without what could be a secret: of texts that are no ids, numbers or times only the length is left.
    #[schema(value_type = Object)]
    payload: serde_json::Value,
    /// Of the last failure.
    last_error: Option<String>,
    /// The dead letter that it replays.
    parent_id: Option<i64>,
    /// When it was asked for.
    #[schema(value_type = DateTime<Utc>)]
    created_at: At,
    /// When it ended.
    #[schema(value_type = Option<DateTime<Utc>>)]
    finished_at: Option<At>,
    /// What became of a dead letter: `replayed` or `discarded`.
    resolution: Option<&'static str>,
    /// When.
    #[schema(value_type = Option<DateTime<Utc>>)]
    resolved_at: Option<At>,
    /// The administrator; null for an operator at the command line.
    #[schema(value_type = Option<i64>)]
    resolved_by: Option<UserId>,
    /// Why it was discarded.
    resolution_reason: Option<String>,
    /// The job that replays it.
    replay_id: Option<i64>,
}

impl From<&JobRecord> for JobView {
    fn from(job: &JobRecord) -> Self {
        let resolved = job.resolved.as_ref();
        Self {
            id: job.id.0,
            queue: job.queue.clone(),
            kind: job.kind.clone(),
            state: job.state.as_str(),
            priority: job.priority,
            run_at: At(job.run_at),
            attempt: job.attempt,
            max_attempts: job.max_attempts,
            crash_count: job.crash_count,
            dedup_key: job.dedup_key.clone(),
            payload: redacted(&job.payload),
            last_error: job.last_error.clone(),
            parent_id: job.parent.map(|id| id.0),
            created_at: At(job.created_at),
            finished_at: job.finished_at.map(At),
            resolution: resolved.map(|resolved| resolved.how.as_str()),
            resolved_at: resolved.map(|resolved| At(resolved.at)),
            resolved_by: resolved.and_then(|resolved| resolved.by),
            resolution_reason: resolved.and_then(|resolved| resolved.reason.clone()),
            replay_id: resolved.and_then(|resolved| resolved.replay).map(|id| id.0),
        }
    }
}

/// A page of jobs.
#[derive(Debug, Serialize, ToSchema)]
#[schema(as = JobList)]
pub struct JobListView {
    items: Vec<JobView>,
    next_cursor: Option<String>,
}

/// Checks the name of a queue or kind in a query or body.
///
/// # Errors
/// 422 at `pointer` for a text that can be none.
pub(super) fn name(pointer: &str, text: Option<String>) -> Result<Option<String>, Problem> {
    let good = |text: &String| {
        !text.is_empty() && text.len() <= 64 && text.bytes().all(|byte| byte.is_ascii_graphic())
    };
    match text {
        Some(text) if !good(&text) => {
            Err(Problem::field(pointer, "invalid", "must be a word of at most 64 characters"))
        }
        text => Ok(text),
    }
}
