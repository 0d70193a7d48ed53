//! What every adapter of the [`Broker`] port must do, as a suite that runs against a broker with play money.
//!
//! Give it an adapter and a [`ContractFixture`]; [`run`] places, replaces and cancels small orders, and panics with
//! every promise that was broken. It leaves a position of a few units behind and no open order.

mod orders;
mod stream;

use std::fmt;
use std::time::Duration;

use plimsoll_core_domain::broker::{
    Broker, BrokerError, BrokerOrder, BrokerStatus, FillActivity, FillQuery, SubmitOrder,
};
use plimsoll_core_domain::order::{NewOrder, OrderClass, OrderSize, OrderStatus, Pricing, Side, TimeInForce};
use plimsoll_core_domain::{BrokerOrderId, ClientOrderId, Price, Quantity, Symbol};
use rust_decimal::Decimal;
use tokio::time::Instant;

const POLL: Duration = Duration::from_millis(100);

/// What the suite needs to know of the place it runs in.
pub trait ContractFixture: Send + Sync {
    /// An id that was never used at the broker; another one at each call.
    fn client_order_id(&self) -> ClientOrderId;
    /// What to trade: market orders for a few whole units fill within [`ContractFixture::patience`]. The market is open.
    fn symbol(&self) -> Symbol;
    /// A limit at which a buy order rests for as long as the suite runs: far below the market, at least 2, in whole cents.
    fn resting_price(&self) -> Price;
    /// An order that the broker refuses, such as one far beyond the buying power.
    fn refused_order(&self) -> NewOrder;
    /// A symbol that the broker does not know.
    fn unknown_symbol(&self) -> Symbol;
    /// A well-formed id that belongs to no order.
    fn unknown_order(&self) -> BrokerOrderId;
    /// How long to wait for something that must happen.
    fn patience(&self) -> Duration {
        Duration::from_secs(15)
    }
}

/// A promise that was broken.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Violation {
    /// Which one.
    pub check: &'static str,
    /// What was seen.
    pub seen: String,
}

impl fmt::Display for Violation {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}: {}", self.check, self.seen)
    }
}

/// Runs the whole suite.
///
/// # Panics
/// With all the promises that the adapter broke.
pub async fn run(broker: &dyn Broker, fixture: &dyn ContractFixture) {
    let broken = violations(broker, fixture).await;
    let list: Vec<String> = broken.iter().map(ToString::to_string).collect();
    assert!(broken.is_empty(), "the adapter breaks the port's contract:\n{}", list.join("\n"));
}

/// Runs the whole suite and tells the promises that the adapter broke.
pub async fn violations(broker: &dyn Broker, fixture: &dyn ContractFixture) -> Vec<Violation> {
    let bench = Bench { broker, fixture };
    let mut broken = Vec::new();
    let mut note = |check, result: Result<(), String>| {
        if let Err(seen) = result {
            broken.push(Violation { check, seen });
        }
    };
    note("account, clock and assets can be read", bench.surroundings().await);
    note("an order that was submitted is found by both ids", bench.found_by_both_ids().await);
    note("a second order under one client id is refused", bench.duplicate_is_refused().await);
    note("what is not there is not found", bench.unknown_is_not_found().await);
    note("a canceled order ends canceled", bench.cancel().await);
    note("the book of fills and the position match the filled quantity", bench.fills_match().await);
    note("a replacement and the replaced order name each other", bench.replacement_chain().await);
    note("a refused order leaves nothing behind", bench.refusal_leaves_nothing().await);
    note("a group is shown with its legs", bench.legs_are_nested().await);
    note("orders are listed oldest first, page by page", bench.listing().await);
    note("the stream shows what the look-ups show", bench.stream_matches().await);
    broken
}

/// The adapter under test and what the checks share.
struct Bench<'a> {
    broker: &'a dyn Broker,
    fixture: &'a dyn ContractFixture,
}

