//! What the routes ask of the brokers.

use std::sync::Arc;
use std::time::{Duration, Instant};

use plimsoll_api::gateway::{CheckedAccount, GatewayError, SeenAccount, Trading, TradingGateway};
use plimsoll_auth::vault::BrokerKeys;
use plimsoll_broker::StaticCredentials;
use plimsoll_core_domain::broker::{BoxFuture, BrokerAsset, BrokerError, HistoryQuery, PortfolioHistory};
use plimsoll_core_domain::order::Environment;
use plimsoll_core_domain::{Price, Symbol, UserId};
use plimsoll_crypto::OsRandom;
use secrecy::ExposeSecret;

use super::connection::Connection;
use super::connections::{Connections, Known};
use super::marks::prices;
use crate::service::random_seed;

/// How long an instrument is taken as it was seen, and how long one that the broker does not know.
const ASSET_LIFE: (Duration, Duration) = (Duration::from_secs(3600), Duration::from_secs(10));
/// The most instruments that are remembered for an account.
const MAX_ASSETS: usize = 20_000;
/// How long the account is taken as it was seen.
const ACCOUNT_LIFE: Duration = Duration::from_secs(1);
/// After it, an account that the broker does not confirm is called stale.
const ACCOUNT_FRESH: Duration = Duration::from_secs(10);
/// How long an order waits for the broker's prices, and how long the broker is not asked again.
const QUOTE_WITHIN: Duration = Duration::from_secs(2);
const QUOTE_PAUSE: Duration = Duration::from_secs(1);
/// After it, a price is not taken for the last one any more.
const PRICE_LIFE: Duration = Duration::from_secs(60);

fn gateway_error(error: BrokerError) -> GatewayError {
    match error {
        BrokerError::NotFound => GatewayError::NotFound,
        BrokerError::Refused { message, .. } => GatewayError::Refused(message),
        BrokerError::Throttled { retry_after } => GatewayError::Unavailable { retry_after },
        BrokerError::Unauthorized(_) => GatewayError::KeyRefused,
        _ => GatewayError::Unavailable { retry_after: Duration::from_secs(2) },
    }
}

impl Connections {
    /// A connection for requests of the user, whichever instance has the account.
    fn connected(&self, user: UserId) -> Result<Arc<Connection>, GatewayError> {
        let picture = self.picture();
        let known = picture.by_user.get(&user).ok_or(GatewayError::NoAccount)?;
        if known.is_refused() {
            return Err(GatewayError::KeyRefused);
        }
        if known.unreadable {
            return Err(GatewayError::KeyUnreadable);
        }
        self.client(known).ok_or(GatewayError::NotOffered)
    }

    fn trading_of(&self, known: &Known) -> Trading {
        if known.is_refused() {
            return Trading::KeyRefused;
        }
        if known.unreadable {
            return Trading::KeyUnreadable;
        }
        if !self.links.offers(known.row.account.environment) {
            return Trading::NotOffered;
        }
        let here = known.here.as_ref().is_some_and(|connection| connection.is_ready() && self.is_trusted());
        if here || known.ready_elsewhere { Trading::Open } else { Trading::Reconciling }
    }
}

