//! A broker with a ledger that a test writes, and that misbehaves on demand.

use std::collections::{BTreeMap, HashSet};
use std::sync::Mutex;

use chrono::{DateTime, NaiveDate, TimeDelta, Utc};
use plimsoll_core_domain::broker::{
    AccountMovement, BoxFuture, Broker, BrokerAccount, BrokerAsset, BrokerError, BrokerOrder, BrokerPosition,
    BrokerStatus, Dedupe, FillActivity, FillQuery, HistoryQuery, MarketClock, OrderListQuery,
    PortfolioHistory, ReplaceOrder, SubmitOrder, TradeSink,
};
use plimsoll_core_domain::order::{NewOrder, OrderStatus, Side};
use plimsoll_core_domain::position::Position;
use plimsoll_core_domain::{BrokerOrderId, ClientOrderId, Price, Quantity, Symbol};
use rust_decimal::Decimal;

use super::super::Reported;
use super::super::run::execution_of;
use crate::testing::FakeBroker;

#[derive(Default)]
pub(super) struct Ledger {
    pub(super) orders: Vec<BrokerOrder>,
    pub(super) fills: Vec<FillActivity>,
    pub(super) positions: BTreeMap<String, Position>,
    pub(super) cash: Decimal,
    pub(super) movements: Vec<AccountMovement>,
    /// Left out of lists.
    pub(super) unlisted: HashSet<BrokerOrderId>,
    /// Look-ups answer 404.
    pub(super) unfound: HashSet<BrokerOrderId>,
    /// The book of fills leaves these orders out.
    pub(super) untold: HashSet<BrokerOrderId>,
    /// Calls of this name fail.
    pub(super) failing: HashSet<&'static str>,
    pub(super) calls: Vec<&'static str>,
    /// Of the account; `one` where it is not said.
    pub(super) number: Option<&'static str>,
    clock: i64,
}

/// The broker.
#[derive(Default)]
pub(super) struct Model(pub(super) Mutex<Ledger>);

pub(super) fn time(seconds: i64) -> DateTime<Utc> {
    DateTime::UNIX_EPOCH + TimeDelta::days(20_000) + TimeDelta::seconds(seconds)
}

pub(super) fn id(text: &str) -> BrokerOrderId {
    text.parse().unwrap()
}

impl Ledger {
    fn tick(&mut self) -> DateTime<Utc> {
        self.clock += 1;
        time(self.clock)
    }

    /// Takes an order; its number.
    pub(super) fn take(&mut self, client_id: &str, terms: &NewOrder) -> usize {
        let at = self.tick();
        let id = format!("b-{}", self.orders.len());
        self.orders.push(FakeBroker::taken(&id, client_id, terms, at));
        self.orders.len() - 1
    }

    pub(super) fn is_open(&self, n: usize) -> bool {
        matches!(&self.orders[n].status, BrokerStatus::Known(status) if status.is_open())
    }

    pub(super) fn rest(&self, n: usize) -> Decimal {
        self.orders[n].qty.unwrap() - self.orders[n].filled_qty
    }

    /// Fills units of an order at a price: what its stream tells.
    pub(super) fn fill(&mut self, n: usize, qty: Decimal, price: Decimal) -> Reported {
        let at = self.tick();
        let order = &mut self.orders[n];
        let value = order.filled_avg_price.unwrap_or_default() * order.filled_qty + qty * price;
        order.filled_qty += qty;
        order.filled_avg_price = Some(value / order.filled_qty);
        let whole = Some(order.filled_qty) == order.qty;
        order.status =
            BrokerStatus::Known(if whole { OrderStatus::Filled } else { OrderStatus::PartiallyFilled });
        order.updated_at = at;
        let (order, side) = (order.clone(), order.side.unwrap());
        let row = FillActivity {
            id: format!("f-{}", self.fills.len()),
            order_id: order.id.clone(),
            symbol: order.symbol.clone(),
            side: Some(side),
            qty: Quantity::new(qty).unwrap(),
            price: Price::new(price).unwrap(),
            cum_qty: Quantity::new(order.filled_qty).unwrap(),
            at,
        };
        self.positions.entry(order.symbol.clone()).or_default().apply(side, row.qty, row.price).unwrap();
        self.cash -= side.signed(qty * price);
        self.fills.push(row.clone());
        Reported { seen: order, executions: vec![execution_of(&row)] }
    }

