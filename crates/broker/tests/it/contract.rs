//! The contract suite itself: a broker that keeps the port's promises passes, and each broken promise is found.

use std::sync::{Arc, Mutex};
use std::time::Duration;

use chrono::{DateTime, TimeDelta, Utc};
use plimsoll_broker::contract::{ContractFixture, run, violations};
use plimsoll_core_domain::broker::*;
use plimsoll_core_domain::order::{
    LegRole, NewOrder, OrderClass, OrderSize, OrderStatus, OrderType, Pricing, Side, TimeInForce,
};
use plimsoll_core_domain::{BrokerOrderId, ClientOrderId, Price, Quantity, Symbol};
use rust_decimal::Decimal;
use tokio::sync::broadcast;

use super::support::{client_id, dec, order_id};

const MARKET: &str = "100";

/// Which promise the broker breaks.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Fault {
    None,
    TakesDuplicates,
    KeepsRefused,
    ForgetsFills,
    BooksFillsTwice,
    NeverCancels,
    ForgetsReplaced,
    HidesLegs,
    ListsNewestFirst,
    SilentStream,
    FindsAnything,
    ClosedMarket,
}

#[derive(Default)]
struct Books {
    orders: Vec<BrokerOrder>,
    fills: Vec<FillActivity>,
    changes: i64,
}

/// A broker in memory: market orders fill at once in two parts, all others rest.
struct MemoryBroker {
    fault: Fault,
    books: Mutex<Books>,
    stream: broadcast::Sender<TradeUpdate>,
}

impl MemoryBroker {
    fn new(fault: Fault) -> Self {
        Self { fault, books: Mutex::default(), stream: broadcast::channel(100).0 }
    }

    fn fault(&self, fault: Fault) -> bool {
        self.fault == fault
    }

    fn tick(books: &mut Books) -> DateTime<Utc> {
        books.changes += 1;
        DateTime::UNIX_EPOCH + TimeDelta::milliseconds(books.changes)
    }

    fn say(&self, event: &str, order: &BrokerOrder, fill: Option<(Quantity, Price)>) {
        let mut order = order.clone();
        order.legs.clear();
        let event_id = Some(format!("{}-{event}-{}", order.id, order.filled_qty));
        let update = TradeUpdate {
            event: event.to_owned(),
            event_id,
            at: order.updated_at,
            order,
            fill,
            reason: None,
        };
        if !self.fault(Fault::SilentStream) {
            let _ = self.stream.send(update.clone());
            // Repeats are allowed.
            let _ = self.stream.send(update);
        }
    }

    fn order_from(books: &mut Books, client_order_id: &str, order: &NewOrder) -> BrokerOrder {
        let at = Self::tick(books);
        let id = order_id(&format!("o-{}", books.changes));
        let leg = |role, limit_price: Option<Price>, stop_price: Option<Price>| BrokerOrder {
            id: order_id(&format!("{id}-{role}")),
            client_order_id: format!("{client_order_id}-{role}"),
            symbol: order.symbol.to_string(),
            side: Some(order.side.opposite()),
            order_type: Some(if stop_price.is_some() { OrderType::Stop } else { OrderType::Limit }),
            time_in_force: Some(order.time_in_force),
            class: Some(order.class),
            role: Some(role),
            qty: order.qty().map(Decimal::from),
            notional: None,
            limit_price: limit_price.map(Decimal::from),
            stop_price: stop_price.map(Decimal::from),
            trail_price: None,
            trail_percent: None,
            extended_hours: false,
            status: BrokerStatus::Known(OrderStatus::Held),
            filled_qty: Decimal::ZERO,
            filled_avg_price: None,
            submitted_at: Some(at),
            updated_at: at,
            replaces: None,
            replaced_by: None,
            legs: Vec::new(),
        };
        let legs = (order.take_profit.map(|limit| leg(LegRole::TakeProfit, Some(limit), None)).into_iter())
            .chain(order.stop_loss.map(|stop| leg(LegRole::StopLoss, stop.limit, Some(stop.stop))))
            .collect();
        let mut entry = leg(LegRole::Entry, order.pricing.limit_price(), order.pricing.stop_price());
        entry.id = id;
        entry.client_order_id = client_order_id.to_owned();
        entry.side = Some(order.side);
        entry.order_type = Some(order.pricing.order_type());
        entry.status = BrokerStatus::Known(OrderStatus::New);
        entry.legs = legs;
        entry
    }

