//! Orders against quotes.
//!
//! Market orders fill at the far side, limits when the far side is at the limit or better, at the far side's price.
//! Stops are reached by prints. One order takes at most its share of a minute's volume in that minute; the rest waits for the
//! next one.

use chrono::{DateTime, DurationRound, TimeDelta, Utc};
use rust_decimal::{Decimal, RoundingStrategy};

use crate::ids::{self, Purpose};
use crate::market::{Quote, price_step};
use crate::order::{AssetClass, Order, OrderId, OrderStatus, OrderType, Side, TimeInForce};
use crate::record::{Change, EventKind, Execution, OrderRecord, Record};

use super::limits::{collar, shares_for, trail_stop};
use super::{Exchange, QTY_DECIMALS};

/// Decimal places of an average price.
const AVERAGE_DECIMALS: u32 = 10;

/// What bounds the size of a fill.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Liquidity {
    /// A share of the minute's volume.
    Minute,
    /// Nothing.
    Auction,
}

impl Exchange {
    /// Fills an order as far as the present quote allows.
    pub(super) fn consider(&mut self, id: OrderId) {
        let record = &self.orders[&id];
        let auction_only = matches!(record.order.time_in_force, TimeInForce::Opg | TimeInForce::Cls);
        if !record.working.live || record.order.status.is_final() || auction_only || !self.in_session(id) {
            return;
        }
        let Some(quote) = self.quote(&record.order.symbol) else { return };
        if waits_for_stop(record) {
            if !self.stops_trigger(id) {
                return;
            }
            self.trail(id, quote.last);
            if !stop_reached(&self.orders[&id].order, quote.last) {
                return;
            }
            self.trigger(id);
        }
        let record = &self.orders[&id];
        if let Some(price) = self.executable(record, &quote) {
            self.fill(id, price, Liquidity::Minute);
        }
    }

    /// Fills an auction order at the auction's price, if its limit allows.
    pub(super) fn fill_in_auction(&mut self, id: OrderId) {
        let record = &self.orders[&id];
        if !record.working.live || record.order.status.is_final() {
            return;
        }
        let Some(print) = self.market.last(&record.order.symbol, self.now) else { return };
        let within = match (record.order.side, record.order.limit_price) {
            (_, None) => true,
            (Side::Buy, Some(limit)) => print.price <= limit,
            (Side::Sell, Some(limit)) => print.price >= limit,
        };
        if within {
            self.fill(id, print.price, Liquidity::Auction);
        }
    }

    /// Moves a trailing stop's mark and stop with a better print.
    fn trail(&mut self, id: OrderId, last: Decimal) {
        let order = &self.orders[&id].order;
        let better = match (order.side, order.hwm) {
            (Side::Sell, Some(hwm)) => last > hwm,
            (Side::Buy, Some(hwm)) => last < hwm,
            (_, None) => true,
        };
        if order.kind != OrderType::TrailingStop || !better {
            return;
        }
        let mut record = self.record(id);
        record.order.hwm = Some(last);
        record.order.stop_price =
            trail_stop(record.order.side, last, record.order.trail_price, record.order.trail_percent);
        self.save(record);
    }

    /// A stop was reached: from now on the order is a market or limit order.
    fn trigger(&mut self, id: OrderId) {
        let mut record = self.record(id);
        record.working.triggered = true;
        if record.order.side == Side::Buy && record.order.kind != OrderType::StopLimit {
            record.working.collar = record.order.stop_price.map(|stop| collar(stop).normalize());
        }
        let held = record.order.status == OrderStatus::Held;
        if held {
            record.order.status = OrderStatus::New;
        }
        self.save(record);
        if held {
            self.emit(id, EventKind::New, None);
        }
        self.end_twin(id);
    }

    /// The price at which an order can be filled now.
    fn executable(&self, record: &OrderRecord, quote: &Quote) -> Option<Decimal> {
        let order = &record.order;
        let slips = matches!(order.kind, OrderType::Market | OrderType::Stop | OrderType::TrailingStop);
        let bound = if slips { record.working.collar } else { order.limit_price };
        let slip = if slips { self.config.slippage_bp / Decimal::from(10_000) } else { Decimal::ZERO };
        let step = price_step(quote.last).scale();
        match order.side {
            Side::Buy if bound.is_some_and(|bound| quote.ask > bound) => None,
            Side::Buy => {
                let price = (quote.ask * (Decimal::ONE + slip))
                    .round_dp_with_strategy(step, RoundingStrategy::ToPositiveInfinity);
                Some(price.min(bound.unwrap_or(price)).normalize())
            }
            Side::Sell if bound.is_some_and(|bound| quote.bid < bound) => None,
            Side::Sell => {
                let price = (quote.bid * (Decimal::ONE - slip))
                    .round_dp_with_strategy(step, RoundingStrategy::ToNegativeInfinity);
                Some(price.max(Decimal::new(1, step)).normalize())
            }
        }
    }