    /// Ends an order: what its stream tells.
    pub(super) fn end(&mut self, n: usize, status: OrderStatus) -> Reported {
        let at = self.tick();
        let order = &mut self.orders[n];
        (order.status, order.updated_at) = (BrokerStatus::Known(status), at);
        self.tell(n)
    }

    /// Replaces an order by a new one for the rest: both ends of it, as the stream tells them.
    pub(super) fn replace(&mut self, n: usize, client_id: &str) -> (usize, Reported) {
        let mut new = self.orders[n].clone();
        let at = self.tick();
        (new.id, new.client_order_id) = (id(&format!("b-{}", self.orders.len())), client_id.to_owned());
        (new.qty, new.filled_qty, new.filled_avg_price) = (Some(self.rest(n)), Decimal::ZERO, None);
        (new.status, new.updated_at) = (BrokerStatus::Known(OrderStatus::New), at);
        new.replaces = Some(self.orders[n].id.clone());
        self.orders[n].replaced_by = Some(new.id.clone());
        self.orders.push(new);
        (self.orders.len() - 1, self.end(n, OrderStatus::Replaced))
    }

    pub(super) fn tell(&self, n: usize) -> Reported {
        Reported { seen: self.orders[n].clone(), executions: Vec::new() }
    }

    /// What no order of anybody's bought or sold.
    pub(super) fn hold(&mut self, symbol: &str, side: Side, qty: i64, price: i64) {
        let position = self.positions.entry(symbol.to_owned()).or_default();
        let (qty, price) = (Quantity::new(qty.into()).unwrap(), Price::new(price.into()).unwrap());
        position.apply(side, qty, price).unwrap();
    }
}

impl Model {
    pub(super) fn with<T>(&self, work: impl FnOnce(&mut Ledger) -> T) -> T {
        work(&mut self.0.lock().unwrap())
    }

    fn ask<T: Send + 'static>(
        &self,
        name: &'static str,
        read: impl FnOnce(&Ledger) -> Result<T, BrokerError>,
    ) -> BoxFuture<'static, Result<T, BrokerError>> {
        let answer = self.with(|ledger| {
            ledger.calls.push(name);
            match ledger.failing.contains(name) {
                true => Err(BrokerError::Ambiguous("no answer".into())),
                false => read(ledger),
            }
        });
        Box::pin(async { answer })
    }
}

fn none<T: Send + 'static>() -> BoxFuture<'static, Result<T, BrokerError>> {
    Box::pin(async { Err(BrokerError::NotFound) })
}

