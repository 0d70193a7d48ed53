//! An adapter whose refusals for its credentials are told to the supervisor, whichever call meets them.

use std::sync::Arc;

use plimsoll_core_domain::broker::{
    BoxFuture, Broker, BrokerAccount, BrokerAsset, BrokerError, BrokerOrder, BrokerPosition, Dedupe,
    FillActivity, FillQuery, HistoryQuery, MarketClock, OrderListQuery, PortfolioHistory, ReplaceOrder,
    SubmitOrder, TradeSink,
};
use plimsoll_core_domain::{BrokerOrderId, ClientOrderId, Symbol};

use super::reports::{Report, Teller};

/// The adapter of one account.
pub(super) struct Watched {
    inner: Arc<dyn Broker>,
    teller: Teller,
}

type Answer<'a, T> = BoxFuture<'a, Result<T, BrokerError>>;

impl Watched {
    pub(super) fn new(inner: Arc<dyn Broker>, teller: Teller) -> Self {
        Self { inner, teller }
    }

    fn heed(&self, error: &BrokerError) {
        if let BrokerError::Unauthorized(why) = error {
            self.teller.tell(Report::Refused(why.clone()));
        }
    }

    fn watch<'a, T: Send + 'a>(&'a self, call: Answer<'a, T>) -> Answer<'a, T> {
        Box::pin(async move { call.await.inspect_err(|error| self.heed(error)) })
    }
}

impl Broker for Watched {
    fn dedupe(&self) -> Dedupe {
        self.inner.dedupe()
    }

    fn submit<'a>(&'a self, order: &'a SubmitOrder) -> Answer<'a, BrokerOrder> {
        self.watch(self.inner.submit(order))
    }

    fn order_by_client_id<'a>(&'a self, id: &'a ClientOrderId) -> Answer<'a, BrokerOrder> {
        self.watch(self.inner.order_by_client_id(id))
    }

    fn order<'a>(&'a self, id: &'a BrokerOrderId) -> Answer<'a, BrokerOrder> {
        self.watch(self.inner.order(id))
    }

    fn cancel<'a>(&'a self, id: &'a BrokerOrderId) -> Answer<'a, ()> {
        self.watch(self.inner.cancel(id))
    }

    fn replace<'a>(&'a self, id: &'a BrokerOrderId, change: &'a ReplaceOrder) -> Answer<'a, BrokerOrder> {
        self.watch(self.inner.replace(id, change))
    }

    fn orders<'a>(&'a self, query: &'a OrderListQuery) -> Answer<'a, Vec<BrokerOrder>> {
        self.watch(self.inner.orders(query))
    }

    fn fills<'a>(&'a self, query: &'a FillQuery) -> Answer<'a, Vec<FillActivity>> {
        self.watch(self.inner.fills(query))
    }

    fn positions(&self) -> Answer<'_, Vec<BrokerPosition>> {
        self.watch(self.inner.positions())
    }

    fn account(&self) -> Answer<'_, BrokerAccount> {
        self.watch(self.inner.account())
    }

    fn asset<'a>(&'a self, symbol: &'a Symbol) -> Answer<'a, BrokerAsset> {
        self.watch(self.inner.asset(symbol))
    }

    fn clock(&self) -> Answer<'_, MarketClock> {
        self.watch(self.inner.clock())
    }

    fn portfolio_history<'a>(&'a self, query: &'a HistoryQuery) -> Answer<'a, PortfolioHistory> {
        self.watch(self.inner.portfolio_history(query))
    }

    fn follow<'a>(&'a self, sink: &'a dyn TradeSink) -> BoxFuture<'a, BrokerError> {
        Box::pin(async move {
            let end = self.inner.follow(sink).await;
            self.heed(&end);
            end
        })
    }
}
