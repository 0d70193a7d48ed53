//! The receiving half.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU8, Ordering};
use std::thread::{self, JoinHandle};
use std::time::{Duration, Instant};

use diesel::connection::{Connection, SimpleConnection};
use diesel::sql_types::Text;
use diesel::{PgConnection, QueryResult, RunQueryDsl, sql_query};

use super::{CHANNEL, EVERYTHING};
use crate::db::settings::network;
use crate::db::url::with_extras;

const POLL: Duration = Duration::from_millis(20);
const CHECK: Duration = Duration::from_secs(5);
const FIRST_PAUSE: Duration = Duration::from_millis(100);
const LONGEST_PAUSE: Duration = Duration::from_secs(2);
/// A notification to oneself that takes longer than this never comes.
const ECHO_WAIT: Duration = Duration::from_secs(2);
/// Starts the payload of a listener's notification to itself.
const ECHO: &str = "echo:";

/// Who is woken. Both calls come from the listener's thread and should only pass the word on.
pub trait Wakeups: Send + Sync {
    /// Something happened to these topics.
    fn topics(&self, topics: &[&str]);

    /// Anything may have happened: after each (re)connect, and when a list of topics was too long.
    fn sweep(&self);
}

/// Whether notifications get through.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Delivery {
    /// Not known yet, or not connected.
    Unknown,
    /// They do.
    Works,
    /// Connected, and they do not: as behind a pooler in transaction mode. Sweeps have to do.
    Silent,
}

/// A thread with a connection of its own that passes notifications on. Dropping it ends both.
#[derive(Debug)]
pub struct Listener {
    shared: Arc<Shared>,
    thread: Option<JoinHandle<()>>,
}

#[derive(Debug, Default)]
struct Shared {
    stopping: AtomicBool,
    delivery: AtomicU8,
}

impl Shared {
    fn set(&self, delivery: Delivery) {
        self.delivery.store(delivery as u8, Ordering::Relaxed);
    }

    fn stopping(&self) -> bool {
        self.stopping.load(Ordering::Relaxed)
    }
}

impl Listener {
    /// Starts the thread, which connects and reconnects by itself.
    ///
    /// # Errors
    /// When the system gives no thread.
    pub fn start(url: &str, wakeups: Arc<dyn Wakeups>) -> std::io::Result<Self> {
        let mut extras = network(Duration::from_secs(3), "plimsoll-listen");
        extras.settings = vec![("statement_timeout", "5000".to_owned())];
        let (url, shared) = (with_extras(url, &extras), Arc::new(Shared::default()));
        let ours = Arc::clone(&shared);
        let thread = thread::Builder::new()
            .name("listener".to_owned())
            .spawn(move || listen_for_ever(&url, &*wakeups, &ours))?;
        Ok(Self { shared, thread: Some(thread) })
    }

    /// Whether notifications get through.
    pub fn delivery(&self) -> Delivery {
        let value = self.shared.delivery.load(Ordering::Relaxed);
        [Delivery::Works, Delivery::Silent]
            .into_iter()
            .find(|delivery| *delivery as u8 == value)
            .unwrap_or(Delivery::Unknown)
    }
}

impl Drop for Listener {
    fn drop(&mut self) {
        self.shared.stopping.store(true, Ordering::Relaxed);
        if let Some(thread) = self.thread.take() {
            thread.thread().unpark();
            let _ = thread.join(); // a panic there was reported where it happened
        }
    }
}

fn listen_for_ever(url: &str, wakeups: &dyn Wakeups, shared: &Shared) {
    let (mut pause, mut warned) = (FIRST_PAUSE, false);
    while !shared.stopping() {
        let began = Instant::now();
        let outcome = match PgConnection::establish(url) {
            Ok(mut conn) => {
                listen(&mut conn, wakeups, shared, &mut warned).map_err(|error| error.to_string())
            }
            Err(error) => Err(error.to_string()),
        };
        shared.set(Delivery::Unknown);
        if let Err(error) = outcome {
            tracing::warn!(error, "the connection for notifications is lost; sweeps go on meanwhile");
        }
        if began.elapsed() > LONGEST_PAUSE {
            pause = FIRST_PAUSE;
        }
        if !shared.stopping() {
            thread::park_timeout(pause);
        }
        pause = (pause * 2).min(LONGEST_PAUSE);
    }
}

/// Listens until stopped (`Ok`) or until the connection fails.
fn listen(
    conn: &mut PgConnection,
    wakeups: &dyn Wakeups,
    shared: &Shared,
    warned: &mut bool,
) -> QueryResult<()> {
    conn.batch_execute(&format!("LISTEN {CHANNEL}"))?;
    // only now: what was committed before LISTEN took effect sends us nothing
    wakeups.sweep();
    sql_query("SELECT pg_notify($1, $2 || pg_backend_pid())")
        .bind::<Text, _>(CHANNEL)
        .bind::<Text, _>(ECHO)
        .execute(conn)?;
    let began = Instant::now();
    let (mut heard, mut checked) = (false, began);
    while !shared.stopping() {
        for notification in conn.notifications_iter() {
            let notification = notification?;
            heard = true;
            match notification.payload.as_str() {
                EVERYTHING => wakeups.sweep(),
                echo if echo.starts_with(ECHO) => shared.set(Delivery::Works),
                "" => {}
                topics => wakeups.topics(&topics.split(',').collect::<Vec<_>>()),
            }
        }
        if !heard && !*warned && began.elapsed() > ECHO_WAIT {
            *warned = true;
            shared.set(Delivery::Silent);
            tracing::warn!(
                "notifications do not get through (a pooler in transaction mode?); waiting for sweeps instead"
            );
        }
        if checked.elapsed() >= CHECK {
            conn.batch_execute("SELECT 1")?;
            checked = Instant::now();
        }
        thread::park_timeout(POLL);
    }
    Ok(())
}
