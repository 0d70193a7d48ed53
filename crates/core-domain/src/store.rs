//! What a caller can know about a failure of the store.

use std::fmt;
use std::time::Duration;

/// What the caller can do about it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum StoreErrorKind {
    /// A row with that key is there already.
    Duplicate,
    /// Another transaction was in the way (deadlock, serialization, lock time-out): trying again may help.
    Contention,
    /// The store is busy or not reachable: nothing was changed.
    Unavailable,
    /// The commit was sent and its answer lost: it may or may not have happened. Look before repeating.
    CommitUnknown,
    /// A row holds what the domain refuses; the text names table, column and id.
    Inconsistent,
    /// Anything else: a fault of ours.
    Other,
}

/// A failure of the store. The text is for the log, never for a client.
#[derive(Debug)]
pub struct StoreError {
    kind: StoreErrorKind,
    detail: String,
    retry_after: Option<Duration>,
    source: Option<Box<dyn std::error::Error + Send + Sync>>,
}

impl StoreError {
    /// A failure without a cause of its own.
    pub fn new(kind: StoreErrorKind, detail: impl Into<String>) -> Self {
        Self { kind, detail: detail.into(), retry_after: None, source: None }
    }

    /// The store refused work because too much waits already; try again after `retry_after`.
    #[must_use]
    pub fn busy(retry_after: Duration) -> Self {
        Self {
            kind: StoreErrorKind::Unavailable,
            detail: "too many transactions wait already".into(),
            retry_after: Some(retry_after),
            source: None,
        }
    }

    /// A row that the domain refuses.
    pub fn inconsistent(table: &str, column: &str, id: impl fmt::Display, why: impl fmt::Display) -> Self {
        Self::new(StoreErrorKind::Inconsistent, format!("{table}.{column} of row {id}: {why}"))
    }

    /// Keeps the cause for the log.
    #[must_use]
    pub fn caused_by(mut self, source: impl Into<Box<dyn std::error::Error + Send + Sync>>) -> Self {
        self.source = Some(source.into());
        self
    }

    /// What the caller can do about it.
    #[must_use]
    pub fn kind(&self) -> StoreErrorKind {
        self.kind
    }

    /// How long to wait before trying again, where that is known.
    #[must_use]
    pub fn retry_after(&self) -> Option<Duration> {
        self.retry_after
    }
}

impl fmt::Display for StoreError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "store: {:?}: {}", self.kind, self.detail)
    }
}

impl std::error::Error for StoreError {
    fn source(&self) -> Option<&(dyn std::error::Error + 'static)> {
        self.source.as_ref().map(|e| &**e as &(dyn std::error::Error + 'static))
    }
}
