//! The server of the bench: a private PostgreSQL with the settings of a real one, users with accounts and sessions, and
//! the whole service in this process, with the settings that a server has by default but for the rate limit.

use std::net::{SocketAddr, TcpListener};
use std::os::unix::fs::PermissionsExt;
use std::process::Command;
use std::sync::Arc;
use std::time::Duration;

use chrono::TimeDelta;
use plimsoll_api::proxies::TrustedProxies;
use plimsoll_api::signals::SignalSettings;
use plimsoll_api::state::ApiSettings;
use plimsoll_api::ws::WsSettings;
use plimsoll_auth::ports::{AccountStore, SessionStore};
use plimsoll_auth::vault::{BrokerKeys, BrokerName, VaultKeys, save};
use plimsoll_auth::{AccountPolicy, Act, EmailAddress, NewUser, Role, Session, Transport};
use plimsoll_broker::CredentialSource;
use plimsoll_core_domain::broker::Broker;
use plimsoll_core_domain::order::Environment;
use plimsoll_core_domain::{Clock, StoreError, SystemClock};
use plimsoll_crypto::passwords::{HashParams, PasswordHash};
use plimsoll_crypto::tokens::SecretToken;
use plimsoll_crypto::{KeyRing, MasterKey, OsRandom, Stretching};
use plimsoll_observability::health::HealthRegistry;
use plimsoll_reliability::Timings;
use plimsoll_reliability::shutdown::Shutdown;
use plimsoll_reliability::webhooks::{Guard, SendLimits, Sender};
use plimsoll_server::service::{self, PoolSizes, Service, ServiceParts};
use plimsoll_server::trading::BrokerServers;
use plimsoll_storage::db::QueryCounter;
use plimsoll_storage::migrate::{MigrationSet, grant_application_role, migrate};
use plimsoll_storage::platform::keys::PlatformKeys;
use plimsoll_storage::private_postgres::{APP, Cluster, OWNER, Options, PrivatePostgres};
use plimsoll_storage::{Db, DbSettings, PoolKind};
use secrecy::ExposeSecret;
use tempfile::TempDir;
use tokio_util::sync::CancellationToken;
use uuid::Uuid;

use super::Result;
use super::broker::{Sends, Silent};

const DATABASE: &str = "plimsoll";
/// Where Debian has the programs of its PostgreSQL; the first that is there.
const PROGRAMS: [&str; 4] =
    ["/usr/lib/postgresql/17/bin", "/usr/lib/postgresql/16/bin", "/usr/lib/postgresql/15/bin", "/usr/bin"];
/// An argon2id hash of no password that anybody knows.
const HASH: &str =
    "$argon2id$v=19$m=19456,t=2,p=1$c29tZXNhbHRzb21lc2FsdA$J5mPVCNJZ+3Wq4NUnKqzW3oLQsVw8qjMSYbWlOWcfzE";
const KEY: &str = "8f1c7a9d2e4b6053f1e2d3c4b5a697887766554433221100ffeeddccbbaa9988";

/// The running server.
pub(crate) struct Platform {
    /// A session's token per user, in the order of their ids, which are dense.
    pub(crate) tokens: Vec<String>,
    /// The first user's id; accounts have the ids of their users.
    pub(crate) first_user: i64,
    service: Option<Service>,
    /// Ends what waits for brokers that never answer.
    end: CancellationToken,
    shutdown: Shutdown,
    postgres: PrivatePostgres,
    folder: TempDir,
}

impl Platform {
    /// With brokers that never answer for an order.
    pub(crate) fn start(users: usize, policy: AccountPolicy) -> Result<Self> {
        Self::start_with(users, policy, None)
    }

    /// With brokers that take every order and note it there.
    pub(crate) fn start_with(users: usize, policy: AccountPolicy, sends: Option<Arc<Sends>>) -> Result<Self> {
        let folder = tempfile::Builder::new().prefix("plimsoll-bench-").tempdir()?;
        // As root the server runs under an account that must be able to go in.
        std::fs::set_permissions(folder.path(), std::fs::Permissions::from_mode(0o711))?;
        let mut options = Options::new(folder.path());
        options.path_var = "/usr/local/bin:/usr/bin:/bin".to_owned();
        let postgres = PrivatePostgres::start(options)?;
        postgres.ensure_database(DATABASE)?;
        migrate(&postgres.url(DATABASE), MigrationSet::Platform)?;
        grant_application_role(&postgres.url(DATABASE), MigrationSet::Platform, APP)?;

        let db = Db::open(&postgres.app_url(DATABASE), DbSettings::new(PoolKind::Control, 2))?;
        let keys = Arc::new(PlatformKeys::load_or_create(&db, &ring()?, &mut OsRandom)?);
        let db = db.with_keys(Arc::clone(&keys));
        let (tokens, first_user) = seed(&db, &keys, users)?;
        drop(db);

        // A call that is not answered occupies its thread to the end: what is measured is not disturbed by repeats.
        let timings = Timings { broker_call: Duration::from_secs(3600), ..Timings::default() };
        let shutdown = Shutdown::new(&timings, |code, _| std::process::exit(code));
        let end = CancellationToken::new();
        let servers = SilentServers { sends, end: end.clone() };
        let service = service::start(parts(&postgres, timings, policy, servers)?, &shutdown)?;
        wait_until(|| service.connections.all_ready())?;
        Ok(Self { tokens, first_user, service: Some(service), end, shutdown, postgres, folder })
    }

