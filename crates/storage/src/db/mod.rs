//! [`Db`]: the only door to the database. A closure gets a [`Tx`]; `Ok` commits, anything else rolls back.

mod attempts;
mod counter;
pub(crate) mod errors;
mod lanes;
mod pool;
#[cfg(any(feature = "platform", feature = "paper"))]
pub(crate) mod prepared;
pub(crate) mod settings;
mod tx;
pub(crate) mod url;
#[cfg(feature = "platform")]
pub(crate) mod wire;

use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Arc;
use std::time::Duration;

use diesel::deserialize::QueryableByName;
use diesel::sql_types::Text;
use diesel::{RunQueryDsl, sql_query};
use plimsoll_core_domain::StoreError;

pub use self::counter::QueryCounter;
pub use self::settings::{DbSettings, PoolKind};
pub use self::tx::{AfterCommit, CommitNote, Tx};
pub use self::url::{database_of, with_database};

use self::errors::{RETRY_AFTER, StoreResult, unavailable};
use self::lanes::{Lanes, Turn};
use self::pool::{Patience, Pool};
use self::tx::Extension;

const READ_WRITE: &str = "BEGIN";
const SNAPSHOT: &str = "BEGIN ISOLATION LEVEL REPEATABLE READ READ ONLY";

/// How often [`Db::run_retrying`] runs a closure at most.
const ATTEMPTS: u32 = 3;

/// A pool of connections with a fair, bounded queue in front. Cloning is cheap; clones share the pool.
///
/// Every method waits for one of as many turns as the pool has connections and, when none comes in time, fails with
/// a [`StoreError`] of kind `Unavailable` that carries `retry_after`. While the database is away, a method for tasks
/// fails within a quarter of a second, and one for threads waits as long as a new connection may take. No method may be
/// called inside another's closure: that would hold two turns and can starve the pool.
#[derive(Clone)]
pub struct Db {
    inner: Arc<Inner>,
    after_commit: Option<Arc<dyn AfterCommit>>,
    extension: Option<Extension>,
}

struct Inner {
    settings: DbSettings,
    lanes: Lanes,
    pool: Pool,
}

/// How busy a pool is at one moment.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct PoolLoad {
    /// Connections the pool may have.
    pub size: u32,
    /// Connections it has.
    pub open: u32,
    /// Closures that run.
    pub in_use: usize,
    /// Callers that wait for their turn.
    pub waiting: usize,
}

impl Db {
    /// Opens the pool of `settings` on the database at `url` (a libpq URI or `keyword = value` string).
    ///
    /// # Errors
    /// `Unavailable` when no connection can be made within the connect time-out.
    pub fn open(url: &str, settings: DbSettings) -> Result<Self, StoreError> {
        let inner = Inner { lanes: Lanes::new(&settings), pool: Pool::open(url, &settings)?, settings };
        let db = Self { inner: Arc::new(inner), after_commit: None, extension: None };
        db.read_blocking(|tx| {
            let language: MessageLanguage = sql_query("SHOW lc_messages").get_result(tx.conn()).store()?;
            if !language.is_english() {
                tracing::warn!(
                    lc_messages = language.lc_messages,
                    "the database does not answer in English: some errors will not be recognised for what they are; \
                     set lc_messages to 'C'"
                );
            }
            Ok::<_, StoreError>(())
        })?;
        Ok(db)
    }

    /// The same pool, telling `hook` of what was committed through this handle and its clones.
    #[must_use]
    pub fn with_after_commit(mut self, hook: Arc<dyn AfterCommit>) -> Self {
        self.after_commit = Some(hook);
        self
    }

