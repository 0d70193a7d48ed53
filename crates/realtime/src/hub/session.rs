//! One session: the queue of what its client has still to be sent.

use std::collections::VecDeque;
use std::sync::Arc;
use std::time::{Duration, Instant};

use bytes::Bytes;
use plimsoll_core_domain::stream::{EventKind, StreamId};
use plimsoll_core_domain::{Symbol, UserId};
use tokio::sync::Notify;

use super::Inner;
use super::resume::{Outcome, Recovery};
use super::settings::HubSettings;
use super::stream_cell::{StreamCell, StreamState};
use super::ticks::{Due, TickBoard};
use crate::cursor::{Cursor, Position};
use crate::filter::EventFilter;
use crate::sync::{Mutex, MutexGuard, lock};
use crate::wire::{CloseCode, EventFrame, ServerMessage, SnapshotReason};

/// Whose session it is.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SessionInfo {
    /// Who listens.
    pub caller: UserId,
    /// Whose stream is heard: the caller's own, or another's when the caller is an administrator.
    pub subject: UserId,
    /// The login session or API token that opened it, by its id.
    pub login: String,
}

/// What the socket's side has to do next.
#[derive(Debug, PartialEq, Eq)]
pub enum Next {
    /// Send this text message (valid UTF-8).
    Text(Bytes),
    /// Send a close frame and end; it comes again when asked again.
    Close(CloseCode),
    /// Nothing now: ask again after [`HubSession::ready`], or at that time if there is one.
    Idle(Option<Instant>),
}

/// An open session. Dropping it detaches it.
pub struct HubSession {
    pub(super) hub: Arc<Inner>,
    pub(super) core: Arc<SessionCore>,
    /// The user's stream and the broadcast.
    pub(super) cells: [Arc<StreamCell>; 2],
}

pub(super) const USER: usize = 0;
pub(super) const BROADCAST: usize = 1;

pub(super) struct SessionCore {
    pub(super) key: u64,
    pub(super) name: String,
    pub(super) info: SessionInfo,
    limits: Limits,
    state: Mutex<State>,
    wake: Notify,
}

struct Limits {
    bytes: usize,
    messages: usize,
    tick_interval: Duration,
    ping_interval: Duration,
}

struct State {
    queue: VecDeque<Entry>,
    counted: Count,
    /// The user's stream and the broadcast.
    subscriptions: [Subscription; 2],
    filter: EventFilter,
    ticks: TickBoard,
    closing: Option<CloseCode>,
}

/// What counts against the limits: everything but history.
#[derive(Default)]
struct Count {
    messages: usize,
    bytes: usize,
}

enum Entry {
    /// An event, with the client's positions once it has seen it.
    Event {
        frame: Arc<EventFrame>,
        seen: [Position; 2],
        counted: bool,
    },
    Control(Bytes),
}

struct Subscription {
    /// The last event queued or passed over.
    at: Position,
    mode: Mode,
}

enum Mode {
    Live,
    /// History is being read; what comes meanwhile waits here. `lost`: history has a hole that no log can fill.
    Buffering {
        frames: VecDeque<Arc<EventFrame>>,
        lost: bool,
    },
}

impl Mode {
    fn buffering() -> Self {
        Self::Buffering { frames: VecDeque::new(), lost: false }
    }
}

impl HubSession {
    /// What to send next. One consumer per session.
    #[must_use]
    pub fn next(&self, now: Instant) -> Next {
        let mut state = lock(&self.core.state);
        if let Some(entry) = state.queue.pop_front() {
            state.uncount(&entry);
            return Next::Text(match entry {
                Entry::Control(text) => text,
                Entry::Event { frame, seen: [user_at, broadcast_at], .. } => {
                    drop(state);
                    frame.text(&Cursor { user: self.core.info.subject, user_at, broadcast_at })
                }
            });
        }
        if let Some(code) = state.closing {
            return Next::Close(code);
        }
        match state.ticks.take(now, self.core.limits.tick_interval) {
            Due::Text(text) => Next::Text(text),
            Due::At(at) => Next::Idle(Some(at)),
            Due::Nothing => Next::Idle(None),
        }
    }

