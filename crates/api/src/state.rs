//! What every route can reach.

use std::fmt;
use std::num::NonZeroU32;
use std::ops::Deref;
use std::sync::Arc;
use std::time::Duration;

use chrono::TimeDelta;
use governor::{DefaultKeyedRateLimiter, Quota, RateLimiter};
use plimsoll_auth::AccountPolicy;
use plimsoll_auth::backup_codes::BackupCodes;
use plimsoll_auth::password_rules::BreachCheck;
use plimsoll_core_domain::{Clock, OrderId, UserId};
use plimsoll_crypto::OsRandom;
use plimsoll_crypto::passwords::Passwords;
use plimsoll_crypto::tokens::SecretToken;
use plimsoll_observability::health::HealthRegistry;
use plimsoll_observability::readiness::Readiness;
use plimsoll_realtime::Hub;
use plimsoll_reliability::webhooks::Sender;
use plimsoll_storage::Db;
use plimsoll_storage::platform::keys::PlatformKeys;
use plimsoll_storage::platform::orders::ClientOrderIds;
use uuid::Uuid;

use crate::backups::BackupDesk;
use crate::gateway::TradingGateway;
use crate::hashing::Hashing;
use crate::identity::SessionCache;
use crate::problem::Problem;
use crate::proxies::TrustedProxies;
use crate::refusals::Refusals;
use crate::signals::{SignalSettings, Signals};
use crate::waiters::Waiters;

/// How many events a user's own programs may publish.
const PUBLISH_PER_SECOND: NonZeroU32 = NonZeroU32::new(10).expect("it is not zero");
const PUBLISH_BURST: NonZeroU32 = NonZeroU32::new(50).expect("it is not zero");
const PUBLISH_RATE: Quota = Quota::per_second(PUBLISH_PER_SECOND).allow_burst(PUBLISH_BURST);

/// Where ids and secrets come from.
pub trait IdSource: Send + Sync {
    /// A UUIDv7.
    fn order_id(&self) -> OrderId;
    /// Any UUID.
    fn request_id(&self) -> Uuid;
    /// A new secret: a session's token, a ticket.
    fn session_token(&self) -> SecretToken;
}

/// How orders may come in from one user.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct OrderRate {
    /// Sustained, per second.
    pub per_second: NonZeroU32,
    /// At once.
    pub burst: NonZeroU32,
}

/// The settings of the service.
#[derive(Clone, Debug)]
pub struct ApiSettings {
    /// Durations and limits of accounts.
    pub policy: Arc<AccountPolicy>,
    /// Where browsers find the service: scheme, host and port. Links in mails begin so.
    pub public_url: String,
    /// Exact origins whose pages may call, without cookies.
    pub cors_origins: Vec<String>,
    /// The proxies that are believed about their clients' addresses.
    pub trusted_proxies: TrustedProxies,
    /// How long a client may take to send a body.
    pub body_within: Duration,
    /// Whether mails are shown at `/dev/outbox`.
    pub dev_outbox: bool,
    /// `None`: no limit (benches).
    pub order_rate: Option<OrderRate>,
    /// How long a market order may wait before it is sent, and any other.
    pub submit_within: (TimeDelta, TimeDelta),
    /// How long a request waits for the broker's verdict unless it says otherwise.
    pub default_wait: Duration,
    /// How long a session, or a hook, is trusted without asking the database again.
    pub session_cache: Duration,
    /// Password hashes computed at once.
    pub parallel_hashes: usize,
    /// Of signals from outside.
    pub signals: SignalSettings,
}

/// Everything the routes share: the parts that it was made of, and what it keeps itself.
pub struct AppState {
    parts: Parts,
    /// Computes password hashes.
    pub hashing: Hashing,
    /// Makes and checks backup codes.
    pub backup_codes: BackupCodes,
    /// Sessions seen a moment ago.
    pub session_cache: SessionCache,
    /// Refusals written to the audit log lately.
    pub refusals: Refusals,
    /// Of signals from outside.
    pub signals: Signals,
    order_limiter: Option<(OrderRate, DefaultKeyedRateLimiter<UserId>)>,
    publish_limiter: DefaultKeyedRateLimiter<UserId>,
    /// Asked about new passwords, when there is one.
    pub breaches: Option<Arc<dyn BreachCheck>>,
    /// Backups, where the server has them.
    pub backups: Option<Arc<dyn BackupDesk>>,
    /// The settings.
    pub settings: ApiSettings,
}

