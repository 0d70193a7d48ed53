//! One account's connection to its broker: the adapter, and what was seen through it lately.

use std::collections::HashMap;
use std::fmt;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, OnceLock, PoisonError};
use std::time::Instant;

use chrono::{DateTime, Utc};
use plimsoll_core_domain::broker::{Broker, BrokerAccount, BrokerAsset};
use plimsoll_core_domain::order::Environment;
use plimsoll_core_domain::{AccountId, Price, Symbol, UserId};
use plimsoll_storage::platform::accounts::TradingAccount;
use tokio::sync::Notify;

use super::fence::Fence;

/// One account's connection. It lives as long as the version of the credentials that it was made for.
pub struct Connection {
    /// The account.
    pub account: AccountId,
    /// Whose.
    pub user: UserId,
    /// With whose money.
    pub environment: Environment,
    /// Of the credentials.
    pub version: i64,
    /// The adapter, which takes the credentials from the vault for each call.
    pub broker: Arc<dyn Broker>,
    ready: AtomicBool,
    /// Its owner has a limit of the daily loss.
    loss_limited: AtomicBool,
    /// The account may be worth something else since a moment ago.
    pub(super) moved: Notify,
    /// Something was filled: cash has changed.
    pub(super) filled: Notify,
    /// Held while the broker is asked for a price, so that orders that come together ask once.
    pub(super) quoting: tokio::sync::Mutex<()>,
    /// The account is to be compared before it takes entries.
    pub(super) compare: Notify,
    awaits_comparison: AtomicBool,
    /// Held by the comparison with the broker that is under way.
    pub(super) comparing: tokio::sync::Mutex<()>,
    /// The right to write for the account, where this instance has it.
    fence: OnceLock<Fence>,
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
    /// Prices that the broker was asked for because of an order; `None`: it did not tell one.
    pub(super) quotes: HashMap<Symbol, (Instant, Option<Price>)>,
    /// The broker's clock.
    pub(super) clock: Option<(Instant, DateTime<Utc>)>,
}

impl Connection {
    pub(super) fn new(of: &TradingAccount, broker: Arc<dyn Broker>) -> Self {
        Self {
            account: of.account.id,
            user: of.account.user_id,
            environment: of.account.environment,
            version: of.credential_version,
            broker,
            ready: AtomicBool::new(false),
            loss_limited: AtomicBool::new(of.loss_limited),
            moved: Notify::new(),
            filled: Notify::new(),
            quoting: tokio::sync::Mutex::default(),
            compare: Notify::new(),
            awaits_comparison: AtomicBool::new(false),
            comparing: tokio::sync::Mutex::default(),
            fence: OnceLock::new(),
            seen: Mutex::default(),
        }
    }

    /// Whether the account was compared with the broker since this instance has it.
    #[must_use]
    pub fn is_ready(&self) -> bool {
        self.ready.load(Ordering::Acquire)
    }

    /// A connection is made anew for every holding of the account: the first one counts.
    pub(super) fn set_fence(&self, fence: Fence) {
        drop(self.fence.set(fence));
    }

    pub(super) fn fence(&self) -> Option<Fence> {
        self.fence.get().cloned()
    }

    pub(super) fn set_ready(&self) {
        self.ready.store(true, Ordering::Release);
    }

    pub(super) fn is_loss_limited(&self) -> bool {
        self.loss_limited.load(Ordering::Relaxed)
    }

    pub(super) fn set_loss_limited(&self, limited: bool) {
        if limited && !self.loss_limited.swap(limited, Ordering::Relaxed) {
            self.moved.notify_one();
        }
        self.loss_limited.store(limited, Ordering::Relaxed);
    }

    /// Whether the account takes entries only after a comparison. The first time it does so the comparison is woken.
    pub(super) fn set_awaits_comparison(&self, awaits: bool) {
        if awaits && !self.awaits_comparison.load(Ordering::Relaxed) {
            self.compare.notify_one();
        }
        self.awaits_comparison.store(awaits, Ordering::Relaxed);
    }

    pub(super) fn seen(&self) -> MutexGuard<'_, Seen> {
        self.seen.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl fmt::Debug for Connection {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Connection")
            .field("account", &self.account)
            .field("version", &self.version)
            .field("ready", &self.is_ready())
            .finish_non_exhaustive()
    }
}
