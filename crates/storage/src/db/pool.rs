//! The connections: r2d2 keeps them, and each carries a probe that sees how its statements end.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::{Duration, Instant};

use diesel::connection::{
    AnsiTransactionManager, Connection, Instrumentation, InstrumentationEvent, TransactionManager,
};
use diesel::pg::PgConnection;
use diesel::r2d2::R2D2Connection;
use diesel::result::{ConnectionError, Error};
use plimsoll_core_domain::{StoreError, StoreErrorKind};

use super::attempts::Attempts;
use super::counter::Statements;
use super::errors::{commit_unknown, is_lost, is_repeatable, store_error, unavailable};
use super::settings::DbSettings;

/// How the statements since the last [`Probe::reset`] went.
#[derive(Debug, Default)]
pub(super) struct Probe {
    /// The open transaction can only be rolled back.
    aborted: AtomicBool,
    lost: AtomicBool,
    repeatable: AtomicBool,
}

impl Probe {
    fn reset(&self) {
        for flag in [&self.aborted, &self.lost, &self.repeatable] {
            flag.store(false, Ordering::Relaxed);
        }
    }

    pub(super) fn lost(&self) -> bool {
        self.lost.load(Ordering::Relaxed)
    }

    pub(super) fn repeatable(&self) -> bool {
        self.repeatable.load(Ordering::Relaxed)
    }
}

/// The probe's eye on one connection.
struct Watch {
    probe: Arc<Probe>,
    statements: Arc<Statements>,
}

impl Instrumentation for Watch {
    fn on_connection_event(&mut self, event: InstrumentationEvent<'_>) {
        match event {
            InstrumentationEvent::StartQuery { query, .. } => self.statements.started(query),
            InstrumentationEvent::CacheQuery { .. } => self.statements.prepared(),
            InstrumentationEvent::FinishQuery { error: Some(error), .. } => {
                if matches!(error, Error::DatabaseError(..)) {
                    self.probe.aborted.store(true, Ordering::Relaxed);
                }
                if is_lost(error) {
                    self.probe.lost.store(true, Ordering::Relaxed);
                }
                if is_repeatable(error) {
                    self.probe.repeatable.store(true, Ordering::Relaxed);
                }
            }
            // back to a savepoint: the outer transaction is sound again
            InstrumentationEvent::RollbackTransaction { .. } => {
                self.probe.aborted.store(false, Ordering::Relaxed)
            }
            _ => {}
        }
    }
}

/// Rises when connections turn out dead; those of an older generation are not used again.
#[derive(Debug, Default)]
struct Generation(AtomicU64);

/// One pooled connection.
pub(super) struct Pooled {
    pub(super) conn: PgConnection,
    pub(super) probe: Arc<Probe>,
    generation: u64,
}

impl Pooled {
    /// Opens a transaction with `sql` in one round trip.
    fn begin(&mut self, sql: &str) -> Result<(), Error> {
        AnsiTransactionManager::begin_transaction_sql(&mut self.conn, sql)
    }

    /// Commits, or says why not. After an error nothing was committed unless its kind is `CommitUnknown`.
    pub(super) fn commit(&mut self) -> Result<(), StoreError> {
        if self.probe.aborted.load(Ordering::Relaxed) {
            self.roll_back();
            // COMMIT would answer with a quiet ROLLBACK
            return Err(StoreError::new(
                StoreErrorKind::Other,
                "a statement failed earlier in this transaction, so it cannot commit",
            ));
        }
        AnsiTransactionManager::commit_transaction(&mut self.conn)
            .map_err(|error| if is_lost(&error) { commit_unknown(error) } else { store_error(error) })
    }

    /// Rolls back; a connection on which that fails is thrown away by the pool.
    pub(super) fn roll_back(&mut self) {
        if let Err(error) = AnsiTransactionManager::rollback_transaction(&mut self.conn)
            && !is_lost(&error)
        {
            tracing::warn!(%error, "a transaction could not be rolled back; its connection is closed");
        }
    }
}

/// r2d2's view of a server.
pub(super) struct Manager {
    url: String,
    attempts: Arc<Attempts>,
    generation: Arc<Generation>,
    statements: Arc<Statements>,
}

impl r2d2::ManageConnection for Manager {
    type Connection = Pooled;
    type Error = ConnectionError;

    fn connect(&self) -> Result<Pooled, ConnectionError> {
        let generation = self.generation.0.load(Ordering::Acquire);
        let mut conn = self.attempts.make(|| PgConnection::establish(&self.url))?;
        let probe = Arc::new(Probe::default());
        conn.set_instrumentation(Watch {
            probe: Arc::clone(&probe),
            statements: Arc::clone(&self.statements),
        });
        Ok(Pooled { conn, probe, generation })
    }

    fn is_valid(&self, pooled: &mut Pooled) -> Result<(), ConnectionError> {
        pooled.conn.ping().map_err(ConnectionError::CouldntSetupConfiguration)
    }

