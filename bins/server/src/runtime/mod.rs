//! A running server: everything is started, wired, and in the end stopped in the right order.

mod announce;
mod http;
mod ids;
mod process;

use std::net::TcpListener;
use std::path::Path;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, mpsc};
use std::time::Duration;

use actix_web::web;
use chrono::TimeDelta;
use plimsoll_api::routes::openapi::OpenApiText;
use plimsoll_api::sockets::SessionAuthenticator;
use plimsoll_api::state::{ApiSettings, AppState, Parts};
use plimsoll_api::waiters::Waiters;
use plimsoll_api::ws::{WebSockets, WsSettings};
use plimsoll_auth::SessionPolicy;
use plimsoll_broker::{Alpaca, AlpacaConfig};
use plimsoll_core_domain::broker::Broker;
use plimsoll_core_domain::{Clock, SystemClock};
use plimsoll_crypto::OsRandom;
use plimsoll_crypto::passwords::Passwords;
use plimsoll_observability::health::{
    CheckFuture, CheckOutcome, DiskCheck, HealthRegistry, Importance, MemoryCheck,
};
use plimsoll_observability::readiness::Readiness;
use plimsoll_paper_broker::Handle as PaperHandle;
use plimsoll_realtime::{CloseCode, Hub, HubSettings, Sweeper};
use plimsoll_reliability::jobs::Wake;
use plimsoll_reliability::retry::SeededJitter;
use plimsoll_reliability::shutdown::{Budgets, Phase, Shutdown};
use plimsoll_storage::Db;
use plimsoll_storage::notify::{Listener, Notifier, NotifierSettings};
use plimsoll_storage::platform::accounts::BrokerAccountRow;
use plimsoll_storage::platform::keys::PlatformKeys;
use plimsoll_storage::platform::streams::StreamLog;
use secrecy::{ExposeSecret, SecretString};
use tokio::runtime::Runtime;

use crate::bootstrap::{
    Databases, Pools, Progress, StartError, is_locked, key_ring, prepare, start_paper_broker,
};
use crate::config::{Environment, Settings};
use crate::demo::{self, DemoBroker, DemoDatabase, DemoLogins};
use crate::trading::{self, TradingHandle, TradingParts};
use announce::{Announcer, Hearer};
use ids::{SystemIds, random_id, random_seed};

/// How long a request waits for the broker's verdict unless it says otherwise.
const DEFAULT_WAIT: Duration = Duration::from_secs(2);
/// How long a session is trusted without another look. A logout here acts at once all the same.
const SESSION_CACHE: Duration = Duration::from_secs(1);
const SESSIONS_PER_USER: usize = 10;
const REPAIR_EVERY: Duration = Duration::from_millis(50);
const SWEEP_EVERY: Duration = Duration::from_secs(1);
/// How often the database is looked at for readiness.
const WATCH_EVERY: Duration = Duration::from_secs(1);
const TIDY_EVERY: Duration = Duration::from_secs(60);
const DATABASE: &str = "database";
/// At least this much is left for stopping the private PostgreSQL.
const POSTGRES_AT_LEAST: Duration = Duration::from_secs(2);

/// What is to be run.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Mode {
    /// A server.
    Serve,
    /// A server with seeded users and a banner.
    Demo,
}

/// The broker behind the accounts: an address and one key pair.
struct BrokerAccess {
    config: AlpacaConfig,
    key: String,
    secret: SecretString,
    paper: Option<PaperHandle>,
}

