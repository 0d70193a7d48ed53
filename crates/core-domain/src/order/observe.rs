//! Folding the broker's reports into an order.
//!
//! Reports come late, twice and out of order. The fold keeps the best report (final before open, then the broker's
//! own time of change, then the later stage) and the sum of booked fills; the state follows from these two alone. Both
//! only grow, so any order of the same reports and fills ends in the same state.

use chrono::{DateTime, Utc};
use rust_decimal::Decimal;

use super::{IllegalMove, Order, OrderSize, OrderStatus, StateChange};
use crate::broker::{BrokerOrder, BrokerStatus};
use crate::fill::{Booking, Execution, FillBook, FillError};
use crate::money::Quantity;

/// The best report of the broker so far.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct BrokerView {
    /// The state that it reported.
    pub status: OrderStatus,
    /// The broker's time of that change.
    pub updated_at: DateTime<Utc>,
    /// The filled quantity that the broker reported, the largest seen.
    pub filled_qty: Decimal,
}

impl BrokerView {
    fn key(&self) -> (bool, DateTime<Utc>, u8) {
        (self.status.is_final(), self.updated_at, self.status.rank())
    }

    /// Whichever report is better; the larger filled quantity of the two.
    #[must_use]
    pub fn merge(self, other: Self) -> Self {
        let best = if other.key() > self.key() { other } else { self };
        Self { filled_qty: self.filled_qty.max(other.filled_qty), ..best }
    }
}

