use std::fs;
use std::time::Duration;

use plimsoll_observability::config_report::{Origin, Severity, Verdict};

use super::*;

const KEY: &str = "hQm0T5dPjmbF2C8NKJcxvJmzY0XHc1q7c1oXv4Q1pF0=";

fn read(flags: &Flags, variables: &[(&str, &str)]) -> Loaded {
    load(flags, &Environment::of(variables.iter().copied()), Purpose::Serve)
}

/// Flags with a configuration file of this text.
fn file(folder: &tempfile::TempDir, text: &str) -> Flags {
    let path = folder.path().join("settings.toml");
    fs::write(&path, text).unwrap();
    Flags { config: Some(path), values: Vec::new() }
}

fn errors(loaded: &Loaded) -> Vec<String> {
    loaded.report.of(Severity::Error).map(ToString::to_string).collect()
}

#[track_caller]
fn the_error(variables: &[(&str, &str)], words: &[&str]) {
    let loaded = read(&Flags::default(), variables);
    let errors = errors(&loaded);
    assert_eq!(errors.len(), 1, "{errors:?}");
    assert!(loaded.settings.is_none());
    for word in words {
        assert!(errors[0].contains(word), "{} lacks {word}", errors[0]);
    }
}

#[test]
fn with_nothing_given_it_is_development_with_the_documented_defaults() {
    let loaded = read(&Flags::default(), &[]);
    assert_eq!(loaded.report.verdict(), Verdict::Valid);
    let settings = loaded.settings.unwrap();
    assert_eq!(settings.profile, Profile::Development);
    assert_eq!(settings.bind.to_string(), "127.0.0.1:8080");
    assert_eq!(settings.timings.shutdown_total, Duration::from_secs(25));
    assert_eq!(settings.database.pools, [16, 4, 3]);
    assert_eq!(settings.limits.session_idle, Duration::from_secs(1800));
    let rate = settings.limits.order_rate.unwrap();
    assert_eq!((rate.per_second.get(), rate.burst.get()), (50, 200));
    assert!(settings.database.url.is_none() && settings.broker.alpaca.is_none());
}

#[test]
fn the_order_is_flag_environment_file_default() {
    let folder = tempfile::tempdir().unwrap();
    let mut flags =
        file(&folder, "BIND_ADDR = \"127.0.0.1:1\"\nlog_level = \"warn\"\nSHUTDOWN_TIMEOUT = \"9s\"");
    let variables = [("BIND_ADDR", "127.0.0.1:2"), ("PLIMSOLL_LOG_LEVEL", "debug")];
    let settings = read(&flags, &variables).settings.unwrap();
    assert_eq!(settings.bind.port(), 2);
    assert_eq!(settings.log_level, "debug");
    assert_eq!(settings.timings.shutdown_total, Duration::from_secs(9));

    flags.values.push(("--bind", "BIND_ADDR", "127.0.0.1:3".to_owned()));
    let loaded = read(&flags, &variables);
    assert_eq!(loaded.settings.as_ref().unwrap().bind.port(), 3);
    let shown = show(&loaded);
    let origin = |name: &str| shown.iter().find(|it| it.name == name).unwrap().origin.to_string();
    assert_eq!(origin("BIND_ADDR"), "flag --bind");
    assert_eq!(origin("LOG_LEVEL"), "environment variable PLIMSOLL_LOG_LEVEL");
    assert!(origin("SHUTDOWN_TIMEOUT").contains("settings.toml"));
    assert_eq!(origin("DATA_DIR"), "default");
}

#[test]
fn the_profile_follows_from_the_database() {
    let settings = |variables: &[(&str, &str)]| read(&Flags::default(), variables);
    let production = settings(&[("DATABASE_URL", "postgresql://h/d")]);
    let errors = errors(&production);
    assert_eq!(errors.len(), 3, "{errors:?}");
    for name in ["ENCRYPTION_KEY", "WEBHOOK_SECRET", "PUBLIC_URL"] {
        assert!(errors.iter().any(|line| line.starts_with(name)), "{errors:?}");
    }
    let explicit = settings(&[("DATABASE_URL", "postgresql://h/d"), ("PROFILE", "development")]);
    assert_eq!(explicit.settings.unwrap().profile, Profile::Development);

    let everything = settings(&[
        ("DATABASE_URL", "postgresql://h/d"),
        ("ENCRYPTION_KEY", KEY),
        ("WEBHOOK_SECRET", "a-secret-for-webhooks"),
        ("PUBLIC_URL", "https://trade.example.org"),
        ("BIND_ADDR", "0.0.0.0:80"),
    ]);
    assert_eq!(everything.settings.unwrap().profile, Profile::Production);

    let bare = settings(&[("PROFILE", "production")]);
    assert_eq!(self::errors(&bare).len(), 4);
}