/// Runs a server until a signal or a failure ends it, and gives the exit code.
///
/// # Errors
/// It does not start; nothing is left running then.
pub fn run(settings: &Settings, environment: &Environment, mode: Mode) -> Result<u8, StartError> {
    let mut progress = if mode == Mode::Demo { Progress::lines() } else { Progress::log() };
    let clock: Arc<dyn Clock> = Arc::new(SystemClock);
    plimsoll_broker::install_crypto_provider();
    let open_files = process::raise_open_files();
    let data_dir = prepare(&settings.data_dir)?;
    let listener = bind(settings, &data_dir)?;
    let address =
        listener.local_addr().map_err(|source| StartError::Bind { address: settings.bind, source })?;
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .enable_all()
        .thread_name("plimsoll")
        .build()
        .map_err(system("starting the runtime"))?;

    let databases = Databases::open(settings, environment)?;
    progress.step(&match databases.private_server() {
        Some((major, account)) => format!("PostgreSQL {major} runs, as {account}"),
        None => "using the database of DATABASE_URL".to_owned(),
    });
    let applied = databases.migrate()?.applied.len();
    progress.step(&format!("schema is current, {applied} migrations applied"));

    let access = broker_access(settings, &databases)?;
    if let Some(paper) = &access.paper {
        progress.step(&format!("paper broker answers at {}", paper.url()));
    }

    let ring = key_ring(&settings.keys, &data_dir, &mut OsRandom)?;
    let pools = databases.pools(settings.database.pools)?;
    let keys = Arc::new(PlatformKeys::load_or_create(&pools.control, &ring, &mut OsRandom)?);
    let passwords = Passwords::new(settings.limits.argon2, &mut OsRandom)
        .map_err(|why| StartError::Setting { setting: "ARGON2_MEMORY_KIB", message: why.to_string() })?;
    let pools = pools.with_keys(&keys);
    progress.step("keys and connections are ready");

    let mut logins = None;
    if mode == Mode::Demo {
        let earlier = demo::read(&data_dir)?;
        let env = settings.broker.environment;
        let (users, _) = demo::seed(&pools.http, &passwords, earlier.as_ref(), env, clock.now())
            .map_err(|error| StartError::Refused(format!("the demonstration's users: {error}")))?;
        let paper = access.paper.as_ref().map(|paper| DemoBroker {
            url: paper.url().to_owned(),
            api_key: access.key.clone(),
            api_secret: access.secret.expose_secret().to_owned(),
        });
        let all = DemoLogins {
            url: format!("http://{address}"),
            users,
            paper_broker: paper,
            database: DemoDatabase { url: databases.owner.clone(), psql: databases.psql.clone() },
            data_dir: data_dir.display().to_string(),
            outbox_url: None,
        };
        demo::write(&data_dir, &all)?;
        logins = Some(all);
        progress.step("a trader and an admin can sign in");
    }

    let server =
        Server::start(settings, &databases, pools, &keys, passwords, access, open_files, &runtime, &clock)?;
    let shutdown = Shutdown::new(&settings.timings, |code, cut| {
        eprintln!("plimsoll: ended before everything was done: {}", cut.join(", "));
        std::process::exit(code);
    });
    let (ending, end) = mpsc::channel();
    let signals = (shutdown.clone(), ending.clone());
    process::on_signals(runtime.handle(), move |code| {
        // a second signal does not return
        if signals.0.signal(code) {
            let _ = signals.1.send(0);
        }
    })
    .map_err(system("handling signals"))?;
    let http = http::serve(
        listener,
        server.service(settings),
        Budgets::within(&settings.timings).requests,
        move |error| {
            tracing::error!(%error, "The HTTP server failed.");
            let _ = ending.send(1);
        },
    )
    .map_err(|source| StartError::Bind { address, source })?;
    server.readiness.settled(DATABASE);
    progress.step(&format!("listening on http://{address}"));
    if let Some(logins) = &logins {
        let account = databases.private_server().map(|(_, account)| account);
        let took = progress.total().as_millis();
        print!("{}", demo::banner(logins, databases.elsewhere.as_deref(), account, took));
    }

    let code = end.recv().unwrap_or(1);
    tracing::info!("Stopping.");
    server.register(&shutdown, http, &runtime);
    let report = shutdown.run();
    let left = settings.timings.shutdown_total.saturating_sub(report.took) / 2;
    if !databases.stop(left.max(POSTGRES_AT_LEAST)) {
        tracing::warn!("PostgreSQL did not end cleanly; its next start recovers.");
    }
    if !report.cut.is_empty() {
        tracing::warn!(cut = report.cut.join(", "), "Something was cut short.");
    }
    tracing::info!(duration_ms = u64::try_from(report.took.as_millis()).unwrap_or(u64::MAX), "Stopped.");
    runtime.shutdown_background();
    Ok(code)
}

/// The parts of a server that live until it is stopped.
struct Server {
    state: web::Data<AppState>,
    sockets: web::Data<WebSockets>,
    readiness: Readiness,
    trading: TradingHandle,
    paper: Option<PaperHandle>,
    sweeper: Sweeper,
    listener: Listener,
    stopped: Arc<AtomicBool>,
}

