//! Settings of a paper broker.

use std::net::{Ipv4Addr, SocketAddr};
use std::path::PathBuf;
use std::time::Duration;

use plimsoll_paper_exchange::ExchangeConfig;
use plimsoll_storage::private_postgres;
use rust_decimal::Decimal;

use crate::faults::FaultRule;
use crate::stream::StreamSettings;

/// Everything a paper broker is told. [`Config::new`] gives the defaults.
#[derive(Debug, Clone)]
pub struct Config {
    /// Where it listens; port 0 takes a free one. `/_sim` answers loopback callers only, whatever this is.
    pub bind: SocketAddr,
    /// Holds the key file and the lock; made if missing.
    pub data_dir: PathBuf,
    /// Where the books are.
    pub database: Database,
    /// Where prices come from.
    pub market: MarketSource,
    /// Simulator seconds a real second. Applies at every start, whatever `/_sim/clock` set before.
    pub speed: Decimal,
    /// Ids and random choices follow from it. Counts at the first start only; afterwards the books' own does.
    pub seed: u64,
    /// How the exchange behaves.
    pub exchange: ExchangeConfig,
    /// Fault rules to start with.
    pub faults: Vec<FaultRule>,
    /// Requests an account may send in a minute of real time; `None` for no limit and no `X-Ratelimit-*` headers.
    pub rate_limit_per_minute: Option<u32>,
    /// How often the exchange looks at the market, in real time.
    pub tick: Duration,
    /// How the order stream speaks.
    pub stream: StreamSettings,
    /// HTTP worker threads.
    pub workers: usize,
}

/// Where the books are.
#[derive(Debug, Clone)]
pub enum Database {
    /// In this database, which must exist; it is migrated at the start. A libpq connection string.
    Url(String),
    /// In a private PostgreSQL server of its own, which lives as long as the broker.
    Private(private_postgres::Options),
}

/// Where prices come from.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum MarketSource {
    /// The recordings that come with the exchange.
    Bundled,
    /// All CSV files of a folder.
    Dir(PathBuf),
    /// One price for any symbol.
    FixedPrice(Decimal),
}

impl Config {
    /// A broker on a free loopback port that replays the bundled recordings at their own speed, without faults and
    /// without a rate limit (which is what a demo and a load test want; Alpaca's own limit is 200 a minute).
    pub fn new(data_dir: impl Into<PathBuf>, database: Database) -> Self {
        Self {
            bind: (Ipv4Addr::LOCALHOST, 0).into(),
            data_dir: data_dir.into(),
            database,
            market: MarketSource::Bundled,
            speed: Decimal::ONE,
            seed: 1,
            exchange: ExchangeConfig::default(),
            faults: Vec::new(),
            rate_limit_per_minute: None,
            tick: Duration::from_millis(50),
            stream: StreamSettings::default(),
            workers: 2,
        }
    }
}
