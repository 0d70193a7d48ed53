//! The running service: pools, streams, trading and the HTTP server, put together.

mod announce;
mod http;
mod ids;
mod private;
pub(crate) mod process;
pub(crate) mod systemd;
mod watch;

use std::net::{SocketAddr, TcpListener};
use std::sync::{Arc, mpsc};
use std::time::{Duration, Instant};

use actix_web::web;
use plimsoll_api::Served;
use plimsoll_api::logins::Logins;
use plimsoll_api::routes::openapi::OpenApiText;
use plimsoll_api::sockets::SessionAuthenticator;
use plimsoll_api::state::{ApiSettings, AppState, Parts};
use plimsoll_api::waiters::Waiters;
use plimsoll_api::ws::{WebSockets, WsSettings};
use plimsoll_auth::mail::Links;
use plimsoll_core_domain::{Clock, StoreError, SystemClock};
use plimsoll_crypto::passwords::{HashParams, Passwords};
use plimsoll_crypto::{KeyRing, OsRandom};
use plimsoll_observability::health::HealthRegistry;
use plimsoll_observability::readiness::Readiness;
use plimsoll_realtime::{CloseCode, Hub, HubSettings, Sweeper};
use plimsoll_reliability::Timings;
use plimsoll_reliability::jobs::Wake;
use plimsoll_reliability::retry::SeededJitter;
use plimsoll_reliability::shutdown::{Budgets, Phase, Shutdown};
use plimsoll_reliability::webhooks::Sender;
use plimsoll_storage::notify::{Listener, Notifier, NotifierSettings};
use plimsoll_storage::platform::keys::{KeysError, PlatformKeys};
use plimsoll_storage::platform::streams::StreamLog;
use plimsoll_storage::{Db, DbSettings, PoolKind};
use uuid::Uuid;

use self::announce::{Announcer, Hearer};
use self::ids::SystemIds;
pub(crate) use self::ids::{new_order_id, random_id, random_seed};
use crate::backup::{self, BackupJobParts, BackupSchedule, Backups, Desk};
use crate::mail::{self, MailParts, Postman};
use crate::operations::{OwnParts, Watched, with_own_parts};
use crate::outbound::{self, OutboundParts};
use crate::signals;
use crate::trading::{self, BrokerServers, Connections, SeedKeys, TradingError, TradingParts};
use crate::upkeep::{self, UpkeepParts};
use crate::workers::JobParts;

/// How long tasks and reads under way may take to end with the runtime.
const TASKS_END_WITHIN: Duration = Duration::from_millis(500);

/// Connections of each pool.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct PoolSizes {
    /// Of requests.
    pub http: u32,
    /// Of jobs and order streams; job threads are one fewer.
    pub jobs: u32,
    /// Of leases and health.
    pub control: u32,
}

/// What the service is started with. The database is there and migrated.
pub struct ServiceParts {
    /// A libpq address, with the rights of the application.
    pub database_url: String,
    /// Connections of each pool.
    pub pools: PoolSizes,
    /// Opens the installation's keys.
    pub ring: KeyRing,
    /// Where requests come in; bound already, so that a busy port was told of.
    pub listener: TcpListener,
    /// What `/health` looks at beside the service's own parts.
    pub health: HealthRegistry,
    /// Settings that the configuration's warnings are about.
    pub warned_of: Vec<String>,
    /// Where figures and health in full are served; `None`: nowhere.
    pub private: Option<TcpListener>,
    /// The routes' settings.
    pub api: ApiSettings,
    /// The sockets' settings.
    pub sockets: WsSettings,
    /// Of new password hashes.
    pub hash_params: HashParams,
    /// Every duration.
    pub timings: Timings,
    /// How long audit entries are kept; `None`: for ever.
    pub audit_retention: Option<Duration>,
    /// Sends mails; `None`: they stay in the outbox table.
    pub postman: Option<Postman>,
    /// Posts to users' webhooks.
    pub webhooks: Sender,
    /// The brokers of both environments.
    pub servers: Arc<dyn BrokerServers>,
    /// Broker keys that the server itself was given: they go into the vault.
    pub seed: Option<SeedKeys>,
    /// No other instance can be running on this database.
    pub alone: bool,
    /// Backups, and when they are made by themselves.
    pub backups: Option<(Arc<Backups>, BackupSchedule)>,
}

