//! A running server: everything is started, wired, and in the end stopped in the right order.

mod brokers;
mod hashes;
mod limits;

use std::net::{SocketAddr, TcpListener};
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use chrono::TimeDelta;
use plimsoll_api::signals::{BuiltinHook, SignalSettings};
use plimsoll_api::state::ApiSettings;
use plimsoll_api::ws::WsSettings;
use plimsoll_auth::{AccountPolicy, SessionPolicy};
use plimsoll_core_domain::{Clock, SystemClock, UserId};
use plimsoll_crypto::passwords::Passwords;
use plimsoll_crypto::{KeyForm, KeyRing, OsRandom};
use plimsoll_observability::health::{DiskCheck, HealthRegistry, Importance, MemoryCheck};
use plimsoll_observability::process::sample;
use plimsoll_reliability::backup::BackupFolder;
use plimsoll_reliability::shutdown::Shutdown;
use plimsoll_reliability::webhooks::{Guard, SendLimits, Sender};
use plimsoll_storage::PoolKind;
use plimsoll_storage::platform::keys::PlatformKeys;
use secrecy::ExposeSecret;

use self::brokers::Brokers;
use crate::backup::Backups;
use crate::bootstrap::{Databases, Progress, Settle, StartError, is_locked, key_ring, prepare};
use crate::config::{Environment, Profile, Settings};
use crate::demo::{self, DemoBroker, DemoDatabase, DemoLogins};
use crate::mail::Postman;
use crate::service::{self, PoolSizes, ServiceError, ServiceParts, process, systemd};
use crate::setup;
use crate::trading::SeedOwner;

/// How long a request waits for the broker's verdict unless it says otherwise.
const DEFAULT_WAIT: Duration = Duration::from_secs(2);
/// How long a session is trusted without another look. A logout here acts at once all the same.
const SESSION_CACHE: Duration = Duration::from_secs(1);
/// How long a client may take to send a body.
const BODY_WITHIN: Duration = Duration::from_secs(10);
const SESSIONS_PER_USER: usize = 10;
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
    let private = bind_private(settings, &data_dir)?;
    let address = listener.local_addr().map_err(|source| StartError::Bind {
        address: settings.bind,
        setting: "BIND_ADDR",
        source,
    })?;

    let databases = Databases::open(settings, environment)?;
    progress.step(&match databases.private_server() {
        Some((major, account)) => format!("PostgreSQL {major} runs, as {account}"),
        None => "using the database of DATABASE_URL".to_owned(),
    });
    let applied = databases.migrate()?.applied.len();
    progress.step(&format!("schema is current, {applied} migrations applied"));

    let ring = unlocked(settings, &databases, &data_dir)?;
    progress.step(&told_of_key(settings, &ring));
    let backups = Backups {
        folder: BackupFolder::open(&settings.backup.folder(&data_dir))?,
        owner: databases.owner.clone(),
        ring: ring.clone(),
        retention: settings.backup.retention,
        disk: databases.files().map(Path::to_owned),
    };
    backups.recover()?;
    let brokers = Brokers::open(settings, &databases)?;
    if let Some(paper) = &brokers.paper {
        progress.step(&format!("paper broker answers at {}", paper.url()));
    }

    let (mut logins, mut owner) = (None, SeedOwner::FirstAdmin);
    if mode == Mode::Demo {
        let (made, trader) = seeded(settings, &databases, &brokers, &ring, &data_dir, address)?;
        (logins, owner) = (Some(made), SeedOwner::User(trader));
        progress.step("a trader and an admin can sign in");
    }

    let shutdown = Shutdown::new(&settings.timings, |code, cut| {
        eprintln!("plimsoll: ended before everything was done: {}", cut.join(", "));
        std::process::exit(code);
    });
    let (servers, seed) = (brokers.servers.clone(), brokers.seed(owner)?);
    if let Some(paper) = brokers.paper {
        // Registered first, so it ends after everything that speaks to it.
        shutdown.callback("paper broker", move || paper.stop());
    }
    let api = api_settings(settings, address)?;
    let (policy, public_url) = (Arc::clone(&api.policy), api.public_url.clone());
    limits::tell(&api, &settings.limits);
    let allowed_origins = std::iter::once(&api.public_url).chain(&api.cors_origins).cloned().collect();
    let service = service::start(
        ServiceParts {
            database_url: databases.app.clone(),
            pools: {
                let [http, jobs, control] = settings.database.pools;
                PoolSizes { http, jobs, control }
            },
            ring,
            listener,
            health: health(settings, &clock),
            warned_of: settings.warned_of.clone(),
            private,
            api,
            sockets: WsSettings {
                max_per_user: settings.limits.ws_per_user,
                max_per_ip: settings.limits.ws_per_ip,
                // a tenth stays for everything else (upgrades beyond are refused)
                max_connections: usize::try_from(open_files / 10 * 9).unwrap_or(usize::MAX),
                allowed_origins,
                ..WsSettings::default()
            },
            hash_params: settings.limits.argon2,
            timings: timings(settings),
            audit_retention: settings.audit_retention,
            postman: postman(settings)?,
            webhooks: webhooks(settings)?,
            servers: Arc::new(servers),
            seed: Some(seed),
            // Whoever has the data folder has its private database for itself.
            alone: databases.private_server().is_some(),
            backups: Some((Arc::new(backups), settings.backup.schedule)),
        },
        &shutdown,
    )?;
    progress.step(&format!("listening on {}", service.url()));
    if let Some(address) = service.private {
        progress.step(&format!("figures and health in full at http://{address}/metrics and /health"));
    }
    if let Some(token) = setup::setup_token(&service.db, &policy, clock.now())? {
        // For the operator's eyes: it goes to the terminal, apart from the log.
        println!("{}", token.notice(&public_url));
    }
    if let Some(logins) = &logins {
        let account = databases.private_server().map(|(_, account)| account);
        let took = progress.total().as_millis();
        print!("{}", demo::banner(logins, databases.elsewhere.as_deref(), account, took));
    }

    systemd::ready(service.runtime(), &service.url());
    let code = service.wait(&shutdown).map_err(system("handling signals"))?;
    tracing::info!("Stopping.");
    systemd::stopping(settings.timings.shutdown_total);
    let report = shutdown.run();
    // with the tasks go their pools, which would otherwise miss a database that stops
    service.finish();
    let left = settings.timings.shutdown_total.saturating_sub(report.took) / 2;
    if !databases.stop(left.max(POSTGRES_AT_LEAST)) {
        tracing::warn!("PostgreSQL did not end cleanly; its next start recovers.");
    }
    if !report.cut.is_empty() {
        tracing::warn!(cut = report.cut.join(", "), "Something was cut short.");
    }
    tracing::info!(duration_ms = u64::try_from(report.took.as_millis()).unwrap_or(u64::MAX), "Stopped.");
    Ok(code)
}