    fn fill(&mut self, id: OrderId, price: Decimal, liquidity: Liquidity) {
        let mut record = self.record(id);
        let wanted = match (record.order.remaining_qty(), record.order.notional) {
            (Some(qty), _) => qty,
            (None, notional) => shares_for(notional.unwrap_or_default() - record.working.spent, price),
        };
        let mut qty = wanted;
        if record.order.position_intent.closes() {
            // No flip: what another exit has closed meanwhile is not there to close again.
            qty = qty.min(self.accounts[&record.account].position(&record.order.symbol).abs());
        }
        if qty.is_zero() {
            self.finish(id, OrderStatus::Canceled, Some("NOTHING_LEFT"));
            return;
        }
        let minute = minute_of(self.now);
        if record.working.minute != Some(minute) {
            record.working.minute = Some(minute);
            record.working.minute_qty = Decimal::ZERO;
        }
        let decimals = if is_whole(&record.order) { 0 } else { QTY_DECIMALS };
        let mut retry_at = None;
        if liquidity == Liquidity::Minute {
            let available = self.available(&record);
            if available.is_some_and(|available| qty > available) {
                if record.order.time_in_force == TimeInForce::Fok {
                    return;
                }
                qty = available.unwrap_or_default().trunc_with_scale(decimals);
                retry_at = Some(minute + TimeDelta::minutes(1));
            }
            if let Some(less) = self.by_chance(&record, qty, decimals) {
                qty = less;
                retry_at = Some(self.now + self.config.retry_delay());
            }
        }
        if qty <= Decimal::ZERO {
            if record.working.retry_at != retry_at {
                record.working.retry_at = retry_at;
                self.save(record);
            }
            return;
        }
        record.working.retry_at = retry_at;
        self.execute(record, qty.normalize(), price, qty == wanted);
        let record = &self.orders[&id];
        let flat = self.accounts[&record.account].position(&record.order.symbol).is_zero();
        if !record.order.status.is_final() && record.order.position_intent.closes() && flat {
            self.finish(id, OrderStatus::Canceled, Some("NOTHING_LEFT"));
        }
    }

    /// Shares that an order may still take in this minute; `None` where nothing bounds it.
    fn available(&self, record: &OrderRecord) -> Option<Decimal> {
        let volume = self.market.minute_volume(&record.order.symbol, self.now)?;
        let share = (volume * self.config.volume_share).max(self.config.min_fill_qty);
        Some((share - record.working.minute_qty).max(Decimal::ZERO))
    }

    /// A smaller quantity, in the configured part of all fills.
    fn by_chance(&self, record: &OrderRecord, qty: Decimal, decimals: u32) -> Option<Decimal> {
        let lane = u64::from(record.working.fills);
        let least = Decimal::new(1, decimals);
        if record.order.time_in_force == TimeInForce::Fok
            || qty <= least
            || ids::fraction(self.seed, Purpose::PartialChance, record.number, lane)
                >= self.config.partial_fill_rate
        {
            return None;
        }
        let part = ids::fraction(self.seed, Purpose::PartialSize, record.number, lane);
        Some((qty * part).trunc_with_scale(decimals).clamp(least, qty - least))
    }

    /// Books one execution and everything that follows from it.
    fn execute(&mut self, mut record: OrderRecord, qty: Decimal, price: Decimal, done: bool) {
        let seq = self.next_seq();
        let order = &mut record.order;
        let before = order.status;
        record.working.fills += 1;
        record.working.spent = (record.working.spent + qty * price).normalize();
        record.working.minute_qty += qty;
        order.filled_qty = (order.filled_qty + qty).normalize();
        let average = record.working.spent / order.filled_qty;
        order.filled_avg_price = Some(average.round_dp(AVERAGE_DECIMALS).normalize());
        let successor = if done { record.working.successor.take() } else { None };
        if done {
            order.status = OrderStatus::Filled;
            order.filled_at = Some(self.now);
            record.working.live = false;
            record.working.due = None;
            record.working.retry_at = None;
        } else if matches!(before, OrderStatus::New | OrderStatus::Held) {
            order.status = OrderStatus::PartiallyFilled;
        }
        let leaves_qty = match (done, order.remaining_qty(), order.notional) {
            (true, ..) => Decimal::ZERO,
            (false, Some(left), _) => left,
            (false, None, notional) => shares_for(notional.unwrap_or_default() - record.working.spent, price),
        };
        let position = self.accounts[&record.account].position(&order.symbol) + order.side.signed(qty);
        let execution = Execution {
            seq,
            id: ids::uuid(self.seed, Purpose::Execution, seq),
            account: record.account,
            order_id: order.id,
            client_order_id: order.client_order_id.clone(),
            symbol: order.symbol.clone(),
            side: order.side,
            qty,
            price,
            cum_qty: order.filled_qty,
            leaves_qty: leaves_qty.normalize(),
            position_qty: position.normalize(),
            at: self.now,
        };
        let id = order.id;
        self.changes.push(Change::Record(Record::Execution(execution.clone())));
        self.book(execution.clone());
        self.save(record);
        let event = if done { EventKind::Fill } else { EventKind::PartialFill };
        self.emit_event(id, event, None, Some(&execution));
        if done && before == OrderStatus::PendingCancel {
            self.emit(id, EventKind::OrderCancelRejected, Some("TOO_LATE_TO_CANCEL"));
        }
        if let Some(successor) = successor {
            self.drop_successor(id, successor);
        }
        self.after_fill(id, qty);
    }
}

/// Whether a stop is still to be reached.
fn waits_for_stop(record: &OrderRecord) -> bool {
    let stop = matches!(record.order.kind, OrderType::Stop | OrderType::StopLimit | OrderType::TrailingStop);
    stop && !record.working.triggered
}

fn stop_reached(order: &Order, last: Decimal) -> bool {
    order.stop_price.is_some_and(|stop| match order.side {
        Side::Buy => last >= stop,
        Side::Sell => last <= stop,
    })
}

/// Whether an order deals in whole shares only.
fn is_whole(order: &Order) -> bool {
    order.asset_class == AssetClass::UsEquity && order.qty.is_some_and(|qty| qty.fract().is_zero())
}

fn minute_of(at: DateTime<Utc>) -> DateTime<Utc> {
    at.duration_trunc(TimeDelta::minutes(1)).expect("a minute divides any instant in range")
}