#[test]
fn the_demonstration_is_development_whatever_the_database() {
    let environment = Environment::of([("DATABASE_URL", "postgresql://h/d")]);
    let loaded = load(&Flags::default(), &environment, Purpose::Demo);
    assert_eq!(loaded.settings.unwrap().profile, Profile::Development);
    let environment = Environment::of([("PROFILE", "production")]);
    let loaded = load(&Flags::default(), &environment, Purpose::Demo);
    assert!(errors(&loaded)[0].contains("development profile only"));
}

#[test]
fn mistakes_are_named_with_their_setting() {
    the_error(&[("PLIMSOLL_DATABSE_URL", "x")], &["PLIMSOLL_DATABSE_URL", "did you mean DATABASE_URL?"]);
    the_error(&[("PLIMSOLL_QQQQQQQQQQQQQ", "x")], &["no setting", "remove it"]);
    the_error(&[("BIND_ADDR", "8080")], &["BIND_ADDR", "address and a port"]);
    the_error(&[("BIND_ADDR", "0.0.0.0:8080")], &["loopback only", "PROFILE=production"]);
    the_error(&[("SHUTDOWN_TIMEOUT", "25")], &["SHUTDOWN_TIMEOUT", "90s, 15m or 48h"]);
    the_error(&[("SHUTDOWN_TIMEOUT", "2h")], &["1s to 1h"]);
    the_error(&[("LOG_LEVEL", "loud,=")], &["LOG_LEVEL", "error, warn, info"]);
    the_error(&[("LOG_FORMAT", "xml")], &["LOG_FORMAT", "pretty or json"]);
    the_error(&[("PROFILE", "staging")], &["development or production"]);
    the_error(&[("RATE_LIMIT_ORDERS", "many")], &["RATE_LIMIT_ORDERS", "50/s,200"]);
    the_error(&[("ARGON2_MEMORY_KIB", "64")], &["ARGON2_MEMORY_KIB"]);
    the_error(&[("DB_POOL_HTTP", "0")], &["DB_POOL_HTTP", "from 1"]);
    the_error(&[("SESSION_IDLE", "24h")], &["SESSION_IDLE", "SESSION_LIFETIME"]);
    the_error(&[("CORS_ORIGINS", "https://a.example, *")], &["CORS_ORIGINS"]);
    the_error(&[("PUBLIC_URL", "trade.example.org")], &["PUBLIC_URL", "https://"]);
    the_error(&[("WEBHOOK_SECRET", "short")], &["WEBHOOK_SECRET", "16 characters"]);
    the_error(&[("PAPER_SPEED", "0")], &["PAPER_SPEED"]);
    the_error(&[("PAPER_FIXED_PRICE", "NaN")], &["PAPER_FIXED_PRICE"]);
    the_error(&[("PAPER_MARKET_DATA", "/no/such/folder")], &["PAPER_MARKET_DATA", "no folder"]);
    the_error(&[("MIGRATION_DATABASE_URL", "postgresql://h/d")], &["without DATABASE_URL"]);
    the_error(&[("DATABASE_URL", "mysql://h/d"), ("PROFILE", "development")], &["postgresql://"]);
    the_error(&[("TIME_SCALE", "inf")], &["TIME_SCALE"]);
    the_error(&[("REGISTRATION", "maybe")], &["REGISTRATION", "open or closed"]);
    the_error(&[("EMAIL_VERIFICATION_TTL", "8d")], &["EMAIL_VERIFICATION_TTL", "at most 7d"]);
    the_error(&[("PASSWORD_MIN_LENGTH", "7")], &["PASSWORD_MIN_LENGTH", "from 8"]);
}

