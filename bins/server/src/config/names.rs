//! The names of all settings.

use plimsoll_observability::config_report::nearest;

/// What is known of a setting before anybody sets it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Known {
    /// Its name, in capitals.
    pub name: &'static str,
    /// The value's text where nobody sets it; `None`: it stays unset, or its default follows from others.
    pub default: Option<&'static str>,
    /// What to make of it.
    pub kind: Kind,
}

/// What to make of a setting.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    /// Anybody may see it.
    Plain,
    /// Never shown; may come from a file, by the name with `_FILE`.
    Secret,
    /// Its name belongs to the configuration format, its feature to a later release.
    Later,
    /// Both: never shown, and of no effect yet.
    LaterSecret,
}

impl Kind {
    /// Whether the value must never be shown.
    #[must_use]
    pub fn is_secret(self) -> bool {
        matches!(self, Self::Secret | Self::LaterSecret)
    }

    /// Whether this release makes nothing of it.
    #[must_use]
    pub fn is_later(self) -> bool {
        matches!(self, Self::Later | Self::LaterSecret)
    }
}

const fn plain(name: &'static str, default: &'static str) -> Known {
    Known { name, default: Some(default), kind: Kind::Plain }
}

const fn unset(name: &'static str) -> Known {
    Known { name, default: None, kind: Kind::Plain }
}

const fn secret(name: &'static str) -> Known {
    Known { name, default: None, kind: Kind::Secret }
}

const fn later(name: &'static str) -> Known {
    Known { name, default: None, kind: Kind::Later }
}

/// All settings, in the order in which they are shown.
pub const KNOWN: &[Known] = &[
    unset("PROFILE"),
    plain("BIND_ADDR", "127.0.0.1:8080"),
    unset("PUBLIC_URL"),
    plain("METRICS_ADDR", "127.0.0.1:9090"),
    plain("DATA_DIR", "./data"),
    plain("LOG_LEVEL", "info"),
    plain("LOG_FORMAT", "pretty"),
    plain("SHUTDOWN_TIMEOUT", "25s"),
    unset("CORS_ORIGINS"),
    unset("TRUSTED_PROXIES"),
    unset("ADMIN_ALLOWED_IPS"),
    secret("DATABASE_URL"),
    secret("MIGRATION_DATABASE_URL"),
    secret("PAPER_DATABASE_URL"),
    unset("PG_BIN"),
    plain("DB_POOL_HTTP", "16"),
    plain("DB_POOL_JOBS", "4"),
    plain("DB_POOL_CONTROL", "3"),
    secret("ENCRYPTION_KEY"),
    secret("ENCRYPTION_KEYS_OLD"),
    secret("WEBHOOK_SECRET"),
    unset("WEBHOOK_USER"),
    secret("ALPACA_API_KEY"),
    secret("ALPACA_API_SECRET"),
    plain("ALPACA_BASE_URL", "https://paper-api.alpaca.markets"),
    plain("PAPER_SPEED", "1"),
    unset("PAPER_MARKET_DATA"),
    unset("PAPER_FIXED_PRICE"),
    plain("RECONCILE_INTERVAL", "5m"),
    plain("STALE_ORDER_AGE", "1h"),
    plain("RATE_LIMIT_ORDERS", "50/s,200"),
    plain("RATE_LIMIT_SIGNALS", "60/min"),
    plain("SESSION_IDLE", "30m"),
    plain("SESSION_LIFETIME", "12h"),
    plain("STEP_UP_TTL", "5m"),
    unset("REQUIRE_ADMIN_2FA"),
    plain("TOTP_SETUP_TTL", "10m"),
    plain("TWO_FACTOR_RESET_DELAY", "24h"),
    plain("REGISTRATION", "open"),
    plain("EMAIL_VERIFICATION_TTL", "48h"),
    plain("PASSWORD_RESET_TTL", "24h"),
    plain("PASSWORD_MIN_LENGTH", "12"),
    plain("ARGON2_MEMORY_KIB", "65536"),
    plain("ARGON2_ITERATIONS", "3"),
    plain("WS_MAX_PER_USER", "10"),
    plain("WS_MAX_PER_IP", "50"),
    plain("WS_TICKET_TTL", "30s"),
    plain("AUDIT_RETENTION", "off"),
    plain("TIME_SCALE", "1"),
    unset("SMTP_HOST"),
    unset("SMTP_PORT"),
    unset("SMTP_USERNAME"),
    secret("SMTP_PASSWORD"),
    unset("SMTP_FROM"),
    plain("SMTP_TLS", "starttls"),
    unset("SMTP_CA_PATH"),
    unset("WEBHOOK_ALLOW_NETS"),
    unset("WEBHOOK_CA_PATH"),
    unset("BACKUP_DIR"),
    plain("BACKUP_SCHEDULE", "daily@03:15"),
    plain("BACKUP_RETENTION_DAYS", "30"),
    plain("MAX_BACKUPS", "100"),
    later("BACKUP_ON_SHUTDOWN"),
];

/// The setting of that name, in capitals.
#[must_use]
pub fn known(name: &str) -> Option<&'static Known> {
    KNOWN.iter().find(|known| known.name == name)
}

/// The known name most like a mistyped one.
#[must_use]
pub fn nearest_name(name: &str) -> Option<&'static str> {
    nearest(name, KNOWN.iter().map(|known| known.name))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_name_stands_once_and_in_capitals() {
        for (index, one) in KNOWN.iter().enumerate() {
            assert!(
                one.name
                    .bytes()
                    .all(|byte| byte.is_ascii_uppercase() || byte.is_ascii_digit() || byte == b'_')
            );
            assert!(
                KNOWN.iter().skip(index + 1).all(|other| other.name != one.name),
                "{} stands twice",
                one.name
            );
        }
    }

    #[test]
    fn a_mistyped_name_is_recognised() {
        assert_eq!(nearest_name("DATABSE_URL"), Some("DATABASE_URL"));
        assert_eq!(nearest_name("COMPLETELY_ELSEWHERE"), None);
    }
}