    /// Returns when there may be something new since [`next`](Self::next) was idle. Cancel-safe.
    pub async fn ready(&self) {
        self.core.wake.notified().await;
    }

    /// Whether the session was closed without regard to what is queued: nothing more may be sent then, not even a
    /// message whose sending has begun but waits for the socket.
    #[must_use]
    pub fn is_cut_off(&self) -> bool {
        lock(&self.core.state).closing.is_some_and(|code| code != CloseCode::ShuttingDown)
    }

    /// The name in `hello`.
    #[must_use]
    pub fn name(&self) -> &str {
        &self.core.name
    }

    /// Whose it is.
    #[must_use]
    pub fn info(&self) -> &SessionInfo {
        &self.core.info
    }

    /// Asks for these kinds of events; see [`EventFilter::subscribe`]. Holds for what is queued from now on.
    pub fn subscribe(&self, kinds: Option<&[EventKind]>) {
        lock(&self.core.state).filter.subscribe(kinds);
    }

    /// Asks for these kinds no longer; see [`EventFilter::unsubscribe`].
    pub fn unsubscribe(&self, kinds: Option<&[EventKind]>) {
        lock(&self.core.state).filter.unsubscribe(kinds);
    }

    /// Queues a control message.
    pub fn send(&self, message: &ServerMessage<'_>) {
        self.core.send_control(message.to_text());
    }

    /// Closes at once, without sending what is queued. The first code stays.
    pub fn close(&self, code: CloseCode) {
        self.core.close(code);
    }

    /// Puts `hello` into the queue and begins: live, or with what the cursor missed.
    pub(super) fn greet(&self, cursor: Option<String>) -> Result<(), plimsoll_core_domain::StoreError> {
        let cursor = cursor.map(|text| super::own_cursor(&text, self.core.info.subject));
        let [user, broadcast] = self.lock_cells();
        let heads = [user.at, broadcast.at].map(|at| at.unwrap_or(Position::UNBORN));
        self.core.change(|state, limits| {
            state.push(Entry::Control(self.core.hello(heads)), limits);
            if let Some(None) = cursor {
                state.push(Entry::Control(invalid_cursor()), limits);
            }
            let resuming = matches!(cursor, Some(Some(_)));
            state.subscriptions = heads
                .map(|at| Subscription { at, mode: if resuming { Mode::buffering() } else { Mode::Live } });
        });
        drop((user, broadcast));
        match cursor.flatten() {
            Some(cursor) => self.recover(&cursor),
            None => Ok(()),
        }
    }

    /// Both streams' states, locked in the one order: the broadcast first.
    pub(super) fn lock_cells(&self) -> [MutexGuard<'_, StreamState>; 2] {
        let broadcast = self.cells[BROADCAST].state();
        [self.cells[USER].state(), broadcast]
    }

    /// Takes back what is queued of both streams, and buffers what comes from now on.
    pub(super) fn begin_buffering(&self) {
        let cells = self.lock_cells();
        self.core.change(|state, _| {
            let queue = std::mem::take(&mut state.queue);
            for entry in queue {
                match entry {
                    Entry::Control(_) => state.queue.push_back(entry),
                    Entry::Event { .. } => state.uncount(&entry),
                }
            }
            for (subscription, cell) in state.subscriptions.iter_mut().zip(&cells) {
                *subscription =
                    Subscription { at: cell.at.unwrap_or(Position::UNBORN), mode: Mode::buffering() };
            }
        });
    }

