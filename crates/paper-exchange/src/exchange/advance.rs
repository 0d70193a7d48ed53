//! The march of simulator time.

use std::collections::HashMap;

use chrono::{DateTime, Utc};
use rust_decimal::Decimal;

use crate::calendar::{self, Session, TradingDay};
use crate::ids::{self, Purpose};
use crate::market::Print;
use crate::order::{AssetClass, GroupRole, Order, OrderClass, OrderId, OrderStatus, OrderType, TimeInForce};
use crate::record::EventKind;

use super::limits::trail_stop;
use super::submit::may_work;
use super::valuation::maintenance_of;
use super::{Exchange, micros};

/// The next thing to happen. Variants are in the order in which they happen at one instant.
#[derive(Debug)]
enum Event {
    /// A symbol prints.
    Print(String),
    /// An order is due.
    Timer(u64, OrderId),
    /// A part of the day begins or ends.
    Boundary,
}

impl Exchange {
    /// Runs everything that is to happen up to simulator time `to`; an earlier time than now counts as now.
    pub fn advance(&mut self, to: DateTime<Utc>) {
        let to = micros(to).max(self.now);
        let mut upcoming: HashMap<String, Option<Print>> = HashMap::new();
        while let Some((at, event)) = self.next_event(to, &mut upcoming) {
            self.now = self.now.max(at);
            match event {
                Event::Timer(number, id) => {
                    self.timers.remove(&(at, number, id));
                    self.on_timer(id, at);
                }
                Event::Print(symbol) => {
                    upcoming.remove(&symbol);
                    self.on_print(&symbol);
                }
                Event::Boundary => {
                    self.next_boundary = None;
                    self.on_boundary(at);
                }
            }
        }
        self.now = to;
        // Passed while no order was there to stop for.
        self.next_boundary = self.next_boundary.filter(|at| *at > to);
        if self.next_close <= self.now {
            self.roll(calendar::last_closed(self.now));
        }
    }

    fn next_event(
        &mut self,
        to: DateTime<Utc>,
        upcoming: &mut HashMap<String, Option<Print>>,
    ) -> Option<(DateTime<Utc>, Event)> {
        let mut next: Option<(DateTime<Utc>, Event)> =
            self.timers.first().map(|&(at, number, id)| (at, Event::Timer(number, id)));
        if !self.live.is_empty() {
            for symbol in self.live.keys() {
                let known = upcoming
                    .get(symbol)
                    .copied()
                    .filter(|print| print.is_none_or(|print| print.at > self.now));
                let print = match known {
                    Some(print) => print,
                    None => {
                        let print = self.market.next_print(symbol, self.now);
                        upcoming.insert(symbol.clone(), print);
                        print
                    }
                };
                if let Some(print) = print
                    && print.at <= to
                    && next.as_ref().is_none_or(|(at, event)| comes_before(print.at, *at, event))
                {
                    next = Some((print.at, Event::Print(symbol.clone())));
                }
            }
            let boundary = match self.next_boundary {
                Some(at) => at,
                None => {
                    let at = boundary_after(self.now);
                    self.next_boundary = Some(at);
                    at
                }
            };
            if next.as_ref().is_none_or(|(at, _)| boundary < *at) {
                next = Some((boundary, Event::Boundary));
            }
        }
        next.filter(|(at, _)| *at <= to)
    }

    fn on_timer(&mut self, id: OrderId, at: DateTime<Utc>) {
        let mut record = self.record(id);
        if record.working.due == Some(at) {
            match record.order.status {
                OrderStatus::PendingNew => self.acknowledge(id),
                OrderStatus::PendingCancel => self.finish(id, OrderStatus::Canceled, None),
                OrderStatus::PendingReplace => self.complete_replacement(id),
                _ => {}
            }
        } else if record.working.retry_at == Some(at) {
            record.working.retry_at = None;
            self.save(record);
            self.consider(id);
        }
    }

    /// The exchange takes an order: it works from now on.
    fn acknowledge(&mut self, id: OrderId) {
        let mut record = self.record(id);
        if ids::fraction(self.seed, Purpose::RejectChance, record.number, 0) < self.config.reject_rate {
            self.finish(id, OrderStatus::Rejected, Some("SIMULATED_REJECT"));
            return;
        }
        record.working.due = None;
        record.working.live = true;
        record.order.status = OrderStatus::New;
        let last = self.market.last(&record.order.symbol, self.now).map(|print| print.price);
        if record.order.kind == OrderType::TrailingStop {
            start_trailing(&mut record.order, last);
        }
        let (time_in_force, class) = (record.order.time_in_force, record.order.order_class);
        self.save(record);
        self.emit(id, EventKind::New, None);
        if class == OrderClass::Oco {
            self.arm_stop(id);
        }
        match time_in_force {
            TimeInForce::Opg | TimeInForce::Cls => {}
            TimeInForce::Ioc | TimeInForce::Fok => {
                self.consider(id);
                self.finish(id, OrderStatus::Canceled, None);
            }
            TimeInForce::Day | TimeInForce::Gtc => self.consider(id),
        }
    }

