//! A broker that answers every question at once and never says what became of an order.

use std::future::{pending, ready};

use chrono::TimeDelta;
use plimsoll_core_domain::broker::{
    BoxFuture, Broker, BrokerAccount, BrokerAsset, BrokerError, BrokerOrder, BrokerPosition, Dedupe,
    FillActivity, FillQuery, HistoryQuery, MarketClock, OrderListQuery, PortfolioHistory, ReplaceOrder,
    SubmitOrder, TradeSink,
};
use plimsoll_core_domain::{BrokerOrderId, ClientOrderId, Clock, Symbol, SystemClock};
use rust_decimal::Decimal;

/// The broker of one account.
pub(crate) struct Silent {
    /// The account's number at the broker.
    pub(crate) number: String,
}

fn at_once<'a, T: Send + 'a>(answer: Result<T, BrokerError>) -> BoxFuture<'a, Result<T, BrokerError>> {
    Box::pin(ready(answer))
}

impl Broker for Silent {
    fn dedupe(&self) -> Dedupe {
        Dedupe::Forever
    }

    fn submit<'a>(&'a self, _: &'a SubmitOrder) -> BoxFuture<'a, Result<BrokerOrder, BrokerError>> {
        Box::pin(pending())
    }

    fn order_by_client_id<'a>(
        &'a self,
        _: &'a ClientOrderId,
    ) -> BoxFuture<'a, Result<BrokerOrder, BrokerError>> {
        at_once(Err(BrokerError::NotFound))
    }

    fn order<'a>(&'a self, _: &'a BrokerOrderId) -> BoxFuture<'a, Result<BrokerOrder, BrokerError>> {
        at_once(Err(BrokerError::NotFound))
    }

    fn cancel<'a>(&'a self, _: &'a BrokerOrderId) -> BoxFuture<'a, Result<(), BrokerError>> {
        at_once(Err(BrokerError::NotFound))
    }

    fn replace<'a>(
        &'a self,
        _: &'a BrokerOrderId,
        _: &'a ReplaceOrder,
    ) -> BoxFuture<'a, Result<BrokerOrder, BrokerError>> {
        at_once(Err(BrokerError::NotFound))
    }

    fn orders<'a>(&'a self, _: &'a OrderListQuery) -> BoxFuture<'a, Result<Vec<BrokerOrder>, BrokerError>> {
        at_once(Ok(Vec::new()))
    }

    fn fills<'a>(&'a self, _: &'a FillQuery) -> BoxFuture<'a, Result<Vec<FillActivity>, BrokerError>> {
        at_once(Ok(Vec::new()))
    }

    fn movements(
        &self,
        _: chrono::NaiveDate,
    ) -> BoxFuture<'_, Result<Vec<plimsoll_core_domain::broker::AccountMovement>, BrokerError>> {
        at_once(Ok(Vec::new()))
    }

    fn positions(&self) -> BoxFuture<'_, Result<Vec<BrokerPosition>, BrokerError>> {
        at_once(Ok(Vec::new()))
    }

    fn account(&self) -> BoxFuture<'_, Result<BrokerAccount, BrokerError>> {
        at_once(Ok(BrokerAccount {
            number: self.number.clone(),
            status: "ACTIVE".to_owned(),
            currency: "USD".to_owned(),
            cash: Decimal::from(1_000_000),
            buying_power: Decimal::from(1_000_000),
            equity: Decimal::from(1_000_000),
            last_equity: Decimal::from(1_000_000),
            trading_blocked: false,
        }))
    }

    fn asset<'a>(&'a self, symbol: &'a Symbol) -> BoxFuture<'a, Result<BrokerAsset, BrokerError>> {
        at_once(Ok(BrokerAsset {
            symbol: symbol.clone(),
            class: "us_equity".to_owned(),
            tradable: true,
            fractionable: true,
            shortable: true,
        }))
    }

    fn clock(&self) -> BoxFuture<'_, Result<MarketClock, BrokerError>> {
        let now = SystemClock.now();
        at_once(Ok(MarketClock {
            timestamp: now,
            is_open: true,
            next_open: now + TimeDelta::days(1),
            next_close: now + TimeDelta::hours(1),
        }))
    }

    fn portfolio_history<'a>(
        &'a self,
        _: &'a HistoryQuery,
    ) -> BoxFuture<'a, Result<PortfolioHistory, BrokerError>> {
        at_once(Ok(PortfolioHistory::default()))
    }

    fn follow<'a>(&'a self, sink: &'a dyn TradeSink) -> BoxFuture<'a, BrokerError> {
        Box::pin(async move {
            sink.connected().await;
            pending().await
        })
    }
}
