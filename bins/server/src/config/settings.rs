//! The settings, typed. None of them shows a secret by `Debug`.

use std::net::SocketAddr;
use std::num::NonZeroU32;
use std::path::{Path, PathBuf};
use std::time::Duration;

use plimsoll_api::proxies::TrustedProxies;
use plimsoll_api::state::OrderRate;
use plimsoll_auth::IpNetwork;
use plimsoll_broker::{AlpacaConfig, ConfigError};
use plimsoll_core_domain::order::Environment as BrokerEnvironment;
use plimsoll_crypto::passwords::HashParams;
use plimsoll_observability::logging::LogFormat;
use plimsoll_reliability::Timings;
use plimsoll_reliability::backup::Retention;
use rust_decimal::Decimal;
use secrecy::SecretString;

use crate::backup::BackupSchedule;
use crate::mail::SmtpSettings;

/// For whom the server runs.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Profile {
    /// One machine, loopback only; what is missing is made.
    Development,
    /// Everything that matters must be given.
    Production,
}

impl Profile {
    /// `development` or `production`.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Development => "development",
            Self::Production => "production",
        }
    }
}

/// All settings of a server.
#[derive(Clone, Debug)]
pub struct Settings {
    /// `PROFILE`.
    pub profile: Profile,
    /// `BIND_ADDR`.
    pub bind: SocketAddr,
    /// `METRICS_ADDR`; `None`: figures and health in full are served nowhere.
    pub metrics: Option<SocketAddr>,
    /// Whether `METRICS_ADDR` was set by somebody: then a busy port stops the start.
    pub metrics_demanded: bool,
    /// `PUBLIC_URL`: scheme, host and port.
    pub public_url: Option<String>,
    /// `DATA_DIR`.
    pub data_dir: PathBuf,
    /// `LOG_LEVEL`: a level or a filter.
    pub log_level: String,
    /// `LOG_FORMAT`.
    pub log_format: LogFormat,
    /// `CORS_ORIGINS`: exact origins.
    pub cors_origins: Vec<String>,
    /// `TRUSTED_PROXIES`: networks whose word on their clients' addresses is believed.
    pub trusted_proxies: TrustedProxies,
    /// `ADMIN_ALLOWED_IPS`: networks that administrators may come from; empty: anywhere.
    pub admin_allowed_ips: Vec<IpNetwork>,
    /// `REQUIRE_ADMIN_2FA`.
    pub require_admin_2fa: bool,
    /// The databases.
    pub database: DatabaseSettings,
    /// Master keys and secrets.
    pub keys: KeySettings,
    /// The broker, or the paper broker instead of it.
    pub broker: BrokerSettings,
    /// The SMTP server; `None`: mails stay in the outbox table.
    pub smtp: Option<SmtpSettings>,
    /// `WEBHOOK_ALLOW_NETS`: networks that users' webhooks may lead into although they are not public.
    pub webhook_allow_nets: Vec<IpNetwork>,
    /// `WEBHOOK_CA_PATH`: certificates in PEM that are trusted of users' webhooks beside the usual ones.
    pub webhook_ca: Option<Vec<u8>>,
    /// Limits and lives of what users do.
    pub limits: Limits,
    /// `AUDIT_RETENTION`; `None`: audit entries stay for ever.
    pub audit_retention: Option<Duration>,
    /// Backups of the platform's database.
    pub backup: BackupSettings,
    /// Every duration of the reliable parts, `SHUTDOWN_TIMEOUT` and `TIME_SCALE` worked in.
    pub timings: Timings,
    /// The settings that warnings are about.
    pub warned_of: Vec<String>,
    /// `TIME_SCALE`: the pace of [`Settings::timings`]; 1 in production.
    pub time_scale: f64,
}

/// Backups.
#[derive(Clone, Debug)]
pub struct BackupSettings {
    /// `BACKUP_DIR`; `None`: a folder of the data folder.
    pub dir: Option<PathBuf>,
    /// `BACKUP_SCHEDULE`.
    pub schedule: BackupSchedule,
    /// `BACKUP_RETENTION_DAYS`, `MAX_BACKUPS`.
    pub retention: Retention,
}

impl BackupSettings {
    /// The folder of backups.
    #[must_use]
    pub fn folder(&self, data_dir: &Path) -> PathBuf {
        self.dir.clone().unwrap_or_else(|| data_dir.join("backups"))
    }
}

