//! What the tests share.

use std::path::Path;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use plimsoll_broker::{Alpaca, AlpacaConfig, StaticCredentials, install_crypto_provider};
use plimsoll_core_domain::broker::{BoxFuture, SubmitOrder, TradeSink, TradeUpdate};
use plimsoll_core_domain::order::{Environment, OrderRequest, OrderType, Side, TimeInForce};
use plimsoll_core_domain::{BrokerOrderId, ClientOrderId};
use rust_decimal::Decimal;

pub(crate) const KEY: &str = "PKTEST";
pub(crate) const SECRET: &str = "canary-secret-5d1f";

pub(crate) fn fixture(name: &str) -> String {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/fixtures").join(format!("{name}.json"));
    std::fs::read_to_string(&path).unwrap_or_else(|error| panic!("{}: {error}", path.display()))
}

pub(crate) fn json(name: &str) -> serde_json::Value {
    serde_json::from_str(&fixture(name)).unwrap()
}

pub(crate) fn config(url: &str) -> AlpacaConfig {
    AlpacaConfig::new(url, Environment::Paper).unwrap()
}

pub(crate) fn adapter(config: AlpacaConfig) -> Alpaca {
    install_crypto_provider();
    let keys = StaticCredentials::new(KEY, SECRET.to_owned().into());
    Alpaca::new(config, Arc::new(keys), 1).unwrap()
}

pub(crate) fn dec(text: &str) -> Decimal {
    text.parse().unwrap()
}

pub(crate) fn client_id(text: &str) -> ClientOrderId {
    ClientOrderId::new(text).unwrap()
}

pub(crate) fn order_id(text: &str) -> BrokerOrderId {
    BrokerOrderId::new(text).unwrap()
}

pub(crate) fn request() -> OrderRequest {
    OrderRequest {
        symbol: "AAPL".to_owned(),
        side: Some(Side::Buy),
        order_type: Some(OrderType::Limit),
        time_in_force: Some(TimeInForce::Day),
        qty: Some(dec("10")),
        limit_price: Some(dec("150.25")),
        ..OrderRequest::default()
    }
}

pub(crate) fn submit(request: OrderRequest, id: &str) -> SubmitOrder {
    SubmitOrder { client_order_id: client_id(id), order: request.validate().unwrap() }
}

/// What a sink saw, in order.
#[derive(Clone, Debug, PartialEq)]
pub(crate) enum Seen {
    Connected,
    Update(Box<TradeUpdate>),
    Disconnected(String, Duration),
}

/// A sink that keeps what it sees, and may take its time to catch up.
#[derive(Default)]
pub(crate) struct Recorder {
    pub(crate) seen: Mutex<Vec<Seen>>,
    pub(crate) catch_up: Duration,
}

impl Recorder {
    pub(crate) fn seen(&self) -> Vec<Seen> {
        self.seen.lock().unwrap().clone()
    }

    fn note(&self, seen: Seen) {
        self.seen.lock().unwrap().push(seen);
    }

    pub(crate) fn count(&self, wanted: impl Fn(&Seen) -> bool) -> usize {
        self.seen.lock().unwrap().iter().filter(|seen| wanted(seen)).count()
    }

    pub(crate) fn updates(&self) -> Vec<TradeUpdate> {
        let one = |seen| match seen {
            Seen::Update(update) => Some(*update),
            _ => None,
        };
        self.seen().into_iter().filter_map(one).collect()
    }
}

impl TradeSink for Recorder {
    fn connected(&self) -> BoxFuture<'_, ()> {
        Box::pin(async {
            tokio::time::sleep(self.catch_up).await;
            self.note(Seen::Connected);
        })
    }
    fn update(&self, update: TradeUpdate) -> BoxFuture<'_, ()> {
        Box::pin(async { self.note(Seen::Update(Box::new(update))) })
    }
    fn disconnected(&self, reason: String, retry_in: Duration) -> BoxFuture<'_, ()> {
        Box::pin(async move { self.note(Seen::Disconnected(reason, retry_in)) })
    }
}
