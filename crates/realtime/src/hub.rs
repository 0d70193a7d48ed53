//! The hub: hands the events of many streams to many sessions, each in the order of its offsets.
//!
//! Locks are taken in one order only: the map of streams, then streams (the broadcast first), then one session. No
//! foreign code runs under them: taps and the log are called with none held.

mod resume;
mod session;
mod settings;
mod stream_cell;
mod sweep;
mod sweeper;
mod ticks;

use std::collections::HashMap;
use std::ops::RangeInclusive;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use plimsoll_core_domain::stream::{StreamEvent, StreamId};
use plimsoll_core_domain::{StoreError, UserId};

use crate::cursor::Cursor;
use crate::log::LogReader;
use crate::sync::{Mutex, RwLock, lock, read, write};
use crate::wire::{CloseCode, tick_text};
use session::SessionCore;
use stream_cell::{StreamCell, StreamState};

pub use session::{HubSession, Next, SessionInfo};
pub use settings::HubSettings;
pub use sweep::SweepReport;
pub use sweeper::Sweeper;
pub use ticks::{Tick, TickKind};

/// Called with every event that the hub learns of: published here, or found in the log of a stream that is active. It runs
/// on the thread that brought the event, with no lock held, and must not block. Take it as a wake-up and look at the
/// state behind it: it may rarely hear an event twice, and events from before the stream became active not at all.
pub type Tap = Arc<dyn Fn(&StreamEvent) + Send + Sync>;

/// Hands events to sessions. Cloning it is cheap, and all clones are one hub.
#[derive(Clone)]
pub struct Hub(Arc<Inner>);

/// Who wants to hear what. The caller has authenticated and authorised it.
#[derive(Clone, Debug)]
pub struct OpenRequest {
    /// Who listens, and to whose stream.
    pub info: SessionInfo,
    /// Where to resume; `None` for live events only.
    pub cursor: Option<String>,
}

impl OpenRequest {
    /// A user who listens to the own stream; `login` names the login session or API token.
    #[must_use]
    pub fn new(user: UserId, login: impl Into<String>) -> Self {
        Self { info: SessionInfo { caller: user, subject: user, login: login.into() }, cursor: None }
    }

    /// Resumes after this cursor.
    #[must_use]
    pub fn resuming(mut self, cursor: impl Into<String>) -> Self {
        self.cursor = Some(cursor.into());
        self
    }
}

/// Why no session was opened.
#[derive(Debug, thiserror::Error)]
pub enum OpenError {
    /// The server shuts down.
    #[error("the hub is draining")]
    Draining,
    /// The log cannot be read.
    #[error(transparent)]
    Store(#[from] StoreError),
}

struct Inner {
    settings: HubSettings,
    log: Arc<dyn LogReader>,
    streams: RwLock<HashMap<StreamId, Arc<StreamCell>>>,
    sessions: Mutex<Sessions>,
    taps: RwLock<Vec<Tap>>,
    next_key: AtomicU64,
}

#[derive(Default)]
struct Sessions {
    by_key: HashMap<u64, Arc<SessionCore>>,
    draining: bool,
}

impl Hub {
    /// A hub over this history, without sessions.
    #[must_use]
    pub fn new(log: Arc<dyn LogReader>, settings: HubSettings) -> Self {
        Self(Arc::new(Inner {
            settings,
            log,
            streams: RwLock::default(),
            sessions: Mutex::default(),
            taps: RwLock::default(),
            next_key: AtomicU64::new(1),
        }))
    }

    /// Takes an event that is committed, from any thread and in any order; never blocks on the log. Streams that nobody
    /// hears keep nothing.
    pub fn publish(&self, event: &StreamEvent) {
        let cell = read(&self.0.streams).get(&event.stream).cloned();
        if cell.is_none_or(|cell| cell.state().accept(event)) {
            self.0.tap(event);
        }
    }

    /// Hands a price tick to the user's sessions: not in order with events, never in history, the latest one wins.
    ///
    /// A durable `position_updated` or `pnl_updated` drops the ticks of its kind that a session has not sent yet; whoever
    /// computes ticks must take the position from after that event.
    pub fn tick(&self, tick: &Tick) {
        let Some(cell) = read(&self.0.streams).get(&StreamId::User(tick.user)).cloned() else { return };
        let state = cell.state();
        if state.subscribers.is_empty() {
            return;
        }
        let kind = tick.kind.event_kind();
        let text = tick_text(tick.user, kind, &tick.data, tick.at);
        for session in state.subscribers.values() {
            session.offer_tick(kind, tick.symbol.as_ref(), &text);
        }
    }

    /// Adds a tap, for ever.
    pub fn tap(&self, tap: Tap) {
        write(&self.0.taps).push(tap);
    }

    /// Keeps a stream active, so that taps hear of other instances' events too, until the answer is dropped. Never
    /// blocks. Whoever registers before a commit and looks at the state at each wake-up misses nothing.
    #[must_use]
    pub fn watch(&self, stream: StreamId) -> Watch {
        let cell = self.0.attach(stream, |state| state.watchers += 1);
        Watch { cell }
    }

