//! Jobs as operators see them: what is open, what was given up, and what became of it.

use std::fmt;
use std::str::FromStr;

use chrono::{DateTime, Utc};
use plimsoll_core_domain::UserId;
use rust_decimal::Decimal;
use serde_json::{Map, Value};
use uuid::Uuid;

use super::types::{JobId, JobState};

/// What became of a dead letter.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Resolution {
    /// Another job does its work.
    Replayed,
    /// An operator gave a reason why nobody has to.
    Discarded,
}

impl Resolution {
    /// The word in the store.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Replayed => "replayed",
            Self::Discarded => "discarded",
        }
    }
}

/// Not a resolution.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("must be replayed or discarded")]
pub struct UnknownResolution;

impl FromStr for Resolution {
    type Err = UnknownResolution;
    fn from_str(text: &str) -> Result<Self, UnknownResolution> {
        [Self::Replayed, Self::Discarded]
            .into_iter()
            .find(|one| one.as_str() == text)
            .ok_or(UnknownResolution)
    }
}

impl fmt::Display for Resolution {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

/// How a dead letter was resolved.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Resolved {
    /// What became of it.
    pub how: Resolution,
    /// When, by the store's clock.
    pub at: DateTime<Utc>,
    /// Who did it; `None`: an operator at the command line.
    pub by: Option<UserId>,
    /// Why, for one that was discarded.
    pub reason: Option<String>,
    /// The job that replays it.
    pub replay: Option<JobId>,
}

/// A job's row, as it stands.
#[derive(Clone, Debug, PartialEq)]
pub struct JobRecord {
    /// Its id.
    pub id: JobId,
    /// Which workers do it.
    pub queue: String,
    /// Which handler does it.
    pub kind: String,
    /// Where it stands.
    pub state: JobState,
    /// Smaller goes first.
    pub priority: i16,
    /// Not before.
    pub run_at: DateTime<Utc>,
    /// Attempts that were begun and count.
    pub attempt: u32,
    /// The last one that will be made.
    pub max_attempts: u32,
    /// How often in a row a worker vanished with it.
    pub crash_count: u32,
    /// Its key.
    pub dedup_key: Option<String>,
    /// As it was inserted: for handlers. People see [`redacted`].
    pub payload: Value,
    /// Of the last failure.
    pub last_error: Option<String>,
    /// The last ten failures, oldest first: objects with `at`, `attempt` and `error`.
    pub errors: Value,
    /// The dead letter that it replays.
    pub parent: Option<JobId>,
    /// When it was inserted.
    pub created_at: DateTime<Utc>,
    /// When it ended.
    pub finished_at: Option<DateTime<Utc>>,
    /// What became of a dead letter; `None`: nothing yet.
    pub resolved: Option<Resolved>,
}

/// Which dead letters; each field that is `None` lets everything pass.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct LetterFilter {
    /// Of this queue.
    pub queue: Option<String>,
    /// Of this kind.
    pub kind: Option<String>,
    /// A part of the last error, in any case.
    pub error: Option<String>,
    /// Given up at or after.
    pub from: Option<DateTime<Utc>>,
    /// Given up before.
    pub to: Option<DateTime<Utc>>,
}

/// Which jobs; each field that is `None` lets everything pass.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct JobFilter {
    /// Of this queue.
    pub queue: Option<String>,
    /// Of this kind.
    pub kind: Option<String>,
    /// In this state.
    pub state: Option<JobState>,
}

/// How many jobs of a kind stand where. What is done is not counted, nor what became of dead letters.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct JobCount {
    /// The queue.
    pub queue: String,
    /// The kind.
    pub kind: String,
    /// Ready, leased, held or dead.
    pub state: JobState,
    /// How many.
    pub jobs: u64,
    /// When the first of them was or is due; of dead ones, when the first was given up.
    pub oldest: DateTime<Utc>,
}

/// A payload for people: its names, numbers, booleans, and such texts as are ids, numbers or times. Of any other text only
/// the length is left.
#[must_use]
pub fn redacted(payload: &Value) -> Value {
    match payload {
        Value::String(text) if is_plain(text) => payload.clone(),
        Value::String(text) => Value::String(format!("*** ({} characters)", text.chars().count())),
        Value::Array(items) => Value::Array(items.iter().map(redacted).collect()),
        Value::Object(fields) => {
            let shown: Map<_, _> =
                fields.iter().map(|(name, value)| (name.clone(), redacted(value))).collect();
            Value::Object(shown)
        }
        Value::Null | Value::Bool(_) | Value::Number(_) => payload.clone(),
    }
}

/// Whether a text can be no secret: a UUID, a short number with a point (one without could be a code), a time.
fn is_plain(text: &str) -> bool {
    let number = text.len() <= 12 && text.contains('.') && text.parse::<Decimal>().is_ok();
    number
        || (text.len() == 36 && Uuid::try_parse(text).is_ok())
        || DateTime::parse_from_rfc3339(text).is_ok()
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn what_could_be_a_secret_is_not_shown() {
        let payload = json!({
            "order_id": "0196a6b0-1111-7222-8333-444455556666", "account_id": 7, "qty": "10.5", "late": true,
            "none": null, "at": "2026-11-24T10:00:00Z", "email": "ann@example.com", "code": "123456",
            "token": "plm_0196a6b0-1111-7222-8333-444455556666", "list": ["2.0", "word", {"deep": "secret"}],
        });
        let shown = json!({
            "order_id": "0196a6b0-1111-7222-8333-444455556666", "account_id": 7, "qty": "10.5", "late": true,
            "none": null, "at": "2026-11-24T10:00:00Z", "email": "*** (15 characters)", "code": "*** (6 characters)",
            "token": "*** (40 characters)", "list": ["2.0", "*** (4 characters)", {"deep": "*** (6 characters)"}],
        });
        assert_eq!(redacted(&payload), shown);
        // A payload that is a text of its own, and one in thirty-two digits.
        assert_eq!(redacted(&json!("päss")), json!("*** (4 characters)"));
        assert_eq!(redacted(&json!("0196a6b0111172228333444455556666")), json!("*** (32 characters)"));
    }

    #[test]
    fn resolutions_have_one_word_each() {
        for how in [Resolution::Replayed, Resolution::Discarded] {
            assert_eq!(how.to_string().parse(), Ok(how));
        }
        assert_eq!("lost".parse::<Resolution>(), Err(UnknownResolution));
    }
}