    pub(crate) fn address(&self) -> SocketAddr {
        self.running().address
    }

    /// The pool of requests.
    pub(crate) fn db(&self) -> &Db {
        &self.running().db
    }

    /// Counts statements of the pool of requests.
    pub(crate) fn count_queries(&self) -> QueryCounter {
        self.running().db.count_queries()
    }

    /// Room for the peer's files.
    pub(crate) fn folder(&self) -> &std::path::Path {
        self.folder.path()
    }

    /// What both sides' commits wait for.
    pub(crate) fn durability(&self) -> Result<String> {
        self.query(
            "SELECT format('PostgreSQL %s, fsync %s, synchronous_commit %s, shared_buffers %s', \
             current_setting('server_version'), current_setting('fsync'), current_setting('synchronous_commit'), \
             current_setting('shared_buffers'))",
        )
    }

    /// Renews the statistics of all tables, as a running database does by itself within a minute.
    pub(crate) fn analyze(&self) -> Result<()> {
        self.psql(OWNER, "ANALYZE").map(drop)
    }

    /// Fills every open order, and ends the jobs that would send them: what is left is a table of past orders.
    pub(crate) fn close_orders(&self) -> Result<()> {
        self.psql(
            OWNER,
            "UPDATE orders SET status = 'filled', filled_qty = qty, filled_value = qty * limit_price, closed_at = now() \
             WHERE closed_at IS NULL; \
             UPDATE jobs SET state = 'done', finished_at = now() WHERE state = 'ready'",
        )?;
        for sql in ["VACUUM orders", "VACUUM jobs", "CHECKPOINT"] {
            self.psql(OWNER, sql)?;
        }
        Ok(())
    }

    /// One value, by psql.
    pub(crate) fn query(&self, sql: &str) -> Result<String> {
        self.psql(APP, sql)
    }

    fn psql(&self, role: &str, sql: &str) -> Result<String> {
        let output = self.client("psql", role)?.args(["--no-psqlrc", "-At", "-c", sql]).output()?;
        if !output.status.success() {
            return Err(String::from_utf8_lossy(&output.stderr).into());
        }
        Ok(String::from_utf8(output.stdout)?.trim_end_matches('\n').to_owned())
    }

    /// pgbench, connected as the application.
    pub(crate) fn pgbench(&self) -> Result<Command> {
        self.client("pgbench", APP)
    }

    fn client(&self, program: &str, role: &str) -> Result<Command> {
        let cluster: &Cluster = self.postgres.cluster();
        let path = PROGRAMS
            .iter()
            .map(|folder| std::path::Path::new(folder).join(program))
            .find(|path| path.is_file())
            .ok_or_else(|| format!("{program} is not installed"))?;
        let mut command = Command::new(path);
        command.arg("-h").arg(cluster.socket_folder()).args(["-p", "5432", "-U", role]);
        command.env("PGDATABASE", DATABASE).env("LC_ALL", "C");
        Ok(command)
    }

    pub(crate) fn stop(mut self) {
        self.end.cancel();
        let report = self.shutdown.run();
        println!("\nstopped in {:.1} s", report.took.as_secs_f64());
        if let Some(service) = self.service.take() {
            service.finish();
        }
        self.postgres.stop(Duration::from_secs(20));
    }

    fn running(&self) -> &Service {
        self.service.as_ref().expect("it runs until it is stopped, which takes the platform")
    }
}

fn ring() -> Result<KeyRing> {
    let stretching = Stretching::new([7; 16].to_vec(), 600_000)?;
    Ok(KeyRing::new(&MasterKey::parse(KEY, &stretching)?))
}