/// The key ring, checked against all that is stored before anything else uses it.
fn unlocked(settings: &Settings, databases: &Databases, data_dir: &Path) -> Result<KeyRing, StartError> {
    let db = databases.pool(PoolKind::Control, 1)?;
    let ring = key_ring(&settings.keys, data_dir, &db, Settle::Now, &mut OsRandom)?;
    db.read_blocking(|tx| tx.check_key_ring(&ring))?;
    Ok(ring)
}

/// Which form of key was read, and its id, which tells nothing of it.
fn told_of_key(settings: &Settings, ring: &KeyRing) -> String {
    let form = settings.keys.encryption_key.as_ref().and_then(|key| KeyForm::of(key.expose_secret()).ok());
    let form = form.map_or_else(|| "made in the data folder".to_owned(), |form| format!("read as {form}"));
    match ring.ids().count() - 1 {
        0 => format!("master key {} {form}", ring.active()),
        old => format!("master key {} {form}, {old} earlier beside it", ring.active()),
    }
}

/// The demonstration's users: made at its first start, and the file that tells how to get in written anew.
fn seeded(
    settings: &Settings,
    databases: &Databases,
    brokers: &Brokers,
    ring: &KeyRing,
    data_dir: &Path,
    address: SocketAddr,
) -> Result<(DemoLogins, UserId), StartError> {
    let db = databases.pool(PoolKind::Control, 2)?;
    let keys = Arc::new(PlatformKeys::load_or_create(&db, ring, &mut OsRandom)?);
    let db = db.with_keys(keys);
    let passwords = Passwords::new(settings.limits.argon2, &mut OsRandom)
        .map_err(|why| StartError::Setting { setting: "ARGON2_MEMORY_KIB", message: why.to_string() })?;
    let earlier = demo::read(data_dir)?;
    let (users, trader) = demo::seed(&db, &passwords, earlier.as_ref(), SystemClock.now())
        .map_err(|error| StartError::Refused(format!("the demonstration's users: {error}")))?;
    let paper_broker = match &brokers.paper {
        Some(paper) => {
            let login = brokers::first_login(paper)?;
            let (api_key, api_secret) = (login.api_key.clone(), login.api_secret.clone());
            Some(DemoBroker { url: paper.url().to_owned(), api_key, api_secret })
        }
        None => None,
    };
    let logins = DemoLogins {
        url: format!("http://{address}"),
        users,
        paper_broker,
        database: DemoDatabase { url: databases.owner.clone(), psql: databases.psql.clone() },
        data_dir: data_dir.display().to_string(),
        outbox_url: Some(format!("http://{address}/dev/outbox")),
    };
    demo::write(data_dir, &logins)?;
    Ok((logins, trader))
}

impl From<ServiceError> for StartError {
    fn from(error: ServiceError) -> Self {
        match error {
            ServiceError::Keys(error) => error.into(),
            ServiceError::Store(error) => error.into(),
            ServiceError::Io(source) => Self::System { what: "starting the service", source },
            ServiceError::Hashing(message) => Self::Setting { setting: "ARGON2_MEMORY_KIB", message },
        }
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
        StartError::Bind { address: settings.bind, setting: "BIND_ADDR", source }
    })
}

