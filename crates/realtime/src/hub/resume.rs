//! Resuming: what a client missed, from memory or from the log, and then live.
//!
//! The session buffers before anything is read, so an event is in the history, in the buffer, or in both; the buffer
//! follows from the first offset that the history has not.

use std::sync::Arc;

use plimsoll_core_domain::StoreError;

use super::session::{HubSession, invalid_cursor};
use super::stream_cell::{StreamCell, StreamState};
use super::{Inner, own_cursor};
use crate::cursor::{Cursor, Position};
use crate::wire::{EventFrame, SnapshotReason};

/// What a resume of one stream comes to.
pub(super) enum Outcome {
    Recovered(Recovery),
    Snapshot(SnapshotReason),
}

pub(super) struct Recovery {
    /// What the client had seen.
    pub(super) from: Position,
    /// Everything after it, without a hole.
    pub(super) frames: Vec<Arc<EventFrame>>,
}

enum Plan {
    Now(Outcome),
    /// The log must give the events after `from` at least up to `to`.
    Read {
        from: Position,
        to: i64,
    },
    /// The cursor is ahead of what this hub knows.
    AskHead,
}

impl HubSession {
    /// Sends again what came after the cursor: `recovered` or `snapshot_required` for each stream, then the events, then
    /// live ones. What this session has sent already since `hello` comes again where it belongs, inside `recovered`'s
    /// range; a client that gives its cursor when it connects sees no event twice. Blocks when the log must be read.
    ///
    /// A text that is no cursor of this user is answered with an `error` message, and nothing else changes.
    ///
    /// # Errors
    /// The log cannot be read; the session is of no more use then and should be closed.
    pub fn resume(&self, cursor: &str) -> Result<(), StoreError> {
        let Some(cursor) = own_cursor(cursor, self.info().subject) else {
            self.core.send_control(invalid_cursor());
            return Ok(());
        };
        self.begin_buffering();
        self.recover(&cursor)
    }

    /// The session buffers.
    pub(super) fn recover(&self, cursor: &Cursor) -> Result<(), StoreError> {
        let [user, broadcast] = &self.cells;
        let outcomes =
            [self.hub.history(user, cursor.user_at)?, self.hub.history(broadcast, cursor.broadcast_at)?];
        self.finish_resume(outcomes);
        Ok(())
    }
}

impl Inner {
    fn history(&self, cell: &Arc<StreamCell>, from: Position) -> Result<Outcome, StoreError> {
        let limit = self.settings.resume_events;
        let mut plan = plan(&cell.state(), from, limit);
        if let Plan::AskHead = plan {
            // Another instance may have written, and sent, what this hub has not heard of yet.
            self.refresh(std::slice::from_ref(cell))?;
            plan = self::plan(&cell.state(), from, limit);
        }
        match plan {
            Plan::Now(outcome) => Ok(outcome),
            Plan::AskHead => Ok(Outcome::Snapshot(SnapshotReason::EpochChanged)),
            Plan::Read { from, to } => {
                let events = self.log.read(cell.id, from.offset, limit)?;
                let dense = (from.offset + 1..).zip(&events).all(|(offset, event)| event.offset == offset);
                if !dense || events.last().is_none_or(|event| event.offset < to) {
                    return Ok(Outcome::Snapshot(SnapshotReason::TooOld));
                }
                if events.iter().any(|event| event.epoch != from.epoch) {
                    return Ok(Outcome::Snapshot(SnapshotReason::EpochChanged));
                }
                let frames = events.iter().map(|event| Arc::new(EventFrame::encode(event))).collect();
                Ok(Outcome::Recovered(Recovery { from, frames }))
            }
        }
    }
}

fn plan(stream: &StreamState, from: Position, limit: usize) -> Plan {
    let at = stream.at.unwrap_or(Position::UNBORN);
    let from = if from.is_unborn() { Position { epoch: at.epoch, offset: 0 } } else { from };
    if from.epoch != at.epoch {
        // A stream that had not begun here may have begun elsewhere.
        let unknown = at.is_unborn();
        return if unknown {
            Plan::AskHead
        } else {
            Plan::Now(Outcome::Snapshot(SnapshotReason::EpochChanged))
        };
    }
    let missed = at.offset - from.offset;
    if missed < 0 {
        return Plan::AskHead;
    }
    if missed == 0 {
        return Plan::Now(Outcome::Recovered(Recovery { from, frames: Vec::new() }));
    }
    if usize::try_from(missed).is_ok_and(|missed| missed > limit) {
        return Plan::Now(Outcome::Snapshot(SnapshotReason::TooMany));
    }
    match stream.recent_after(from.offset) {
        Some(frames) => Plan::Now(Outcome::Recovered(Recovery { from, frames })),
        None => Plan::Read { from, to: at.offset },
    }
}
