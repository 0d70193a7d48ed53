//! The connections of this process, as the supervisor last left them; read on every request.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use arc_swap::ArcSwap;
use plimsoll_auth::vault::CredentialState;
use plimsoll_core_domain::broker::Broker;
use plimsoll_core_domain::{AccountId, Clock, UserId};
use plimsoll_reliability::submit::Brokers;
use plimsoll_storage::platform::accounts::TradingAccount;

use super::connection::Connection;
use super::links::Links;

/// How soon an order is tried again while its account waits for its first comparison with the broker, or changes hands.
const NOT_YET: Duration = Duration::from_millis(500);
/// The same while nothing can be sent for the account.
const NOT_CONNECTED: Duration = Duration::from_secs(5);

/// What is known of an account that has credentials.
#[derive(Clone, Debug)]
pub(super) struct Known {
    /// The account and the version of its credentials.
    pub(super) row: TradingAccount,
    /// Its connection, where this instance has the account.
    pub(super) here: Option<Arc<Connection>>,
    /// Another instance has it, and has compared it with the broker.
    pub(super) ready_elsewhere: bool,
    /// Its credentials could not be opened lately.
    pub(super) unreadable: bool,
}

impl Known {
    /// Whether its credentials were refused by the broker.
    pub(super) fn is_refused(&self) -> bool {
        self.row.state == CredentialState::Invalid
    }
}

/// All accounts that have credentials, at one moment.
#[derive(Debug, Default)]
pub(super) struct Picture {
    pub(super) by_user: HashMap<UserId, Known>,
    pub(super) users: HashMap<AccountId, UserId>,
    /// The accounts that other instances have, as texts.
    pub(super) elsewhere: Vec<String>,
}

impl Picture {
    pub(super) fn of_account(&self, account: AccountId) -> Option<&Known> {
        self.by_user.get(self.users.get(&account)?).filter(|known| known.row.account.id == account)
    }
}

/// The client of an account that another instance has.
struct Lent {
    connection: Arc<Connection>,
    used: Instant,
}

/// All connections of this process.
pub struct Connections {
    picture: ArcSwap<Picture>,
    lent: Mutex<HashMap<AccountId, Lent>>,
    pub(super) links: Links,
    pub(super) clock: Arc<dyn Clock>,
    /// The begin of the last renewal of this instance's leases, and for how long it counts.
    renewed: Mutex<Option<Instant>>,
    trust: Duration,
}

fn lock<T>(of: &Mutex<T>) -> MutexGuard<'_, T> {
    of.lock().unwrap_or_else(PoisonError::into_inner)
}

impl Connections {
    pub(super) fn new(links: Links, clock: Arc<dyn Clock>, trust: Duration) -> Self {
        Self {
            picture: ArcSwap::default(),
            lent: Mutex::default(),
            links,
            clock,
            renewed: Mutex::new(None),
            trust,
        }
    }

    pub(super) fn picture(&self) -> arc_swap::Guard<Arc<Picture>> {
        self.picture.load()
    }

    pub(super) fn show(&self, picture: Picture) {
        self.picture.store(Arc::new(picture));
    }

    pub(super) fn renewed(&self, at: Instant) {
        *lock(&self.renewed) = Some(at);
    }

    /// Whether this instance may still act for the accounts that it has.
    pub(super) fn is_trusted(&self) -> bool {
        lock(&self.renewed).is_some_and(|at| at.elapsed() < self.trust)
    }

    /// A connection for what needs no right to the account: the account's own where this instance has it, or else a client
    /// that is kept for a while. `None` when there is no broker for the account's environment.
    pub(super) fn client(&self, known: &Known) -> Option<Arc<Connection>> {
        if let Some(here) = &known.here {
            return Some(Arc::clone(here));
        }
        let mut lent = lock(&self.lent);
        let account = known.row.account.id;
        if let Some(entry) = lent.get_mut(&account)
            && entry.connection.version == known.row.credential_version
        {
            entry.used = Instant::now();
            return Some(Arc::clone(&entry.connection));
        }
        let connection = self.links.connect(&known.row)?;
        lent.insert(account, Lent { connection: Arc::clone(&connection), used: Instant::now() });
        Some(connection)
    }

    /// Forgets clients that were not used for `life`, and those of accounts that `gone` tells.
    pub(super) fn take_back(&self, life: Duration, gone: impl Fn(&Connection) -> bool) {
        lock(&self.lent).retain(|_, entry| entry.used.elapsed() < life && !gone(&entry.connection));
    }

    /// The clients of accounts that other instances have.
    pub(super) fn lent(&self) -> Vec<Arc<Connection>> {
        lock(&self.lent).values().map(|entry| Arc::clone(&entry.connection)).collect()
    }

    /// The connection of an account that this instance has.
    #[must_use]
    pub fn of_account(&self, account: AccountId) -> Option<Arc<Connection>> {
        self.picture().of_account(account)?.here.clone()
    }

    /// Whether the account's broker is called at the moment; otherwise for how long it is given rest.
    fn may_call(&self, known: &Known) -> Result<(), Duration> {
        let account = &known.row.account;
        self.links.places.of(account.environment).check(&account.id).map_err(|not_now| not_now.after)
    }

    /// The connection of some account that this instance has, for looking whether its broker answers.
    #[must_use]
    pub fn any(&self) -> Option<Arc<Connection>> {
        self.picture().by_user.values().find_map(|known| known.here.clone())
    }

    /// How many accounts this instance has.
    #[must_use]
    pub fn count(&self) -> usize {
        self.picture().by_user.values().filter(|known| known.here.is_some()).count()
    }

    /// Whether every account that can trade was compared with its broker, here or by the instance that has it.
    #[must_use]
    pub fn all_ready(&self) -> bool {
        let ready = |known: &Known| {
            known.ready_elsewhere
                || known.is_refused()
                || known.unreadable
                || known.here.as_ref().is_some_and(|connection| connection.is_ready())
        };
        self.picture().by_user.values().all(ready)
    }
}

impl Brokers for Connections {
    fn of_account(&self, account: AccountId) -> Result<Arc<dyn Broker>, Duration> {
        let picture = self.picture();
        let Some(known) = picture.of_account(account).filter(|known| !known.is_refused()) else {
            return Err(NOT_CONNECTED);
        };
        match &known.here {
            Some(connection) if connection.is_ready() && self.is_trusted() => {
                self.may_call(known)?;
                Ok(Arc::clone(&connection.broker))
            }
            // It waits for its comparison, or another instance has just taken it.
            _ if !known.unreadable => Err(NOT_YET),
            _ => Err(NOT_CONNECTED),
        }
    }

    fn may_repeat(&self, account: AccountId) -> Result<(), Duration> {
        let picture = self.picture();
        let Some(known) = picture.of_account(account) else { return Ok(()) };
        let place = self.links.places.of(known.row.account.environment);
        place.repeat().map_err(|not_now| not_now.after)
    }
}
