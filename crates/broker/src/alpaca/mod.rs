//! The adapter of the [`Broker`] port for Alpaca's Trading API, version 2.

mod failure;
mod http;
mod quotes;
mod rate;
mod stream;
mod wire;

use std::fmt;
use std::sync::{Arc, Mutex};

use chrono::SecondsFormat;
use plimsoll_core_domain::broker::{
    AccountMovement, BoxFuture, Broker, BrokerAccount, BrokerAsset, BrokerError, BrokerOrder, BrokerPosition,
    Dedupe, FillActivity, FillQuery, HistoryQuery, MarketClock, OrderListQuery, PortfolioHistory, Quotes,
    ReplaceOrder, SubmitOrder, TradeSink,
};
use plimsoll_core_domain::order::OrderClass;
use plimsoll_core_domain::{BrokerOrderId, ClientOrderId, Symbol};
use rand::SeedableRng;
use rand::rngs::SmallRng;
use secrecy::SecretString;

use crate::config::{AlpacaConfig, ConfigError};
use crate::credentials::{CredentialSource, StaticCredentials};
use failure::Effect;
use http::{Call, Connections, Http};
use wire::{
    AccountBody, AssetBody, ClockBody, FillBody, HistoryBody, MovementBody, OrderBody, PositionBody,
    Unreadable,
};

/// The most orders that Alpaca lists at once.
const ORDERS_PAGE: u16 = 500;
/// The most activities that Alpaca lists at once.
const FILLS_PAGE: &str = "100";
/// A page of movements that is as long may have another one behind it.
const MOVEMENTS_PAGE: usize = 100;
/// The most pages of movements that are read at once.
const MOVEMENTS_PAGES: usize = 50;

/// Installs ring as the process's TLS provider. Call it first thing in `main`; a second call changes nothing.
pub fn install_crypto_provider() {
    // An error means that one is installed already: any will do.
    let _ = rustls::crypto::ring::default_provider().install_default();
}

/// A server of Alpaca, or of anything that speaks its protocol. The accounts' clients share its connections.
#[derive(Clone)]
pub struct AlpacaServer(Connections);

impl AlpacaServer {
    /// Connects to nothing yet.
    ///
    /// # Errors
    /// [`ConfigError::NoCryptoProvider`] before [`install_crypto_provider`], [`ConfigError::Client`] when the system's
    /// certificates cannot be read.
    pub fn new(config: AlpacaConfig) -> Result<Self, ConfigError> {
        Connections::new(config).map(Self)
    }

    /// The settings that it was made with.
    #[must_use]
    pub fn config(&self) -> &AlpacaConfig {
        &self.0.config
    }

    /// The client of one account. `jitter_seed` decides how reconnections are spread over time: give each a random one.
    #[must_use]
    pub fn account(&self, credentials: Arc<dyn CredentialSource>, jitter_seed: u64) -> Alpaca {
        let jitter = Mutex::new(SmallRng::seed_from_u64(jitter_seed));
        let data = Http::new(&self.0, Arc::clone(&credentials));
        Alpaca { http: Http::new(&self.0, credentials), data, jitter }
    }
}

impl fmt::Debug for AlpacaServer {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("AlpacaServer").field("config", self.config()).finish_non_exhaustive()
    }
}

/// One account at Alpaca, or at anything that speaks its protocol.
///
/// Its calls share one budget of calls, and those for market data another one: make one of it per account.
pub struct Alpaca {
    http: Http,
    data: Http,
    jitter: Mutex<SmallRng>,
}

impl fmt::Debug for Alpaca {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Alpaca").field("config", &self.http.config).finish_non_exhaustive()
    }
}

impl Alpaca {
    /// A client with connections of its own. See [`AlpacaServer`].
    ///
    /// # Errors
    /// As [`AlpacaServer::new`].
    pub fn new(
        config: AlpacaConfig,
        credentials: Arc<dyn CredentialSource>,
        jitter_seed: u64,
    ) -> Result<Self, ConfigError> {
        Ok(AlpacaServer::new(config)?.account(credentials, jitter_seed))
    }

    /// As [`Alpaca::new`], with a key pair that is known from the start.
    ///
    /// # Errors
    /// Also [`ConfigError::KeyEnvironment`], see [`AlpacaConfig::check_key`].
    pub fn with_keys(
        config: AlpacaConfig,
        key_id: impl Into<String>,
        secret: SecretString,
        jitter_seed: u64,
    ) -> Result<Self, ConfigError> {
        let key_id = key_id.into();
        config.check_key(&key_id)?;
        Self::new(config, Arc::new(StaticCredentials::new(key_id, secret)), jitter_seed)
    }