/// Where rows are kept.
#[derive(Clone, Debug)]
pub struct DatabaseSettings {
    /// `DATABASE_URL`; `None`: a private PostgreSQL.
    pub url: Option<SecretString>,
    /// `MIGRATION_DATABASE_URL`: the owner's.
    pub migration_url: Option<SecretString>,
    /// `PAPER_DATABASE_URL`.
    pub paper_url: Option<SecretString>,
    /// `PG_BIN`.
    pub pg_bin: Option<PathBuf>,
    /// `DB_POOL_HTTP`, `DB_POOL_JOBS`, `DB_POOL_CONTROL`: connections at most.
    pub pools: [u32; 3],
}

/// Keys and secrets.
#[derive(Clone, Debug, Default)]
pub struct KeySettings {
    /// `ENCRYPTION_KEY`.
    pub encryption_key: Option<SecretString>,
    /// `ENCRYPTION_KEYS_OLD`.
    pub old: Vec<SecretString>,
    /// `WEBHOOK_SECRET`.
    pub webhook_secret: Option<SecretString>,
    /// `WEBHOOK_USER`, folded.
    pub webhook_user: Option<String>,
}

/// An account at Alpaca.
#[derive(Clone, Debug)]
pub struct AlpacaAccount {
    /// `ALPACA_API_KEY`.
    pub key: SecretString,
    /// `ALPACA_API_SECRET`.
    pub secret: SecretString,
}

/// The broker.
#[derive(Clone, Debug)]
pub struct BrokerSettings {
    /// `None`: the paper broker runs in this process.
    pub alpaca: Option<AlpacaAccount>,
    /// `ALPACA_BASE_URL`.
    pub base_url: String,
    /// Live only at Alpaca's live address.
    pub environment: BrokerEnvironment,
    /// `PAPER_SPEED`: seconds of the market in one.
    pub paper_speed: Decimal,
    /// `PAPER_MARKET_DATA`, `PAPER_FIXED_PRICE`.
    pub paper_market: Market,
    /// `RECONCILE_INTERVAL`.
    pub reconcile_interval: Duration,
    /// `STALE_ORDER_AGE`.
    pub stale_order_age: Duration,
}

impl BrokerSettings {
    /// Where credentials of this environment lead at Alpaca: `ALPACA_BASE_URL` for its own environment, Alpaca's own
    /// address for the other one.
    ///
    /// # Errors
    /// `ALPACA_BASE_URL` is refused.
    pub fn alpaca_config(&self, environment: BrokerEnvironment) -> Result<AlpacaConfig, ConfigError> {
        if environment == self.environment {
            AlpacaConfig::new(&self.base_url, environment)
        } else {
            Ok(AlpacaConfig::alpaca(environment))
        }
    }

    /// Whether a key can be one of the environment, as far as its form tells. The paper broker takes every key.
    ///
    /// # Errors
    /// Why it cannot.
    pub fn check_key(&self, environment: BrokerEnvironment, key_id: &str) -> Result<(), ConfigError> {
        match self.alpaca {
            Some(_) => self.alpaca_config(environment)?.check_key(key_id),
            None => Ok(()),
        }
    }
}

/// Where the paper broker's prices come from.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Market {
    /// The recordings that come with it.
    Bundled,
    /// A folder of CSV files.
    Folder(PathBuf),
    /// One price for every symbol.
    FixedPrice(Decimal),
}

/// Limits and lives.
#[derive(Clone, Debug)]
pub struct Limits {
    /// `RATE_LIMIT_SIGNALS`: of a hook in a minute; `None`: off.
    pub signal_rate: Option<NonZeroU32>,
    /// `RATE_LIMIT_ORDERS`; `None`: off.
    pub order_rate: Option<OrderRate>,
    /// `SESSION_IDLE`.
    pub session_idle: Duration,
    /// `SESSION_LIFETIME`.
    pub session_lifetime: Duration,
    /// `STEP_UP_TTL`.
    pub step_up: Duration,
    /// `TOTP_SETUP_TTL`.
    pub totp_setup: Duration,
    /// `TWO_FACTOR_RESET_DELAY`.
    pub two_factor_reset_delay: Duration,
    /// `REGISTRATION`: whether anybody may make an account.
    pub registration_open: bool,
    /// `EMAIL_VERIFICATION_TTL`.
    pub email_verification: Duration,
    /// `PASSWORD_RESET_TTL`.
    pub password_reset: Duration,
    /// `PASSWORD_MIN_LENGTH`, in characters.
    pub password_min_length: usize,
    /// `ARGON2_MEMORY_KIB`, `ARGON2_ITERATIONS`.
    pub argon2: HashParams,
    /// `WS_MAX_PER_USER`.
    pub ws_per_user: usize,
    /// `WS_MAX_PER_IP`.
    pub ws_per_ip: usize,
    /// `WS_TICKET_TTL`.
    pub ws_ticket: Duration,
}