/// Why the service does not start.
#[derive(Debug, thiserror::Error)]
pub enum ServiceError {
    /// The installation's keys are not to be had.
    #[error(transparent)]
    Keys(#[from] KeysError),
    /// The store.
    #[error("the database cannot be used: {0}")]
    Store(#[from] StoreError),
    /// A thread or socket.
    #[error("the server cannot be started: {0}")]
    Io(#[from] std::io::Error),
    /// The password parameters.
    #[error("the password hash parameters are refused: {0}")]
    Hashing(String),
}

impl From<TradingError> for ServiceError {
    fn from(error: TradingError) -> Self {
        match error {
            TradingError::Store(error) => error.into(),
            TradingError::Io(error) => error.into(),
        }
    }
}

/// The service while it runs. It ends through the [`Shutdown`] that it was started with.
pub struct Service {
    /// Where requests come in.
    pub address: SocketAddr,
    /// Where figures and health in full are, if anywhere.
    pub private: Option<SocketAddr>,
    /// The connections to brokers.
    pub connections: Arc<Connections>,
    /// Whether requests may come.
    pub readiness: Readiness,
    /// The pool of requests, with keys and hooks.
    pub db: Db,
    runtime: tokio::runtime::Runtime,
    failures: mpsc::Receiver<std::io::Error>,
}

/// Starts everything and registers its end with `shutdown`. What must outlive it (the database server, a broker in this
/// process) registers its own end before.
///
/// # Errors
/// Something cannot be started; what was started ends with the process.
pub fn start(parts: ServiceParts, shutdown: &Shutdown) -> Result<Service, ServiceError> {
    let runtime = tokio::runtime::Builder::new_multi_thread().thread_name("plimsoll").enable_all().build()?;
    let clock: Arc<dyn Clock> = Arc::new(SystemClock);
    let url = parts.database_url.as_str();
    let control = Db::open(url, DbSettings::new(PoolKind::Control, parts.pools.control))?;
    let keys = Arc::new(PlatformKeys::load_or_create(&control, &parts.ring, &mut OsRandom)?);

    let owner = random_id(&mut OsRandom);
    let instance = owner.simple().to_string()[..8].to_owned();
    let hub =
        Hub::new(Arc::new(StreamLog(control.clone())), HubSettings { instance, ..HubSettings::default() });
    let waiters = Waiters::default();
    let heard = waiters.clone();
    hub.tap(Arc::new(move |event| heard.event(event)));
    let wake = Wake::new();
    let notifier = Arc::new(Notifier::start(url, NotifierSettings::default())?);
    let logins = Arc::new(Logins::default());
    let announcer =
        Arc::new(Announcer { hub: hub.clone(), wake: wake.clone(), notifier, logins: logins.clone() });
    let hearer = Hearer {
        hub: hub.clone(),
        wake: wake.clone(),
        runtime: runtime.handle().clone(),
        logins: logins.clone(),
    };
    let listener = Listener::start(url, Arc::new(hearer))?;
    let sweeper = Sweeper::start(hub.clone(), Duration::from_millis(50), Duration::from_secs(1))?;

    let pool = |kind, size| -> Result<Db, StoreError> {
        let db = Db::open(url, DbSettings::new(kind, size))?;
        Ok(db.with_keys(Arc::clone(&keys)).with_after_commit(announcer.clone()))
    };
    let http_db = pool(PoolKind::Http, parts.pools.http)?;
    let jobs_db = pool(PoolKind::Jobs, parts.pools.jobs)?;
    let jobs_for_figures = jobs_db.clone();
    let control = control.with_keys(Arc::clone(&keys)).with_after_commit(announcer.clone());

    let job = JobParts {
        jobs: jobs_db,
        control: control.clone(),
        clock: Arc::clone(&clock),
        wake,
        timings: parts.timings.clone(),
        jitter: Arc::new(SeededJitter::new(random_seed(&mut OsRandom))),
        owner,
        runtime: runtime.handle().clone(),
    };
    let trading = trading::start(TradingParts {
        job: job.clone(),
        hub: hub.clone(),
        threads: parts.pools.jobs.saturating_sub(1).max(1) as usize,
        servers: parts.servers,
        keys: Arc::clone(&keys),
        seed: parts.seed,
        alone: parts.alone,
    })?;
    let connections = Arc::clone(&trading.connections);
    let health = with_own_parts(
        parts.health,
        OwnParts {
            clock: Arc::clone(&clock),
            control: control.clone(),
            connections: Arc::clone(&connections),
            postman: parts.postman.clone(),
            warned_of: parts.warned_of,
        },
    );
    let mails = mail::start(MailParts {
        job: job.clone(),
        policy: Arc::clone(&parts.api.policy),
        keys: Arc::clone(&keys),
        links: Links::new(&parts.api.public_url),
        postman: parts.postman,
    })?;
    let outbound = outbound::start(OutboundParts { job: job.clone(), sender: parts.webhooks.clone() })?;
    let signals = signals::start(signals::SignalParts {
        job: job.clone(),
        gateway: connections.clone(),
        client_order_ids: Arc::clone(&keys) as _,
        ids: Arc::new(SystemIds(Arc::clone(&clock))),
        submit_within: parts.api.submit_within,
    })?;
    let desk = parts.backups.as_ref().map(|(backups, _)| Desk::new(Arc::clone(backups), Arc::clone(&clock)));
    let backups = parts
        .backups
        .map(|(backups, schedule)| backup::start(BackupJobParts { job: job.clone(), backups, schedule }))
        .transpose()?;
    let upkeep = upkeep::start(UpkeepParts {
        job,
        policy: Arc::clone(&parts.api.policy),
        audit_retention: parts.audit_retention,
    })?;
    let readiness = Readiness::starting(["database"]);
    let on_logout_hub = hub.clone();
    let passwords = Passwords::new(parts.hash_params, &mut OsRandom)
        .map_err(|why| ServiceError::Hashing(why.to_string()))?;
    let state = AppState::new(
        Parts {
            db: http_db.clone(),
            clock: Arc::clone(&clock),
            ids: Arc::new(SystemIds(Arc::clone(&clock))),
            client_order_ids: Arc::clone(&keys) as _,
            keys,
            gateway: connections.clone(),
            webhooks: parts.webhooks,
            hub: hub.clone(),
            waiters: waiters.clone(),
            readiness: readiness.clone(),
            health: Arc::new(health),
            passwords: Arc::new(passwords),
            on_logout: Arc::new(move |_, session: Uuid| {
                on_logout_hub.close_login(&session.to_string(), CloseCode::Unauthenticated);
            }),
        },
        parts.api,
    );
    let state = web::Data::new(match desk {
        Some(desk) => state.with_backups(Arc::new(desk)),
        None => state,
    });
    let sockets =
        web::Data::new(WebSockets::new(hub, Arc::new(SessionAuthenticator(state.clone())), parts.sockets));
    logins.serve(state.clone(), sockets.clone());
    let address = parts.listener.local_addr()?;
    let served = Served {
        state: state.clone(),
        sockets: sockets.clone(),
        document: web::Data::new(OpenApiText(plimsoll_api::openapi_document())),
    };
    let (failed, failures) = mpsc::channel();
    let http = http::serve(parts.listener, served, Budgets::within(&parts.timings).requests, move |error| {
        tracing::error!(%error, "The HTTP server failed.");
        // Nobody waits for it any more while the server stops.
        drop(failed.send(error));
    })?;
    readiness.settled("database");
    let watched = Watched {
        control: control.clone(),
        pools: vec![("http", http_db.clone()), ("jobs", jobs_for_figures), ("control", control.clone())],
        connections: connections.clone(),
        sockets: sockets.clone(),
        readiness: readiness.clone(),
    };
    let private = private::start(parts.private, watched, &state, &runtime)?;
    runtime.spawn(watch::database(control, readiness.clone()));
    runtime.spawn(watch::tidy(state));

    // Run in reverse order of registration, after the steps.
    shutdown.callback("notifications", move || drop((listener, sweeper)));
    let (draining, leaving) = (readiness.clone(), waiters);
    shutdown.step(Phase::Drain, "telling clients", move |_| {
        draining.drain();
        leaving.drain();
        sockets.drain();
    });
    let handle = runtime.handle().clone();
    shutdown.step(Phase::Requests, "requests under way", move |_| handle.block_on(http.stop(true)));
    let private_address = private.as_ref().map(|private| private.address);
    if let Some(private) = private {
        // after everything else: the last figures are of the shutdown itself
        let handle = runtime.handle().clone();
        shutdown.callback("figures", move || handle.block_on(private.stop()));
    }
    shutdown.step(Phase::Background, "jobs and order streams", move |limit| {
        let began = Instant::now();
        if let Some(backups) = backups {
            backups.stop(limit / 2);
        }
        signals.stop(limit.saturating_sub(began.elapsed()) / 2);
        outbound.stop(limit.saturating_sub(began.elapsed()) / 2);
        mails.stop(limit.saturating_sub(began.elapsed()));
        upkeep.stop(limit.saturating_sub(began.elapsed()));
        let limit = limit.saturating_sub(began.elapsed());
        let report = trading.stop(limit);
        tracing::info!(given_back = report.given_back, cut = report.cut.len(), "the jobs have stopped");
    });
    Ok(Service { address, private: private_address, connections, readiness, db: http_db, runtime, failures })
}

impl Service {
    /// The address for clients.
    #[must_use]
    pub fn url(&self) -> String {
        format!("http://{}", self.address)
    }

    /// The runtime of calls and streams.
    #[must_use]
    pub fn runtime(&self) -> &tokio::runtime::Handle {
        self.runtime.handle()
    }

    /// Waits until a signal begins the shutdown, or until the HTTP server fails; answers the exit code. A second signal
    /// ends the process at once.
    ///
    /// # Errors
    /// The system takes no signal handler.
    pub fn wait(&self, shutdown: &Shutdown) -> std::io::Result<u8> {
        let (told, hears) = mpsc::channel();
        let first = shutdown.clone();
        process::on_signals(self.runtime(), move |code| {
            // The second one does not come back from here.
            if first.signal(code) {
                let _ = told.send(());
            }
        })?;
        loop {
            if hears.recv_timeout(Duration::from_millis(100)).is_ok() {
                return Ok(0);
            }
            if self.failures.try_recv().is_ok() {
                return Ok(1);
            }
        }
    }

    /// Ends the runtime of calls and streams. What hangs is waited for no longer than half a second.
    pub fn finish(self) {
        self.runtime.shutdown_timeout(TASKS_END_WITHIN);
    }
}