impl Server {
    #[expect(clippy::too_many_arguments, reason = "the one place where everything meets, called once")]
    fn start(
        settings: &Settings,
        databases: &Databases,
        pools: Pools,
        keys: &Arc<PlatformKeys>,
        passwords: Passwords,
        access: BrokerAccess,
        open_files: u64,
        runtime: &Runtime,
        clock: &Arc<dyn Clock>,
    ) -> Result<Self, StartError> {
        let owner = random_id(&mut OsRandom);
        let hub_settings =
            HubSettings { instance: owner.simple().to_string()[..8].to_owned(), ..HubSettings::default() };
        let hub = Hub::new(Arc::new(StreamLog(pools.http.clone())), hub_settings);
        let wake = Wake::new();
        let notifier = Arc::new(
            Notifier::start(&databases.app, NotifierSettings::default())
                .map_err(system("starting a thread"))?,
        );
        let hearer = Hearer { hub: hub.clone(), wake: wake.clone(), runtime: runtime.handle().clone() };
        let listener =
            Listener::start(&databases.app, Arc::new(hearer)).map_err(system("starting a thread"))?;
        let sweeper =
            Sweeper::start(hub.clone(), REPAIR_EVERY, SWEEP_EVERY).map_err(system("starting a thread"))?;
        let announcer = Arc::new(Announcer { hub: hub.clone(), wake: wake.clone(), notifier });
        let [http, jobs] = [pools.http, pools.jobs].map(|db| db.with_after_commit(announcer.clone()));

        let accounts = accounts(&jobs, settings, &access)?;
        let trading = trading::start(TradingParts {
            jobs,
            control: pools.control.clone(),
            hub: hub.clone(),
            clock: Arc::clone(clock),
            wake,
            timings: settings.timings.clone(),
            jitter: Arc::new(SeededJitter::new(random_seed(&mut OsRandom))),
            owner,
            threads: settings.database.pools[1] as usize,
            runtime: runtime.handle().clone(),
            accounts,
        })
        .map_err(system("starting the job threads"))?;

        let waiters = Waiters::default();
        let woken = waiters.clone();
        hub.tap(Arc::new(move |event| woken.event(event)));
        let readiness = Readiness::starting([DATABASE]);
        let closing = hub.clone();
        let state = web::Data::new(AppState::new(
            Parts {
                db: http,
                hub: hub.clone(),
                clock: Arc::clone(clock),
                ids: Arc::new(SystemIds(Arc::clone(clock))),
                client_order_ids: Arc::clone(keys) as Arc<_>,
                gateway: Arc::clone(&trading.connections) as Arc<_>,
                waiters,
                readiness: readiness.clone(),
                health: Arc::new(health(settings, &pools.control, clock)),
                passwords: Arc::new(passwords),
                on_logout: Arc::new(move |_, session| {
                    closing.close_login(&session.to_string(), CloseCode::Unauthenticated);
                }),
            },
            api_settings(settings)?,
        ));
        let sockets = web::Data::new(WebSockets::new(
            hub,
            Arc::new(SessionAuthenticator(state.clone())),
            WsSettings {
                max_per_user: settings.limits.ws_per_user,
                max_per_ip: settings.limits.ws_per_ip,
                // a tenth stays for everything else (upgrades beyond are refused)
                max_connections: usize::try_from(open_files / 10 * 9).unwrap_or(usize::MAX),
                allowed_origins: settings.public_url.iter().chain(&settings.cors_origins).cloned().collect(),
                ..WsSettings::default()
            },
        ));
        let stopped = Arc::new(AtomicBool::new(false));
        runtime.spawn(watch_database(pools.control, readiness.clone(), Arc::clone(&stopped)));
        runtime.spawn(tidy(state.clone().into_inner()));
        Ok(Self { state, sockets, readiness, trading, paper: access.paper, sweeper, listener, stopped })
    }

    fn service(&self, settings: &Settings) -> http::Service {
        http::Service {
            state: self.state.clone(),
            sockets: self.sockets.clone(),
            document: web::Data::new(OpenApiText(plimsoll_api::openapi_document())),
            cors_origins: settings.cors_origins.clone(),
        }
    }

    /// Tells the coordinator what to do in which phase.
    fn register(self, shutdown: &Shutdown, http: actix_web::dev::ServerHandle, runtime: &Runtime) {
        let Self { state, sockets, readiness, trading, paper, sweeper, listener, stopped } = self;
        stopped.store(true, Ordering::Release);
        shutdown.step(Phase::Drain, "sockets", move |_| {
            readiness.drain();
            state.waiters.drain();
            sockets.drain();
        });
        let handle = runtime.handle().clone();
        shutdown.step(Phase::Requests, "requests", move |_| handle.block_on(http.stop(true)));
        shutdown.step(Phase::Background, "jobs", move |time| {
            let report = trading.stop(time);
            tracing::debug!(?report, "The job threads have ended.");
        });
        // the last registered comes first
        if let Some(paper) = paper {
            shutdown.callback("paper broker", move || paper.stop());
        }
        shutdown.callback("streams", move || {
            drop(sweeper);
            drop(listener);
        });
    }
}

fn system(what: &'static str) -> impl FnOnce(std::io::Error) -> StartError {
    move |source| StartError::System { what, source }
}

/// Takes the port. A port that is busy because a server of this very data folder has it is told as that.
fn bind(settings: &Settings, data_dir: &Path) -> Result<TcpListener, StartError> {
    TcpListener::bind(settings.bind).map_err(|source| {
        if settings.database.url.is_none() && is_locked(data_dir) {
            return StartError::SecondInstance { data_dir: data_dir.to_owned() };
        }
        StartError::Bind { address: settings.bind, source }
    })
}