    /// Opens a session. Its first message is `hello`; with a cursor follow what was missed or `snapshot_required`.
    /// Blocks on the log when a stream is new here or the cursor reaches behind what is in memory.
    ///
    /// # Errors
    /// The hub drains, or the log cannot be read.
    pub fn open(&self, request: OpenRequest) -> Result<HubSession, OpenError> {
        let key = self.0.next_key.fetch_add(1, Ordering::Relaxed);
        let name = format!("{}-{key:x}", self.0.settings.instance);
        let core = Arc::new(SessionCore::new(key, name, request.info, &self.0.settings));
        {
            let mut sessions = lock(&self.0.sessions);
            if sessions.draining {
                return Err(OpenError::Draining);
            }
            sessions.by_key.insert(key, core.clone());
        }
        let streams = [StreamId::User(core.info.subject), StreamId::Broadcast];
        let attach = |id| self.0.attach(id, |state| drop(state.subscribers.insert(key, core.clone())));
        // From here on the session's drop detaches it, also when the log fails.
        let session = HubSession { cells: streams.map(attach), hub: self.0.clone(), core };

        let known = session.cells.iter().all(|cell| cell.state().at.is_some());
        if !known {
            self.0.refresh(&session.cells)?;
        }
        session.greet(request.cursor)?;
        Ok(session)
    }

    /// Whether a session of this process hears a user's events.
    #[must_use]
    pub fn is_heard(&self, user: UserId) -> bool {
        let cell = read(&self.0.streams).get(&StreamId::User(user)).cloned();
        cell.is_some_and(|cell| !cell.state().subscribers.is_empty())
    }

    /// How many sessions are open.
    #[must_use]
    pub fn session_count(&self) -> usize {
        lock(&self.0.sessions).by_key.len()
    }

    /// Closes every session for which `which` says so, at once and without sending what is queued. Returns how many.
    pub fn close_where(&self, code: CloseCode, which: impl Fn(&SessionInfo) -> bool) -> usize {
        let chosen: Vec<_> =
            lock(&self.0.sessions).by_key.values().filter(|core| which(&core.info)).cloned().collect();
        chosen.iter().for_each(|core| core.close(code));
        chosen.len()
    }

    /// Closes the sessions that a user has opened.
    pub fn close_user(&self, user: UserId, code: CloseCode) -> usize {
        self.close_where(code, |info| info.caller == user)
    }

    /// Closes the sessions that were opened by one login session or API token.
    pub fn close_login(&self, login: &str, code: CloseCode) -> usize {
        self.close_where(code, |info| info.login == login)
    }

    /// Ends the hub: every session sends what is queued, then `server_closing`, then closes with 1001; no new one opens.
    /// Each client is asked to come back after a time of its own inside `retry_ms`, so that they do not come together.
    pub fn drain(&self, retry_ms: RangeInclusive<u64>) {
        let cores: Vec<_> = {
            let mut sessions = lock(&self.0.sessions);
            sessions.draining = true;
            sessions.by_key.values().cloned().collect()
        };
        let span = retry_ms.end().saturating_sub(*retry_ms.start()).saturating_add(1);
        for core in cores {
            // Fibonacci hashing spreads consecutive keys evenly over the span.
            let spread = core.key.wrapping_mul(0x9e37_79b9_7f4a_7c15) >> 32;
            core.drain(retry_ms.start() + spread % span);
        }
    }

    /// Whether [`drain`](Self::drain) was called.
    #[must_use]
    pub fn is_draining(&self) -> bool {
        lock(&self.0.sessions).draining
    }

    /// The settings it was made with.
    #[must_use]
    pub fn settings(&self) -> &HubSettings {
        &self.0.settings
    }
}

impl Inner {
    /// The stream's cell, made when missing, after `change` was done to it: a cell with a subscriber or a watcher is
    /// not collected, and the collector looks under the same lock.
    fn attach(&self, id: StreamId, change: impl FnOnce(&mut StreamState)) -> Arc<StreamCell> {
        {
            let streams = read(&self.streams);
            if let Some(cell) = streams.get(&id) {
                cell.state().attach(change);
                return cell.clone();
            }
        }
        let mut streams = write(&self.streams);
        let cell =
            streams.entry(id).or_insert_with(|| Arc::new(StreamCell::new(id, self.settings.recent_events)));
        cell.state().attach(change);
        cell.clone()
    }

    fn tap(&self, event: &StreamEvent) {
        let taps = read(&self.taps).clone();
        taps.iter().for_each(|tap| tap(event));
    }

    fn detach(&self, key: u64, cells: &[Arc<StreamCell>]) {
        lock(&self.sessions).by_key.remove(&key);
        for cell in cells {
            cell.state().subscribers.remove(&key);
        }
    }
}

/// Keeps a stream swept while it lives; see [`Hub::watch`].
pub struct Watch {
    cell: Arc<StreamCell>,
}

impl Drop for Watch {
    fn drop(&mut self) {
        self.cell.state().watchers -= 1;
    }
}

/// A cursor that belongs to this user, or nothing.
fn own_cursor(text: &str, user: UserId) -> Option<Cursor> {
    Cursor::decode(text).ok().filter(|cursor| cursor.user == user)
}
