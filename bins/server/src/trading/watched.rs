//! An adapter whose refusals for its credentials are told to the supervisor, whichever call meets them, and which leaves
//! its broker alone while that is given rest.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use plimsoll_core_domain::broker::{
    AccountMovement, BoxFuture, Broker, BrokerAccount, BrokerAsset, BrokerError, BrokerOrder, BrokerPosition,
    Dedupe, FillActivity, FillQuery, HistoryQuery, MarketClock, OrderListQuery, PortfolioHistory, Quotes,
    ReplaceOrder, SubmitOrder, TradeSink,
};
use plimsoll_core_domain::{AccountId, BrokerOrderId, ClientOrderId, Symbol};
use plimsoll_reliability::retry::Party;

use super::reports::{Report, Teller};

/// The adapter of one account.
pub(super) struct Watched {
    inner: Arc<dyn Broker>,
    teller: Teller,
    place: Party<AccountId>,
    keys: KeyFailures,
}

/// How often an account's keys were not to be had. A call that failed for that says nothing about the broker.
#[derive(Clone, Debug, Default)]
pub(super) struct KeyFailures(Arc<AtomicU64>);

impl KeyFailures {
    pub(super) fn count(&self) {
        self.0.fetch_add(1, Ordering::Relaxed);
    }

    fn so_far(&self) -> u64 {
        self.0.load(Ordering::Relaxed)
    }
}

type Answer<'a, T> = BoxFuture<'a, Result<T, BrokerError>>;

impl Watched {
    pub(super) fn new(
        inner: Arc<dyn Broker>,
        teller: Teller,
        place: Party<AccountId>,
        keys: KeyFailures,
    ) -> Self {
        Self { inner, teller, place, keys }
    }

    fn heed(&self, error: &BrokerError) {
        if let BrokerError::Unauthorized(why) = error {
            self.teller.tell(Report::Refused(why.clone()));
        }
    }

    fn watch<'a, T: Send + 'a>(&'a self, call: Answer<'a, T>) -> Answer<'a, T> {
        Box::pin(async move {
            let pass = self
                .place
                .first()
                .map_err(|not_now| BrokerError::Throttled { retry_after: not_now.after })?;
            let failures = self.keys.so_far();
            let answer = call.await;
            if answer.is_err() && self.keys.so_far() != failures {
                pass.unused();
            } else if matches!(answer, Err(BrokerError::Unreadable(_))) {
                pass.answered();
            } else {
                pass.ended(&answer);
            }
            answer.inspect_err(|error| self.heed(error))
        })
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

    fn movements(&self, since: chrono::NaiveDate) -> Answer<'_, Vec<AccountMovement>> {
        self.watch(self.inner.movements(since))
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

    /// Asked for at any time: it is another service, whose failures are not the broker's.
    fn quotes(&self) -> Option<&dyn Quotes> {
        self.inner.quotes()
    }

    fn follow<'a>(&'a self, sink: &'a dyn TradeSink) -> BoxFuture<'a, BrokerError> {
        Box::pin(async move {
            let end = self.inner.follow(sink).await;
            self.heed(&end);
            end
        })
    }
}

#[cfg(test)]
mod tests {
    use std::sync::atomic::AtomicUsize;
    use std::time::Duration;

    use plimsoll_broker::{AlpacaConfig, AlpacaServer, StaticCredentials};
    use plimsoll_core_domain::UserId;
    use plimsoll_core_domain::order::Environment;
    use plimsoll_reliability::Timings;

    use super::super::places::Places;
    use super::*;

