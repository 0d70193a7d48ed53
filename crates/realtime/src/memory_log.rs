//! The history in memory.

use std::collections::{BTreeMap, VecDeque};

use chrono::{DateTime, Utc};
use plimsoll_core_domain::StoreError;
use plimsoll_core_domain::stream::{EventKind, StreamEvent, StreamHead, StreamId};
use uuid::Uuid;

use crate::log::LogReader;
use crate::sync::{Mutex, lock};

/// A log that lives as long as the process: for tests, and for programs that have no history to keep. It grows until
/// [`prune`](Self::prune) is called.
#[derive(Debug)]
pub struct MemoryLog(Mutex<State>);

#[derive(Debug)]
struct State {
    epoch: Uuid,
    streams: BTreeMap<StreamId, Stream>,
}

#[derive(Debug, Default)]
struct Stream {
    head: i64,
    events: VecDeque<StreamEvent>,
}

impl MemoryLog {
    /// An empty log whose streams have this epoch.
    #[must_use]
    pub fn new(epoch: Uuid) -> Self {
        Self(Mutex::new(State { epoch, streams: BTreeMap::new() }))
    }

    /// Appends an event; `data` is JSON text. The answer is for [`Hub::publish`](crate::Hub::publish).
    pub fn append(&self, stream: StreamId, kind: EventKind, data: &str, at: DateTime<Utc>) -> StreamEvent {
        let mut state = lock(&self.0);
        let epoch = state.epoch;
        let log = state.streams.entry(stream).or_default();
        log.head += 1;
        let event = StreamEvent { stream, epoch, offset: log.head, kind, data: data.into(), at };
        log.events.push_back(event.clone());
        event
    }

    /// Forgets the events of a stream up to and including `offset`; the head stays.
    pub fn prune(&self, stream: StreamId, offset: i64) {
        if let Some(log) = lock(&self.0).streams.get_mut(&stream) {
            log.events.retain(|event| event.offset > offset);
        }
    }

    /// Forgets the events of every stream above `offset` and begins a new epoch, as a restore of an older state does.
    pub fn restore(&self, epoch: Uuid, offset: i64) {
        let mut state = lock(&self.0);
        state.epoch = epoch;
        for log in state.streams.values_mut() {
            log.events.retain(|event| event.offset <= offset);
            log.head = log.head.min(offset);
        }
    }
}

impl LogReader for MemoryLog {
    fn heads(&self, streams: &[StreamId]) -> Result<Vec<(StreamId, StreamHead)>, StoreError> {
        let state = lock(&self.0);
        let head = |id: &StreamId| state.streams.get(id).map_or(0, |log| log.head);
        Ok(streams.iter().map(|id| (*id, StreamHead { epoch: state.epoch, head: head(id) })).collect())
    }

    fn read(&self, stream: StreamId, after: i64, limit: usize) -> Result<Vec<StreamEvent>, StoreError> {
        let state = lock(&self.0);
        let events = state.streams.get(&stream).into_iter().flat_map(|log| &log.events);
        let epoch = state.epoch;
        Ok(events
            .filter(|event| event.offset > after)
            .take(limit)
            .map(|event| StreamEvent { epoch, ..event.clone() })
            .collect())
    }
}
