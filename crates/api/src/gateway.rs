//! What the routes need of the brokers. The server implements it over its connections.

use std::time::Duration;

use chrono::{DateTime, Utc};
use plimsoll_core_domain::broker::{BoxFuture, BrokerAccount, BrokerAsset, HistoryQuery, PortfolioHistory};
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
    /// The broker is away, busy, or refuses the credentials.
    #[error("the broker cannot be asked at the moment")]
    Unavailable {
        /// When to try again.
        retry_after: Duration,
    },
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

/// The brokers, from the routes' side. No call is made inside a transaction.
pub trait TradingGateway: Send + Sync {
    /// An instrument, from a cache where possible.
    fn asset<'a>(
        &'a self,
        user: UserId,
        symbol: &'a Symbol,
    ) -> BoxFuture<'a, Result<BrokerAsset, GatewayError>>;
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
    /// Whether the user's account has been compared with the broker since the start; until then it takes no orders.
    fn may_trade(&self, user: UserId) -> bool;
}
