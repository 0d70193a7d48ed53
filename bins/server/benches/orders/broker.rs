//! A broker that answers every question at once. It never says what became of an order, or it takes every order at once
//! and notes when.

use std::collections::HashMap;
use std::future::{pending, ready};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Instant;

use chrono::TimeDelta;
use plimsoll_core_domain::broker::{
    BoxFuture, Broker, BrokerAccount, BrokerAsset, BrokerError, BrokerOrder, BrokerPosition, BrokerStatus,
    Dedupe, FillActivity, FillQuery, HistoryQuery, MarketClock, OrderListQuery, PortfolioHistory,
    ReplaceOrder, SubmitOrder, TradeSink,
};
use plimsoll_core_domain::order::{OrderSize, OrderStatus};
use plimsoll_core_domain::{BrokerOrderId, ClientOrderId, Clock, Symbol, SystemClock};
use rust_decimal::Decimal;
use rust_decimal::prelude::ToPrimitive;
use tokio_util::sync::CancellationToken;

/// The broker of one account.
pub(crate) struct Silent {
    /// The account's number at the broker.
    pub(crate) number: String,
    /// Where orders are noted that it takes; `None`: it never answers for one.
    pub(crate) sends: Option<Arc<Sends>>,
    /// Lets go who waits for an answer when the bench ends.
    pub(crate) end: CancellationToken,
}

/// Orders that arrived, by their sizes.
#[derive(Default)]
pub(crate) struct Sends(Mutex<HashMap<u64, Vec<Instant>>>);

#[allow(dead_code, reason = "each bench uses its part")]
impl Sends {
    pub(crate) fn clear(&self) {
        self.seen().clear();
    }

    pub(crate) fn count(&self) -> usize {
        self.seen().len()
    }

    /// When the order of this size came; an error unless it came once.
    pub(crate) fn once(&self, size: u64) -> super::Result<Instant> {
        match self.seen().get(&size).map(Vec::as_slice) {
            Some([at]) => Ok(*at),
            Some(times) => Err(format!("order {size} came {} times", times.len()).into()),
            None => Err(format!("order {size} did not come").into()),
        }
    }

    fn note(&self, size: u64) {
        self.seen().entry(size).or_default().push(Instant::now());
    }

    fn seen(&self) -> MutexGuard<'_, HashMap<u64, Vec<Instant>>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// The order as the broker shows it when it has just taken it.
fn taken(sent: &SubmitOrder) -> BrokerOrder {
    let (terms, now) = (&sent.order, SystemClock.now());
    let qty = match terms.size {
        OrderSize::Qty(qty) => Some(qty.get()),
        OrderSize::Notional(_) => None,
    };
    BrokerOrder {
        id: BrokerOrderId::new(format!("b-{}", sent.client_order_id.as_str())).expect("it is short"),
        client_order_id: sent.client_order_id.as_str().to_owned(),
        symbol: terms.symbol.as_str().to_owned(),
        side: Some(terms.side),
        order_type: Some(terms.pricing.order_type()),
        time_in_force: Some(terms.time_in_force),
        class: Some(terms.class),
        role: None,
        qty,
        notional: None,
        limit_price: terms.pricing.limit_price().map(|price| price.get()),
        stop_price: None,
        trail_price: None,
        trail_percent: None,
        extended_hours: terms.extended_hours,
        status: BrokerStatus::Known(OrderStatus::New),
        filled_qty: Decimal::ZERO,
        filled_avg_price: None,
        submitted_at: Some(now),
        updated_at: now,
        replaces: None,
        replaced_by: None,
        legs: Vec::new(),
    }
}

fn at_once<'a, T: Send + 'a>(answer: Result<T, BrokerError>) -> BoxFuture<'a, Result<T, BrokerError>> {
    Box::pin(ready(answer))
}

impl Broker for Silent {
    fn dedupe(&self) -> Dedupe {
        Dedupe::Forever
    }

    fn submit<'a>(&'a self, order: &'a SubmitOrder) -> BoxFuture<'a, Result<BrokerOrder, BrokerError>> {
        let Some(sends) = &self.sends else {
            return Box::pin(async {
                self.end.cancelled().await;
                Err(BrokerError::Unreachable("the bench is over".to_owned()))
            });
        };
        let taken = taken(order);
        sends.note(taken.qty.and_then(|qty| qty.to_u64()).unwrap_or_default());
        at_once(Ok(taken))
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