impl Deref for AppState {
    type Target = Parts;
    fn deref(&self) -> &Parts {
        &self.parts
    }
}

/// The parts of [`AppState`] that differ from server to server.
pub struct Parts {
    /// The pool of requests.
    pub db: Db,
    /// The time.
    pub clock: Arc<dyn Clock>,
    /// Ids and tokens.
    pub ids: Arc<dyn IdSource>,
    /// Client order ids.
    pub client_order_ids: Arc<dyn ClientOrderIds>,
    /// The brokers.
    pub gateway: Arc<dyn TradingGateway>,
    /// Posts to users' webhooks.
    pub webhooks: Sender,
    /// Where events are heard.
    pub hub: Hub,
    /// Requests that wait for their orders.
    pub waiters: Waiters,
    /// Whether requests may come.
    pub readiness: Readiness,
    /// The health checks.
    pub health: Arc<HealthRegistry>,
    /// Password hashing.
    pub passwords: Arc<Passwords>,
    /// The installation's keys.
    pub keys: Arc<PlatformKeys>,
    /// Told of each logout.
    pub on_logout: Arc<dyn Fn(UserId, Uuid) + Send + Sync>,
}

impl AppState {
    /// Puts the parts together, at the cost of one hash of a backup code.
    #[must_use]
    pub fn new(parts: Parts, settings: ApiSettings) -> Self {
        let order_limiter = settings.order_rate.map(|rate| {
            let quota = Quota::per_second(rate.per_second).allow_burst(rate.burst);
            (rate, RateLimiter::keyed(quota))
        });
        let hashing = Hashing::new(&parts.passwords, settings.parallel_hashes);
        let cost = parts.passwords.params();
        let backup_codes = BackupCodes::new(cost, parts.keys.pepper.clone(), &mut OsRandom);
        let signals = Signals::new(&settings.signals, &parts.keys.ring, settings.session_cache);
        Self {
            parts,
            signals,
            hashing,
            backup_codes,
            session_cache: SessionCache::new(settings.session_cache),
            refusals: Refusals::default(),
            order_limiter,
            publish_limiter: RateLimiter::keyed(PUBLISH_RATE),
            breaches: None,
            backups: None,
            settings,
        }
    }

    /// Asks a collection of breached passwords about every new one.
    #[must_use]
    pub fn with_breach_check(self, breaches: Arc<dyn BreachCheck>) -> Self {
        Self { breaches: Some(breaches), ..self }
    }

    /// Lets administrators back up and restore.
    #[must_use]
    pub fn with_backups(self, backups: Arc<dyn BackupDesk>) -> Self {
        Self { backups: Some(backups), ..self }
    }

    /// Counts an order request of a user.
    ///
    /// # Errors
    /// 429 when the user is over the limit.
    pub fn count_order(&self, user: UserId) -> Result<(), Problem> {
        let Some((rate, limiter)) = &self.order_limiter else { return Ok(()) };
        if limiter.check_key(&user).is_ok() {
            return Ok(());
        }
        let detail = format!("at most {} order requests a second, {} at once", rate.per_second, rate.burst);
        Err(Problem::new("rate_limited", detail).retry_after(1))
    }

    /// Counts an event that a user's own program publishes. Those events share the stream with the ones of orders.
    ///
    /// # Errors
    /// 429 when the user is over the limit.
    pub fn count_publication(&self, user: UserId) -> Result<(), Problem> {
        if self.publish_limiter.check_key(&user).is_ok() {
            return Ok(());
        }
        let detail =
            format!("at most {PUBLISH_PER_SECOND} published events a second, {PUBLISH_BURST} at once");
        Err(Problem::new("rate_limited", detail).retry_after(1))
    }

    /// Forgets users that the rate limit no longer touches; call it now and then.
    pub fn tidy(&self) {
        if let Some((_, limiter)) = &self.order_limiter {
            limiter.retain_recent();
        }
        self.publish_limiter.retain_recent();
        self.signals.tidy();
        self.session_cache.tidy();
        self.refusals.tidy(self.clock.now());
    }
}

impl fmt::Debug for AppState {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("AppState").field("settings", &self.settings).finish_non_exhaustive()
    }
}