    fn fill(&self, books: &mut Books, order: &mut BrokerOrder) {
        let total = order.qty.unwrap();
        let parts = if total > Decimal::ONE { vec![Decimal::ONE, total - Decimal::ONE] } else { vec![total] };
        let price = Price::new(dec(MARKET)).unwrap();
        for part in parts {
            order.updated_at = Self::tick(books);
            order.filled_qty += part;
            order.filled_avg_price = Some(price.get());
            let done = order.filled_qty == total;
            order.status =
                BrokerStatus::Known(if done { OrderStatus::Filled } else { OrderStatus::PartiallyFilled });
            let qty = Quantity::new(part).unwrap();
            let fill = FillActivity {
                id: format!("f-{}", books.changes),
                order_id: order.id.clone(),
                symbol: order.symbol.clone(),
                side: order.side,
                qty,
                price,
                cum_qty: Quantity::new(order.filled_qty).unwrap(),
                at: order.updated_at,
            };
            if self.fault(Fault::BooksFillsTwice) {
                books.fills.push(fill.clone());
            }
            if !self.fault(Fault::ForgetsFills) {
                books.fills.push(fill);
            }
            self.say(if done { "fill" } else { "partial_fill" }, order, Some((qty, price)));
        }
    }

    fn find(&self, matches: impl Fn(&BrokerOrder) -> bool) -> Result<BrokerOrder, BrokerError> {
        let books = self.books.lock().unwrap();
        let mut found = match books.orders.iter().find(|order| matches(order)) {
            Some(order) => order.clone(),
            None if self.fault(Fault::FindsAnything) => {
                books.orders.first().ok_or(BrokerError::NotFound)?.clone()
            }
            None => return Err(BrokerError::NotFound),
        };
        if self.fault(Fault::HidesLegs) {
            found.legs.clear();
        }
        Ok(found)
    }

    fn do_submit(&self, sent: &SubmitOrder) -> Result<BrokerOrder, BrokerError> {
        let mut books = self.books.lock().unwrap();
        let client_order_id = sent.client_order_id.as_str();
        let taken = books.orders.iter().any(|order| order.client_order_id == client_order_id);
        if taken && !self.fault(Fault::TakesDuplicates) {
            return Err(BrokerError::DuplicateClientOrderId);
        }
        let mut order = Self::order_from(&mut books, client_order_id, &sent.order);
        if order.qty.unwrap() > Decimal::from(1_000_000) {
            if self.fault(Fault::KeepsRefused) {
                books.orders.push(order);
            }
            let message = "insufficient buying power".to_owned();
            return Err(BrokerError::Refused { status: 403, code: Some(40_310_000), message });
        }
        self.say("new", &order, None);
        let answer = order.clone();
        if sent.order.pricing == Pricing::Market {
            self.fill(&mut books, &mut order);
        }
        books.orders.push(order);
        Ok(answer)
    }

    fn do_cancel(&self, id: &BrokerOrderId) -> Result<(), BrokerError> {
        let mut books = self.books.lock().unwrap();
        let at = Self::tick(&mut books);
        let order = books.orders.iter_mut().find(|order| order.id == *id).ok_or(BrokerError::NotFound)?;
        if order.status != BrokerStatus::Known(OrderStatus::New) {
            let message = "order is already in a final state".to_owned();
            return Err(BrokerError::Refused { status: 422, code: Some(42_210_000), message });
        }
        if !self.fault(Fault::NeverCancels) {
            for order in
                std::iter::once(&mut order.status).chain(order.legs.iter_mut().map(|leg| &mut leg.status))
            {
                *order = BrokerStatus::Known(OrderStatus::Canceled);
            }
            order.updated_at = at;
            self.say("canceled", order, None);
        }
        Ok(())
    }

