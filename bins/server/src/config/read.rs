//! From texts to settings, with all findings at once.

use std::collections::BTreeMap;
use std::path::PathBuf;
use std::str::FromStr;
use std::time::Duration;

use plimsoll_auth::EmailAddress;
use plimsoll_broker::AlpacaConfig;
use plimsoll_core_domain::order::Environment as BrokerEnvironment;
use plimsoll_crypto::passwords::{HashParams, Passwords};
use plimsoll_crypto::{KeyForm, MasterKeyError, OsRandom};
use plimsoll_observability::config_report::{ConfigReport, Finding, Origin, Severity, Verdict};
use plimsoll_observability::logging::{LogFormat, parse_level};
use plimsoll_reliability::Timings;
use plimsoll_reliability::backup::Retention;
use rust_decimal::Decimal;
use secrecy::SecretString;

use super::environment::Environment;
use super::names::known;
use super::parse;
use super::settings::{
    AlpacaAccount, BackupSettings, BrokerSettings, DatabaseSettings, KeySettings, Limits, Market, Profile,
    Settings,
};
use super::source::{Flags, Given, gather};
use crate::backup::BackupSchedule;

const LIVE_HOST: &str = "://api.alpaca.markets";
/// Fewest characters of a shared secret: as many as of a pass phrase.
const SHORTEST_WEBHOOK_SECRET: usize = 16;
const LONGEST_POOL: u32 = 500;
/// Of a link to choose a new password (NIST SP 800-63B-4, 4.2.1.2).
const LONGEST_RESET: Duration = Duration::from_secs(86_400);
/// The longest that a ticket for a WebSocket may wait.
const LONGEST_TICKET: Duration = Duration::from_secs(300);
/// Of a link that confirms an address: it opens nothing, but forgotten mails should not confirm for ever.
const LONGEST_VERIFICATION: Duration = Duration::from_secs(7 * 86_400);

/// What the settings are for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Purpose {
    /// A server.
    Serve,
    /// The demonstration: always the development profile.
    Demo,
}

/// Settings and how they came about.
#[derive(Debug)]
pub struct Loaded {
    /// `None` when the report has errors.
    pub settings: Option<Settings>,
    /// All findings.
    pub report: ConfigReport,
    pub(super) given: BTreeMap<&'static str, Given>,
}

/// Reads everything. Nothing is opened or connected to but the files that hold settings.
#[must_use]
pub fn load(flags: &Flags, environment: &Environment, purpose: Purpose) -> Loaded {
    let mut report = ConfigReport::new();
    let given = gather(flags, environment, &mut report);
    let mut reader = Reader { given: &given, report: &mut report };
    let settings = reader.settings(purpose);
    let valid = report.verdict() != Verdict::Invalid;
    Loaded { settings: settings.filter(|_| valid), report, given }
}

pub(super) struct Reader<'a> {
    given: &'a BTreeMap<&'static str, Given>,
    report: &'a mut ConfigReport,
}