    /// Queues what the history gave, then what was buffered, and goes live.
    pub(super) fn finish_resume(&self, outcomes: [Outcome; 2]) {
        let streams = [StreamId::User(self.core.info.subject), StreamId::Broadcast];
        self.core.change(|state, limits| {
            let mut history = Vec::new();
            let mut buffered = Vec::new();
            for ((stream, outcome), subscription) in
                streams.into_iter().zip(outcomes).zip(&mut state.subscriptions)
            {
                let Mode::Buffering { frames, lost } = std::mem::replace(&mut subscription.mode, Mode::Live)
                else {
                    return; // closed meanwhile
                };
                buffered.push(frames);
                let control = match outcome {
                    Outcome::Recovered(Recovery { from, frames }) if !lost => {
                        let to = frames.last().map_or(from.offset, |frame| frame.at().offset);
                        subscription.at = from;
                        history.push(frames);
                        ServerMessage::Recovered { stream, from: from.offset + 1, to }
                    }
                    Outcome::Recovered(_) => {
                        ServerMessage::SnapshotRequired { stream, reason: SnapshotReason::TooOld }
                    }
                    Outcome::Snapshot(reason) => ServerMessage::SnapshotRequired { stream, reason },
                };
                state.queue.push_back(Entry::Control(control.to_text()));
            }
            for frame in history.into_iter().flatten() {
                state.queue_event(&frame, None);
            }
            // Frames were counted when they were buffered; they are counted again when they are queued.
            state.recount();
            for frame in buffered.into_iter().flatten() {
                state.queue_event(&frame, Some(limits));
            }
        });
    }
}

impl Drop for HubSession {
    fn drop(&mut self) {
        self.hub.detach(self.core.key, &self.cells);
    }
}

impl SessionCore {
    pub(super) fn new(key: u64, name: String, info: SessionInfo, settings: &HubSettings) -> Self {
        let limits = Limits {
            bytes: settings.queue_bytes,
            messages: settings.queue_messages,
            tick_interval: settings.tick_interval,
            ping_interval: settings.ping_interval,
        };
        let subscriptions = [(); 2].map(|()| Subscription { at: Position::UNBORN, mode: Mode::buffering() });
        let state = State {
            queue: VecDeque::new(),
            counted: Count::default(),
            subscriptions,
            filter: EventFilter::default(),
            ticks: TickBoard::default(),
            closing: None,
        };
        Self { key, name, info, limits, state: Mutex::new(state), wake: Notify::new() }
    }

    /// Changes the state unless the session is closing, and wakes the socket's side.
    fn change(&self, change: impl FnOnce(&mut State, &Limits)) {
        let mut state = lock(&self.state);
        if state.closing.is_none() {
            change(&mut state, &self.limits);
            drop(state);
            self.wake.notify_one();
        }
    }

    pub(super) fn send_control(&self, text: Bytes) {
        self.change(|state, limits| state.push(Entry::Control(text), limits));
    }

    /// Takes the stream's next event. Called in the order of the offsets.
    pub(super) fn offer(&self, frame: &Arc<EventFrame>) {
        self.change(|state, limits| match &mut state.subscriptions[slot(frame.stream())].mode {
            Mode::Live => state.queue_event(frame, Some(limits)),
            Mode::Buffering { frames, .. } => {
                frames.push_back(frame.clone());
                state.count(frame.text_len(), limits);
            }
        });
    }

    pub(super) fn offer_tick(&self, kind: EventKind, symbol: Option<&Symbol>, text: &Bytes) {
        self.change(|state, _| {
            if state.filter.contains(kind) {
                state.ticks.put(kind, symbol, text);
            }
        });
    }

    /// The stream goes on after `at`, and what is between is lost.
    pub(super) fn lose(&self, stream: StreamId, at: Position) {
        self.change(|state, limits| {
            let subscription = &mut state.subscriptions[slot(stream)];
            subscription.at = at;
            match &mut subscription.mode {
                Mode::Live => {
                    let reason = SnapshotReason::TooOld;
                    let message = ServerMessage::SnapshotRequired { stream, reason };
                    state.push(Entry::Control(message.to_text()), limits);
                }
                Mode::Buffering { frames, lost } => {
                    frames.clear();
                    *lost = true;
                }
            }
        });
    }

