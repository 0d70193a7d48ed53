//! What is left when a call had no success.

use std::fmt;
use std::time::Duration;

use super::class::{Classify, ErrorClass};
use super::dependency::{Held, NotNow};
use crate::jobs::JobFailure;

/// No success.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct GaveUp<E> {
    /// Why it was not tried again.
    pub why: Why,
    /// How often it was tried.
    pub attempts: u32,
    /// The last failure; `None` where there was no attempt or the last one was cut.
    pub last: Option<E>,
}

/// Why something is not tried again.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Why {
    /// It would end the same way.
    Permanent,
    /// It may have been done, and nobody has looked: see [`Retry::call_looking`](super::Retry::call_looking).
    Ambiguous,
    /// It was tried often enough.
    Attempts,
    /// It took long enough.
    Time,
    /// The place is given rest, or has been asked to repeat enough.
    Held(NotNow),
    /// The call itself said that it is too early.
    Early {
        /// When to come back.
        after: Duration,
    },
}

impl<E: fmt::Display> fmt::Display for GaveUp<E> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let attempts = self.attempts;
        match &self.why {
            Why::Permanent => write!(f, "failed for good at attempt {attempts}")?,
            Why::Ambiguous => write!(f, "it is not known whether attempt {attempts} had an effect")?,
            Why::Attempts => write!(f, "failed {attempts} times")?,
            Why::Time => write!(f, "failed {attempts} times, and there is no time left")?,
            Why::Held(not_now) if attempts == 0 => return not_now.fmt(f),
            Why::Held(not_now) => write!(f, "failed {attempts} times, and {not_now}")?,
            Why::Early { after } => write!(f, "too early by {after:?}")?,
        }
        match &self.last {
            Some(last) => write!(f, ": {last}"),
            None if attempts > 0 => f.write_str(": no answer in time"),
            None => Ok(()),
        }
    }
}

impl<E: fmt::Debug + fmt::Display> std::error::Error for GaveUp<E> {}

impl<E> Classify for GaveUp<E> {
    /// For whoever goes on with it later: nothing is ambiguous here but what was left so.
    fn class(&self) -> ErrorClass {
        match &self.why {
            Why::Permanent => ErrorClass::Permanent,
            Why::Ambiguous => ErrorClass::Ambiguous,
            Why::Attempts | Why::Time => ErrorClass::Transient,
            Why::Held(not_now) if not_now.why == Held::Breaker => not_now.class(),
            Why::Held(not_now) => ErrorClass::Throttled { after: not_now.after },
            Why::Early { after } => ErrorClass::Snooze { after: *after },
        }
    }
}

impl<E: fmt::Display> From<GaveUp<E>> for JobFailure {
    fn from(gave_up: GaveUp<E>) -> Self {
        Self::Failed { class: gave_up.class(), message: gave_up.to_string() }
    }
}