impl Broker for Model {
    fn dedupe(&self) -> Dedupe {
        Dedupe::Forever
    }
    fn submit<'a>(&'a self, _: &'a SubmitOrder) -> BoxFuture<'a, Result<BrokerOrder, BrokerError>> {
        none()
    }
    fn order_by_client_id<'a>(
        &'a self,
        id: &'a ClientOrderId,
    ) -> BoxFuture<'a, Result<BrokerOrder, BrokerError>> {
        self.ask("look", |ledger| {
            let mut found = ledger.orders.iter().filter(|one| one.client_order_id == id.as_str());
            found.find(|one| !ledger.unfound.contains(&one.id)).cloned().ok_or(BrokerError::NotFound)
        })
    }
    fn order<'a>(&'a self, id: &'a BrokerOrderId) -> BoxFuture<'a, Result<BrokerOrder, BrokerError>> {
        self.ask("order", |ledger| {
            let mut found = ledger.orders.iter().filter(|one| one.id == *id);
            found.find(|one| !ledger.unfound.contains(&one.id)).cloned().ok_or(BrokerError::NotFound)
        })
    }
    fn cancel<'a>(&'a self, _: &'a BrokerOrderId) -> BoxFuture<'a, Result<(), BrokerError>> {
        none()
    }
    fn replace<'a>(
        &'a self,
        _: &'a BrokerOrderId,
        _: &'a ReplaceOrder,
    ) -> BoxFuture<'a, Result<BrokerOrder, BrokerError>> {
        none()
    }
    fn orders<'a>(
        &'a self,
        query: &'a OrderListQuery,
    ) -> BoxFuture<'a, Result<Vec<BrokerOrder>, BrokerError>> {
        self.ask("orders", |ledger| {
            let all = (0..ledger.orders.len()).filter(|n| !query.open_only || ledger.is_open(*n));
            let all = all.map(|n| &ledger.orders[n]).filter(|one| !ledger.unlisted.contains(&one.id));
            let from = query.after_order_id.clone();
            let mut rows: Vec<_> = all.cloned().collect();
            if let Some(at) = rows.iter().position(|one| Some(&one.id) == from.as_ref()) {
                rows.drain(..=at);
            }
            rows.truncate(500);
            Ok(rows)
        })
    }
    fn fills<'a>(&'a self, query: &'a FillQuery) -> BoxFuture<'a, Result<Vec<FillActivity>, BrokerError>> {
        self.ask("fills", |ledger| {
            let mut rows = ledger.fills.clone();
            if let Some(token) = &query.page_token {
                let at = rows.iter().position(|row| row.id == *token).unwrap();
                rows.drain(..=at);
            }
            rows.retain(|row| {
                !ledger.untold.contains(&row.order_id)
                    && query.after.is_none_or(|after| row.at > after)
                    && query.order_id.as_ref().is_none_or(|id| row.order_id == *id)
            });
            rows.truncate(100);
            Ok(rows)
        })
    }
    fn movements(&self, since: NaiveDate) -> BoxFuture<'_, Result<Vec<AccountMovement>, BrokerError>> {
        self.ask("movements", |ledger| {
            Ok(ledger.movements.iter().filter(|row| row.at.date_naive() >= since).cloned().collect())
        })
    }
    fn positions(&self) -> BoxFuture<'_, Result<Vec<BrokerPosition>, BrokerError>> {
        self.ask("positions", |ledger| {
            let held = ledger.positions.iter().filter(|(_, position)| !position.qty.is_zero());
            Ok(held
                .map(|(symbol, position)| BrokerPosition {
                    symbol: symbol.clone(),
                    qty: position.qty,
                    avg_entry_price: position.avg_entry_price().unwrap_or_default(),
                    current_price: None,
                    lastday_price: None,
                })
                .collect())
        })
    }
    fn account(&self) -> BoxFuture<'_, Result<BrokerAccount, BrokerError>> {
        self.ask("account", |ledger| {
            Ok(BrokerAccount {
                number: ledger.number.unwrap_or("one").into(),
                status: "ACTIVE".into(),
                currency: "USD".into(),
                cash: ledger.cash.round_dp(2),
                buying_power: ledger.cash,
                equity: ledger.cash,
                last_equity: ledger.cash,
                trading_blocked: false,
            })
        })
    }
    fn asset<'a>(&'a self, _: &'a Symbol) -> BoxFuture<'a, Result<BrokerAsset, BrokerError>> {
        none()
    }
    fn clock(&self) -> BoxFuture<'_, Result<MarketClock, BrokerError>> {
        self.ask("clock", |ledger| {
            let timestamp = time(ledger.clock);
            Ok(MarketClock { timestamp, is_open: true, next_open: timestamp, next_close: timestamp })
        })
    }
    fn portfolio_history<'a>(
        &'a self,
        _: &'a HistoryQuery,
    ) -> BoxFuture<'a, Result<PortfolioHistory, BrokerError>> {
        none()
    }
    fn follow<'a>(&'a self, _: &'a dyn TradeSink) -> BoxFuture<'a, BrokerError> {
        Box::pin(std::future::pending())
    }
}
