//! Dead letters: jobs that were given up, for administrators.

pub mod discard;
pub mod get;
pub mod list;
pub mod replay;
pub mod replay_many;

use plimsoll_core_domain::views::At;
use plimsoll_reliability::jobs::JobId;
use plimsoll_storage::jobs::ReplayJob;
use plimsoll_storage::platform::letters::LetterDone;
use serde::Serialize;
use utoipa::ToSchema;

use crate::problem::Problem;

/// The longest text to search for.
const MAX_SEARCH_CHARS: usize = 200;

/// The job that replays a dead letter.
#[derive(Debug, Serialize, ToSchema)]
#[schema(as = Replay)]
pub struct ReplayView {
    /// The dead letter.
    id: i64,
    /// The job.
    replay_id: i64,
    /// When it is due.
    #[schema(value_type = DateTime<Utc>)]
    run_at: At,
}

impl From<ReplayJob> for ReplayView {
    fn from(replay: ReplayJob) -> Self {
        Self { id: replay.letter.0, replay_id: replay.job.0, run_at: At(replay.run_at) }
    }
}

fn no_letter() -> Problem {
    Problem::new("not_found", "there is no such dead letter")
}

/// A letter's id in a path; text that is none names nothing.
fn letter_id(text: &str) -> Result<JobId, Problem> {
    text.parse().map(JobId).map_err(|_| no_letter())
}

/// What was done, or why not.
fn done<T>(outcome: LetterDone<T>) -> Result<T, Problem> {
    match outcome {
        LetterDone::Done(done) => Ok(done),
        LetterDone::Refused(why) => Err(Problem::new("business_rule", why.as_str())),
        LetterDone::Resolved(how) => {
            Err(Problem::new("duplicate", format!("the dead letter was {how} already")))
        }
        LetterDone::NotFound => Err(no_letter()),
    }
}

/// Checks a part of an error to look for.
fn part(pointer: &str, text: Option<String>) -> Result<Option<String>, Problem> {
    let bad = |text: &String| text.chars().count() > MAX_SEARCH_CHARS || text.contains('\0');
    if text.as_ref().is_some_and(bad) {
        return Err(Problem::field(pointer, "invalid", "must have at most 200 characters, none of them NUL"));
    }
    Ok(text.filter(|text| !text.is_empty()))
}