/// Why a report cannot be folded in. The order stays as it was.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum ObserveError {
    /// The state that would follow is not in the table.
    #[error(transparent)]
    Move(#[from] IllegalMove),
    /// The fill cannot be booked.
    #[error(transparent)]
    Fill(#[from] FillError),
    /// The broker's order is not this one.
    #[error("the report is of another order: {0}")]
    OtherOrder(String),
    /// A number left the range that is kept exactly.
    #[error("the order's value does not fit 28 digits")]
    Overflow,
}

impl Order {
    /// Folds a report of the broker in. Fills are booked apart, by [`Order::book`].
    ///
    /// # Errors
    /// [`ObserveError::Move`] when the table has no such move; the order stays as it was.
    pub fn observe(
        &mut self,
        seen: &BrokerOrder,
        now: DateTime<Utc>,
    ) -> Result<Option<StateChange>, ObserveError> {
        if self.broker_order_id.as_ref().is_some_and(|id| *id != seen.id) {
            return Err(ObserveError::OtherOrder(seen.id.to_string()));
        }
        let status = match &seen.status {
            BrokerStatus::Known(status) => *status,
            // A word without a counterpart says only that the broker has it.
            BrokerStatus::Other(_) if self.broker.is_some() => return Ok(None),
            BrokerStatus::Other(_) => OrderStatus::Accepted,
        };
        let view = BrokerView { status, updated_at: seen.updated_at, filled_qty: seen.filled_qty };
        let merged = self.broker.map_or(view, |known| known.merge(view));
        let first = self.broker_order_id.is_none();
        // The broker resizes a leg with its entry and its sibling, and may have taken either of two replacements; the newest
        // report has the size.
        let resized = match seen.qty.map(Quantity::new) {
            Some(Ok(qty)) if self.takes_the_brokers_size() && self.broker != Some(merged) => {
                Some(OrderSize::Qty(qty))
            }
            _ => None,
        };
        let before = self.terms.size;
        self.terms.size = resized.unwrap_or(before);
        let to = derive(self, merged, self.filled_qty);
        if let Err(illegal) = self.status.check_move(to) {
            self.terms.size = before;
            return Err(illegal.into());
        }
        let (from, changed) = (self.status, self.broker != Some(merged) || first);
        self.broker = Some(merged);
        self.broker_order_id.get_or_insert_with(|| seen.id.clone());
        self.submitted_at = self.submitted_at.or(seen.submitted_at);
        self.status = to;
        if from != to && from.is_open() && matches!(from, OrderStatus::Unknown | OrderStatus::Submitting) {
            self.status_reason = None;
        }
        if changed || from != to {
            self.touch(now);
        }
        Ok((from != to).then_some(StateChange { from, to }))
    }

    /// Books an execution: the units in `book` (the order's booked fills), the value and the state that follow.
    ///
    /// # Errors
    /// The fill cannot be booked, or the table has no such move; order and book stay as they were.
    pub fn book(
        &mut self,
        book: &mut FillBook,
        execution: &Execution,
        now: DateTime<Utc>,
    ) -> Result<(Booking, Option<StateChange>), ObserveError> {
        let mut next_book = book.clone();
        if next_book.book(execution, self.terms.qty())? == Booking::Known {
            return Ok((Booking::Known, None));
        }
        let value = execution.qty.get().checked_mul(execution.price.get()).ok_or(ObserveError::Overflow)?;
        let filled_value = self.filled_value.checked_add(value).ok_or(ObserveError::Overflow)?;
        let filled_qty = next_book.filled();
        // Before the first report only this is known: the broker has it and it trades.
        let view = self.broker.unwrap_or(BrokerView {
            status: OrderStatus::New,
            updated_at: DateTime::<Utc>::MIN_UTC,
            filled_qty: Decimal::ZERO,
        });
        let to = derive(self, view, filled_qty);
        self.status.check_move(to)?;
        let from = self.status;
        *book = next_book;
        self.filled_qty = filled_qty.normalize();
        self.filled_value = filled_value.normalize();
        self.status = to;
        self.touch(now);
        Ok((Booking::New, (from != to).then_some(StateChange { from, to })))
    }

    /// Takes another set of booked fills for the one before: the sums and the state that follow.
    ///
    /// # Errors
    /// The table has no such move, or a number leaves the range; the order stays as it was.
    pub fn rebook(
        &mut self,
        executions: &[Execution],
        now: DateTime<Utc>,
    ) -> Result<Option<StateChange>, ObserveError> {
        let (mut qty, mut value) = (Decimal::ZERO, Decimal::ZERO);
        for one in executions {
            let of = one.qty.get().checked_mul(one.price.get()).ok_or(ObserveError::Overflow)?;
            value = value.checked_add(of).ok_or(ObserveError::Overflow)?;
            qty = qty.checked_add(one.qty.get()).ok_or(ObserveError::Overflow)?;
        }
        let to = self.broker.map_or(self.status, |view| derive(self, view, qty));
        self.status.check_move(to)?;
        let from = self.status;
        self.filled_qty = qty.normalize();
        self.filled_value = value.normalize();
        self.status = to;
        self.touch(now);
        Ok((from != to).then_some(StateChange { from, to }))
    }

    /// Units that the broker reports as filled and that are not booked here.
    #[must_use]
    pub fn unbooked_qty(&self) -> Decimal {
        self.broker.map_or(Decimal::ZERO, |view| (view.filled_qty - self.filled_qty).max(Decimal::ZERO))
    }
}

/// The state that follows from the best report and the sum of the booked fills.
fn derive(order: &Order, view: BrokerView, filled: Decimal) -> OrderStatus {
    use OrderStatus::{Accepted, Filled, Held, New, PartiallyFilled};
    let complete = match order.terms.qty() {
        Some(qty) if filled >= qty.get() => true,
        // An order by amount, or one that the broker made smaller, is complete when the broker says so and every unit it
        // reports is booked.
        _ => view.status == Filled && !filled.is_zero() && filled >= view.filled_qty,
    };
    match view.status {
        _ if complete => Filled,
        Filled | Accepted | New | PartiallyFilled | Held if !filled.is_zero() => PartiallyFilled,
        // Not filled before its fills are on record.
        Filled | PartiallyFilled => New,
        status => status,
    }
}

#[cfg(test)]
#[path = "observe_tests.rs"]
mod tests;
