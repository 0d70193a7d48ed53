//! What a job is.

use std::fmt;
use std::str::FromStr;
use std::time::Duration;

use chrono::{DateTime, Utc};
use serde::Serialize;
use serde::de::DeserializeOwned;
use serde_json::Value;

use super::JobFailure;
use crate::retry::Policy;

/// A job that ended its worker's process this often, each time soon after the last, is dead.
pub const MAX_CRASHES: i32 = 5;
/// Attempts of a job that does not say otherwise.
pub const DEFAULT_ATTEMPTS: u32 = Policy::INTERNAL.attempts;
/// Longest text kept of an error, in bytes.
pub const LONGEST_ERROR: usize = 2048;

/// A job's id, given by the store.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct JobId(pub i64);

impl fmt::Display for JobId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

/// The right to settle a job: it ends with the next claim of the same job.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct JobLease {
    /// The job.
    pub id: JobId,
    /// Grows with every claim.
    pub token: i64,
}

/// Where a job stands.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum JobState {
    /// To be done, now or at its time.
    Ready,
    /// A worker has it.
    Leased,
    /// Done.
    Done,
    /// Given up: a dead letter.
    Dead,
    /// Called off before it was done.
    Cancelled,
    /// Waits for an operator (after a restore).
    Held,
}

impl JobState {
    /// Every state.
    pub const ALL: [Self; 6] =
        [Self::Ready, Self::Leased, Self::Done, Self::Dead, Self::Cancelled, Self::Held];

    /// The word in the store.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Ready => "ready",
            Self::Leased => "leased",
            Self::Done => "done",
            Self::Dead => "dead",
            Self::Cancelled => "cancelled",
            Self::Held => "held",
        }
    }
}

/// Not a job state.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("not a job state")]
pub struct UnknownState;

impl FromStr for JobState {
    type Err = UnknownState;
    fn from_str(text: &str) -> Result<Self, UnknownState> {
        Self::ALL.into_iter().find(|state| state.as_str() == text).ok_or(UnknownState)
    }
}

/// A job to be inserted.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct NewJob {
    /// Which workers do it.
    pub queue: String,
    /// Which handler does it.
    pub kind: String,
    /// Smaller goes first.
    pub priority: i16,
    /// Not before this long from now, by the store's clock.
    pub delay: Duration,
    /// At least 1.
    pub max_attempts: u32,
    /// At most one open job (ready, leased or held) of a kind has this key.
    pub dedup_key: Option<String>,
    /// For the handler; at most 64 KiB, no secrets in the clear, decimals as strings.
    pub payload: Value,
    /// The dead letter that this one replays.
    pub parent: Option<JobId>,
}

impl NewJob {
    /// A job without delay or key.
    ///
    /// # Panics
    /// When the payload's type has no JSON form (a map with keys that are no strings).
    pub fn new(queue: impl Into<String>, kind: impl Into<String>, payload: &impl Serialize) -> Self {
        Self {
            queue: queue.into(),
            kind: kind.into(),
            priority: 0,
            delay: Duration::ZERO,
            max_attempts: DEFAULT_ATTEMPTS,
            dedup_key: None,
            payload: serde_json::to_value(payload).expect("a payload type has a JSON form"),
            parent: None,
        }
    }

    /// Allows one open job of this kind and key.
    #[must_use]
    pub fn dedup(mut self, key: impl Into<String>) -> Self {
        self.dedup_key = Some(key.into());
        self
    }

    /// Not before `delay` from now.
    #[must_use]
    pub fn after(mut self, delay: Duration) -> Self {
        self.delay = delay;
        self
    }

    /// As many attempts as the policy has.
    #[must_use]
    pub fn attempts(mut self, policy: &Policy) -> Self {
        self.max_attempts = policy.attempts.max(1);
        self
    }
}

/// A claimed job.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Job {
    /// The right to settle it.
    pub lease: JobLease,
    /// Its queue.
    pub queue: String,
    /// Its kind.
    pub kind: String,
    /// Which attempt this is, from 1.
    pub attempt: u32,
    /// The last one that will be made.
    pub max_attempts: u32,
    /// How often in a row a worker vanished with it: an attempt that was put off or failed in order begins anew.
    pub crash_count: u32,
    /// Its key.
    pub dedup_key: Option<String>,
    /// As it was inserted.
    pub payload: Value,
    /// The dead letter that it replays.
    pub parent: Option<JobId>,
    /// When it was inserted, by the store's clock.
    pub created_at: DateTime<Utc>,
}

impl Job {
    /// The payload in the handler's own type.
    ///
    /// # Errors
    /// It has another form: a permanent failure, since another try would read the same. The payload is not quoted.
    pub fn decode<T: DeserializeOwned>(&self) -> Result<T, JobFailure> {
        T::deserialize(&self.payload).map_err(|_| {
            JobFailure::permanent(format!("the payload does not have the form of {}", self.kind))
        })
    }
}

/// How an attempt ends.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Settlement {
    /// Done.
    Done,
    /// Failed; another attempt follows.
    Retry {
        /// After this pause.
        after: Duration,
        /// What went wrong: for people, without secrets.
        error: String,
    },
    /// To be continued; the attempt does not count.
    Snooze {
        /// After this pause.
        after: Duration,
    },
    /// Given up: a dead letter.
    Dead {
        /// What went wrong: for people, without secrets.
        error: String,
    },
}

impl Settlement {
    /// When the job is due again, if it is.
    #[must_use]
    pub const fn due_after(&self) -> Option<Duration> {
        match self {
            Self::Retry { after, .. } | Self::Snooze { after } => Some(*after),
            Self::Done | Self::Dead { .. } => None,
        }
    }
}

/// The topic that is flagged when a job of `queue` is ready.
#[must_use]
pub fn job_topic(queue: &str) -> String {
    format!("jobs:{queue}")
}

/// The beginning of `text`, at most [`LONGEST_ERROR`] bytes, without control characters.
#[must_use]
pub fn clip_error(text: &str) -> String {
    let mut out = String::with_capacity(text.len().min(LONGEST_ERROR));
    for c in text.chars().map(|c| if c.is_control() { ' ' } else { c }) {
        if out.len() + c.len_utf8() > LONGEST_ERROR {
            break;
        }
        out.push(c);
    }
    out
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn states_have_one_word_each() {
        for state in JobState::ALL {
            assert_eq!(state.as_str().parse(), Ok(state));
        }
        assert_eq!("lost".parse::<JobState>(), Err(UnknownState));
    }

    #[test]
    fn errors_are_cut_at_a_character_and_kept_on_one_line() {
        assert_eq!(clip_error("a\nb\0c"), "a b c");
        let long = clip_error(&"é".repeat(5_000));
        assert_eq!(long.len(), LONGEST_ERROR);
        assert!(clip_error(&format!("x{}", "é".repeat(5_000))).len() < LONGEST_ERROR);
    }
}