    fn get(&self, segments: &[&str]) -> Call {
        Call::get(self.http.config.endpoint(segments.iter().copied()))
    }

    async fn read_order(&self, call: Call) -> Result<BrokerOrder, BrokerError> {
        understood(Effect::Read, self.http.json::<OrderBody>(call).await?)
    }

    async fn nested_order(&self, id: &str) -> Result<BrokerOrder, BrokerError> {
        self.read_order(self.get(&["orders", segment(id)?]).query("nested", Some("true"))).await
    }
}

/// A body that must say what the port needs.
fn understood<B, T>(effect: Effect, body: B) -> Result<T, BrokerError>
where
    T: TryFrom<B, Error = Unreadable>,
{
    T::try_from(body).map_err(|error| effect.unreadable(error.to_string()))
}

fn understood_rows<B, T>(rows: Vec<B>) -> Result<Vec<T>, BrokerError>
where
    T: TryFrom<B, Error = Unreadable>,
{
    rows.into_iter().map(|row| understood(Effect::Read, row)).collect()
}

/// A name as one segment of a path. The two that walk the path name nothing.
fn segment(name: &str) -> Result<&str, BrokerError> {
    if matches!(name, "." | "..") { Err(BrokerError::NotFound) } else { Ok(name) }
}

fn rfc3339(at: chrono::DateTime<chrono::Utc>) -> String {
    at.to_rfc3339_opts(SecondsFormat::Micros, true)
}

impl Broker for Alpaca {
    fn dedupe(&self) -> Dedupe {
        Dedupe::Forever
    }

    fn submit<'a>(&'a self, order: &'a SubmitOrder) -> BoxFuture<'a, Result<BrokerOrder, BrokerError>> {
        Box::pin(async move {
            let call = Call::post(self.http.config.endpoint(["orders"]), wire::create_order(order));
            understood(Effect::Write, self.http.json::<OrderBody>(call).await?)
        })
    }

