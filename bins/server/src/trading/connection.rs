//! One account's connection to its broker, and all of them.

use std::collections::{BTreeMap, HashMap};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use chrono::{DateTime, Utc};
use plimsoll_core_domain::broker::{Broker, BrokerAccount, BrokerAsset};
use plimsoll_core_domain::order::Environment;
use plimsoll_core_domain::{AccountId, Clock, Price, Symbol, UserId};
use plimsoll_reliability::submit::Brokers;
use plimsoll_storage::platform::accounts::BrokerAccountRow;

/// How soon an order is tried again while its account waits for its first comparison with the broker.
const NOT_YET: Duration = Duration::from_millis(500);

/// One account's connection.
pub struct Connection {
    /// The account.
    pub account: AccountId,
    /// Whose.
    pub user: UserId,
    /// With whose money.
    pub environment: Environment,
    /// The adapter, with the account's credentials.
    pub broker: Arc<dyn Broker>,
    ready: AtomicBool,
    seen: Mutex<Seen>,
}

/// What was seen of the broker lately. All of it may be forgotten.
#[derive(Default)]
pub(super) struct Seen {
    pub(super) prices: HashMap<Symbol, (Instant, Price)>,
    pub(super) account: Option<(Instant, DateTime<Utc>, BrokerAccount)>,
    pub(super) assets: HashMap<Symbol, (Instant, Option<BrokerAsset>)>,
    /// When somebody last wanted to know a price.
    pub(super) asked: Option<Instant>,
}

impl Connection {
    fn new(row: &BrokerAccountRow, broker: Arc<dyn Broker>) -> Self {
        Self {
            account: row.id,
            user: row.user_id,
            environment: row.environment,
            broker,
            ready: AtomicBool::new(false),
            seen: Mutex::default(),
        }
    }

    /// Whether the account was compared with the broker since the start.
    #[must_use]
    pub fn is_ready(&self) -> bool {
        self.ready.load(Ordering::Acquire)
    }

    pub(super) fn set_ready(&self) {
        self.ready.store(true, Ordering::Release);
    }

    pub(super) fn seen(&self) -> MutexGuard<'_, Seen> {
        self.seen.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// All connections of this process.
pub struct Connections {
    by_account: BTreeMap<AccountId, Arc<Connection>>,
    by_user: HashMap<UserId, Arc<Connection>>,
    pub(super) clock: Arc<dyn Clock>,
}

impl Connections {
    pub(super) fn new(accounts: Vec<(BrokerAccountRow, Arc<dyn Broker>)>, clock: Arc<dyn Clock>) -> Self {
        let connection = |(row, broker): (BrokerAccountRow, Arc<dyn Broker>)| {
            (row.id, Arc::new(Connection::new(&row, broker)))
        };
        let by_account: BTreeMap<_, _> = accounts.into_iter().map(connection).collect();
        // Of several accounts of one user the first one serves.
        let by_user = by_account.values().rev().map(|of| (of.user, Arc::clone(of))).collect();
        Self { by_account, by_user, clock }
    }

    /// Every connection.
    pub fn all(&self) -> impl Iterator<Item = &Arc<Connection>> {
        self.by_account.values()
    }

    /// The connection of an account.
    #[must_use]
    pub fn of_account(&self, account: AccountId) -> Option<&Arc<Connection>> {
        self.by_account.get(&account)
    }

    /// The connection of a user.
    #[must_use]
    pub fn of_user(&self, user: UserId) -> Option<&Arc<Connection>> {
        self.by_user.get(&user)
    }

    /// Whether every account was compared with its broker since the start.
    #[must_use]
    pub fn all_ready(&self) -> bool {
        self.all().all(|connection| connection.is_ready())
    }
}

impl Brokers for Connections {
    fn of_account(&self, account: AccountId) -> Result<Arc<dyn Broker>, Duration> {
        match self.by_account.get(&account) {
            Some(connection) if connection.is_ready() => Ok(Arc::clone(&connection.broker)),
            Some(_) => Err(NOT_YET),
            // Another instance may have it, or its owner connects it again.
            None => Err(Duration::from_secs(5)),
        }
    }
}