fn parts(
    postgres: &PrivatePostgres,
    timings: Timings,
    policy: AccountPolicy,
    servers: SilentServers,
) -> Result<ServiceParts> {
    let delta = TimeDelta::from_std;
    plimsoll_broker::install_crypto_provider();
    Ok(ServiceParts {
        database_url: postgres.app_url(DATABASE),
        // The defaults of DB_POOL_HTTP, DB_POOL_JOBS and DB_POOL_CONTROL.
        pools: PoolSizes { http: 16, jobs: 4, control: 3 },
        ring: ring()?,
        listener: TcpListener::bind("127.0.0.1:0")?,
        health: HealthRegistry::new(SystemClock.now()),
        warned_of: Vec::new(),
        private: None,
        api: ApiSettings {
            policy: Arc::new(policy),
            public_url: "http://localhost".to_owned(),
            cors_origins: Vec::new(),
            trusted_proxies: TrustedProxies::default(),
            body_within: Duration::from_secs(10),
            dev_outbox: false,
            order_rate: None,
            submit_within: (delta(timings.submit_deadline_market)?, delta(timings.submit_deadline_other)?),
            default_wait: Duration::from_secs(2),
            session_cache: Duration::from_secs(1),
            parallel_hashes: 2,
            signals: SignalSettings { per_minute: None, ..SignalSettings::default() },
        },
        sockets: WsSettings::default(),
        hash_params: HashParams::default(),
        timings,
        audit_retention: None,
        postman: None,
        webhooks: Sender::new(Guard::public(), SendLimits::default(), None)?,
        servers: Arc::new(servers),
        seed: None,
        alone: true,
        backups: None,
    })
}

/// Brokers for play money.
struct SilentServers {
    sends: Option<Arc<Sends>>,
    end: CancellationToken,
}

impl BrokerServers for SilentServers {
    fn adapter(
        &self,
        environment: Environment,
        _: Arc<dyn CredentialSource>,
        _: u64,
    ) -> Option<Arc<dyn Broker>> {
        let (sends, end) = (self.sends.clone(), self.end.clone());
        let broker = || Arc::new(Silent { number: "B1".to_owned(), sends, end });
        self.offers(environment).then(|| broker() as Arc<dyn Broker>)
    }

    fn offers(&self, environment: Environment) -> bool {
        environment == Environment::Paper
    }
}

/// Users, each with an account, its credential and a session; the sessions' tokens and the first user's id.
fn seed(db: &Db, keys: &PlatformKeys, users: usize) -> Result<(Vec<String>, i64)> {
    let (now, ring) = (SystemClock.now(), ring()?);
    let installation = VaultKeys { ring: &ring, pepper: &keys.pepper };
    let pair = BrokerKeys { api_key: "PKBENCHBENCH".to_owned().into(), api_secret: KEY.to_owned().into() };
    let mut tokens = Vec::new();
    let mut first = None;
    for number in 0..users {
        let user = NewUser {
            email: EmailAddress::parse(&format!("trader{number}@example.com"))?,
            display_name: None,
            role: Role::User,
            password_hash: PasswordHash::parse(HASH)?,
            email_verified_at: Some(now),
            created_at: now,
        };
        let token = SecretToken::generate(&mut OsRandom);
        let digest = token.digest();
        let (user, account) = db.run_blocking(|tx| {
            let id = tx.insert_user(&user)?;
            let (broker, act) = (BrokerName::Alpaca, Act::without_request(now));
            let environment = Environment::Paper;
            save(tx, installation, None, id, broker, environment, &pair, &act, &mut OsRandom)?;
            let account = tx.account_of_user(id)?.map_or(0, |account| account.id.0);
            let session = Session {
                id: Uuid::from_u128(0x5e55_0000_u128 << 96 | number as u128),
                user_id: id,
                created_at: now,
                last_seen_at: now,
                idle_expires_at: now + TimeDelta::minutes(30),
                expires_at: now + TimeDelta::hours(12),
                revoked_at: None,
                ip: None,
                user_agent: None,
                step_up_until: None,
                step_up_ip: None,
                transport: Transport::Bearer,
            };
            tx.insert_session(&digest, &session)?;
            Ok::<_, StoreError>((id.0, account))
        })?;
        let first = *first.get_or_insert(user);
        if (user, account) != (first + number as i64, user) {
            return Err("the peer's script takes ids to be dense and equal".into());
        }
        tokens.push(token.expose_text().expose_secret().to_owned());
    }
    Ok((tokens, first.ok_or("no users")?))
}

fn wait_until(mut done: impl FnMut() -> bool) -> Result<()> {
    for _ in 0..600 {
        if done() {
            return Ok(());
        }
        std::thread::sleep(Duration::from_millis(50));
    }
    Err("the accounts were not compared with the broker within 30 s".into())
}