    fn do_replace(&self, id: &BrokerOrderId, change: &ReplaceOrder) -> Result<BrokerOrder, BrokerError> {
        let mut books = self.books.lock().unwrap();
        let at = Self::tick(&mut books);
        let new_id = order_id(&format!("o-{}", books.changes));
        let old = books.orders.iter_mut().find(|order| order.id == *id).ok_or(BrokerError::NotFound)?;
        let mut new = old.clone();
        new.id = new_id.clone();
        new.client_order_id =
            change.client_order_id.as_ref().map_or_else(|| new_id.to_string(), ToString::to_string);
        new.qty = change.qty.map(Decimal::from).or(new.qty);
        new.limit_price = change.limit_price.map(Decimal::from).or(new.limit_price);
        new.replaces = Some(old.id.clone());
        new.updated_at = at;
        if !self.fault(Fault::ForgetsReplaced) {
            old.status = BrokerStatus::Known(OrderStatus::Replaced);
            old.replaced_by = Some(new_id);
            old.updated_at = at;
        }
        books.orders.push(new.clone());
        Ok(new)
    }

    fn do_list(&self, query: &OrderListQuery) -> Vec<BrokerOrder> {
        let books = self.books.lock().unwrap();
        let start = query.after_order_id.as_ref().map_or(0, |id| {
            books.orders.iter().position(|order| order.id == *id).map_or(0, |index| index + 1)
        });
        let limit = if query.limit == 0 { 500 } else { usize::from(query.limit) };
        let open =
            |order: &&BrokerOrder| !query.open_only || order.status == BrokerStatus::Known(OrderStatus::New);
        let mut page: Vec<_> = books.orders[start..].iter().filter(open).take(limit).cloned().collect();
        if self.fault(Fault::ListsNewestFirst) {
            page.reverse();
        }
        page
    }
}

impl Broker for MemoryBroker {
    fn dedupe(&self) -> Dedupe {
        Dedupe::Forever
    }
    fn submit<'a>(&'a self, order: &'a SubmitOrder) -> BoxFuture<'a, Result<BrokerOrder, BrokerError>> {
        Box::pin(async { self.do_submit(order) })
    }
    fn order_by_client_id<'a>(
        &'a self,
        id: &'a ClientOrderId,
    ) -> BoxFuture<'a, Result<BrokerOrder, BrokerError>> {
        Box::pin(async { self.find(|order| order.client_order_id == id.as_str()) })
    }
    fn order<'a>(&'a self, id: &'a BrokerOrderId) -> BoxFuture<'a, Result<BrokerOrder, BrokerError>> {
        Box::pin(async { self.find(|order| order.id == *id) })
    }
    fn cancel<'a>(&'a self, id: &'a BrokerOrderId) -> BoxFuture<'a, Result<(), BrokerError>> {
        Box::pin(async { self.do_cancel(id) })
    }
    fn replace<'a>(
        &'a self,
        id: &'a BrokerOrderId,
        change: &'a ReplaceOrder,
    ) -> BoxFuture<'a, Result<BrokerOrder, BrokerError>> {
        Box::pin(async { self.do_replace(id, change) })
    }
    fn orders<'a>(
        &'a self,
        query: &'a OrderListQuery,
    ) -> BoxFuture<'a, Result<Vec<BrokerOrder>, BrokerError>> {
        Box::pin(async { Ok(self.do_list(query)) })
    }
    fn fills<'a>(&'a self, query: &'a FillQuery) -> BoxFuture<'a, Result<Vec<FillActivity>, BrokerError>> {
        Box::pin(async {
            let books = self.books.lock().unwrap();
            let wanted = |fill: &&FillActivity| query.order_id.as_ref().is_none_or(|id| fill.order_id == *id);
            Ok(books.fills.iter().filter(wanted).cloned().collect())
        })
    }
    fn movements(
        &self,
        _: chrono::NaiveDate,
    ) -> BoxFuture<'_, Result<Vec<plimsoll_core_domain::broker::AccountMovement>, BrokerError>> {
        Box::pin(async { Ok(Vec::new()) })
    }
    fn positions(&self) -> BoxFuture<'_, Result<Vec<BrokerPosition>, BrokerError>> {
        Box::pin(async {
            let qty: Decimal = self.books.lock().unwrap().orders.iter().map(|order| order.filled_qty).sum();
            let position = BrokerPosition {
                symbol: "SPY".to_owned(),
                qty,
                avg_entry_price: dec(MARKET),
                current_price: None,
                lastday_price: None,
            };
            Ok(if qty.is_zero() { Vec::new() } else { vec![position] })
        })
    }
    fn account(&self) -> BoxFuture<'_, Result<BrokerAccount, BrokerError>> {
        Box::pin(async {
            Ok(BrokerAccount {
                number: "1".to_owned(),
                status: "ACTIVE".to_owned(),
                currency: "USD".to_owned(),
                cash: Decimal::ZERO,
                buying_power: Decimal::ZERO,
                equity: Decimal::ZERO,
                last_equity: Decimal::ZERO,
                trading_blocked: false,
            })
        })
    }
    fn asset<'a>(&'a self, symbol: &'a Symbol) -> BoxFuture<'a, Result<BrokerAsset, BrokerError>> {
        Box::pin(async {
            if symbol.as_str() != "SPY" {
                return Err(BrokerError::NotFound);
            }
            let class = "us_equity".to_owned();
            Ok(BrokerAsset {
                symbol: symbol.clone(),
                class,
                tradable: true,
                fractionable: true,
                shortable: true,
            })
        })
    }
    fn clock(&self) -> BoxFuture<'_, Result<MarketClock, BrokerError>> {
        Box::pin(async {
            let timestamp = DateTime::UNIX_EPOCH;
            let later = timestamp + TimeDelta::hours(1);
            let is_open = !self.fault(Fault::ClosedMarket);
            Ok(MarketClock { timestamp, is_open, next_open: later, next_close: later })
        })
    }
    fn portfolio_history<'a>(
        &'a self,
        _: &'a HistoryQuery,
    ) -> BoxFuture<'a, Result<PortfolioHistory, BrokerError>> {
        Box::pin(async { Ok(PortfolioHistory::default()) })
    }
    fn follow<'a>(&'a self, sink: &'a dyn TradeSink) -> BoxFuture<'a, BrokerError> {
        Box::pin(async {
            let mut updates = self.stream.subscribe();
            sink.connected().await;
            loop {
                match updates.recv().await {
                    Ok(update) => sink.update(update).await,
                    Err(error) => return BrokerError::Unreachable(error.to_string()),
                }
            }
        })
    }
}