    fn watched(places: &Places, environment: Environment, account: i64) -> Watched {
        let account = AccountId(account);
        plimsoll_broker::install_crypto_provider();
        let config = AlpacaConfig::new("http://127.0.0.1:9", Environment::Paper).unwrap();
        let credentials = StaticCredentials::new("PKTEST", "secret".to_owned().into());
        let adapter = AlpacaServer::new(config).unwrap().account(Arc::new(credentials), 1);
        let (reports, _) = tokio::sync::mpsc::unbounded_channel();
        let teller = Teller { account, user: UserId(1), version: 1, reports };
        let place = places.of(environment).party(account);
        Watched::new(Arc::new(adapter), teller, place, KeyFailures::default())
    }

    async fn call(
        of: &Watched,
        calls: &AtomicUsize,
        answer: Result<(), BrokerError>,
    ) -> Result<(), BrokerError> {
        of.watch(Box::pin(async {
            calls.fetch_add(1, Ordering::SeqCst);
            answer
        }))
        .await
    }

    fn down() -> Result<(), BrokerError> {
        Err(BrokerError::Unreachable("down".into()))
    }

    #[tokio::test]
    async fn a_broker_that_is_down_is_left_alone_by_all_its_accounts() {
        let places = Places::new(&Timings::default());
        let [one, two, other] = [1, 2, 3].map(|account| watched(&places, Environment::Paper, account));
        let live = watched(&places, Environment::Live, 4);
        let calls = AtomicUsize::new(0);
        for of in [&one, &two, &one, &two, &one, &two] {
            assert_eq!(call(of, &calls, down()).await, down());
        }
        let answer = call(&other, &calls, Ok(())).await;
        assert!(
            matches!(answer, Err(BrokerError::Throttled { retry_after }) if retry_after <= Duration::from_secs(5)),
            "{answer:?}"
        );
        assert_eq!(calls.load(Ordering::SeqCst), 6, "it was not called");
        assert_eq!(call(&live, &calls, Ok(())).await, Ok(()), "another broker is");
    }

    #[tokio::test]
    async fn an_account_s_own_trouble_does_not_stop_the_others() {
        let places = Places::new(&Timings::default());
        let [one, other] = [1, 2].map(|account| watched(&places, Environment::Paper, account));
        let calls = AtomicUsize::new(0);
        let throttled = || Err(BrokerError::Throttled { retry_after: Duration::from_secs(30) });
        for answer in [throttled(), Err(BrokerError::Unauthorized("key".into())), Err(BrokerError::NotFound)]
        {
            for _ in 0..10 {
                assert_eq!(call(&one, &calls, answer.clone()).await, answer);
            }
        }
        for _ in 0..10 {
            let no_keys = async {
                one.keys.count();
                down()
            };
            assert_eq!(one.watch(Box::pin(no_keys)).await, down(), "the keys were not to be had");
        }
        assert_eq!(call(&other, &calls, Ok(())).await, Ok(()));
    }

    #[tokio::test]
    async fn what_one_account_alone_meets_stops_that_account_alone() {
        let places = Places::new(&Timings::default());
        let [one, other] = [1, 2].map(|account| watched(&places, Environment::Paper, account));
        let calls = AtomicUsize::new(0);
        for _ in 0..5 {
            assert_eq!(call(&one, &calls, down()).await, down());
        }
        assert!(matches!(call(&one, &calls, Ok(())).await, Err(BrokerError::Throttled { .. })));
        assert_eq!(call(&other, &calls, Ok(())).await, Ok(()));
        assert!(places.of(Environment::Paper).check(&AccountId(1)).is_err());
        assert_eq!(places.of(Environment::Paper).check(&AccountId(2)), Ok(()));
    }

    #[tokio::test]
    async fn an_answer_that_does_not_read_is_one() {
        let places = Places::new(&Timings::default());
        let one = watched(&places, Environment::Paper, 1);
        let calls = AtomicUsize::new(0);
        let unreadable = || Err(BrokerError::Unreadable("updated_at".into()));
        for _ in 0..50 {
            assert_eq!(call(&one, &calls, unreadable()).await, unreadable());
        }
        assert_eq!(call(&one, &calls, Ok(())).await, Ok(()), "it is called on");
    }
}