impl Bench<'_> {
    fn buy(&self, units: i64, pricing: Pricing) -> NewOrder {
        NewOrder {
            symbol: self.fixture.symbol(),
            side: Side::Buy,
            pricing,
            time_in_force: TimeInForce::Day,
            size: OrderSize::Qty(quantity(units)),
            extended_hours: false,
            class: OrderClass::Simple,
            take_profit: None,
            stop_loss: None,
        }
    }

    fn resting(&self, units: i64) -> NewOrder {
        self.buy(units, Pricing::Limit { limit: self.fixture.resting_price() })
    }

    fn with_id(&self, order: NewOrder) -> SubmitOrder {
        SubmitOrder { client_order_id: self.fixture.client_order_id(), order }
    }

    /// Submits, and waits until the order works (or is done).
    async fn place(&self, order: NewOrder) -> Result<BrokerOrder, String> {
        let sent = self.with_id(order);
        let answer = self.broker.submit(&sent).await.map_err(|error| format!("submit: {error}"))?;
        same("client id in the answer", &answer.client_order_id.as_str(), &sent.client_order_id.as_str())?;
        self.order_until(&answer.id, "it is taken", |order| {
            !matches!(status(order), Some(OrderStatus::Accepted) | None)
        })
        .await
    }

    async fn order(&self, id: &BrokerOrderId) -> Result<BrokerOrder, String> {
        self.broker.order(id).await.map_err(|error| format!("order {id}: {error}"))
    }

    async fn order_until(
        &self,
        id: &BrokerOrderId,
        what: &str,
        done: impl Fn(&BrokerOrder) -> bool,
    ) -> Result<BrokerOrder, String> {
        self.until(what, async || match self.broker.order(id).await {
            Ok(order) if done(&order) => Ok(order),
            Ok(order) => Err(format!("order {id} is {:?}, {} filled", order.status, order.filled_qty)),
            Err(error) => Err(format!("order {id}: {error}")),
        })
        .await
    }

    async fn cancel_and_wait(&self, id: &BrokerOrderId) -> Result<BrokerOrder, String> {
        self.broker.cancel(id).await.map_err(|error| format!("cancel {id}: {error}"))?;
        self.order_until(id, "it is canceled", |order| status(order) == Some(OrderStatus::Canceled)).await
    }

    async fn fills_of(&self, id: &BrokerOrderId) -> Result<Vec<FillActivity>, String> {
        let query = FillQuery { order_id: Some(id.clone()), ..FillQuery::default() };
        self.broker.fills(&query).await.map_err(|error| format!("fills of {id}: {error}"))
    }

    /// Tries until it succeeds or patience is over; then tells the last failure.
    async fn until<T>(&self, what: &str, attempt: impl AsyncFn() -> Result<T, String>) -> Result<T, String> {
        let deadline = Instant::now() + self.fixture.patience();
        loop {
            match attempt().await {
                Ok(value) => return Ok(value),
                Err(seen) if Instant::now() >= deadline => {
                    return Err(format!("waited {:?} until {what}: {seen}", self.fixture.patience()));
                }
                Err(_) => tokio::time::sleep(POLL).await,
            }
        }
    }
}

fn quantity(units: i64) -> Quantity {
    Quantity::new(Decimal::from(units)).expect("the suite orders a few whole units")
}

fn cents(price: Decimal) -> Price {
    Price::new(price.round_dp(2)).expect("the fixture's resting price is at least 2")
}

fn status(order: &BrokerOrder) -> Option<OrderStatus> {
    match order.status {
        BrokerStatus::Known(status) => Some(status),
        BrokerStatus::Other(_) => None,
    }
}

fn same<T: PartialEq + fmt::Debug>(what: &str, seen: &T, wanted: &T) -> Result<(), String> {
    if seen == wanted { Ok(()) } else { Err(format!("{what} is {seen:?} instead of {wanted:?}")) }
}

fn expect_error<T: fmt::Debug>(
    what: &str,
    result: Result<T, BrokerError>,
    wanted: impl Fn(&BrokerError) -> bool,
) -> Result<(), String> {
    match result {
        Err(error) if wanted(&error) => Ok(()),
        other => Err(format!("{what} gave {other:?}")),
    }
}
