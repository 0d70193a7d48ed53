//! Applying what the broker tells: one report is one transaction, and any number of repeats changes nothing more.

use chrono::{DateTime, Utc};
use plimsoll_core_domain::broker::BrokerOrder;
use plimsoll_core_domain::fill::{Booking, Execution, Fill, FillBook, make_room};
use plimsoll_core_domain::order::{ObserveError, Order, OrderClass, OrderStatus, SourceKind, StateChange};
use plimsoll_core_domain::stream::{EventKind, NewEvent, StreamId};
use plimsoll_core_domain::views::{OrderView, json};
use plimsoll_core_domain::{AccountId, OrderId, StoreError};
use plimsoll_reliability::submit::{Difference, OrderEvent, compare_order};
use rust_decimal::Decimal;

use super::events::{event, fill_event, order_event};
use super::legs::leg_order;
use super::submit::conflict;
use super::write::HistoryLine;
use crate::db::Tx;
use crate::platform::portfolio::fill_id;

/// What the broker tells of one order.
#[derive(Clone, Debug)]
pub struct OrderReport {
    /// The order as the broker shows it.
    pub seen: BrokerOrder,
    /// Executions that the report names, in any order; those booked already are passed over.
    pub executions: Vec<Execution>,
    /// A stable word for the order's history, such as `stream:fill`.
    pub cause: String,
    /// The broker's words, where it gives a reason.
    pub reason: Option<String>,
}

/// What a report did.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Applied {
    /// No order of this account has either of its ids.
    UnknownOrder,
    /// Folded in.
    Known {
        /// The order after it.
        id: OrderId,
        /// Units that the broker reports as filled and whose executions are not known yet.
        unbooked: Decimal,
        /// It is a group's entry, and its legs are not on record yet: the broker must be asked for them.
        lacks_legs: bool,
    },
}

/// Why a report was not applied; nothing was changed.
#[derive(Debug, thiserror::Error)]
pub enum ApplyError {
    /// It contradicts what is on record.
    #[error("order {order}: {why}")]
    Contradiction {
        /// Ours.
        order: OrderId,
        /// In what.
        why: ObserveError,
    },
    /// The store's own.
    #[error(transparent)]
    Store(#[from] StoreError),
}

impl Tx<'_> {
    /// Folds a report into the order that it is about, books its fills, and writes the events that follow.
    ///
    /// # Errors
    /// The report contradicts the record, or the store's own; the transaction must be rolled back.
    pub fn apply_report(
        &mut self,
        account: AccountId,
        report: &OrderReport,
        now: DateTime<Utc>,
    ) -> Result<Applied, ApplyError> {
        let found = self.order_id_at_broker(account, &report.seen.id, &report.seen.client_order_id)?;
        let Some(before) = found.map(|id| self.lock_order(account, id)).transpose()?.flatten() else {
            return Ok(Applied::UnknownOrder);
        };
        if before.status == OrderStatus::Conflict {
            return Ok(Applied::Known { id: before.id, unbooked: Decimal::ZERO, lacks_legs: false });
        }
        // Seen for the first time: is it the one that was meant? The size of a leg is the broker's.
        if before.broker_order_id.is_none()
            && before.parent_id.is_none()
            && let Err(difference) = compare_order(&before, &report.seen)
        {
            return self.in_conflict(&before, report, difference, now);
        }
        let contradiction = |why| ApplyError::Contradiction { order: before.id, why };
        let mut after = before.clone();
        let mut lines: Vec<(i64, StateChange)> = Vec::new();
        let mut keep = |order: &Order, change: Option<StateChange>| {
            lines.extend(change.map(|change| (order.version, change)));
        };
        let change = after.observe(&report.seen, now).map_err(contradiction)?;
        keep(&after, change);
        let reason: Option<String> = report.reason.as_deref().map(|text| text.chars().take(500).collect());
        if reason.is_some() {
            after.status_reason.clone_from(&reason);
        }

        let mut fills: Vec<Fill> = Vec::new();
        let (mut booked, mut room) = (Vec::new(), None);
        if !report.executions.is_empty() {
            booked = self.fills_of(account, before.id)?;
            let held: Vec<Execution> = booked.iter().map(|fill| fill.execution.clone()).collect();
            room = make_room(&held, &report.executions, after.terms.qty())
                .map_err(|why| contradiction(why.into()))?;
            if let Some(next) = &room {
                let change = after.rebook(next, now).map_err(contradiction)?;
                keep(&after, change);
            }
            let held = room.as_deref().unwrap_or(&held);
            let mut book = FillBook::new(held.iter().map(|one| (one.qty.get(), one.cum_qty.get())));
            for execution in &report.executions {
                let (booking, change) = after.book(&mut book, execution, now).map_err(contradiction)?;
                keep(&after, change);
                if booking == Booking::New {
                    fills.push(Fill {
                        id: fill_id(after.id, execution.cum_qty),
                        order_id: after.id,
                        account_id: account,
                        symbol: after.terms.symbol.clone(),
                        side: after.terms.side,
                        execution: execution.clone(),
                        fee: Decimal::ZERO,
                        realized_pl: Decimal::ZERO,
                    });
                }
            }
        }

        if after != before {
            self.update_order_row(&after)?;
        }
        for (version, change) in &lines {
            let line = HistoryLine {
                version: *version,
                at: now,
                from: Some(change.from),
                to: change.to,
                cause: &report.cause,
                detail: reason.as_deref(),
            };
            self.insert_history(&after, &line)?;
        }
        let revived = match (before.status, after.status) {
            (OrderStatus::NotSent, status) if status != OrderStatus::NotSent => Some(self.revived(&after)?),
            _ => None,
        };
        let mut events = Vec::new();
        self.add_legs(&after, &report.seen, now, &mut events)?;
        if revived.is_some() {
            events.extend(self.settle_replaced(&after, &OrderEvent::Revived(&report.seen), now)?);
        }
        let mut holding_events = Vec::new();
        if let Some(next) = &room {
            let (came, holding) = self.rebook(&after, &booked, next, now)?;
            events.extend(came.iter().map(fill_event));
            holding_events.extend(self.portfolio_events(&after, &holding, now)?);
        }
        holding_events.extend(self.book_fills(&after, &mut fills, now)?);
        events.extend(fills.iter().map(fill_event));
        let legs = self.legs_of(account, &[after.id])?;
        events.extend(order_event(&before, &after, &legs));
        events.extend(revived);
        events.extend(holding_events);
        self.append_events(StreamId::User(after.user_id), &events, now)?;
        let lacks_legs = after.parent_id.is_none()
            && after.replaces.is_none()
            && after.terms.class != OrderClass::Simple
            && legs.is_empty();
        Ok(Applied::Known { id: after.id, unbooked: after.unbooked_qty(), lacks_legs })
    }