    /// All working orders of a symbol meet its newest print, first come first.
    fn on_print(&mut self, symbol: &str) {
        let orders: Vec<OrderId> =
            self.live.get(symbol).into_iter().flat_map(|orders| orders.values().copied()).collect();
        for id in orders {
            self.consider(id);
        }
    }

    /// An opening or close: auctions, waiting orders, expiry.
    fn on_boundary(&mut self, at: DateTime<Utc>) {
        let day = TradingDay::from_date(calendar::date_of(at));
        let mut orders: Vec<(u64, OrderId)> =
            self.live.values().flatten().map(|(number, id)| (*number, *id)).collect();
        orders.sort_unstable();
        if at == day.open() {
            for (_, id) in &orders {
                self.auction(*id, TimeInForce::Opg);
            }
        }
        if at == day.close() {
            for (_, id) in &orders {
                self.auction(*id, TimeInForce::Cls);
            }
        }
        for (_, id) in &orders {
            let order = &self.orders[id].order;
            if order.status.is_final() || order.expires_at.is_none_or(|end| end > at) {
                continue;
            }
            let gtc = order.time_in_force == TimeInForce::Gtc;
            self.finish(*id, if gtc { OrderStatus::Canceled } else { OrderStatus::Expired }, None);
        }
        if matches!(calendar::session_of(at), Session::Pre | Session::Regular) {
            for (_, id) in &orders {
                self.release(*id);
            }
        }
        if at == day.close() {
            self.roll(day);
        }
    }

    /// An auction order fills at the auction's price or ends.
    fn auction(&mut self, id: OrderId, which: TimeInForce) {
        let record = self.record(id);
        if record.order.time_in_force != which || record.order.status.is_final() {
            return;
        }
        if !record.working.live {
            // Queued for this very auction, unless it came for a later one.
            if record.order.status != OrderStatus::Accepted {
                return;
            }
            self.acknowledge(id);
        }
        self.fill_in_auction(id);
        self.finish(id, OrderStatus::Canceled, None);
    }

    /// An order that waited for a session is sent to it.
    fn release(&mut self, id: OrderId) {
        let mut record = self.record(id);
        let order = &mut record.order;
        if order.status != OrderStatus::Accepted
            || !may_work(order.asset_class, order.extended_hours, order.time_in_force, self.now)
        {
            return;
        }
        order.status = OrderStatus::PendingNew;
        record.working.due = Some(self.now + self.config.ack_delay());
        self.save(record);
        self.emit(id, EventKind::PendingNew, None);
    }

    /// Whether the market that an order works in runs now.
    pub(super) fn in_session(&self, id: OrderId) -> bool {
        let order = &self.orders[&id].order;
        may_work(order.asset_class, order.extended_hours, order.time_in_force, self.now)
    }

    /// Whether stops trigger now: core session, or crypto.
    pub(super) fn stops_trigger(&self, id: OrderId) -> bool {
        self.orders[&id].order.asset_class == AssetClass::Crypto
            || calendar::session_of(self.now) == Session::Regular
    }

    /// Marks all accounts at a day's close.
    pub(super) fn roll(&mut self, day: TradingDay) {
        let accounts: Vec<_> = self.accounts.keys().copied().collect();
        for id in accounts {
            let mut holdings = self.accounts[&id].holdings.clone();
            let (mut worth, mut maintenance) = (Decimal::ZERO, Decimal::ZERO);
            for (symbol, holding) in &mut holdings {
                let close = self.market.close(symbol, day).unwrap_or_else(|| holding.average());
                holding.day_cost = holding.qty * close;
                worth += holding.day_cost;
                maintenance += maintenance_of(symbol, holding.qty, close);
            }
            let state = self.account_mut(id);
            state.last_equity = state.cash + worth;
            state.last_maintenance = maintenance;
            state.holdings = holdings;
        }
        self.next_close = calendar::next_close(self.now.max(day.close()));
    }
}

/// A trailing stop's mark and stop at the price of its acceptance.
pub(super) fn start_trailing(order: &mut Order, last: Option<Decimal>) {
    if let Some(last) = last {
        order.hwm = Some(last);
        order.stop_price = trail_stop(order.side, last, order.trail_price, order.trail_percent);
    }
}

/// Whether a print comes before an event: at one instant before all but other prints.
fn comes_before(print: DateTime<Utc>, at: DateTime<Utc>, event: &Event) -> bool {
    print < at || print == at && !matches!(event, Event::Print(_))
}

/// The next start or end of a part of a trading day.
fn boundary_after(at: DateTime<Utc>) -> DateTime<Utc> {
    let mut day = TradingDay::from_date(calendar::date_of(at));
    loop {
        let next =
            [day.pre_open(), day.open(), day.close(), day.after_close()].into_iter().find(|edge| *edge > at);
        match next {
            Some(edge) => return edge,
            None => day = day.next(),
        }
    }
}

impl Exchange {
    /// The stop leg of an oco, once its top order works.
    fn arm_stop(&mut self, top: OrderId) {
        let record = self.record(top);
        for id in self.members(record.account, record.order.group_id) {
            let mut leg = self.record(id);
            if leg.order.group_role == Some(GroupRole::StopLoss) && leg.order.status == OrderStatus::Held {
                leg.working.live = true;
                self.save(leg);
            }
        }
    }
}