impl TradingGateway for Connections {
    fn asset<'a>(
        &'a self,
        user: UserId,
        symbol: &'a Symbol,
    ) -> BoxFuture<'a, Result<BrokerAsset, GatewayError>> {
        Box::pin(async move {
            let connection = self.connected(user)?;
            if let Some((at, asset)) = connection.seen().assets.get(symbol) {
                let life = if asset.is_some() { ASSET_LIFE.0 } else { ASSET_LIFE.1 };
                if at.elapsed() < life {
                    return asset.clone().ok_or(GatewayError::NotFound);
                }
            }
            let asked = connection.broker.asset(symbol).await;
            let mut seen = connection.seen();
            if seen.assets.len() >= MAX_ASSETS {
                seen.assets.clear();
            }
            match asked {
                Ok(asset) => {
                    seen.assets.insert(symbol.clone(), (Instant::now(), Some(asset.clone())));
                    Ok(asset)
                }
                Err(BrokerError::NotFound) => {
                    seen.assets.insert(symbol.clone(), (Instant::now(), None));
                    Err(GatewayError::NotFound)
                }
                Err(error) => Err(gateway_error(error)),
            }
        })
    }

    fn known_asset(&self, user: UserId, symbol: &Symbol) -> Option<BrokerAsset> {
        let connection = self.connected(user).ok()?;
        let seen = connection.seen();
        let (at, asset) = seen.assets.get(symbol)?;
        asset.clone().filter(|_| at.elapsed() < ASSET_LIFE.0)
    }

    fn known_account(&self, user: UserId) -> Option<SeenAccount> {
        let connection = self.connected(user).ok()?;
        let (at, as_of, account) = connection.seen().account.clone()?;
        let environment = connection.environment.as_str();
        (at.elapsed() < ACCOUNT_FRESH).then_some(SeenAccount { account, environment, as_of, stale: false })
    }

    fn account(&self, user: UserId) -> BoxFuture<'_, Result<SeenAccount, GatewayError>> {
        Box::pin(async move {
            let connection = self.connected(user)?;
            let known = connection.seen().account.clone();
            let as_seen = |at: Instant, as_of, account| SeenAccount {
                account,
                environment: connection.environment.as_str(),
                as_of,
                stale: at.elapsed() > ACCOUNT_FRESH,
            };
            if let Some((at, as_of, account)) = &known
                && at.elapsed() < ACCOUNT_LIFE
            {
                return Ok(as_seen(*at, *as_of, account.clone()));
            }
            match connection.broker.account().await {
                Ok(account) => {
                    let (at, as_of) = (Instant::now(), self.clock.now());
                    connection.seen().account = Some((at, as_of, account.clone()));
                    connection.moved.notify_one();
                    Ok(as_seen(at, as_of, account))
                }
                Err(error) => match known {
                    Some((at, as_of, account)) => {
                        Ok(SeenAccount { stale: true, ..as_seen(at, as_of, account) })
                    }
                    None => Err(gateway_error(error)),
                },
            }
        })
    }

    fn history<'a>(
        &'a self,
        user: UserId,
        query: &'a HistoryQuery,
    ) -> BoxFuture<'a, Result<PortfolioHistory, GatewayError>> {
        Box::pin(
            async move { self.connected(user)?.broker.portfolio_history(query).await.map_err(gateway_error) },
        )
    }

    fn price(&self, user: UserId, symbol: &Symbol) -> Option<Price> {
        let connection = self.connected(user).ok()?;
        let mut seen = connection.seen();
        seen.asked = Some(Instant::now());
        seen.prices.get(symbol).filter(|(at, _)| at.elapsed() < PRICE_LIFE).map(|(_, price)| *price)
    }

    fn price_seen(&self, user: UserId, symbol: &Symbol) -> Option<Price> {
        let picture = self.picture();
        let connection = picture.by_user.get(&user)?.here.as_ref()?;
        let seen = connection.seen();
        seen.prices.get(symbol).filter(|(at, _)| at.elapsed() < PRICE_LIFE).map(|(_, price)| *price)
    }

    fn quote<'a>(&'a self, user: UserId, symbol: &'a Symbol) -> BoxFuture<'a, Option<Price>> {
        Box::pin(async move {
            if let Some(price) = self.price_seen(user, symbol) {
                return Some(price);
            }
            let connection = self.connected(user).ok()?;
            {
                let mut seen = connection.seen();
                if seen.quoted.is_some_and(|at| at.elapsed() < QUOTE_PAUSE) {
                    return None;
                }
                seen.quoted = Some(Instant::now());
            }
            let positions =
                tokio::time::timeout(QUOTE_WITHIN, connection.broker.positions()).await.ok()?.ok()?;
            let now = Instant::now();
            let prices = prices(&positions);
            connection.seen().prices.extend(prices.into_iter().map(|(symbol, price)| (symbol, (now, price))));
            self.price_seen(user, symbol)
        })
    }

    fn check(
        &self,
        _user: UserId,
        keys: BrokerKeys,
        environment: Environment,
    ) -> BoxFuture<'_, Result<CheckedAccount, GatewayError>> {
        let credentials = StaticCredentials::new(keys.api_key.expose_secret(), keys.api_secret);
        let seed = random_seed(&mut OsRandom);
        Box::pin(async move {
            let adapter = self.links.servers.adapter(environment, Arc::new(credentials), seed);
            let account = adapter.ok_or(GatewayError::NotOffered)?.account().await.map_err(gateway_error)?;
            Ok(CheckedAccount { broker_account: account.number, status: account.status })
        })
    }

    fn check_key_form(&self, environment: Environment, key_id: &str) -> Result<(), String> {
        self.links.servers.check_key_form(environment, key_id)
    }

    fn trading(&self, user: UserId) -> Trading {
        self.picture().by_user.get(&user).map_or(Trading::NoAccount, |known| self.trading_of(known))
    }
}