    /// The broker's order has the order's client id and is another one: nothing of it is taken over.
    fn in_conflict(
        &mut self,
        before: &Order,
        report: &OrderReport,
        difference: Difference,
        now: DateTime<Utc>,
    ) -> Result<Applied, ApplyError> {
        let illegal = |why| ApplyError::Contradiction { order: before.id, why: ObserveError::Move(why) };
        let reason = format!("the broker holds another order under this id: its {difference} differs");
        let mut after = before.clone();
        if after.status == OrderStatus::PendingSubmit {
            // the table's only way there
            after.move_to(OrderStatus::Submitting, None, now).map_err(illegal)?;
        }
        after.move_to(OrderStatus::Conflict, Some(&reason), now).map_err(illegal)?;
        self.update_order_row(&after)?;
        let line = HistoryLine {
            version: after.version,
            at: now,
            from: Some(before.status),
            to: after.status,
            cause: &report.cause,
            detail: Some(&reason),
        };
        self.insert_history(&after, &line)?;
        let mut events: Vec<NewEvent> = order_event(before, &after, &[]).into_iter().collect();
        events.extend(self.settle_replaced(&after, &OrderEvent::Conflict(&report.seen), now)?);
        events.push(conflict(&after));
        self.append_events(StreamId::User(after.user_id), &events, now)?;
        Ok(Applied::Known { id: after.id, unbooked: Decimal::ZERO, lacks_legs: false })
    }

    /// Writes the fills' rows and the position that they change.
    fn book_fills(
        &mut self,
        order: &Order,
        fills: &mut [Fill],
        now: DateTime<Utc>,
    ) -> Result<Vec<NewEvent>, ApplyError> {
        if fills.is_empty() {
            return Ok(Vec::new());
        }
        let mut holding = self.lock_holding(order.account_id, order.user_id, &order.terms.symbol, now)?;
        for fill in fills.iter_mut() {
            let execution = &fill.execution;
            fill.realized_pl = holding
                .position
                .apply(fill.side, execution.qty, execution.price)
                .map_err(|_| ApplyError::Contradiction { order: order.id, why: ObserveError::Overflow })?;
            holding.last_price = Some(execution.price);
            self.insert_fill(order.user_id, fill, now)?;
        }
        holding.updated_at = now.max(holding.updated_at);
        let units = fills.iter().map(|fill| fill.side.signed(fill.execution.qty.get())).sum::<Decimal>();
        let outside = if order.source.kind == SourceKind::External { units } else { Decimal::ZERO };
        self.save_holding(&holding, outside)?;
        Ok(self.portfolio_events(order, &holding, now)?.into())
    }

    /// Makes the orders of legs that the broker shows for the first time.
    pub(crate) fn add_legs(
        &mut self,
        parent: &Order,
        seen: &BrokerOrder,
        now: DateTime<Utc>,
        events: &mut Vec<NewEvent>,
    ) -> Result<(), StoreError> {
        for leg in &seen.legs {
            if self.order_id_at_broker(parent.account_id, &leg.id, &leg.client_order_id)?.is_some() {
                continue;
            }
            // One leg that cannot be read must not keep its entry's own state from being stored.
            let order = match leg_order(parent, leg, now) {
                Ok(order) => order,
                Err(error) => {
                    tracing::error!(%error, "a leg at the broker cannot be taken over");
                    continue;
                }
            };
            self.insert_order_row(&order, "leg")?;
            events.push(event(EventKind::OrderCreated, json(&OrderView::new(&order, &[]))));
        }
        Ok(())
    }
}