    fn has_broken(&self, pooled: &mut Pooled) -> bool {
        std::thread::panicking()
            || pooled.generation < self.generation.0.load(Ordering::Acquire)
            || pooled.probe.lost()
            || pooled.conn.is_broken()
    }
}

/// How long to wait for a connection.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Patience {
    /// A client waits: not at all, once the database is known to be away.
    Request,
    /// As long as a new connection may take.
    Thread,
}

/// How often one who waits for a connection looks whether the database is away.
const LOOK: Duration = Duration::from_millis(40);

/// The pool of one [`Db`](super::Db).
pub(super) struct Pool {
    pool: r2d2::Pool<Manager>,
    attempts: Arc<Attempts>,
    generation: Arc<Generation>,
    pub(super) statements: Arc<Statements>,
    connect_timeout: Duration,
}

pub(super) type Checked = r2d2::PooledConnection<Manager>;

impl Pool {
    pub(super) fn open(url: &str, settings: &DbSettings) -> Result<Self, StoreError> {
        let attempts = Arc::new(Attempts::new(settings.connect_timeout));
        let (generation, statements) = (Arc::default(), Arc::default());
        let manager = Manager {
            url: settings.url(url),
            attempts: Arc::clone(&attempts),
            generation: Arc::clone(&generation),
            statements: Arc::clone(&statements),
        };
        // try once by hand: r2d2 would retry in silence and then say no more than "timed out"
        let first = r2d2::ManageConnection::connect(&manager).map_err(super::errors::connect_error)?;
        drop(first);
        let pool = r2d2::Pool::builder()
            .max_size(settings.size)
            .min_idle(Some(settings.min_idle.min(settings.size)))
            .test_on_check_out(false)
            .max_lifetime(Some(settings.max_lifetime))
            .idle_timeout(Some(Duration::from_secs(600)))
            .connection_timeout(settings.connect_timeout)
            .error_handler(Box::new(r2d2::NopErrorHandler))
            .build(manager)
            .map_err(|error| unavailable("the pool could not be opened").caused_by(error))?;
        Ok(Self { pool, attempts, generation, statements, connect_timeout: settings.connect_timeout })
    }

    /// A connection that has not been found dead so far; its probe is reset.
    pub(super) fn check_out(&self, patience: Patience) -> Result<Checked, StoreError> {
        let deadline = Instant::now() + self.connect_timeout;
        loop {
            let pooled = self.wait_for_one(patience, deadline)?;
            if pooled.generation >= self.generation.0.load(Ordering::Acquire) {
                pooled.probe.reset();
                return Ok(pooled);
            }
            drop(pooled); // r2d2 sees that it is broken, closes it and opens another
        }
    }

    fn wait_for_one(&self, patience: Patience, deadline: Instant) -> Result<Checked, StoreError> {
        loop {
            let left = deadline.saturating_duration_since(Instant::now()).max(Duration::from_millis(1));
            let step = match patience {
                Patience::Thread => left,
                // a connection that nobody uses is had at once, whatever is known
                Patience::Request if self.is_away() => Duration::from_millis(1),
                Patience::Request => left.min(LOOK),
            };
            let error = match self.pool.get_timeout(step) {
                Ok(pooled) => return Ok(pooled),
                Err(error) => error,
            };
            let is_hopeless = patience == Patience::Request && self.is_away();
            if is_hopeless || Instant::now() >= deadline {
                return Err(unavailable("no connection to the database").caused_by(error));
            }
        }
    }

    /// No connection is open, and none can be opened.
    fn is_away(&self) -> bool {
        self.attempts.are_failing() && self.connections() == 0
    }

    /// A connection with an open transaction. Where the first one turns out to be dead, once more on a fresh one.
    pub(super) fn begin(&self, patience: Patience, sql: &str) -> Result<Checked, StoreError> {
        let mut pooled = self.check_out(patience)?;
        match pooled.begin(sql) {
            Ok(()) => return Ok(pooled),
            Err(error) if is_lost(&error) => self.found_dead(pooled),
            Err(error) => return Err(store_error(error)),
        }
        let mut pooled = self.check_out(patience)?;
        match pooled.begin(sql) {
            Ok(()) => Ok(pooled),
            Err(error) => {
                let mapped = store_error(error);
                if pooled.probe.lost() {
                    self.found_dead(pooled);
                }
                Err(mapped)
            }
        }
    }

    /// Drops a dead connection and with it all that were opened no later: they have the same fate as a rule.
    pub(super) fn found_dead(&self, pooled: Checked) {
        let (seen, next) = (pooled.generation, pooled.generation + 1);
        let _ = self.generation.0.compare_exchange(seen, next, Ordering::AcqRel, Ordering::Acquire);
        drop(pooled);
    }

    /// Connections open at this moment, used or idle.
    pub(super) fn connections(&self) -> u32 {
        self.pool.state().connections
    }
}
