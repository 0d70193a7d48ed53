//! The sending half.

use std::collections::BTreeSet;
use std::mem;
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::thread::{self, JoinHandle};
use std::time::Duration;

use diesel::connection::Connection;
use diesel::sql_types::Text;
use diesel::{PgConnection, RunQueryDsl, sql_query};

use super::{CHANNEL, EVERYTHING, payload};
use crate::db::settings::network;
use crate::db::url::with_extras;

/// Beyond this many waiting topics one `*` stands for all of them.
const MOST_TOPICS: usize = 4_096;

/// The pace of a [`Notifier`].
#[derive(Clone, Copy, Debug)]
pub struct NotifierSettings {
    /// At most one notification in this time.
    pub interval: Duration,
    /// The pause after a failure; it doubles up to `longest_pause`.
    pub first_pause: Duration,
    /// The longest pause after failures in a row.
    pub longest_pause: Duration,
}

impl Default for NotifierSettings {
    fn default() -> Self {
        Self {
            interval: Duration::from_millis(10),
            first_pause: Duration::from_millis(100),
            longest_pause: Duration::from_secs(2),
        }
    }
}

/// Tells other processes of topics: any number of [`flag`](Self::flag)s become one notification in 10 ms. Dropping it
/// sends what is still waiting, if the database answers, and ends its thread.
#[derive(Debug)]
pub struct Notifier {
    shared: Arc<Shared>,
    thread: Option<JoinHandle<()>>,
}

#[derive(Debug, Default)]
struct Shared {
    state: Mutex<State>,
    changed: Condvar,
}

#[derive(Debug, Default)]
struct State {
    topics: BTreeSet<String>,
    stopping: bool,
}

impl Shared {
    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Sleeps for `time`, less when stopping.
    fn rest(&self, time: Duration) {
        drop(self.changed.wait_timeout_while(self.lock(), time, |state| !state.stopping));
    }
}

impl Notifier {
    /// Starts the thread. It connects when there is something to send, and keeps the connection.
    ///
    /// # Errors
    /// When the system gives no thread.
    pub fn start(url: &str, settings: NotifierSettings) -> std::io::Result<Self> {
        let shared = Arc::new(Shared::default());
        let mut extras = network(Duration::from_secs(3), "plimsoll-notify");
        // a lost notification is made up for by the sweep, so it need not wait for the disk
        extras.settings =
            vec![("synchronous_commit", "off".to_owned()), ("statement_timeout", "2000".to_owned())];
        let (url, ours) = (with_extras(url, &extras), Arc::clone(&shared));
        let thread = thread::Builder::new()
            .name("notifier".to_owned())
            .spawn(move || send_all(&url, settings, &ours))?;
        Ok(Self { shared, thread: Some(thread) })
    }

    /// Notes a topic (no comma, at most 200 bytes; `*` for all of them). Never blocks on the database.
    pub fn flag(&self, topic: impl Into<String>) {
        let topic = topic.into();
        debug_assert!(topic.len() <= 200 && !topic.contains(','), "not a topic: {topic}");
        let mut state = self.shared.lock();
        let first = state.topics.is_empty();
        if state.topics.len() >= MOST_TOPICS {
            state.topics.clear();
            state.topics.insert(EVERYTHING.to_owned());
        } else if !state.topics.contains(EVERYTHING) {
            state.topics.insert(topic);
        }
        drop(state);
        if first {
            self.shared.changed.notify_all();
        }
    }
}

impl Drop for Notifier {
    fn drop(&mut self) {
        self.shared.lock().stopping = true;
        self.shared.changed.notify_all();
        if let Some(thread) = self.thread.take() {
            let _ = thread.join(); // a panic there was reported where it happened
        }
    }
}

fn send_all(url: &str, settings: NotifierSettings, shared: &Shared) {
    let mut connection: Option<PgConnection> = None;
    let mut pause = settings.first_pause;
    loop {
        let (topics, stopping) = {
            let waiting = shared
                .changed
                .wait_while(shared.lock(), |state| state.topics.is_empty() && !state.stopping)
                .unwrap_or_else(PoisonError::into_inner);
            let mut state = waiting;
            (mem::take(&mut state.topics), state.stopping)
        };
        if topics.is_empty() {
            return; // stopping, and all was sent
        }
        match send(url, &mut connection, &payload(topics.iter().map(String::as_str))) {
            Ok(()) => {
                pause = settings.first_pause;
                shared.rest(settings.interval);
            }
            Err(error) => {
                connection = None;
                if stopping {
                    return;
                }
                tracing::debug!(error, "topics could not be sent; they are tried again");
                shared.lock().topics.extend(topics);
                shared.rest(pause);
                pause = (pause * 2).min(settings.longest_pause);
            }
        }
    }
}

fn send(url: &str, connection: &mut Option<PgConnection>, payload: &str) -> Result<(), String> {
    let conn = match connection {
        Some(conn) => conn,
        None => connection.insert(PgConnection::establish(url).map_err(|error| error.to_string())?),
    };
    sql_query("SELECT pg_notify($1, $2)")
        .bind::<Text, _>(CHANNEL)
        .bind::<Text, _>(payload)
        .execute(conn)
        .map(|_| ())
        .map_err(|error| error.to_string())
}
