//! One transaction, and what is to be told once it has committed.

use std::any::Any;
use std::sync::Arc;

use diesel::PgConnection;
use plimsoll_core_domain::stream::StreamEvent;

/// Something to pass on after a commit. A note is a hint and never the truth: what it announces is in the database,
/// and whoever misses the note finds it there by its regular sweep.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum CommitNote {
    /// An event that now stands in its stream.
    Stream(StreamEvent),
    /// A topic (a job queue, a registry) whose waiters should look again; at most 200 bytes, no comma.
    Wake(String),
}

/// Told of every commit that left notes, on the thread that committed, after the connection went back to the pool.
/// Keep it short: the caller's permit is still held.
pub trait AfterCommit: Send + Sync {
    /// The notes of one transaction, in the order in which they were made. Never called for a rollback.
    fn committed(&self, notes: Vec<CommitNote>);
}

/// A value that transactions can reach.
pub(super) type Extension = Arc<dyn Any + Send + Sync>;

/// An open transaction (or, in [`Db::read`](super::Db::read), a connection in autocommit). The repositories of the
/// domain crates are implemented on it.
///
/// A statement that fails aborts the whole transaction, as PostgreSQL has it: a closure that goes on and returns `Ok`
/// all the same gets an error instead of a commit.
pub struct Tx<'c> {
    conn: &'c mut PgConnection,
    notes: Vec<CommitNote>,
    extension: Option<Extension>,
}

impl<'c> Tx<'c> {
    pub(crate) fn new(conn: &'c mut PgConnection, extension: Option<Extension>) -> Self {
        Self { conn, notes: Vec::new(), extension }
    }

    /// The value that the database's handle was given, where it is of this type.
    #[cfg_attr(
        not(feature = "platform"),
        expect(dead_code, reason = "only the platform's transactions need one")
    )]
    pub(crate) fn extension<T: Send + Sync + 'static>(&self) -> Option<Arc<T>> {
        self.extension.clone()?.downcast().ok()
    }

    /// The connection, for the implementations of the ports.
    pub(crate) fn conn(&mut self) -> &mut PgConnection {
        self.conn
    }

    /// Passes `note` on after the commit; forgets it on a rollback.
    pub fn note(&mut self, note: CommitNote) {
        self.notes.push(note);
    }

    /// Wakes those who wait for `topic` after the commit.
    pub fn wake(&mut self, topic: impl Into<String>) {
        self.note(CommitNote::Wake(topic.into()));
    }

    pub(crate) fn into_notes(self) -> Vec<CommitNote> {
        self.notes
    }
}

impl std::fmt::Debug for Tx<'_> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Tx").field("notes", &self.notes).finish_non_exhaustive()
    }
}