fn broker_access(settings: &Settings, databases: &Databases) -> Result<BrokerAccess, StartError> {
    let broker = &settings.broker;
    let refused = |why: plimsoll_broker::ConfigError| StartError::Setting {
        setting: "ALPACA_BASE_URL",
        message: why.to_string(),
    };
    let (paper, key, secret, url, environment) = match &broker.alpaca {
        Some(account) => {
            let key = account.key.expose_secret().to_owned();
            (None, key, account.secret.clone(), broker.base_url.clone(), broker.environment)
        }
        None => {
            let paper = start_paper_broker(settings, databases)?;
            let login = paper.accounts().first().ok_or_else(|| {
                StartError::Refused("the paper broker has no account with a key".to_owned())
            })?;
            let (key, secret) = (login.api_key.clone(), login.api_secret.clone().into());
            let url = paper.url().to_owned();
            (Some(paper), key, secret, url, plimsoll_core_domain::order::Environment::Paper)
        }
    };
    let mut config = AlpacaConfig::new(&url, environment).map_err(refused)?;
    config.timings = config.timings.scaled(settings.time_scale);
    Ok(BrokerAccess { config, key, secret, paper })
}

/// The accounts that trade with the one key pair of the settings: the first one of its environment.
fn accounts(
    db: &Db,
    settings: &Settings,
    access: &BrokerAccess,
) -> Result<Vec<(BrokerAccountRow, Arc<dyn Broker>)>, StartError> {
    let environment = access.config.environment();
    let rows = db.read_blocking(|tx| tx.active_accounts())?;
    let mut fitting = rows.into_iter().filter(|row| row.environment == environment);
    let Some(row) = fitting.next() else {
        tracing::warn!("No user is connected with the broker; make one with `plimsoll user create-admin`.");
        return Ok(Vec::new());
    };
    if fitting.next().is_some() {
        tracing::warn!("Several users are connected with the broker; its keys serve the first one.");
    }
    let seed = random_seed(&mut OsRandom);
    let adapter =
        Alpaca::with_keys(access.config.clone(), access.key.clone(), access.secret.clone(), seed)
            .map_err(|why| StartError::Setting { setting: "ALPACA_API_KEY", message: why.to_string() })?;
    tracing::info!(user.id = %row.user_id, paper = settings.broker.alpaca.is_none(), "A user trades.");
    Ok(vec![(row, Arc::new(adapter))])
}

fn api_settings(settings: &Settings) -> Result<ApiSettings, StartError> {
    let delta = |time: Duration| TimeDelta::from_std(time).unwrap_or(TimeDelta::MAX);
    let (idle, lifetime) = (settings.limits.session_idle, settings.limits.session_lifetime);
    Ok(ApiSettings {
        sessions: SessionPolicy::new(delta(idle), delta(lifetime), SESSIONS_PER_USER)
            .map_err(|why| StartError::Setting { setting: "SESSION_LIFETIME", message: why.to_string() })?,
        order_rate: settings.limits.order_rate,
        submit_within: (
            delta(settings.timings.submit_deadline_market),
            delta(settings.timings.submit_deadline_other),
        ),
        default_wait: DEFAULT_WAIT,
        session_cache: SESSION_CACHE,
        parallel_hashes: std::thread::available_parallelism().map_or(2, usize::from),
    })
}

fn health(settings: &Settings, control: &Db, clock: &Arc<dyn Clock>) -> HealthRegistry {
    let db = control.clone();
    let database = move || -> CheckFuture {
        let db = db.clone();
        Box::pin(async move {
            match db.ping().await {
                Ok(()) => CheckOutcome::healthy(),
                Err(error) => CheckOutcome::unhealthy(format!("{:?}", error.kind()).to_lowercase()),
            }
        })
    };
    let limit = Duration::from_secs(2);
    HealthRegistry::new(clock.now())
        .with(DATABASE, Importance::Critical, limit, database)
        .with("memory", Importance::Supporting, limit, MemoryCheck)
        .with("disk", Importance::Supporting, limit, DiskCheck::new(&settings.data_dir))
}

/// Turns readiness off while the database does not answer.
async fn watch_database(control: Db, readiness: Readiness, stopped: Arc<AtomicBool>) {
    let mut away = false;
    loop {
        tokio::time::sleep(WATCH_EVERY).await;
        if stopped.load(Ordering::Acquire) {
            return;
        }
        match control.ping().await {
            Ok(()) => {
                if std::mem::take(&mut away) {
                    tracing::info!("The database answers again.");
                }
                readiness.settled(DATABASE);
            }
            Err(error) => {
                if !std::mem::replace(&mut away, true) {
                    tracing::error!(%error, "The database does not answer.");
                }
                readiness.missing(DATABASE);
            }
        }
    }
}

async fn tidy(state: Arc<AppState>) {
    loop {
        tokio::time::sleep(TIDY_EVERY).await;
        state.tidy();
    }
}
