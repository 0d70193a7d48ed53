//! One stream: puts what arrives into the order of its offsets and hands it to the subscribers.

use std::collections::{BTreeMap, HashMap, VecDeque};
use std::sync::Arc;
use std::time::{Duration, Instant};

use plimsoll_core_domain::stream::{StreamEvent, StreamId};

use super::session::SessionCore;
use crate::cursor::Position;
use crate::sync::{Mutex, MutexGuard, lock};
use crate::wire::{CloseCode, EventFrame};

/// More events than this do not wait for a hole to close; the log has them.
const MAX_HELD: usize = 1_024;

pub(super) struct StreamCell {
    pub(super) id: StreamId,
    /// Held while the log is read to fill a hole: one reader at a time.
    pub(super) filling: Mutex<()>,
    state: Mutex<StreamState>,
}

pub(super) struct StreamState {
    id: StreamId,
    /// What was handed out last. `None` until a head or an event is known.
    pub(super) at: Option<Position>,
    /// Where this hub began: it has never heard of the offsets up to here.
    floor: i64,
    /// The highest offset known to be committed; above `at`, there is a hole.
    known_head: i64,
    /// Arrived ahead of a hole.
    held: BTreeMap<i64, StreamEvent>,
    hole_since: Option<Instant>,
    /// An event of another epoch came: only the log can tell which one holds.
    suspect: bool,
    recent: VecDeque<Arc<EventFrame>>,
    max_recent: usize,
    pub(super) subscribers: HashMap<u64, Arc<SessionCore>>,
    pub(super) watchers: usize,
    idle_since: Option<Instant>,
}

/// What a look at a stream finds to do.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Need {
    Nothing,
    /// Read the missing events.
    Fill,
    /// Read the head.
    Refresh,
    /// Nobody has heard it for long enough.
    Forget,
}

impl StreamCell {
    pub(super) fn new(id: StreamId, max_recent: usize) -> Self {
        let state = StreamState {
            id,
            at: None,
            floor: 0,
            known_head: 0,
            held: BTreeMap::new(),
            hole_since: None,
            suspect: false,
            recent: VecDeque::new(),
            max_recent,
            subscribers: HashMap::new(),
            watchers: 0,
            idle_since: None,
        };
        Self { id, filling: Mutex::new(()), state: Mutex::new(state) }
    }

    pub(super) fn state(&self) -> MutexGuard<'_, StreamState> {
        lock(&self.state)
    }
}

impl StreamState {
    pub(super) fn attach(&mut self, change: impl FnOnce(&mut Self)) {
        self.idle_since = None;
        change(self);
    }

    /// Takes an event; says whether it was not known before.
    pub(super) fn accept(&mut self, event: &StreamEvent) -> bool {
        // A stream whose head is not known begins with its first event: a session that needs what was before it
        // resumes from the log.
        let before = Position { epoch: event.epoch, offset: event.offset - 1 };
        let at = *self.at.get_or_insert_with(|| {
            self.floor = before.offset;
            before
        });
        if at.epoch != event.epoch {
            if !at.is_unborn() {
                self.suspect = true;
                return true;
            }
            self.at = Some(Position { epoch: event.epoch, ..at });
        }
        if event.offset <= at.offset {
            return event.offset <= self.floor;
        }
        self.known_head = self.known_head.max(event.offset);
        if event.offset == at.offset + 1 {
            self.hand_out(event);
            self.hand_out_held();
            return true;
        }
        if self.held.len() >= MAX_HELD || self.held.contains_key(&event.offset) {
            return !self.held.contains_key(&event.offset);
        }
        self.held.insert(event.offset, event.clone());
        true
    }

    fn hand_out(&mut self, event: &StreamEvent) {
        let frame = Arc::new(EventFrame::encode(event));
        self.at = Some(frame.at());
        self.hole_since = None;
        for session in self.subscribers.values() {
            session.offer(&frame);
        }
        if self.recent.len() >= self.max_recent {
            self.recent.pop_front();
        }
        if self.max_recent > 0 {
            self.recent.push_back(frame);
        }
    }

    fn hand_out_held(&mut self) {
        while let Some(at) = self.at
            && let Some(event) = self.held.remove(&(at.offset + 1))
        {
            self.hand_out(&event);
        }
    }

    /// Whether events up to a known head are missing.
    pub(super) fn is_behind(&self) -> bool {
        self.at.is_some_and(|at| self.known_head > at.offset)
    }

    /// Takes the head that the log gave; `before` is where the stream stood when the log was asked.
    pub(super) fn reconcile(&mut self, before: Option<Position>, head: Position) {
        let Some(at) = self.at else { return self.restart(head) };
        if at.is_unborn() {
            self.at = Some(Position { epoch: head.epoch, offset: 0 });
        } else if at.epoch != head.epoch {
            // A head that was read before this stream moved to another epoch says nothing.
            if before.is_some_and(|before| before.epoch == at.epoch) {
                self.invalidate(head);
            }
            return;
        } else if before.is_some_and(|before| before.epoch == head.epoch && head.offset < before.offset) {
            return self.invalidate(head);
        }
        self.suspect = false;
        self.known_head = self.known_head.max(head.offset);
    }

    fn restart(&mut self, head: Position) {
        self.at = Some(head);
        self.floor = head.offset;
        self.known_head = head.offset;
        self.held.clear();
        self.recent.clear();
        self.hole_since = None;
        self.suspect = false;
    }

    /// History was lost or replaced: nobody can go on from here.
    fn invalidate(&mut self, head: Position) {
        self.restart(head);
        for session in self.subscribers.values() {
            session.close(CloseCode::StateInvalidated);
        }
    }

    /// Goes on after `offset`, since the log no longer has what is between.
    pub(super) fn skip_to(&mut self, offset: i64) {
        let Some(at) = self.at.filter(|at| at.offset < offset) else { return };
        let at = Position { offset, ..at };
        self.at = Some(at);
        self.known_head = self.known_head.max(offset);
        self.held.retain(|held, _| *held > offset);
        self.recent.clear();
        self.hole_since = None;
        for session in self.subscribers.values() {
            session.lose(self.id, at);
        }
        self.hand_out_held();
    }

    /// The frames after `offset`, when memory still has all of them.
    pub(super) fn recent_after(&self, offset: i64) -> Option<Vec<Arc<EventFrame>>> {
        let first = self.recent.front()?.at().offset;
        let frames = || self.recent.iter().filter(|frame| frame.at().offset > offset).cloned().collect();
        (first <= offset + 1).then(frames)
    }

    /// What is to be done by now.
    pub(super) fn inspect(&mut self, now: Instant, patience: Duration, linger: Duration) -> Need {
        let idle = self.subscribers.is_empty() && self.watchers == 0;
        if !idle {
            self.idle_since = None;
        } else if now.saturating_duration_since(*self.idle_since.get_or_insert(now)) >= linger {
            return Need::Forget;
        }
        if self.suspect {
            return Need::Refresh;
        }
        if !self.is_behind() {
            return Need::Nothing;
        }
        let waited = now.saturating_duration_since(*self.hole_since.get_or_insert(now));
        if waited >= patience { Need::Fill } else { Need::Nothing }
    }
}