impl Reader<'_> {
    fn settings(&mut self, purpose: Purpose) -> Option<Settings> {
        let profile = self.profile(purpose);
        self.later();
        let keys = self.keys();
        let broker = self.broker();
        let limits = self.limits();
        let smtp = super::smtp::read(self);
        let (timings, time_scale) = self.timings(profile)?;
        let settings = Settings {
            profile,
            bind: self.value("BIND_ADDR", |text| {
                text.parse().map_err(|_| "must be an address and a port, such as 127.0.0.1:8080".to_owned())
            })?,
            metrics: self.value("METRICS_ADDR", |text| match text {
                "off" => Ok(None),
                text => text
                    .parse()
                    .map(Some)
                    .map_err(|_| "must be an address and a port, such as 127.0.0.1:9090, or off".to_owned()),
            })?,
            metrics_demanded: self.origin("METRICS_ADDR") != Origin::Default,
            public_url: self.optional("PUBLIC_URL", parse::origin),
            data_dir: self.value("DATA_DIR", path)?,
            log_level: self.log_level(purpose)?,
            log_format: self
                .value("LOG_FORMAT", |text| LogFormat::from_str(text).map_err(|e| e.to_string()))?,
            cors_origins: self
                .optional("CORS_ORIGINS", |text| parse::list(text).map(parse::origin).collect())
                .unwrap_or_default(),
            trusted_proxies: self.optional("TRUSTED_PROXIES", parse::proxies).unwrap_or_default(),
            admin_allowed_ips: self.optional("ADMIN_ALLOWED_IPS", parse::networks).unwrap_or_default(),
            require_admin_2fa: self
                .optional("REQUIRE_ADMIN_2FA", parse::yes_or_no)
                .unwrap_or(profile == Profile::Production),
            database: self.database()?,
            keys,
            broker: broker?,
            smtp,
            webhook_allow_nets: self.optional("WEBHOOK_ALLOW_NETS", parse::networks).unwrap_or_default(),
            webhook_ca: self.optional("WEBHOOK_CA_PATH", |path| {
                std::fs::read(path).map_err(|why| format!("cannot be read: {why}"))
            }),
            limits: limits?,
            audit_retention: self.value("AUDIT_RETENTION", parse::audit_retention)?,
            backup: self.backup(profile)?,
            timings,
            warned_of: Vec::new(),
            time_scale,
        };
        self.together(&settings);
        let warned_of = self.report.of(Severity::Warning).map(|finding| finding.setting.clone());
        Some(Settings { warned_of: warned_of.collect(), ..settings })
    }

    fn origin(&self, name: &str) -> Origin {
        self.given.get(name).map_or(Origin::Default, |given| given.origin.clone())
    }

    pub(super) fn add(
        &mut self,
        severity: Severity,
        name: &str,
        message: impl Into<String>,
        mend: Option<&str>,
    ) {
        let finding = Finding::new(name, self.origin(name), message);
        self.report.add(
            severity,
            match mend {
                Some(mend) => finding.mend(mend),
                None => finding,
            },
        );
    }

    pub(super) fn error(&mut self, name: &str, message: impl Into<String>) {
        self.add(Severity::Error, name, message, None);
    }

    pub(super) fn is_set(&self, name: &str) -> bool {
        self.given.contains_key(name)
    }

    /// A setting without a default; `None` when it is unset or wrong.
    pub(super) fn optional<T>(
        &mut self,
        name: &str,
        read: impl FnOnce(&str) -> Result<T, String>,
    ) -> Option<T> {
        self.untrimmed(name, |text| read(text.trim()))
    }

    /// As [`optional`](Self::optional), for a value whose line breaks count.
    fn untrimmed<T>(&mut self, name: &str, read: impl FnOnce(&str) -> Result<T, String>) -> Option<T> {
        let text = self.given.get(name)?.text.clone();
        if text.trim().is_empty() {
            self.error(name, "must not be empty");
            return None;
        }
        match read(&text) {
            Ok(value) => Some(value),
            Err(why) => {
                self.error(name, why);
                None
            }
        }
    }

    /// A setting with a default, which stands in for a wrong value so that everything else is still looked at.
    pub(super) fn value<T>(&mut self, name: &str, read: impl Fn(&str) -> Result<T, String>) -> Option<T> {
        self.optional(name, &read).or_else(|| read(known(name)?.default?).ok())
    }

    fn number(&mut self, name: &str, least: u32, most: u32) -> Option<u32> {
        self.value(name, |text| match text.parse() {
            Ok(number) if (least..=most).contains(&number) => Ok(number),
            _ => Err(format!("must be a whole number from {least} to {most}")),
        })
    }

    pub(super) fn secret(&mut self, name: &str) -> Option<SecretString> {
        self.optional(name, |text| Ok(SecretString::from(text.to_owned())))
    }

    fn profile(&mut self, purpose: Purpose) -> Profile {
        let named = self.optional("PROFILE", |text| match text {
            "development" => Ok(Profile::Development),
            "production" => Ok(Profile::Production),
            _ => Err("must be development or production".to_owned()),
        });
        match (named, purpose) {
            (Some(Profile::Production), Purpose::Demo) => {
                self.error("PROFILE", "the demonstration runs in the development profile only");
                Profile::Development
            }
            (Some(profile), _) => profile,
            (None, Purpose::Serve) if self.is_set("DATABASE_URL") => Profile::Production,
            (None, _) => Profile::Development,
        }
    }

    fn log_level(&mut self, purpose: Purpose) -> Option<String> {
        let level = self.value("LOG_LEVEL", |text| match parse_level(text) {
            Ok(_) => Ok(text.to_owned()),
            Err(why) => Err(why.to_string()),
        })?;
        // a demonstration tells what it does in lines of its own
        let quiet = purpose == Purpose::Demo && self.origin("LOG_LEVEL") == Origin::Default;
        Some(if quiet { "warn".to_owned() } else { level })
    }

    fn later(&mut self) {
        for name in super::KNOWN.iter().filter(|known| known.kind.is_later()).map(|known| known.name) {
            if self.is_set(name) {
                self.add(Severity::Warning, name, "has no effect in this release", None);
            }
        }
    }

    fn keys(&mut self) -> KeySettings {
        let key = self.optional("ENCRYPTION_KEY", |text| {
            KeyForm::of(text).map_err(key_error).map(|form| (SecretString::from(text.to_owned()), form))
        });
        if let Some((_, form)) = &key {
            self.add(Severity::Information, "ENCRYPTION_KEY", format!("read as {form}"), None);
        }
        let old = self.untrimmed("ENCRYPTION_KEYS_OLD", parse::old_keys);
        let webhook_secret = self.optional("WEBHOOK_SECRET", |text| {
            if text.chars().count() < SHORTEST_WEBHOOK_SECRET {
                return Err(format!("must have at least {SHORTEST_WEBHOOK_SECRET} characters"));
            }
            Ok(SecretString::from(text.to_owned()))
        });
        let webhook_user = self.optional("WEBHOOK_USER", |text| {
            let address = EmailAddress::parse(text).map_err(|why| why.to_string())?;
            Ok(address.folded().to_owned())
        });
        if webhook_user.is_some() && webhook_secret.is_none() {
            let text = "has no effect without WEBHOOK_SECRET: POST /webhook knows nobody".to_owned();
            self.add(Severity::Warning, "WEBHOOK_USER", text, None);
        }
        KeySettings {
            encryption_key: key.map(|(key, _)| key),
            old: old.unwrap_or_default(),
            webhook_secret,
            webhook_user,
        }
    }

    fn database(&mut self) -> Option<DatabaseSettings> {
        let mut url = |name| {
            self.optional(name, |text| {
                let is_url = text.starts_with("postgresql://") || text.starts_with("postgres://");
                // libpq's other form is a list of keyword=value
                if is_url || (text.contains('=') && !text.contains("://")) {
                    Ok(SecretString::from(text.to_owned()))
                } else {
                    Err("must be of the form postgresql://user@host:5432/name".to_owned())
                }
            })
        };
        let (main, migration, paper) =
            (url("DATABASE_URL"), url("MIGRATION_DATABASE_URL"), url("PAPER_DATABASE_URL"));
        Some(DatabaseSettings {
            url: main,
            migration_url: migration,
            paper_url: paper,
            pg_bin: self.optional("PG_BIN", path),
            pools: [
                self.number("DB_POOL_HTTP", 1, LONGEST_POOL)?,
                self.number("DB_POOL_JOBS", 1, LONGEST_POOL)?,
                self.number("DB_POOL_CONTROL", 2, LONGEST_POOL)?,
            ],
        })
    }

    fn backup(&mut self, profile: Profile) -> Option<BackupSettings> {
        // to try it out, a backup may come every second
        let shortest = Duration::from_secs(if profile == Profile::Development { 1 } else { 60 });
        let dir = self.optional("BACKUP_DIR", path);
        let schedule = self.value("BACKUP_SCHEDULE", |text| BackupSchedule::parse(text, shortest));
        let days = self.number("BACKUP_RETENTION_DAYS", 1, 36_500);
        let most = self.number("MAX_BACKUPS", 1, 100_000);
        let retention = Retention::new(days?, most?)?;
        Some(BackupSettings { dir, schedule: schedule?, retention })
    }

    fn broker(&mut self) -> Option<BrokerSettings> {
        let key = self.optional("ALPACA_API_KEY", |text| Ok(text.to_owned()));
        let secret = self.secret("ALPACA_API_SECRET");
        for (one, other) in [("ALPACA_API_KEY", "ALPACA_API_SECRET"), ("ALPACA_API_SECRET", "ALPACA_API_KEY")]
        {
            if self.is_set(one) && !self.is_set(other) {
                self.add(
                    Severity::Error,
                    one,
                    format!("is set without {other}"),
                    Some("set both or neither"),
                );
            }
        }
        let environment = |text: &str| {
            let live = text.find(LIVE_HOST).is_some();
            if live { BrokerEnvironment::Live } else { BrokerEnvironment::Paper }
        };
        let (base_url, environment) = self.value("ALPACA_BASE_URL", |text| {
            let environment = environment(text);
            AlpacaConfig::new(text, environment).map_err(|why| why.to_string())?;
            Ok((text.to_owned(), environment))
        })?;
        if let Some(key) = &key
            && let Ok(config) = AlpacaConfig::new(&base_url, environment)
            && let Err(why) = config.check_key(key)
        {
            self.error("ALPACA_API_KEY", why.to_string());
        }
        let speed = |text: &str| match text.parse::<Decimal>() {
            Ok(speed) if speed > Decimal::ZERO && speed <= Decimal::from(100_000) => Ok(speed),
            _ => Err("must be a number above 0, at most 100000".to_owned()),
        };
        let price = self.optional("PAPER_FIXED_PRICE", |text| match text.parse::<Decimal>() {
            Ok(price) if price > Decimal::ZERO && price.scale() <= 4 => Ok(price),
            _ => Err("must be a price above 0 with at most 4 decimals".to_owned()),
        });
        let folder = self.optional("PAPER_MARKET_DATA", path);
        if self.is_set("PAPER_FIXED_PRICE") && self.is_set("PAPER_MARKET_DATA") {
            self.error("PAPER_FIXED_PRICE", "excludes PAPER_MARKET_DATA");
        }
        let market = match (folder, price) {
            (Some(folder), _) => {
                if !folder.is_dir() {
                    self.error("PAPER_MARKET_DATA", format!("{} is no folder", folder.display()));
                }
                Market::Folder(folder)
            }
            (None, Some(price)) => Market::FixedPrice(price),
            (None, None) => Market::Bundled,
        };
        Some(BrokerSettings {
            alpaca: key.zip(secret).map(|(key, secret)| AlpacaAccount { key: key.into(), secret }),
            base_url,
            environment,
            paper_speed: self.value("PAPER_SPEED", speed)?,
            paper_market: market,
            reconcile_interval: self.value("RECONCILE_INTERVAL", parse::duration)?,
            stale_order_age: self.value("STALE_ORDER_AGE", parse::duration)?,
        })
    }

    fn limits(&mut self) -> Option<Limits> {
        let argon2 = HashParams {
            memory_kib: self.number("ARGON2_MEMORY_KIB", 1, u32::MAX)?,
            iterations: self.number("ARGON2_ITERATIONS", 1, u32::MAX)?,
            ..HashParams::default()
        };
        // the check is part of making a hasher, whose cost is that of one hash: done for a cost that somebody chose
        if argon2 != HashParams::default()
            && let Err(why) = Passwords::new(argon2, &mut OsRandom)
        {
            self.error("ARGON2_MEMORY_KIB", why.to_string());
        }
        let limits = Limits {
            order_rate: self.value("RATE_LIMIT_ORDERS", parse::order_rate)?,
            signal_rate: self.value("RATE_LIMIT_SIGNALS", parse::signal_rate)?,
            session_idle: self.value("SESSION_IDLE", parse::duration)?,
            session_lifetime: self.value("SESSION_LIFETIME", parse::duration)?,
            step_up: self.value("STEP_UP_TTL", parse::duration)?,
            totp_setup: self.value("TOTP_SETUP_TTL", parse::duration)?,
            two_factor_reset_delay: self.value("TWO_FACTOR_RESET_DELAY", parse::duration)?,
            registration_open: self.value("REGISTRATION", |text| match text {
                "open" => Ok(true),
                "closed" => Ok(false),
                _ => Err("must be open or closed".to_owned()),
            })?,
            email_verification: self.value("EMAIL_VERIFICATION_TTL", |text| {
                match parse::duration(text)? {
                    life if life <= LONGEST_VERIFICATION => Ok(life),
                    _ => Err("must be at most 7d".to_owned()),
                }
            })?,
            password_reset: self.value("PASSWORD_RESET_TTL", |text| match parse::duration(text)? {
                life if life <= LONGEST_RESET => Ok(life),
                _ => Err("must be at most 24h".to_owned()),
            })?,
            password_min_length: self.number("PASSWORD_MIN_LENGTH", 8, 256)? as usize,
            argon2,
            ws_per_user: self.number("WS_MAX_PER_USER", 1, 1_000_000)? as usize,
            ws_per_ip: self.number("WS_MAX_PER_IP", 1, 1_000_000)? as usize,
            ws_ticket: self.value("WS_TICKET_TTL", |text| match parse::duration(text)? {
                life if life <= LONGEST_TICKET => Ok(life),
                _ => Err("must be at most 5m".to_owned()),
            })?,
        };
        if limits.step_up > limits.session_lifetime {
            self.error("STEP_UP_TTL", "must not be longer than SESSION_LIFETIME");
        }
        if limits.session_idle > limits.session_lifetime {
            self.error("SESSION_IDLE", "must not be longer than SESSION_LIFETIME");
        }
        Some(limits)
    }

    fn timings(&mut self, profile: Profile) -> Option<(Timings, f64)> {
        let scale = self.value("TIME_SCALE", |text| match text.parse::<f64>() {
            Ok(scale) if (0.001..=100.0).contains(&scale) => Ok(scale),
            _ => Err("must be a number from 0.001 to 100".to_owned()),
        })?;
        let changed = self.given.get("TIME_SCALE").is_some_and(|given| given.origin != Origin::Default);
        if profile == Profile::Production && changed {
            self.error("TIME_SCALE", "is for tests, not for the production profile");
        }
        let total = self.value("SHUTDOWN_TIMEOUT", |text| match parse::duration(text)? {
            time if (1..=3600).contains(&time.as_secs()) => Ok(time),
            _ => Err("must be from 1s to 1h".to_owned()),
        })?;
        let mut timings = Timings::default().scaled(scale);
        timings.shutdown_total = total;
        if profile == Profile::Development {
            // nobody balances load in front of it, so nobody has to notice first
            timings.shutdown_drain = timings.shutdown_drain.min(Duration::from_millis(200));
        }
        Some((timings, scale))
    }

    /// What would give away by another door what https protects.
    fn weak_beside_https(&mut self, settings: &Settings) {
        if !settings.public_url.as_deref().is_some_and(|url| url.starts_with("https://")) {
            return;
        }
        if settings.cors_origins.iter().any(|origin| origin.starts_with("http://")) {
            self.error("CORS_ORIGINS", "names an origin without encryption, while PUBLIC_URL is https");
        }
        if settings.trusted_proxies.trusts_everybody() {
            self.error("TRUSTED_PROXIES", "trusts every address, while PUBLIC_URL is https");
        }
        if !settings.require_admin_2fa {
            let message = "administrators need no second factor, while PUBLIC_URL is https";
            self.add(Severity::Warning, "REQUIRE_ADMIN_2FA", message, None);
        }
    }

    /// Rules over several settings.
    fn together(&mut self, settings: &Settings) {
        self.weak_beside_https(settings);
        match settings.profile {
            Profile::Development => {
                if !settings.bind.ip().is_loopback() {
                    let mend = "listen on 127.0.0.1, or set PROFILE=production";
                    let message = "the development profile listens on loopback only";
                    self.add(Severity::Error, "BIND_ADDR", message, Some(mend));
                }
            }
            Profile::Production => {
                for (name, mend) in [
                    ("ENCRYPTION_KEY", "make one with `plimsoll key generate`"),
                    ("WEBHOOK_SECRET", "make one with `plimsoll key generate`"),
                    ("PUBLIC_URL", "set it to the address that clients use"),
                    ("DATABASE_URL", "set it to your PostgreSQL's address"),
                ] {
                    if !self.is_set(name) {
                        let message = "the production profile does not start without it";
                        self.add(Severity::Error, name, message, Some(mend));
                    }
                }
                if settings.public_url.as_deref().is_some_and(|url| url.starts_with("http://")) {
                    self.add(Severity::Warning, "PUBLIC_URL", "is not encrypted", Some("use https"));
                }
                if self.is_set("DATABASE_URL") && !self.is_set("MIGRATION_DATABASE_URL") {
                    let message =
                        "is not set: only a trigger keeps the server's own role from changing audit rows";
                    self.add(Severity::Warning, "MIGRATION_DATABASE_URL", message, None);
                }
            }
        }
        if self.is_set("MIGRATION_DATABASE_URL") && !self.is_set("DATABASE_URL") {
            self.error("MIGRATION_DATABASE_URL", "is set without DATABASE_URL");
        }
        if settings.broker.alpaca.is_some() {
            for name in ["PAPER_DATABASE_URL", "PAPER_MARKET_DATA", "PAPER_FIXED_PRICE"] {
                if self.is_set(name) {
                    self.add(Severity::Warning, name, "has no effect: ALPACA_API_KEY is set", None);
                }
            }
        }
    }
}

fn key_error(why: MasterKeyError) -> String {
    why.to_string()
}

fn path(text: &str) -> Result<PathBuf, String> {
    if text.contains('\0') { Err("is no path".to_owned()) } else { Ok(PathBuf::from(text)) }
}