struct Fixture {
    next: Arc<Mutex<u32>>,
    patience: Duration,
}

impl Fixture {
    fn new(patience: Duration) -> Self {
        Self { next: Arc::default(), patience }
    }
}

impl ContractFixture for Fixture {
    fn client_order_id(&self) -> ClientOrderId {
        let mut next = self.next.lock().unwrap();
        *next += 1;
        client_id(&format!("c-{next}"))
    }
    fn symbol(&self) -> Symbol {
        Symbol::new("SPY").unwrap()
    }
    fn resting_price(&self) -> Price {
        Price::new(dec("10")).unwrap()
    }
    fn refused_order(&self) -> NewOrder {
        NewOrder {
            symbol: self.symbol(),
            side: Side::Buy,
            pricing: Pricing::Market,
            time_in_force: TimeInForce::Day,
            size: OrderSize::Qty(Quantity::new(dec("90000000")).unwrap()),
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
        order_id("00000000-0000-4000-8000-000000000000")
    }
    fn patience(&self) -> Duration {
        self.patience
    }
}

#[tokio::test]
async fn a_broker_that_keeps_its_promises_passes() {
    run(&MemoryBroker::new(Fault::None), &Fixture::new(Duration::from_secs(5))).await;
}

#[tokio::test]
async fn every_broken_promise_is_found() {
    for (fault, check) in [
        (Fault::TakesDuplicates, "a second order under one client id is refused"),
        (Fault::KeepsRefused, "a refused order leaves nothing behind"),
        (Fault::ForgetsFills, "the book of fills and the position match the filled quantity"),
        (Fault::BooksFillsTwice, "the book of fills and the position match the filled quantity"),
        (Fault::NeverCancels, "a canceled order ends canceled"),
        (Fault::ForgetsReplaced, "a replacement and the replaced order name each other"),
        (Fault::HidesLegs, "a group is shown with its legs"),
        (Fault::ListsNewestFirst, "orders are listed oldest first, page by page"),
        (Fault::SilentStream, "the stream shows what the look-ups show"),
        (Fault::FindsAnything, "what is not there is not found"),
        (Fault::ClosedMarket, "account, clock and assets can be read"),
    ] {
        let broken = violations(&MemoryBroker::new(fault), &Fixture::new(Duration::from_millis(50))).await;
        assert!(broken.iter().any(|violation| violation.check == check), "{fault:?}: {broken:?}");
    }
}
