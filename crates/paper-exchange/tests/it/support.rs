//! One account on 24 November 2026, a Tuesday in winter time, from 10:00 New York (15:00 UTC) on.

use chrono::{DateTime, TimeDelta, Utc};
use plimsoll_paper_exchange::order::{OrderStatus, OrderType, Side, StopLoss, TakeProfit, TimeInForce};
use plimsoll_paper_exchange::record::{EventKind, Execution};
use plimsoll_paper_exchange::{
    AccountId, Change, Exchange, ExchangeConfig, MarketData, NewOrder, Order, OrderId, Record, Refusal,
    TradeEvent,
};
use rust_decimal::Decimal;

pub(crate) fn dec(text: &str) -> Decimal {
    text.parse().unwrap()
}

/// `HH:MM:SS` on the day, or a whole timestamp.
pub(crate) fn time(text: &str) -> DateTime<Utc> {
    let text = if text.contains('T') { text.to_owned() } else { format!("2026-11-24T{text}Z") };
    text.parse().unwrap()
}

/// A market in which XYZ prints 10 000 shares at each of these times and prices.
pub(crate) fn prints(rows: &[(&str, &str)]) -> MarketData {
    let mut csv = String::from("symbol,timestamp,price,size\n");
    for (at, price) in rows {
        csv += &format!("XYZ,{},{price},10000\n", time(at).format("%Y-%m-%dT%H:%M:%SZ"));
    }
    MarketData::from_files([("prints.csv", csv.as_bytes())]).unwrap()
}

pub(crate) struct Sim {
    pub(crate) exchange: Exchange,
    pub(crate) account: AccountId,
    pub(crate) records: Vec<Record>,
    pub(crate) events: Vec<TradeEvent>,
}

impl Sim {
    /// All symbols at 100, no spread, no bound on volume.
    pub(crate) fn fixed() -> Self {
        Self::new(MarketData::fixed_price(dec("100")).unwrap(), ExchangeConfig::default())
    }

    pub(crate) fn printing(rows: &[(&str, &str)]) -> Self {
        Self::new(prints(rows), ExchangeConfig::default())
    }

    pub(crate) fn new(market: MarketData, config: ExchangeConfig) -> Self {
        Self::starting(market, config, "15:00:00")
    }

    pub(crate) fn starting(market: MarketData, config: ExchangeConfig, at: &str) -> Self {
        let start = time(at);
        let mut exchange = Exchange::new(config, market, 7, start);
        let account = exchange.create_account(None, start);
        let mut sim = Self { exchange, account, records: Vec::new(), events: Vec::new() };
        sim.collect();
        sim
    }

    fn collect(&mut self) {
        for change in self.exchange.drain() {
            match change {
                Change::Record(record) => self.records.push(record),
                Change::Update(update) => self.events.push(update.data),
            }
        }
    }

    pub(crate) fn now(&self) -> DateTime<Utc> {
        self.exchange.now()
    }

    /// Advances to a time.
    pub(crate) fn at(&mut self, text: &str) -> &mut Self {
        self.exchange.advance(time(text));
        self.collect();
        self
    }

    /// Advances by a second: past acknowledgements.
    pub(crate) fn settle(&mut self) -> &mut Self {
        self.exchange.advance(self.now() + TimeDelta::seconds(1));
        self.collect();
        self
    }

    pub(crate) fn submit(&mut self, order: NewOrder) -> Result<Order, Refusal> {
        let now = self.now();
        let result = self.exchange.submit(self.account, order, now);
        self.collect();
        result
    }

    /// Submits, and lets it be acknowledged.
    pub(crate) fn take(&mut self, order: NewOrder) -> OrderId {
        let id = self.submit(order).unwrap().id;
        self.settle();
        id
    }

    pub(crate) fn order(&self, id: OrderId) -> Order {
        self.exchange.order(self.account, id, true).unwrap()
    }

    pub(crate) fn status(&self, id: OrderId) -> OrderStatus {
        self.order(id).status
    }

    pub(crate) fn qty(&self) -> Decimal {
        self.exchange.position(self.account, "XYZ").map_or(Decimal::ZERO, |position| position.qty)
    }

    /// Names of an order's events, in order.
    pub(crate) fn events_of(&self, id: OrderId) -> Vec<EventKind> {
        self.events.iter().filter(|event| event.order.id == id).map(|event| event.event).collect()
    }

    pub(crate) fn executions_of(&self, id: OrderId) -> Vec<Execution> {
        self.exchange.executions().filter(|row| row.order_id == id).cloned().collect()
    }

    pub(crate) fn cancel(&mut self, id: OrderId) -> Result<(), Refusal> {
        let now = self.now();
        let result = self.exchange.cancel(self.account, id, now);
        self.collect();
        result
    }

    /// Buys at the market and waits for the fill.
    pub(crate) fn hold(&mut self, qty: u32) -> &mut Self {
        let id = self.take(buy(qty));
        assert_eq!(self.status(id), OrderStatus::Filled);
        self
    }
}

pub(crate) fn buy(qty: u32) -> NewOrder {
    NewOrder::market("XYZ", Side::Buy, qty.into())
}

pub(crate) fn sell(qty: u32) -> NewOrder {
    NewOrder::market("XYZ", Side::Sell, qty.into())
}

pub(crate) fn limit(side: Side, qty: u32, price: &str) -> NewOrder {
    NewOrder::limit("XYZ", side, qty.into(), dec(price))
}

pub(crate) fn stop(side: Side, qty: u32, price: &str) -> NewOrder {
    NewOrder {
        kind: OrderType::Stop,
        stop_price: Some(dec(price)),
        ..NewOrder::market("XYZ", side, qty.into())
    }
}

pub(crate) fn gtc(order: NewOrder) -> NewOrder {
    NewOrder { time_in_force: TimeInForce::Gtc, ..order }
}

pub(crate) fn take_profit(price: &str) -> Option<TakeProfit> {
    Some(TakeProfit { limit_price: Some(dec(price)) })
}

pub(crate) fn stop_loss(price: &str) -> Option<StopLoss> {
    Some(StopLoss { stop_price: Some(dec(price)), limit_price: None })
}