    /// The same pool, whose transactions can reach `value` (keys that rows are written with).
    #[cfg(feature = "platform")]
    #[must_use]
    pub(crate) fn with_extension<T: Send + Sync + 'static>(mut self, value: Arc<T>) -> Self {
        self.extension = Some(value);
        self
    }

    /// Runs `work` in a transaction: `Ok` commits, `Err` rolls back, a panic rolls back and goes on here. A caller that
    /// drops the future does not stop the work.
    ///
    /// A BEGIN that finds its connection dead is tried once more on a fresh one.
    ///
    /// # Errors
    /// What `work` returns, and the store's own. With kind `CommitUnknown` the connection was lost while committing:
    /// look whether it happened (the idempotency row) before repeating anything.
    pub async fn run<T, E, F>(&self, work: F) -> Result<T, E>
    where
        F: FnOnce(&mut Tx<'_>) -> Result<T, E> + Send + 'static,
        T: Send + 'static,
        E: From<StoreError> + Send + 'static,
    {
        self.on_lane(|db| db.transaction(Patience::Request, READ_WRITE, work).map_err(Failure::into_error))
            .await?
    }

    /// As [`run`](Self::run), but runs `work` again, at most twice and after 20–80 ms, when it failed by a deadlock, a
    /// serialization failure or a connection lost before COMMIT. `seed` spreads the pauses of concurrent callers.
    ///
    /// # Errors
    /// As [`run`](Self::run); the last attempt's error.
    pub async fn run_retrying<T, E, F>(&self, seed: u64, mut work: F) -> Result<T, E>
    where
        F: FnMut(&mut Tx<'_>) -> Result<T, E> + Send + 'static,
        T: Send + 'static,
        E: From<StoreError> + Send + 'static,
    {
        let mut attempt = 1;
        loop {
            let (again, outcome) = self
                .on_lane(move |db| {
                    let outcome = db.transaction(Patience::Request, READ_WRITE, &mut work);
                    (work, outcome)
                })
                .await?;
            work = again;
            match outcome {
                Err(failure) if failure.is_repeatable() && attempt < ATTEMPTS => {
                    tokio::time::sleep(pause(seed, attempt)).await;
                    attempt += 1;
                }
                outcome => return outcome.map_err(Failure::into_error),
            }
        }
    }

    /// Runs `work` without a transaction: each statement stands for itself, one round trip each. For reads, and for
    /// single writes that may be repeated: a closure whose connection is lost is run once more on a fresh one.
    ///
    /// # Errors
    /// What `work` returns, and the store's own.
    pub async fn read<T, E, F>(&self, work: F) -> Result<T, E>
    where
        F: FnMut(&mut Tx<'_>) -> Result<T, E> + Send + 'static,
        T: Send + 'static,
        E: From<StoreError> + Send + 'static,
    {
        self.on_lane(|db| db.autocommit(Patience::Request, work)).await?
    }

    /// Runs `work` in a REPEATABLE READ, READ ONLY transaction: all its statements see the same state.
    ///
    /// # Errors
    /// What `work` returns, and the store's own.
    pub async fn read_snapshot<T, E, F>(&self, work: F) -> Result<T, E>
    where
        F: FnOnce(&mut Tx<'_>) -> Result<T, E> + Send + 'static,
        T: Send + 'static,
        E: From<StoreError> + Send + 'static,
    {
        self.on_lane(|db| db.transaction(Patience::Request, SNAPSHOT, work).map_err(Failure::into_error))
            .await?
    }

    /// [`run`](Self::run) for threads that are no task, such as job workers. It parks the thread; never call it from
    /// async code.
    ///
    /// # Errors
    /// As [`run`](Self::run).
    pub fn run_blocking<T, E, F>(&self, work: F) -> Result<T, E>
    where
        F: FnOnce(&mut Tx<'_>) -> Result<T, E>,
        E: From<StoreError>,
    {
        let _turn = self.admit_blocking()?;
        self.transaction(Patience::Thread, READ_WRITE, work).map_err(Failure::into_error)
    }

    /// [`run_retrying`](Self::run_retrying) for threads that are no task.
    ///
    /// # Errors
    /// As [`run_retrying`](Self::run_retrying).
    pub fn run_retrying_blocking<T, E, F>(&self, seed: u64, mut work: F) -> Result<T, E>
    where
        F: FnMut(&mut Tx<'_>) -> Result<T, E>,
        E: From<StoreError>,
    {
        let mut attempt = 1;
        loop {
            let turn = self.admit_blocking()?;
            let outcome = self.transaction(Patience::Thread, READ_WRITE, &mut work);
            drop(turn);
            match outcome {
                Err(failure) if failure.is_repeatable() && attempt < ATTEMPTS => {
                    std::thread::sleep(pause(seed, attempt));
                    attempt += 1;
                }
                outcome => return outcome.map_err(Failure::into_error),
            }
        }
    }

    /// [`read`](Self::read) for threads that are no task.
    ///
    /// # Errors
    /// As [`read`](Self::read).
    pub fn read_blocking<T, E, F>(&self, work: F) -> Result<T, E>
    where
        F: FnMut(&mut Tx<'_>) -> Result<T, E>,
        E: From<StoreError>,
    {
        let _turn = self.admit_blocking()?;
        self.autocommit(Patience::Thread, work)
    }

    /// [`read_snapshot`](Self::read_snapshot) for threads that are no task.
    ///
    /// # Errors
    /// As [`read_snapshot`](Self::read_snapshot).
    pub fn read_snapshot_blocking<T, E, F>(&self, work: F) -> Result<T, E>
    where
        F: FnOnce(&mut Tx<'_>) -> Result<T, E>,
        E: From<StoreError>,
    {
        let _turn = self.admit_blocking()?;
        self.transaction(Patience::Thread, SNAPSHOT, work).map_err(Failure::into_error)
    }

    /// One round trip to the server and back.
    ///
    /// # Errors
    /// `Unavailable` when the pool is full or the server away.
    pub async fn ping(&self) -> Result<(), StoreError> {
        self.read(|tx| sql_query("SELECT 1").execute(tx.conn()).store().map(|_| ())).await
    }

    /// How busy the pool is.
    pub fn load(&self) -> PoolLoad {
        PoolLoad {
            size: self.inner.settings.size,
            open: self.inner.pool.connections(),
            in_use: self.inner.lanes.in_use(),
            waiting: self.inner.lanes.waiting(),
        }
    }

    /// Counts what this pool sends from now on: how tests hold a use case to its round trips.
    pub fn count_queries(&self) -> QueryCounter {
        QueryCounter::new(&self.inner.pool.statements)
    }

    fn admit_blocking(&self) -> Result<Turn<'_>, StoreError> {
        self.inner.lanes.admit_blocking().map_err(|_| StoreError::busy(RETRY_AFTER))
    }

    /// Does `work` on a thread that may block, when its turn has come.
    async fn on_lane<R, W>(&self, work: W) -> Result<R, StoreError>
    where
        W: FnOnce(&Db) -> R + Send + 'static,
        R: Send + 'static,
    {
        let db = self.clone();
        self.inner.lanes.run(move || work(&db)).await.map_err(|_| StoreError::busy(RETRY_AFTER))
    }

    fn transaction<T, E, F>(&self, patience: Patience, begin: &'static str, work: F) -> Result<T, Failure<E>>
    where
        F: FnOnce(&mut Tx<'_>) -> Result<T, E>,
        E: From<StoreError>,
    {
        let mut pooled = self.inner.pool.begin(patience, begin).map_err(Failure::Store)?;
        let mut tx = Tx::new(&mut pooled.conn, self.extension.clone());
        match work(&mut tx) {
            Ok(value) => {
                let notes = tx.into_notes();
                pooled.commit().map_err(|error| match begin {
                    // nothing was written, so nothing is in doubt
                    SNAPSHOT => Failure::Store(unavailable("the connection was lost").caused_by(error)),
                    _ if pooled.probe.repeatable() => Failure::Repeatable(error.into()),
                    _ => Failure::Store(error),
                })?;
                drop(pooled);
                self.pass_on(notes);
                Ok(value)
            }
            Err(error) => {
                drop(tx);
                let (lost, repeatable) = (pooled.probe.lost(), pooled.probe.repeatable());
                if lost {
                    self.inner.pool.found_dead(pooled);
                } else {
                    pooled.roll_back();
                }
                Err(if lost || repeatable { Failure::Repeatable(error) } else { Failure::Work(error) })
            }
        }
    }

    fn autocommit<T, E, F>(&self, patience: Patience, mut work: F) -> Result<T, E>
    where
        F: FnMut(&mut Tx<'_>) -> Result<T, E>,
        E: From<StoreError>,
    {
        let mut first = true;
        loop {
            let mut pooled = self.inner.pool.check_out(patience)?;
            let mut tx = Tx::new(&mut pooled.conn, self.extension.clone());
            let outcome = work(&mut tx);
            let notes = tx.into_notes();
            let lost = outcome.is_err() && pooled.probe.lost();
            if lost {
                self.inner.pool.found_dead(pooled);
            } else {
                drop(pooled);
            }
            self.pass_on(notes); // each statement has committed by itself
            if !(lost && first) {
                return outcome;
            }
            first = false;
        }
    }

    fn pass_on(&self, notes: Vec<CommitNote>) {
        let Some(hook) = self.after_commit.as_ref().filter(|_| !notes.is_empty()) else { return };
        // the transaction has committed: a faulty listener must not make it look failed
        if catch_unwind(AssertUnwindSafe(|| hook.committed(notes))).is_err() {
            tracing::error!(
                "a listener of commits panicked; its notes are lost and the next sweep makes up for them"
            );
        }
    }
}

impl std::fmt::Debug for Db {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Db")
            .field("kind", &self.inner.settings.kind)
            .field("load", &self.load())
            .finish_non_exhaustive()
    }
}

/// Why a transaction did not commit.
enum Failure<E> {
    /// The closure's own error.
    Work(E),
    /// Running the whole closure again may help, and does no harm: nothing was committed.
    Repeatable(E),
    /// The store's.
    Store(StoreError),
}

impl<E: From<StoreError>> Failure<E> {
    fn is_repeatable(&self) -> bool {
        matches!(self, Self::Repeatable(_))
    }

    fn into_error(self) -> E {
        match self {
            Self::Work(error) | Self::Repeatable(error) => error,
            Self::Store(error) => error.into(),
        }
    }
}

/// A name for use inside a statement.
#[cfg(any(feature = "platform", feature = "paper", feature = "private-postgres"))]
pub(crate) fn quote_identifier(name: &str) -> String {
    format!("\"{}\"", name.replace('"', "\"\""))
}

#[derive(QueryableByName)]
struct MessageLanguage {
    #[diesel(sql_type = Text)]
    lc_messages: String,
}

impl MessageLanguage {
    fn is_english(&self) -> bool {
        matches!(self.lc_messages.as_str(), "" | "C" | "POSIX" | "C.UTF-8" | "C.utf8")
            || self.lc_messages.to_ascii_lowercase().starts_with("en")
    }
}

/// 20 to 80 ms, spread by splitmix64 over seeds and attempts.
fn pause(seed: u64, attempt: u32) -> Duration {
    let mut z = seed.wrapping_add(u64::from(attempt).wrapping_mul(0x9E37_79B9_7F4A_7C15));
    z = (z ^ (z >> 30)).wrapping_mul(0xBF58_476D_1CE4_E5B9);
    z = (z ^ (z >> 27)).wrapping_mul(0x94D0_49BB_1331_11EB);
    Duration::from_millis(20 + (z ^ (z >> 31)) % 61)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn pauses_stay_in_their_range_and_differ() {
        let pauses: Vec<_> = (0..200).map(|seed| pause(seed, 1)).collect();
        assert!(pauses.iter().all(|p| (Duration::from_millis(20)..=Duration::from_millis(80)).contains(p)));
        assert!(pauses.iter().any(|p| *p < Duration::from_millis(30)));
        assert!(pauses.iter().any(|p| *p > Duration::from_millis(70)));
    }

    #[test]
    #[cfg(any(feature = "platform", feature = "paper", feature = "private-postgres"))]
    fn identifiers_are_quoted() {
        assert_eq!(quote_identifier("a\"b"), "\"a\"\"b\"");
    }

    #[test]
    fn english_is_recognised() {
        for (language, english) in
            [("C", true), ("en_GB.UTF-8", true), ("English_United States", true), ("de_DE.UTF-8", false)]
        {
            assert_eq!(MessageLanguage { lc_messages: language.into() }.is_english(), english, "{language}");
        }
    }
}
