//! Starting and stopping.

use std::fs::{File, OpenOptions, TryLockError};
use std::io;
use std::net::{SocketAddr, TcpListener};
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::mpsc;
use std::thread::JoinHandle;
use std::time::Duration;

use actix_web::dev::ServerHandle;
use actix_web::{App, HttpServer, web};
use chrono::{DateTime, TimeDelta, Utc};
use plimsoll_core_domain::{Clock, StoreError, StoreErrorKind, SystemClock};
use plimsoll_paper_exchange::clock::ClockError;
use plimsoll_paper_exchange::market::MarketDataError;
use plimsoll_paper_exchange::{AccountId, ClockState, Exchange, MarketData, ReplayClock, RestoreError};
use plimsoll_storage::migrate::{MigrateError, MigrationSet, migrate};
use plimsoll_storage::private_postgres::{self, PrivatePostgres};
use plimsoll_storage::{Db, DbSettings, PoolKind};
use rand::rngs::SysRng;
use tokio::sync::watch;

use crate::config::{Config, Database, MarketSource};
use crate::engine::{Ended, Engine, EngineError, Store, World};
use crate::faults::FaultBook;
use crate::http::{self, MAX_BODY, Shared};
use crate::keys::{KeyFile, KeyFileError, Keys, Login};
use crate::rate_limit::RateLimit;
use crate::request_log::RequestLog;
use crate::sim;
use crate::stream::Hub;

const LOCK: &str = "paper-broker.lock";
const DATABASE: &str = "paper_broker";

/// More than the clock can be ahead of what is written of it.
const UNWRITTEN: TimeDelta = TimeDelta::seconds(10);

/// How long requests under way may take when the broker stops.
const HTTP_SHUTDOWN_S: u64 = 2;
const POSTGRES_SHUTDOWN: Duration = Duration::from_secs(8);