#[test]
fn keys_and_secrets_are_checked_and_never_repeated() {
    let mistyped = "hQm0T5dPjmbF2C8NKJcxvJmzY0XHc1q7c1oXv4Q1";
    the_error(&[("ENCRYPTION_KEY", mistyped)], &["ENCRYPTION_KEY"]);
    let loaded = read(&Flags::default(), &[("ENCRYPTION_KEY", mistyped)]);
    assert!(!format!("{}{:?}", loaded.report, show(&loaded)).contains(mistyped));

    let loaded = read(&Flags::default(), &[("ENCRYPTION_KEY", KEY)]);
    assert!(loaded.report.to_string().contains("read as"), "{}", loaded.report);
    assert!(!format!("{}{:?}{:?}", loaded.report, show(&loaded), loaded.settings).contains(KEY));
}

#[test]
fn alpacas_keys_come_in_pairs_and_fit_their_host() {
    the_error(&[("ALPACA_API_KEY", "PKTEST")], &["without ALPACA_API_SECRET", "both or neither"]);
    the_error(&[("ALPACA_API_KEY", "AKLIVE"), ("ALPACA_API_SECRET", "s")], &["ALPACA_API_KEY", "PK"]);
    let live = [("ALPACA_BASE_URL", "https://api.alpaca.markets"), ("ALPACA_API_SECRET", "s")];
    the_error(&[live[0], live[1], ("ALPACA_API_KEY", "PKTEST")], &["AK"]);
    let elsewhere = [("ALPACA_BASE_URL", "http://127.0.0.1:9"), ("ALPACA_API_KEY", "x"), live[1]];
    assert!(read(&Flags::default(), &elsewhere).settings.unwrap().broker.alpaca.is_some());
    the_error(&[("ALPACA_BASE_URL", "http://broker.example")], &["ALPACA_BASE_URL"]);
}

#[test]
fn all_mistakes_come_at_once() {
    let loaded = read(
        &Flags::default(),
        &[("BIND_ADDR", "x"), ("LOG_FORMAT", "x"), ("PLIMSOLL_NOTHING_LIKE_IT", "1"), ("SESSION_IDLE", "x")],
    );
    assert_eq!(errors(&loaded).len(), 4, "{}", loaded.report);
}

#[test]
fn a_secret_may_come_from_a_file_but_not_twice() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("key");
    fs::write(&path, format!("{KEY}\n")).unwrap();
    let path = path.to_str().unwrap();
    let loaded = read(&Flags::default(), &[("PLIMSOLL_ENCRYPTION_KEY_FILE", path)]);
    assert!(loaded.settings.unwrap().keys.encryption_key.is_some());
    let found = loaded.report.of(Severity::Information).next().unwrap();
    assert_eq!(found.origin, Origin::SecretFile("PLIMSOLL_ENCRYPTION_KEY_FILE".to_owned()));

    the_error(&[("ENCRYPTION_KEY", KEY), ("ENCRYPTION_KEY_FILE", path)], &["is also given", "keep one"]);
    the_error(&[("WEBHOOK_SECRET_FILE", "/no/such/file")], &["WEBHOOK_SECRET", "/no/such/file"]);
    // only secrets have this form
    the_error(&[("PLIMSOLL_BIND_ADDR_FILE", path)], &["no setting of this name"]);
}

#[test]
fn both_spellings_must_agree() {
    the_error(&[("LOG_LEVEL", "info"), ("PLIMSOLL_LOG_LEVEL", "warn")], &["is also given by environment"]);
    let same = [("LOG_LEVEL", "warn"), ("PLIMSOLL_LOG_LEVEL", "warn")];
    assert_eq!(read(&Flags::default(), &same).settings.unwrap().log_level, "warn");
}

#[test]
fn the_file_is_read_strictly() {
    let folder = tempfile::tempdir().unwrap();
    for (text, word) in [
        ("bind_adr = \"x\"", "did you mean BIND_ADDR?"),
        ("PAPER_SPEED = 1.5", "put it in quotes"),
        ("[server]\nx = 1", "no setting"),
        ("= 1", "line 1 is not TOML"),
        ("LOG_LEVEL = \"\"", "must not be empty"),
    ] {
        let loaded = read(&file(&folder, text), &[]);
        assert!(loaded.report.to_string().contains(word), "{text}: {}", loaded.report);
        assert!(loaded.settings.is_none());
    }
    let missing = Flags { config: Some("/no/such/plimsoll.toml".into()), values: Vec::new() };
    assert!(read(&missing, &[]).report.to_string().contains("cannot be read"));
    let good =
        file(&folder, "DB_POOL_HTTP = 32\nCORS_ORIGINS = [\"https://a.example\", \"https://b.example\"]");
    let settings = read(&good, &[]).settings.unwrap();
    assert_eq!(settings.database.pools[0], 32);
    assert_eq!(settings.cors_origins, ["https://a.example", "https://b.example"]);
}

