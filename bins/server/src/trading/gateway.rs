//! What the routes ask of the brokers.

use std::sync::Arc;
use std::time::{Duration, Instant};

use chrono::TimeDelta;
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
/// How long an order waits for a price that the broker is asked for.
const QUOTE_WITHIN: Duration = Duration::from_secs(2);
/// How long such a price is taken as it was told, and how long the broker is not asked again for one that it did not tell.
const QUOTE_LIFE: (Duration, Duration) = (Duration::from_secs(5), Duration::from_secs(1));
/// A last trade from before, by the broker's clock, is no price: no market is closed for longer.
const OLDEST_TRADE: TimeDelta = TimeDelta::days(4);
/// How long the broker's clock is taken as it was told.
const CLOCK_LIFE: Duration = Duration::from_secs(60);
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

/// A price that was told lately: the answer to a question for it, else that of what is held.
fn price_of(connection: &Connection, symbol: &Symbol) -> Option<Price> {
    let seen = connection.seen();
    let quote = seen.quotes.get(symbol).filter(|(at, _)| at.elapsed() < QUOTE_LIFE.0);
    let held =
        || seen.prices.get(symbol).filter(|(at, _)| at.elapsed() < PRICE_LIFE).map(|(_, price)| *price);
    quote.and_then(|(_, price)| *price).or_else(held)
}

/// A price, which the broker is asked for where none was told lately.
async fn asked_price(connection: &Connection, symbol: &Symbol) -> Option<Price> {
    let _one = connection.quoting.lock().await;
    if let Some(price) = price_of(connection, symbol) {
        return Some(price);
    }
    let refused = |(at, price): &(Instant, Option<Price>)| price.is_none() && at.elapsed() < QUOTE_LIFE.1;
    if connection.seen().quotes.get(symbol).is_some_and(refused) {
        return None;
    }
    let told = match last_price(connection, symbol).await {
        Some(price) => Some(price),
        None => held_price(connection, symbol).await,
    };
    let mut seen = connection.seen();
    if seen.quotes.len() >= MAX_ASSETS {
        seen.quotes.clear();
    }
    seen.quotes.insert(symbol.clone(), (Instant::now(), told));
    told
}

/// What a symbol last traded at, as far as the broker has market data.
async fn last_price(connection: &Connection, symbol: &Symbol) -> Option<Price> {
    let trade = match connection.broker.quotes()?.last_trade(symbol).await {
        Ok(trade) => trade,
        Err(error) => {
            tracing::debug!(%error, %symbol, "the broker does not tell what a symbol trades at");
            return None;
        }
    };
    let known = connection.seen().clock.filter(|(at, _)| at.elapsed() < CLOCK_LIFE);
    let now = match known {
        Some((_, now)) => now,
        None => {
            let now = connection.broker.clock().await.ok()?.timestamp;
            connection.seen().clock = Some((Instant::now(), now));
            now
        }
    };
    (trade.at > now - OLDEST_TRADE).then_some(trade.price)
}

/// What a symbol that is held trades at.
async fn held_price(connection: &Connection, symbol: &Symbol) -> Option<Price> {
    let positions = connection.broker.positions().await.ok()?;
    let (now, prices) = (Instant::now(), prices(&positions));
    let mut seen = connection.seen();
    seen.prices.extend(prices.into_iter().map(|(symbol, price)| (symbol, (now, price))));
    seen.prices.get(symbol).map(|(_, price)| *price)
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
        let connection = self.connected(user).ok()?;
        price_of(&connection, symbol)
    }

    fn quote<'a>(&'a self, user: UserId, symbol: &'a Symbol) -> BoxFuture<'a, Option<Price>> {
        Box::pin(async move {
            let connection = self.connected(user).ok()?;
            tokio::time::timeout(QUOTE_WITHIN, asked_price(&connection, symbol)).await.ok()?
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