/// Why a broker does not start: one line for the operator.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum StartError {
    /// The data folder cannot be used.
    #[error("the data folder {} cannot be used: {source}", path.display())]
    DataDir {
        /// The folder.
        path: PathBuf,
        /// Why.
        source: io::Error,
    },
    /// Another paper broker has the data folder.
    #[error("{} is in use by another running paper broker", path.display())]
    SecondInstance {
        /// The folder.
        path: PathBuf,
    },
    /// The port is busy, or not ours to take.
    #[error("cannot listen on {address}: {source}")]
    Bind {
        /// Where it should listen.
        address: SocketAddr,
        /// Why not.
        source: io::Error,
    },
    /// The market data cannot be read.
    #[error("market data: {0}")]
    MarketData(#[from] MarketDataError),
    /// The speed is out of range.
    #[error(transparent)]
    Clock(#[from] ClockError),
    /// The key file cannot be read or written.
    #[error("key file: {0}")]
    KeyFile(#[from] KeyFileError),
    /// The private PostgreSQL does not start.
    #[error(transparent)]
    Postgres(#[from] private_postgres::StartError),
    /// The database cannot be brought to the schema of this build.
    #[error("the paper broker's database: {0}")]
    Migrate(#[from] MigrateError),
    /// The database cannot be used.
    #[error("the paper broker's database: {0}")]
    Store(#[from] StoreError),
    /// The books contradict themselves.
    #[error("the paper broker's books: {0}")]
    Books(#[from] RestoreError),
    /// The system gives no threads or no random bytes.
    #[error("{what}: {source}")]
    System {
        /// What was tried.
        what: &'static str,
        /// Why not.
        source: io::Error,
    },
}

impl StartError {
    /// Whether the database cannot be reached now, which may pass; everything else is for the operator to put right.
    pub fn is_database_away(&self) -> bool {
        let (Self::Store(error) | Self::Migrate(MigrateError::Store(error))) = self else { return false };
        error.kind() == StoreErrorKind::Unavailable
    }
}

/// The paper broker.
#[derive(Debug)]
pub struct PaperBroker;

/// A running broker. Dropping it stops it.
pub struct Handle {
    url: String,
    logins: Vec<Login>,
    ended: watch::Receiver<Option<Ended>>,
    server: ServerHandle,
    server_thread: Option<JoinHandle<()>>,
    hub: Arc<Hub>,
    engine: Engine,
    engine_thread: Option<JoinHandle<()>>,
    postgres: Option<PrivatePostgres>,
    _lock: File,
}

impl PaperBroker {
    /// Starts a broker on threads of its own and returns when it answers. It blocks meanwhile (a private PostgreSQL's
    /// first start takes some seconds): call it from no async task.
    ///
    /// # Errors
    /// See [`StartError`]; nothing is left running then.
    pub fn start(config: Config) -> Result<Handle, StartError> {
        let clock: Arc<dyn Clock> = Arc::new(SystemClock);
        let market = match &config.market {
            MarketSource::Bundled => MarketData::bundled(),
            MarketSource::Dir(folder) => MarketData::from_dir(folder)?,
            MarketSource::FixedPrice(price) => MarketData::fixed_price(*price)?,
        };
        let lock = lock(&config.data_dir)?;
        let bind_error = |source| StartError::Bind { address: config.bind, source };
        let listener = TcpListener::bind(config.bind).map_err(bind_error)?;
        let address = listener.local_addr().map_err(bind_error)?;
        let (postgres, url) = database(config.database)?;
        migrate(&url, MigrationSet::Paper)?;
        let db = Db::open(&url, DbSettings::new(PoolKind::Jobs, 2))?;
        let (writer, books) = db.run_blocking(|tx| {
            let writer = tx.take_paper_writer()?;
            Ok::<_, StoreError>((writer, tx.load_paper_books()?))
        })?;

        let real = clock.now();
        let (exchange, replay) = if books.records.is_empty() {
            let replay = ReplayClock::start(real, config.speed)?;
            let start = replay.state().base_sim;
            (Exchange::new(config.exchange, market, config.seed, start), replay)
        } else {
            let exchange = Exchange::restore(config.exchange, market, books.records)?;
            let mut replay = match books.clock {
                Some(state) => ReplayClock::restore(resumed(state, real), exchange.now(), real)?,
                None => ReplayClock::start(real.max(exchange.now()), config.speed)?,
            };
            replay.set_speed(config.speed, real)?;
            (exchange, replay)
        };
        let accounts = exchange.accounts();
        let keys = Arc::new(Keys::new(books.keys));
        let faults = Arc::new(FaultBook::new(config.faults));
        let hub = Arc::new(Hub::new(config.stream, Arc::clone(&faults), Arc::clone(&keys)));
        let (report, ended) = watch::channel(None);
        let world = World::new(exchange, replay, books.watchlists, real);
        let (engine, engine_thread) = Engine::start(
            world,
            Store { db, writer },
            Arc::clone(&hub),
            Arc::clone(&clock),
            config.tick,
            report,
        )
        .map_err(|source| StartError::System { what: "starting a thread", source })?;

        let key_file = match open_accounts(&engine, &keys, &config.data_dir, &accounts) {
            Ok(key_file) => key_file,
            Err(error) => {
                engine.stop();
                drop(engine_thread.join());
                return Err(error);
            }
        };
        let logins = key_file.logins().to_vec();
        let shared = web::Data::new(Shared {
            engine: engine.clone(),
            keys,
            key_file: tokio::sync::Mutex::new(key_file),
            faults,
            log: RequestLog::default(),
            rate_limit: config.rate_limit_per_minute.map(RateLimit::new),
            hub: Arc::clone(&hub),
            clock,
            requests: 0.into(),
            run: real.timestamp_micros().unsigned_abs(),
        });
        match serve(listener, shared, config.workers) {
            Ok((server, server_thread)) => Ok(Handle {
                url: format!("http://{address}"),
                logins,
                ended,
                server,
                server_thread: Some(server_thread),
                hub,
                engine,
                engine_thread: Some(engine_thread),
                postgres,
                _lock: lock,
            }),
            Err(source) => {
                engine.stop();
                drop(engine_thread.join());
                Err(bind_error(source))
            }
        }
    }
}

impl Handle {
    /// Scheme, host and port, as `url_override` of an SDK wants it. The order stream is at `/stream` below it.
    pub fn url(&self) -> &str {
        &self.url
    }

    /// The key pairs that were in use when it started; the first account's first.
    pub fn accounts(&self) -> &[Login] {
        &self.logins
    }

    /// Waits until the broker has ended by itself: it cannot go on when another process takes its books over.
    pub async fn ended(&self) -> Ended {
        let mut ended = self.ended.clone();
        match ended.wait_for(Option::is_some).await {
            Ok(why) => why.unwrap_or(Ended::Failed),
            Err(_) => Ended::Failed,
        }
    }

    /// Closes the stream's connections, lets requests under way finish, writes what is left and ends. It blocks
    /// meanwhile: call it from no async task.
    pub fn stop(mut self) {
        self.shut_down();
    }

    fn shut_down(&mut self) {
        let Some(server_thread) = self.server_thread.take() else { return };
        self.hub.close_all();
        // the request to stop is sent by the call; the future only waits
        drop(self.server.stop(true));
        drop(server_thread.join());
        self.engine.stop();
        if let Some(thread) = self.engine_thread.take() {
            drop(thread.join()); // a panic was reported by `ended`
        }
        if let Some(postgres) = &mut self.postgres {
            postgres.stop(POSTGRES_SHUTDOWN);
        }
    }
}

impl Drop for Handle {
    fn drop(&mut self) {
        self.shut_down();
    }
}

impl std::fmt::Debug for Handle {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Handle").field("url", &self.url).field("logins", &self.logins).finish_non_exhaustive()
    }
}

fn lock(folder: &Path) -> Result<File, StartError> {
    let unusable = |source| StartError::DataDir { path: folder.to_owned(), source };
    // its mode is the umask's: what is secret in it has a mode of its own, and a private PostgreSQL must come in
    std::fs::create_dir_all(folder).map_err(unusable)?;
    let file =
        OpenOptions::new().create(true).truncate(false).write(true).mode(0o600).open(folder.join(LOCK));
    let file = file.map_err(unusable)?;
    match file.try_lock() {
        Ok(()) => Ok(file),
        Err(TryLockError::WouldBlock) => Err(StartError::SecondInstance { path: folder.to_owned() }),
        Err(TryLockError::Error(source)) => Err(unusable(source)),
    }
}

fn database(database: Database) -> Result<(Option<PrivatePostgres>, String), StartError> {
    match database {
        Database::Url(url) => Ok((None, url)),
        Database::Private(options) => {
            let server = PrivatePostgres::start(options)?;
            server.ensure_database(DATABASE)?;
            let url = server.url(DATABASE);
            Ok((Some(server), url))
        }
    }
}

/// Makes the key file and the books agree, and sees to it that there is at least one account with a key.
///
/// Key pairs whose account the books do not have (they are new, or another database) open accounts made now, so that
/// clients keep their keys.
fn open_accounts(
    engine: &Engine,
    keys: &Keys,
    folder: &Path,
    accounts: &[AccountId],
) -> Result<KeyFile, StartError> {
    let mut file = KeyFile::open(folder)?;
    let mut logins = file.logins().to_vec();
    if logins.is_empty() {
        let account = accounts.first().copied().unwrap_or_default();
        let login = Login::generate(account, &mut SysRng).map_err(|error| StartError::System {
            what: "random bytes",
            source: io::Error::other(error.to_string()),
        })?;
        logins.push(login);
    }
    for login in &mut logins {
        if keys.knows(login) {
            continue;
        }
        let (known, mut wanted) = (accounts.contains(&login.account_id), login.clone());
        *login = engine
            .call_blocking(move |world| {
                if !known {
                    wanted.account_id = world.exchange.create_account(None, world.now());
                }
                world.unsaved.add_key(wanted.row());
                wanted
            })
            .map_err(|error: EngineError| {
                let detail = format!("an account could not be written ({error:?})");
                StoreError::new(StoreErrorKind::Unavailable, detail)
            })?;
        keys.add(login.row());
    }
    if file.logins() != logins {
        file.replace(logins)?;
    }
    Ok(file)
}

/// The clock after a pause: simulator time stands still while the broker is down, but for the little that may have
/// passed unwritten before it went, so that no client sees it go back.
fn resumed(state: ClockState, real: DateTime<Utc>) -> ClockState {
    let base_real = state.base_real.max(real - UNWRITTEN);
    ClockState { base_real, ..state }
}

/// Runs the HTTP server on a thread with a runtime of its own.
fn serve(
    listener: TcpListener,
    shared: web::Data<Shared>,
    workers: usize,
) -> io::Result<(ServerHandle, JoinHandle<()>)> {
    let (started, starting) = mpsc::sync_channel(1);
    let thread = std::thread::Builder::new().name("paper-http".into()).spawn(move || {
        actix_web::rt::System::new().block_on(async move {
            let server = HttpServer::new(move || {
                App::new()
                    .app_data(shared.clone())
                    .app_data(web::PayloadConfig::new(MAX_BODY))
                    .configure(sim::routes)
                    .route("/stream", web::get().to(http::stream))
                    .service(web::scope("/v2").default_service(web::to(http::trading)))
                    .service(web::scope("/v1beta3").default_service(web::to(http::trading)))
                    .default_service(web::to(http::nowhere))
            })
            .workers(workers.max(1))
            .shutdown_timeout(HTTP_SHUTDOWN_S)
            .disable_signals()
            .listen(listener);
            match server {
                Ok(server) => {
                    let server = server.run();
                    drop(started.send(Ok(server.handle())));
                    if let Err(error) = server.await {
                        tracing::error!(%error, "the paper broker's HTTP server failed");
                    }
                }
                Err(error) => drop(started.send(Err(error))),
            }
        });
    })?;
    let handle = starting.recv().map_err(|_| io::Error::other("the HTTP server's thread ended"))??;
    Ok((handle, thread))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn simulator_time_stands_still_while_the_broker_is_down() {
        let real = DateTime::from_timestamp(1_795_530_600, 0).expect("a time"); // 14:30Z, a session's beginning
        let state = ReplayClock::start(real, 60.into()).unwrap().state().clone();
        let now = |pause: i64| {
            let later = real + TimeDelta::seconds(pause);
            ReplayClock::restore(resumed(state.clone(), later), state.base_sim, later).unwrap().now(later)
        };
        assert_eq!(now(3), real + TimeDelta::seconds(180), "a short pause is not told from unwritten time");
        assert_eq!(now(86_400), real + TimeDelta::seconds(600));
    }
}