/// The private listener. An address that nobody asked for may be taken: then there is none.
fn bind_private(settings: &Settings, data_dir: &Path) -> Result<Option<TcpListener>, StartError> {
    let Some(address) = settings.metrics else { return Ok(None) };
    match TcpListener::bind(address) {
        Ok(listener) => Ok(Some(listener)),
        Err(_) if settings.database.url.is_none() && is_locked(data_dir) => {
            Err(StartError::SecondInstance { data_dir: data_dir.to_owned() })
        }
        Err(source) if settings.metrics_demanded => {
            Err(StartError::Bind { address, setting: "METRICS_ADDR", source })
        }
        Err(error) => {
            tracing::warn!(%address, %error, "METRICS_ADDR is taken: no figures are served");
            Ok(None)
        }
    }
}

pub(crate) fn api_settings(settings: &Settings, address: SocketAddr) -> Result<ApiSettings, StartError> {
    let delta = |time: Duration| TimeDelta::from_std(time).unwrap_or(TimeDelta::MAX);
    let (idle, lifetime) = (settings.limits.session_idle, settings.limits.session_lifetime);
    let sessions = SessionPolicy::new(delta(idle), delta(lifetime), SESSIONS_PER_USER)
        .map_err(|why| StartError::Setting { setting: "SESSION_LIFETIME", message: why.to_string() })?;
    let mut policy = AccountPolicy {
        sessions,
        step_up: delta(settings.limits.step_up),
        ws_ticket: delta(settings.limits.ws_ticket),
        require_admin_2fa: settings.require_admin_2fa,
        ..AccountPolicy::default()
    };
    policy.admin.allowed_ips.clone_from(&settings.admin_allowed_ips);
    policy.registration.password_min_length = settings.limits.password_min_length;
    policy.two_factor.setup = delta(settings.limits.totp_setup);
    policy.two_factor.reset_delay = delta(settings.limits.two_factor_reset_delay);
    policy.registration.open = settings.limits.registration_open;
    policy.registration.verification = delta(settings.limits.email_verification);
    policy.reset.link = delta(settings.limits.password_reset);
    Ok(ApiSettings {
        policy: Arc::new(policy),
        // Behind a proxy on this machine everybody would seem to sit at it.
        dev_outbox: settings.profile == Profile::Development
            && settings.trusted_proxies.count() == 0
            && !settings.public_url.as_ref().is_some_and(|url| url.starts_with("https:")),
        public_url: settings.public_url.clone().unwrap_or_else(|| format!("http://{address}")),
        cors_origins: settings.cors_origins.clone(),
        trusted_proxies: settings.trusted_proxies.clone(),
        body_within: BODY_WITHIN,
        order_rate: settings.limits.order_rate,
        signals: SignalSettings {
            per_minute: settings.limits.signal_rate,
            builtin: settings
                .keys
                .webhook_secret
                .clone()
                .zip(settings.keys.webhook_user.clone())
                .map(|(secret, user)| BuiltinHook { secret, user }),
        },
        submit_within: (
            delta(settings.timings.submit_deadline_market),
            delta(settings.timings.submit_deadline_other),
        ),
        default_wait: DEFAULT_WAIT,
        session_cache: SESSION_CACHE,
        parallel_hashes: hashes::at_once(
            settings.limits.argon2,
            std::thread::available_parallelism().map_or(2, usize::from),
            sample().map(|figures| figures.memory_total_bytes),
        ),
    })
}

/// Who sends the mails, where an SMTP server is configured.
fn postman(settings: &Settings) -> Result<Option<Postman>, StartError> {
    let postman = settings.smtp.as_ref().map(Postman::new).transpose();
    postman.map_err(|why| StartError::Setting { setting: "SMTP_HOST", message: why.to_string() })
}

/// Who posts to users' webhooks: to public addresses, and to those that `WEBHOOK_ALLOW_NETS` names.
fn webhooks(settings: &Settings) -> Result<Sender, StartError> {
    let nets = settings.webhook_allow_nets.clone();
    let guard = if nets.is_empty() {
        Guard::public()
    } else {
        Guard::allowing(move |address| nets.iter().any(|net| net.contains(address)))
    };
    let limits = SendLimits {
        connect: settings.timings.webhook_connect,
        total: settings.timings.webhook_answer,
        ..SendLimits::default()
    };
    Sender::new(guard, limits, settings.webhook_ca.as_deref())
        .map_err(|why| StartError::Setting { setting: "WEBHOOK_CA_PATH", message: why.to_string() })
}

fn health(settings: &Settings, clock: &Arc<dyn Clock>) -> HealthRegistry {
    // with what is around it, /health answers within a second
    let limit = Duration::from_millis(800);
    HealthRegistry::new(clock.now()).with("memory", Importance::Supporting, limit, MemoryCheck).with(
        "disk",
        Importance::Supporting,
        limit,
        DiskCheck::new(&settings.data_dir),
    )
}

/// The durations, with those that have settings of their own.
fn timings(settings: &Settings) -> plimsoll_reliability::Timings {
    plimsoll_reliability::Timings {
        reconcile_interval: settings.broker.reconcile_interval.mul_f64(settings.time_scale),
        stale_order_age: settings.broker.stale_order_age.mul_f64(settings.time_scale),
        ..settings.timings.clone()
    }
}
