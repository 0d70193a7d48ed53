//! The Alpaca adapter against this broker: the suite that any adapter and any broker of play money must pass together.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use plimsoll_broker::contract::{ContractFixture, run};
use plimsoll_broker::{Alpaca, AlpacaConfig, StaticCredentials};
use plimsoll_core_domain::order::{Environment, NewOrder, OrderClass, OrderSize, Pricing, Side, TimeInForce};
use plimsoll_core_domain::{BrokerOrderId, ClientOrderId, Price, Quantity, Symbol};
use plimsoll_paper_broker::MarketSource;
use rust_decimal::Decimal;

use crate::support::Bench;

#[derive(Default)]
struct Fixture(AtomicU64);

impl ContractFixture for Fixture {
    fn client_order_id(&self) -> ClientOrderId {
        ClientOrderId::new(format!("contract-{}", self.0.fetch_add(1, Ordering::Relaxed))).unwrap()
    }
    fn symbol(&self) -> Symbol {
        Symbol::new("SPY").unwrap()
    }
    fn resting_price(&self) -> Price {
        Price::new(Decimal::from(20)).unwrap()
    }
    fn refused_order(&self) -> NewOrder {
        NewOrder {
            symbol: self.symbol(),
            side: Side::Buy,
            pricing: Pricing::Market,
            time_in_force: TimeInForce::Day,
            size: OrderSize::Qty(Quantity::new(Decimal::from(1_000_000)).unwrap()),
            extended_hours: false,
            class: OrderClass::Simple,
            take_profit: None,
            stop_loss: None,
        }
    }
    fn unknown_symbol(&self) -> Symbol {
        Symbol::new("NOSUCH").unwrap()
    }
    fn unknown_order(&self) -> BrokerOrderId {
        BrokerOrderId::new("904837e3-3b76-47ec-b432-046db621571b").unwrap()
    }
}

async fn adapter_passes(market: MarketSource) {
    let bench = Bench::with(|config| {
        config.market = market;
        config.speed = 60.into();
        config.rate_limit_per_minute = Some(100_000);
    })
    .await;
    let keys = StaticCredentials::new(&bench.login.api_key, bench.login.api_secret.clone().into());
    let config = AlpacaConfig::new(&bench.url, Environment::Paper).unwrap();
    let broker = Alpaca::new(config, Arc::new(keys), 1).unwrap();
    run(&broker, &Fixture::default()).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn the_adapter_passes_over_recorded_prices() {
    adapter_passes(MarketSource::Bundled).await;
}