#[test]
fn a_file_that_is_no_toml_is_not_quoted() {
    let folder = tempfile::tempdir().unwrap();
    let loaded = read(&file(&folder, "WEBHOOK_SECRET = very-secret-canary"), &[]);
    assert_eq!(loaded.report.verdict(), Verdict::Invalid);
    assert!(!loaded.report.to_string().contains("canary"), "{}", loaded.report);
}

#[test]
fn settings_of_later_features_are_known_and_said_to_do_nothing() {
    let loaded =
        read(&Flags::default(), &[("WEBHOOK_USER", "ann@example.com"), ("BACKUP_ON_SHUTDOWN", "yes")]);
    assert_eq!(loaded.report.verdict(), Verdict::Warnings);
    assert!(loaded.report.to_string().contains("WEBHOOK_USER"));
    assert!(loaded.settings.is_some());
}

#[test]
fn an_smtp_server_is_told_of_as_a_whole() {
    let smtp = |variables: &[_]| read(&Flags::default(), variables).settings.unwrap().smtp;
    assert!(smtp(&[]).is_none());
    let settings =
        smtp(&[("SMTP_HOST", "mail.example"), ("SMTP_FROM", "Plimsoll <noreply@example.com>")]).unwrap();
    assert_eq!((settings.port, settings.tls), (587, crate::mail::SmtpTls::Starttls));
    the_error(&[("SMTP_HOST", "mail.example")], &["SMTP_HOST", "SMTP_FROM"]);
    the_error(&[("SMTP_FROM", "noreply@example.com")], &["SMTP_FROM", "without SMTP_HOST"]);
    let with = |name: &'static str, value: &'static str| {
        [("SMTP_HOST", "mail.example"), ("SMTP_FROM", "noreply@example.com"), (name, value)]
    };
    the_error(&with("SMTP_PORT", "0"), &["SMTP_PORT", "1 to 65535"]);
    the_error(&with("SMTP_TLS", "maybe"), &["SMTP_TLS", "none, starttls or tls"]);
    the_error(&with("SMTP_USERNAME", "ann"), &["SMTP_USERNAME", "without SMTP_PASSWORD"]);
}

/// REG-14: registration is open unless it is closed by a setting; the life of a link and the least length are settings.
#[test]
fn registration_can_be_closed() {
    let limits = |variables: &[_]| read(&Flags::default(), variables).settings.unwrap().limits;
    let default = limits(&[]);
    assert!(default.registration_open);
    assert_eq!((default.email_verification.as_secs(), default.password_min_length), (172_800, 12));
    let other = limits(&[
        ("REGISTRATION", "closed"),
        ("EMAIL_VERIFICATION_TTL", "90s"),
        ("PASSWORD_RESET_TTL", "10m"),
        ("PASSWORD_MIN_LENGTH", "15"),
    ]);
    assert!(!other.registration_open);
    assert_eq!((other.email_verification.as_secs(), other.password_min_length), (90, 15));
    assert_eq!((default.password_reset.as_secs(), other.password_reset.as_secs()), (86_400, 600));
    the_error(&[("PASSWORD_RESET_TTL", "25h")], &["PASSWORD_RESET_TTL", "at most 24h"]);
}

#[test]
fn the_times_of_second_factors_are_settings() {
    let settings = read(&Flags::default(), &[]).settings.unwrap();
    let times = |limits: &Limits| (limits.totp_setup, limits.two_factor_reset_delay);
    assert_eq!(times(&settings.limits), (Duration::from_secs(600), Duration::from_secs(86_400)));
    let given = [("TOTP_SETUP_TTL", "90s"), ("TWO_FACTOR_RESET_DELAY", "48h")];
    let settings = read(&Flags::default(), &given).settings.unwrap();
    assert_eq!(times(&settings.limits), (Duration::from_secs(90), Duration::from_secs(172_800)));
    let loaded = read(&Flags::default(), &[("TOTP_SETUP_TTL", "0s"), ("TWO_FACTOR_RESET_DELAY", "soon")]);
    assert_eq!(errors(&loaded).len(), 2);
}

