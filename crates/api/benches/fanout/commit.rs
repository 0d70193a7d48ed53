//! From before a commit to the client, on the instance that writes and on another one, at 500 events a second.

use std::net::SocketAddr;
use std::os::unix::fs::PermissionsExt;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::{Duration, Instant};

use plimsoll_core_domain::stream::{EventKind, NewEvent, StreamId};
use plimsoll_core_domain::{Clock, StoreError, SystemClock, UserId};
use plimsoll_realtime::{Hub, HubSettings, Sweeper};
use plimsoll_storage::migrate::{MigrationSet, migrate};
use plimsoll_storage::notify::{Listener, Notifier, NotifierSettings, Wakeups};
use plimsoll_storage::platform::streams::StreamLog;
use plimsoll_storage::private_postgres::{Options, PrivatePostgres};
use plimsoll_storage::testing::RawConnection;
use plimsoll_storage::{AfterCommit, CommitNote, Db, DbSettings, PoolKind};

use crate::Result;
use crate::clients::Clients;
use crate::ours::{self, Limits};

const EVENTS_PER_SECOND: usize = 500;
const WRITERS: usize = 4;
/// Sockets on the instance that does not write.
const THERE: usize = 1_000;

/// What the service does after its commits.
struct Announcer {
    hub: Hub,
    notifier: Notifier,
}

impl AfterCommit for Announcer {
    fn committed(&self, notes: Vec<CommitNote>) {
        for note in notes {
            if let CommitNote::Stream(event) = note {
                self.hub.publish(&event);
                self.notifier.flag(event.stream.to_string());
            }
        }
    }
}

/// What the other instance does on hearing of them.
struct Hearer(Hub);

impl Wakeups for Hearer {
    fn topics(&self, topics: &[&str]) {
        let streams: Vec<StreamId> = topics.iter().filter_map(|topic| topic.parse().ok()).collect();
        let hub = self.0.clone();
        // The sweep makes up for what cannot be read now.
        std::thread::spawn(move || hub.wake(&streams));
    }

    fn sweep(&self) {
        let hub = self.0.clone();
        std::thread::spawn(move || hub.sweep());
    }
}

#[expect(clippy::disallowed_methods, reason = "the environment is how a bench is configured")]
/// The two lines of the table: p50 and p99 here and there.
pub(crate) fn run(sockets: usize, time: Duration) -> Result<Vec<String>> {
    println!(
        "\ncommit to client: {sockets} sockets here, {THERE} there, {EVENTS_PER_SECOND} events/s for {time:?}"
    );
    let folder = tempfile::Builder::new().prefix("plm").tempdir()?;
    // As root the server runs as another account, which must be able to enter.
    std::fs::set_permissions(folder.path(), PermissionsExt::from_mode(0o711))?;
    let mut options = Options::new(folder.path().join("db"));
    options.path_var = std::env::var("PATH").unwrap_or_default();
    options.bin = std::env::var_os("PG_BIN").map(Into::into);
    let mut server = PrivatePostgres::start(options)?;
    server.ensure_database("plimsoll")?;
    let url = server.url("plimsoll");
    migrate(&url, MigrationSet::Platform)?;
    RawConnection::open(&url)?.execute(&format!(
        "INSERT INTO users (id, email, email_folded, password_hash) \
         SELECT n, n || '@example.com', n || '@example.com', 'none' FROM generate_series(1, {sockets}) n; \
         INSERT INTO stream_head (stream_id, epoch) SELECT n, gen_random_uuid() FROM generate_series(1, {sockets}) n; ANALYZE"
    ))?;
    let pool = |kind, size| Db::open(&url, DbSettings::new(kind, size));
    let hub = || -> Result<Hub> {
        let log = StreamLog(pool(PoolKind::Control, 3)?);
        Ok(Hub::new(Arc::new(log), HubSettings::default()))
    };
    let (here, there) = (hub()?, hub()?);
    let sweep = |hub: &Hub| Sweeper::start(hub.clone(), Duration::from_millis(50), Duration::from_secs(1));
    let sweepers = (sweep(&here)?, sweep(&there)?);
    let notifier = Notifier::start(&url, NotifierSettings::default())?;
    let listener = Listener::start(&url, Arc::new(Hearer(there.clone())))?;
    let db = pool(PoolKind::Jobs, u32::try_from(WRITERS)?)?
        .with_after_commit(Arc::new(Announcer { hub: here.clone(), notifier }));
    let (one, two) = (ours::serve(here, Limits::Off)?, ours::serve(there, Limits::Off)?);
    let start = |at: SocketAddr, sockets| Clients::start(at, sockets, &[]);
    let (clients_here, clients_there) = (start(one.0, sockets)?, start(two.0, THERE)?);

    let written = write(&db, sockets, time)?;
    std::thread::sleep(Duration::from_secs(2));
    let (mine, others) = (clients_here.finish()?, clients_there.finish()?);
    println!("{written} events written; {} heard here, {} there", mine.received, others.received);
    if mine.received != written {
        return Err(format!("{} of {written} events came", mine.received).into());
    }
    for (_, handle) in [one, two] {
        drop(handle.stop(false));
    }
    drop((sweepers, listener, db));
    server.stop(Duration::from_secs(5));
    let line = |place: &str, report: &crate::clients::Report| {
        format!(
            "| – | from before the commit to the client, {place}, {EVENTS_PER_SECOND} events/s | p50 {:.1} ms, p99 {:.1} ms | – | – |",
            report.p50_ms, report.p99_ms
        )
    };
    Ok(vec![
        line(&format!("same instance, {sockets} sockets"), &mine),
        line(&format!("another instance, {THERE} sockets"), &others),
    ])
}

/// Writes at the pace, each event to another user's stream in turn; answers how many.
fn write(db: &Db, sockets: usize, time: Duration) -> Result<usize> {
    let (began, next) = (Instant::now(), AtomicUsize::new(0));
    let total = time.as_secs() as usize * EVENTS_PER_SECOND;
    let failures = AtomicUsize::new(0);
    std::thread::scope(|scope| {
        for _ in 0..WRITERS {
            scope.spawn(|| {
                loop {
                    let number = next.fetch_add(1, Ordering::AcqRel);
                    if number >= total {
                        return;
                    }
                    let due = began
                        + Duration::from_secs(1) * u32::try_from(number).unwrap_or(0)
                            / EVENTS_PER_SECOND as u32;
                    std::thread::sleep(due.saturating_duration_since(Instant::now()));
                    let now = SystemClock.now();
                    let data = format!(r#"{{"message":"{}","severity":"info"}}"#, now.timestamp_micros());
                    let event = NewEvent { kind: EventKind::SystemAlert, data: data.into() };
                    // A prime: the users who are heard there come too.
                    let user = UserId(((number * 7_919) % sockets) as i64 + 1);
                    let done = db.run_blocking(|tx| tx.append_event(StreamId::User(user), &event, now));
                    if let Err(error) = done {
                        let error: StoreError = error;
                        eprintln!("an event was not written: {error}");
                        failures.fetch_add(1, Ordering::AcqRel);
                    }
                }
            });
        }
    });
    Ok(total - failures.load(Ordering::Acquire))
}
