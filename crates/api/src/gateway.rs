//! What the routes need of the brokers. The server implements it over its connections.

use std::time::Duration;

use chrono::{DateTime, Utc};
use plimsoll_auth::vault::BrokerKeys;
use plimsoll_core_domain::broker::{BoxFuture, BrokerAccount, BrokerAsset, HistoryQuery, PortfolioHistory};
use plimsoll_core_domain::order::Environment;
use plimsoll_core_domain::{Price, Symbol, UserId};

/// Why the broker could not be asked.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum GatewayError {
    /// The user has no broker account here.
    #[error("no broker account is connected")]
    NoAccount,
    /// The broker does not know it.
    #[error("not found at the broker")]
    NotFound,
    /// The broker refuses the request; these are its words.
    #[error("the broker refuses the request: {0}")]
    Refused(String),
    /// The broker refuses the user's key.
    #[error("the broker refuses the saved key: save a new one")]
    KeyRefused,
    /// The user's key cannot be opened at the moment.
    #[error("the saved key cannot be used at the moment")]
    KeyUnreadable,
    /// The key is for an environment that this server has no broker for.
    #[error("this server has no broker for the key's environment")]
    NotOffered,
    /// The broker is away or busy.
    #[error("the broker cannot be asked at the moment")]
    Unavailable {
        /// When to try again.
        retry_after: Duration,
    },
}

/// Whether a user's account takes orders.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Trading {
    /// It does.
    Open,
    /// Not yet: the instance that has it compares it with the broker first.
    Reconciling,
    /// There is no account with credentials.
    NoAccount,
    /// The broker refuses the credentials.
    KeyRefused,
    /// The credentials cannot be opened.
    KeyUnreadable,
    /// There is no broker for the account's environment.
    NotOffered,
}

/// A broker account as it was last seen.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SeenAccount {
    /// What the broker said.
    pub account: BrokerAccount,
    /// `paper` or `live`.
    pub environment: &'static str,
    /// When it said so, by our clock.
    pub as_of: DateTime<Utc>,
    /// It is older than it should be: the broker cannot be asked at the moment.
    pub stale: bool,
}

/// What the broker says of the account that a key pair opens.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct CheckedAccount {
    /// The broker's own number of the account.
    pub broker_account: String,
    /// The broker's word for the account's state.
    pub status: String,
}

/// The brokers, from the routes' side. No call is made inside a transaction.
pub trait TradingGateway: Send + Sync {
    /// An instrument, from a cache where possible.
    fn asset<'a>(
        &'a self,
        user: UserId,
        symbol: &'a Symbol,
    ) -> BoxFuture<'a, Result<BrokerAsset, GatewayError>>;
    /// An instrument that was seen lately, without asking the broker.
    fn known_asset(&self, _user: UserId, _symbol: &Symbol) -> Option<BrokerAsset> {
        None
    }
    /// The account as it was seen a moment ago, without asking the broker.
    fn known_account(&self, _user: UserId) -> Option<SeenAccount> {
        None
    }
    /// The user's broker account.
    fn account(&self, user: UserId) -> BoxFuture<'_, Result<SeenAccount, GatewayError>>;
    /// The user's equity over time.
    fn history<'a>(
        &'a self,
        user: UserId,
        query: &'a HistoryQuery,
    ) -> BoxFuture<'a, Result<PortfolioHistory, GatewayError>>;
    /// The broker's last price of a symbol, where one was seen lately.
    fn price(&self, user: UserId, symbol: &Symbol) -> Option<Price>;
    /// As [`price`](Self::price), without asking the broker for more of them.
    fn price_seen(&self, _user: UserId, _symbol: &Symbol) -> Option<Price> {
        None
    }
    /// The broker's price of a symbol, which is asked for it, within a bounded time, where none was seen lately.
    fn quote<'a>(&'a self, user: UserId, symbol: &'a Symbol) -> BoxFuture<'a, Option<Price>> {
        Box::pin(std::future::ready(self.price_seen(user, symbol)))
    }
    /// Tries a key pair at the broker of an environment; nothing is kept of it.
    fn check(
        &self,
        user: UserId,
        keys: BrokerKeys,
        environment: Environment,
    ) -> BoxFuture<'_, Result<CheckedAccount, GatewayError>>;
    /// Whether a key can be one of the environment, as far as its form tells; the error says why not.
    ///
    /// # Errors
    /// It cannot.
    fn check_key_form(&self, environment: Environment, key_id: &str) -> Result<(), String>;
    /// Whether the user's account takes orders: it was compared with the broker, by whichever instance has it.
    fn trading(&self, user: UserId) -> Trading;
}