/// CFG-1: what would open another door beside https does not start.
#[test]
fn weak_settings_beside_https_are_refused() {
    let https = ("PUBLIC_URL", "https://trade.example.org");
    for (name, value) in [
        ("CORS_ORIGINS", "http://app.example.org"),
        ("CORS_ORIGINS", "*"),
        ("CORS_ORIGINS", "null"),
        ("TRUSTED_PROXIES", "0.0.0.0/0"),
        ("TRUSTED_PROXIES", "10.0.0.1,::/0"),
    ] {
        let lines = errors(&read(&Flags::default(), &[https, (name, value)]));
        assert!(lines.len() == 1 && lines[0].starts_with(name), "{value}: {lines:?}");
    }
    let given = [https, ("CORS_ORIGINS", "https://app.example.org"), ("TRUSTED_PROXIES", "10.0.0.0/8")];
    let loaded = read(&Flags::default(), &given);
    assert_eq!(errors(&loaded), Vec::<String>::new());
    assert_eq!(loaded.settings.unwrap().trusted_proxies.count(), 1);
    assert_eq!(errors(&read(&Flags::default(), &[("TRUSTED_PROXIES", "proxy.internal")])).len(), 1);
}

/// STP-1, TFA-16: how long a proof holds and whether administrators need a second factor are settings.
#[test]
fn the_rules_of_factors_are_settings() {
    let of = |variables: &[(&str, &str)]| {
        let settings = read(&Flags::default(), variables).settings.unwrap();
        (settings.limits.step_up, settings.require_admin_2fa)
    };
    assert_eq!(of(&[]), (Duration::from_secs(300), false), "the development profile");
    assert_eq!(of(&[("STEP_UP_TTL", "90s"), ("REQUIRE_ADMIN_2FA", "true")]), (Duration::from_secs(90), true));
    assert_eq!(errors(&read(&Flags::default(), &[("REQUIRE_ADMIN_2FA", "maybe")])).len(), 1);
    assert_eq!(errors(&read(&Flags::default(), &[("STEP_UP_TTL", "13h")])).len(), 1);
}

#[test]
fn time_can_be_scaled_outside_production_only() {
    let settings = read(&Flags::default(), &[("TIME_SCALE", "0.1")]).settings.unwrap();
    assert_eq!(settings.timings.submit_settle, Duration::from_secs(1));
    assert_eq!(settings.timings.shutdown_total, Duration::from_secs(25));
    let loaded = read(&Flags::default(), &[("PROFILE", "production"), ("TIME_SCALE", "0.1")]);
    assert!(errors(&loaded).iter().any(|line| line.starts_with("TIME_SCALE")));
}

#[test]
fn documented_settings_are_known() {
    let text = include_str!("../../../../docs/operations/settings.md");
    for word in text.split('`').skip(1).step_by(2) {
        let capitals = |c: char| c.is_ascii_uppercase() || c.is_ascii_digit() || c == '_';
        let named = word.starts_with(|c: char| c.is_ascii_uppercase());
        if word.len() > 3 && named && word.chars().all(capitals) {
            let setting = word.strip_suffix("_FILE").unwrap_or(word);
            assert!(known(setting).is_some(), "{word} is documented and not known");
        }
    }
}

#[test]
fn backups_are_kept_for_a_while_and_never_for_none() {
    let backup = |variables: &[_]| read(&Flags::default(), variables).settings.unwrap().backup;
    let default = backup(&[]);
    assert_eq!(default.schedule.to_string(), "daily@03:15");
    assert_eq!(default.retention, plimsoll_reliability::backup::Retention::default());
    assert_eq!(default.folder("/data".as_ref()), std::path::Path::new("/data/backups"));
    let other = backup(&[("BACKUP_DIR", "/elsewhere"), ("BACKUP_SCHEDULE", "off"), ("MAX_BACKUPS", "7")]);
    assert_eq!(other.folder("/data".as_ref()), std::path::Path::new("/elsewhere"));
    assert_eq!(other.schedule, crate::backup::BackupSchedule::Off);
    the_error(&[("BACKUP_RETENTION_DAYS", "0")], &["BACKUP_RETENTION_DAYS", "from 1"]);
    the_error(&[("MAX_BACKUPS", "-1")], &["MAX_BACKUPS", "from 1"]);
    the_error(&[("BACKUP_SCHEDULE", "hourly")], &["BACKUP_SCHEDULE", "daily@03:15"]);
}