    pub(super) fn close(&self, code: CloseCode) {
        self.change(|state, _| state.close(code));
    }

    /// Lets the queue be sent, then says goodbye.
    pub(super) fn drain(&self, retry_ms: u64) {
        self.change(|state, _| {
            state.queue.push_back(Entry::Control(ServerMessage::ServerClosing { retry_ms }.to_text()));
            state.closing = Some(CloseCode::ShuttingDown);
        });
    }

    fn hello(&self, [user, broadcast]: [Position; 2]) -> Bytes {
        let cursor = Cursor { user: self.info.subject, user_at: user, broadcast_at: broadcast }.encode();
        let streams =
            [(StreamId::User(self.info.subject), user.into()), (StreamId::Broadcast, broadcast.into())];
        let hello = ServerMessage::Hello {
            protocol: 1,
            session: &self.name,
            streams: &streams,
            cursor: &cursor,
            ping_interval: self.limits.ping_interval.as_secs(),
        };
        hello.to_text()
    }
}

pub(super) fn invalid_cursor() -> Bytes {
    let detail = "not a cursor of this user's streams; live events follow";
    ServerMessage::Error { code: "invalid_cursor", detail }.to_text()
}

fn slot(stream: StreamId) -> usize {
    match stream {
        StreamId::User(_) => USER,
        StreamId::Broadcast => BROADCAST,
    }
}

impl Entry {
    fn len(&self) -> usize {
        match self {
            Self::Event { frame, .. } => frame.text_len(),
            Self::Control(text) => text.len(),
        }
    }

    fn is_counted(&self) -> bool {
        matches!(self, Self::Control(_) | Self::Event { counted: true, .. })
    }
}

impl State {
    fn push(&mut self, entry: Entry, limits: &Limits) {
        let len = entry.len();
        self.queue.push_back(entry);
        self.count(len, limits);
    }

    /// Queues an event, unless it is one that was queued already or that the client does not want; history comes
    /// without limits.
    fn queue_event(&mut self, frame: &Arc<EventFrame>, limits: Option<&Limits>) {
        let subscription = &mut self.subscriptions[slot(frame.stream())];
        if self.closing.is_some() || frame.at().offset <= subscription.at.offset {
            return;
        }
        subscription.at = frame.at();
        if !self.filter.contains(frame.kind()) {
            return;
        }
        self.ticks.discard(frame.kind());
        let seen = [self.subscriptions[USER].at, self.subscriptions[BROADCAST].at];
        self.queue.push_back(Entry::Event { frame: frame.clone(), seen, counted: limits.is_some() });
        if let Some(limits) = limits {
            self.count(frame.text_len(), limits);
        }
    }

    fn count(&mut self, len: usize, limits: &Limits) {
        self.counted.messages += 1;
        self.counted.bytes += len;
        if self.counted.messages > limits.messages || self.counted.bytes > limits.bytes {
            self.close(CloseCode::TooSlow);
        }
    }

    fn uncount(&mut self, entry: &Entry) {
        if entry.is_counted() {
            self.counted.messages = self.counted.messages.saturating_sub(1);
            self.counted.bytes = self.counted.bytes.saturating_sub(entry.len());
        }
    }

    /// Counts what is in the queue, and nothing else.
    fn recount(&mut self) {
        let counted = self.queue.iter().filter(|entry| entry.is_counted());
        self.counted = counted.fold(Count::default(), |sum, entry| Count {
            messages: sum.messages + 1,
            bytes: sum.bytes + entry.len(),
        });
    }

    fn close(&mut self, code: CloseCode) {
        self.closing = Some(code);
        self.queue = VecDeque::new();
        self.ticks = TickBoard::default();
        for subscription in &mut self.subscriptions {
            subscription.mode = Mode::Live;
        }
    }
}