    fn order_by_client_id<'a>(
        &'a self,
        id: &'a ClientOrderId,
    ) -> BoxFuture<'a, Result<BrokerOrder, BrokerError>> {
        Box::pin(async move {
            let call = self.get(&["orders:by_client_order_id"]).query("client_order_id", Some(id.as_str()));
            let order = self.read_order(call).await?;
            // This route nests no legs: a group is asked for again by the broker's id.
            let grouped = order.class.is_some_and(|class| class != OrderClass::Simple);
            if grouped && order.legs.is_empty() {
                match self.nested_order(order.id.as_str()).await {
                    // It was shown a moment ago: a lag, and no word that it is absent.
                    Err(BrokerError::NotFound) => {
                        Err(BrokerError::Unreachable("the broker showed the order without its legs".into()))
                    }
                    answer => answer,
                }
            } else {
                Ok(order)
            }
        })
    }

    fn order<'a>(&'a self, id: &'a BrokerOrderId) -> BoxFuture<'a, Result<BrokerOrder, BrokerError>> {
        Box::pin(self.nested_order(id.as_str()))
    }

    fn cancel<'a>(&'a self, id: &'a BrokerOrderId) -> BoxFuture<'a, Result<(), BrokerError>> {
        Box::pin(async move {
            let url = self.http.config.endpoint(["orders", segment(id.as_str())?]);
            self.http.send(Call::cancel(url)).await.map(drop)
        })
    }

    fn replace<'a>(
        &'a self,
        id: &'a BrokerOrderId,
        change: &'a ReplaceOrder,
    ) -> BoxFuture<'a, Result<BrokerOrder, BrokerError>> {
        Box::pin(async move {
            let url = self.http.config.endpoint(["orders", segment(id.as_str())?]);
            let call = Call::patch(url, wire::replace_order(change));
            understood(Effect::Write, self.http.json::<OrderBody>(call).await?)
        })
    }

    fn orders<'a>(
        &'a self,
        query: &'a OrderListQuery,
    ) -> BoxFuture<'a, Result<Vec<BrokerOrder>, BrokerError>> {
        Box::pin(async move {
            let limit = if query.limit == 0 { ORDERS_PAGE } else { query.limit.min(ORDERS_PAGE) };
            // The two ways to page exclude each other; the order's id is the exact one.
            let after = query.after.filter(|_| query.after_order_id.is_none()).map(rfc3339);
            let call = self
                .get(&["orders"])
                .query("status", Some(if query.open_only { "open" } else { "all" }))
                .query("limit", Some(limit.to_string()))
                .query("direction", Some("asc"))
                .query("nested", Some("true"))
                .query("after", after)
                .query("after_order_id", query.after_order_id.as_ref());
            understood_rows(self.http.json::<Vec<OrderBody>>(call).await?)
        })
    }

    fn fills<'a>(&'a self, query: &'a FillQuery) -> BoxFuture<'a, Result<Vec<FillActivity>, BrokerError>> {
        Box::pin(async move {
            let call = self
                .get(&["account", "activities", "FILL"])
                .query("direction", Some("asc"))
                .query("page_size", Some(FILLS_PAGE))
                .query("after", query.after.map(rfc3339))
                .query("page_token", query.page_token.as_ref())
                .query("order_id", query.order_id.as_ref());
            understood_rows(self.http.json::<Vec<FillBody>>(call).await?)
        })
    }

    fn movements(
        &self,
        since: chrono::NaiveDate,
    ) -> BoxFuture<'_, Result<Vec<AccountMovement>, BrokerError>> {
        Box::pin(async move {
            let mut rows: Vec<AccountMovement> = Vec::new();
            for _ in 0..MOVEMENTS_PAGES {
                let call = self
                    .get(&["account", "activities"])
                    .query("category", Some("non_trade_activity"))
                    .query("direction", Some("asc"))
                    .query("page_size", Some(FILLS_PAGE))
                    // Alpaca leaves out what is of the very day.
                    .query("after", since.pred_opt().map(|day| day.to_string()))
                    .query("page_token", rows.last().map(|row| row.id.clone()));
                let page = self.http.json::<Vec<MovementBody>>(call).await?;
                let full = page.len() >= MOVEMENTS_PAGE;
                rows.extend(understood_rows::<_, AccountMovement>(page)?);
                if !full {
                    return Ok(rows);
                }
            }
            Err(BrokerError::Unreadable("more movements than can be read at once".to_owned()))
        })
    }

    fn positions(&self) -> BoxFuture<'_, Result<Vec<BrokerPosition>, BrokerError>> {
        Box::pin(async move {
            let rows: Vec<PositionBody> = self.http.json(self.get(&["positions"])).await?;
            Ok(rows.into_iter().map(BrokerPosition::from).collect())
        })
    }

    fn account(&self) -> BoxFuture<'_, Result<BrokerAccount, BrokerError>> {
        Box::pin(async move { Ok(self.http.json::<AccountBody>(self.get(&["account"])).await?.into()) })
    }

    fn asset<'a>(&'a self, symbol: &'a Symbol) -> BoxFuture<'a, Result<BrokerAsset, BrokerError>> {
        Box::pin(async move {
            // The slash of a pair is not escaped, as in Alpaca's own client (contract section 1).
            let mut path = vec!["assets"];
            for part in symbol.as_str().split('/') {
                path.push(segment(part)?);
            }
            understood(Effect::Read, self.http.json::<AssetBody>(self.get(&path)).await?)
        })
    }

    fn clock(&self) -> BoxFuture<'_, Result<MarketClock, BrokerError>> {
        Box::pin(
            async move { understood(Effect::Read, self.http.json::<ClockBody>(self.get(&["clock"])).await?) },
        )
    }

    fn portfolio_history<'a>(
        &'a self,
        query: &'a HistoryQuery,
    ) -> BoxFuture<'a, Result<PortfolioHistory, BrokerError>> {
        Box::pin(async move {
            let call = self
                .get(&["account", "portfolio", "history"])
                .query("period", query.period.as_ref())
                .query("timeframe", query.timeframe.as_ref())
                // Daily values are stamped at midnight UTC: the day's last second includes it.
                .query("end", query.end.map(|day| format!("{day}T23:59:59Z")));
            understood(Effect::Read, self.http.json::<HistoryBody>(call).await?)
        })
    }

    fn quotes(&self) -> Option<&dyn Quotes> {
        Some(self)
    }

    fn follow<'a>(&'a self, sink: &'a dyn TradeSink) -> BoxFuture<'a, BrokerError> {
        Box::pin(stream::follow(&self.http, &self.jitter, sink))
    }
}
