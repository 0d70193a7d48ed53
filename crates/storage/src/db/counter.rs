//! Counting what goes to the server, so that a test can hold a use case to its number of round trips.

use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};

use diesel::connection::DebugQuery;

/// Per pool: statements sent and statements prepared, and, while someone listens, their texts.
#[derive(Debug, Default)]
pub(crate) struct Statements {
    sent: AtomicU64,
    prepared: AtomicU64,
    recording: AtomicBool,
    texts: Mutex<Vec<String>>,
}

impl Statements {
    pub(super) fn started(&self, query: &dyn DebugQuery) {
        self.sent.fetch_add(1, Ordering::Relaxed);
        if self.recording.load(Ordering::Relaxed) {
            let text = query.to_string();
            // the values bound to a statement may be secrets
            let text = text.split(" -- binds:").next().unwrap_or_default().to_owned();
            self.texts.lock().unwrap_or_else(PoisonError::into_inner).push(text);
        }
    }

    pub(super) fn prepared(&self) {
        self.prepared.fetch_add(1, Ordering::Relaxed);
    }
}

/// Counts the round trips of one pool from its creation on; made by [`Db::count_queries`](super::Db::count_queries).
///
/// BEGIN and COMMIT count as statements. Preparing a statement costs a round trip more, the first time a connection
/// meets it. Only one counter of a pool at a time records texts.
#[derive(Debug)]
pub struct QueryCounter {
    statements: Arc<Statements>,
    sent_before: u64,
    prepared_before: u64,
}

impl QueryCounter {
    pub(super) fn new(statements: &Arc<Statements>) -> Self {
        statements.texts.lock().unwrap_or_else(PoisonError::into_inner).clear();
        statements.recording.store(true, Ordering::Relaxed);
        Self {
            statements: Arc::clone(statements),
            sent_before: statements.sent.load(Ordering::Relaxed),
            prepared_before: statements.prepared.load(Ordering::Relaxed),
        }
    }

    /// Statements sent, BEGIN and COMMIT included.
    pub fn sent(&self) -> u64 {
        self.statements.sent.load(Ordering::Relaxed) - self.sent_before
    }

    /// Statements prepared: round trips that a warm connection does not have.
    pub fn prepared(&self) -> u64 {
        self.statements.prepared.load(Ordering::Relaxed) - self.prepared_before
    }

    /// The statements' texts without the values bound to them.
    pub fn texts(&self) -> Vec<String> {
        self.statements.texts.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }
}

impl Drop for QueryCounter {
    fn drop(&mut self) {
        self.statements.recording.store(false, Ordering::Relaxed);
    }
}
