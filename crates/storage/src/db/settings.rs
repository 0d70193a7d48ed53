//! What a pool's connections are allowed, carried by the connection string so that it costs no round trip.

use std::time::Duration;

use super::url::{Extras, with_extras};

/// Which of the three pools a [`Db`](super::Db) is. They differ in how long one statement may run.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum PoolKind {
    /// Requests that a client waits for: a statement may take 5 s.
    Http,
    /// Job workers: a statement may take 30 s.
    Jobs,
    /// Leases and health checks: 5 s; kept apart so that they work while the others are full.
    Control,
}

impl PoolKind {
    pub(super) fn name(self) -> &'static str {
        match self {
            Self::Http => "http",
            Self::Jobs => "jobs",
            Self::Control => "control",
        }
    }
}

/// Size and limits of one pool. [`DbSettings::new`] gives the documented defaults.
#[derive(Clone, Debug)]
pub struct DbSettings {
    /// Shown as `application_name` (`plimsoll-http`, …) in `pg_stat_activity`.
    pub kind: PoolKind,
    /// Connections at most, and equally many closures running at once. At least 1.
    pub size: u32,
    /// Connections opened at once and kept: at most `size`.
    pub min_idle: u32,
    /// `statement_timeout`.
    pub statement_timeout: Duration,
    /// `lock_timeout`.
    pub lock_timeout: Duration,
    /// `idle_in_transaction_session_timeout`: frees the rows of a frozen process.
    pub idle_in_transaction_timeout: Duration,
    /// How long a new connection may take, and how long to wait for one; whole seconds reach the driver.
    pub connect_timeout: Duration,
    /// A connection is replaced at this age.
    pub max_lifetime: Duration,
    /// How long a caller waits for its turn.
    pub wait: Duration,
    /// How long a caller waits for a place among the waiters when there are already [`DbSettings::max_waiters`].
    pub wait_when_full: Duration,
    /// How many may wait for a turn at once.
    pub max_waiters: u32,
}

impl DbSettings {
    /// The defaults for a pool of `size` connections (0 counts as 1).
    pub fn new(kind: PoolKind, size: u32) -> Self {
        let size = size.max(1);
        let statement = match kind {
            PoolKind::Http | PoolKind::Control => 5,
            PoolKind::Jobs => 30,
        };
        Self {
            kind,
            size,
            min_idle: size.min(2),
            statement_timeout: Duration::from_secs(statement),
            lock_timeout: Duration::from_secs(2),
            idle_in_transaction_timeout: Duration::from_secs(30),
            connect_timeout: Duration::from_secs(3),
            max_lifetime: Duration::from_secs(30 * 60),
            wait: Duration::from_secs(1),
            wait_when_full: Duration::from_millis(250),
            max_waiters: size.saturating_mul(4),
        }
    }

    /// The connection string that carries these limits.
    pub(crate) fn url(&self, url: &str) -> String {
        let mut extras = network(self.connect_timeout, &format!("plimsoll-{}", self.kind.name()));
        extras.settings = vec![
            ("statement_timeout", millis(self.statement_timeout)),
            ("lock_timeout", millis(self.lock_timeout)),
            ("idle_in_transaction_session_timeout", millis(self.idle_in_transaction_timeout)),
            ("client_connection_check_interval", "1000".to_owned()),
        ];
        with_extras(url, &extras)
    }
}

/// Network limits every connection gets: a dead peer is noticed within about 11 s instead of two hours.
pub(crate) fn network(connect_timeout: Duration, application_name: &str) -> Extras {
    Extras {
        keywords: vec![
            // libpq reads 1 as 2, and 0 as "for ever"
            ("connect_timeout", connect_timeout.as_secs().max(2).to_string()),
            ("keepalives_idle", "5".to_owned()),
            ("keepalives_interval", "2".to_owned()),
            ("keepalives_count", "3".to_owned()),
            ("tcp_user_timeout", "10000".to_owned()),
            ("application_name", application_name.to_owned()),
        ],
        settings: Vec::new(),
    }
}

/// 0 would switch a limit off, so the shortest limit is one millisecond.
fn millis(time: Duration) -> String {
    time.as_millis().max(1).to_string()
}
