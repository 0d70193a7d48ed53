//! A hub over a log in memory, whose reads can be watched, made to fail, and interrupted.

use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Instant;

use chrono::DateTime;
use plimsoll_core_domain::stream::{EventKind, StreamEvent, StreamHead, StreamId};
use plimsoll_core_domain::{StoreError, StoreErrorKind, UserId};
use plimsoll_realtime::{CloseCode, Hub, HubSession, HubSettings, LogReader, MemoryLog, Next, OpenRequest};
use serde_json::Value;
use uuid::Uuid;

pub(crate) const USER: UserId = UserId(7);
pub(crate) const MINE: StreamId = StreamId::User(USER);
pub(crate) const ALL: StreamId = StreamId::Broadcast;

/// A log that calls back around each read.
pub(crate) struct SpyLog {
    pub(crate) inner: MemoryLog,
    pub(crate) reads: AtomicUsize,
    pub(crate) broken: AtomicBool,
    pub(crate) interrupt: Mutex<Option<Arc<dyn Fn() + Send + Sync>>>,
}

impl SpyLog {
    fn around<T>(&self, read: impl FnOnce() -> Result<T, StoreError>) -> Result<T, StoreError> {
        self.reads.fetch_add(1, Ordering::Relaxed);
        if self.broken.load(Ordering::Relaxed) {
            return Err(StoreError::new(StoreErrorKind::Unavailable, "switched off"));
        }
        let interrupt = self.interrupt.lock().unwrap().clone();
        interrupt.iter().for_each(|f| f());
        let answer = read();
        interrupt.iter().for_each(|f| f());
        answer
    }
}

impl LogReader for SpyLog {
    fn heads(&self, streams: &[StreamId]) -> Result<Vec<(StreamId, StreamHead)>, StoreError> {
        self.around(|| self.inner.heads(streams))
    }

    fn read(&self, stream: StreamId, after: i64, limit: usize) -> Result<Vec<StreamEvent>, StoreError> {
        self.around(|| self.inner.read(stream, after, limit))
    }
}

pub(crate) struct Harness {
    pub(crate) log: Arc<SpyLog>,
    pub(crate) hub: Hub,
}

pub(crate) fn harness() -> Harness {
    harness_with(HubSettings::default())
}

pub(crate) fn harness_with(settings: HubSettings) -> Harness {
    let log = Arc::new(SpyLog {
        inner: MemoryLog::new(Uuid::from_u128(1)),
        reads: AtomicUsize::new(0),
        broken: AtomicBool::new(false),
        interrupt: Mutex::new(None),
    });
    Harness { hub: Hub::new(log.clone(), settings), log }
}

impl Harness {
    /// Commits an event without publishing it.
    pub(crate) fn commit(&self, stream: StreamId) -> StreamEvent {
        self.commit_as(stream, EventKind::OrderUpdated)
    }

    pub(crate) fn commit_as(&self, stream: StreamId, kind: EventKind) -> StreamEvent {
        self.log.inner.append(stream, kind, "{}", DateTime::UNIX_EPOCH)
    }

    /// Commits and publishes.
    pub(crate) fn emit(&self, stream: StreamId) -> StreamEvent {
        let event = self.commit(stream);
        self.hub.publish(&event);
        event
    }

    pub(crate) fn open(&self) -> HubSession {
        self.hub.open(OpenRequest::new(USER, "login")).unwrap()
    }

    pub(crate) fn resume(&self, cursor: &str) -> HubSession {
        self.hub.open(OpenRequest::new(USER, "login").resuming(cursor)).unwrap()
    }
}

/// Everything a session has to send now.
pub(crate) fn texts(session: &HubSession) -> Vec<Value> {
    let mut texts = Vec::new();
    while let Next::Text(text) = session.next(Instant::now()) {
        texts.push(serde_json::from_slice(&text).unwrap());
    }
    texts
}

/// The same in short: `user:7#3` for an event, else the type with what matters.
pub(crate) fn brief(session: &HubSession) -> Vec<String> {
    texts(session).iter().map(brief_text).collect()
}

pub(crate) fn brief_text(text: &Value) -> String {
    let of = |key: &str| text[key].as_str().unwrap_or("?").to_owned();
    match of("type").as_str() {
        "recovered" => format!("recovered {} {}..={}", of("stream"), text["from"], text["to"]),
        "snapshot_required" => format!("snapshot_required {} {}", of("stream"), of("reason")),
        "error" => format!("error {}", of("code")),
        _ if text.get("offset").is_some() => format!("{}#{}", of("stream"), text["offset"]),
        kind => kind.to_owned(),
    }
}

/// The last `id` among these.
pub(crate) fn last_id(texts: &[Value]) -> String {
    texts.iter().rev().find_map(|text| text["id"].as_str()).expect("an event").to_owned()
}

pub(crate) fn closed(session: &HubSession) -> Option<CloseCode> {
    match session.next(Instant::now()) {
        Next::Close(code) => Some(code),
        _ => None,
    }
}
