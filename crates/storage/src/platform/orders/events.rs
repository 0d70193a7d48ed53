//! Which events a change of an order makes, and in which order they stand in the user's stream.

use std::sync::Arc;

use chrono::{DateTime, Utc};
use plimsoll_core_domain::StoreError;
use plimsoll_core_domain::fill::Fill;
use plimsoll_core_domain::order::{Order, OrderStatus};
use plimsoll_core_domain::stream::{EventKind, NewEvent};
use plimsoll_core_domain::views::{FillView, Holding, OrderView, PositionView, json};

use crate::db::Tx;

/// An event of a kind with the JSON text of its data.
pub(crate) fn event(kind: EventKind, data: String) -> NewEvent {
    NewEvent { kind, data: Arc::from(data) }
}

/// The event that tells of a changed order; `None` when nothing changed that its owner can see.
///
/// The final fill is `order_filled`, a cancel `order_cancelled`, all else `order_updated` (HTTP contract section 8).
/// That an order is about to be sent is no news: the next state follows at once.
pub(crate) fn order_event(before: &Order, after: &Order, legs: &[Order]) -> Option<NewEvent> {
    let unseen = |status: OrderStatus| matches!(status, OrderStatus::PendingSubmit | OrderStatus::Submitting);
    if unseen(before.status) && unseen(after.status) {
        return None;
    }
    let visible = |order: &Order| {
        let mut view = json(&OrderView { version: 0, updated_at: at_epoch(), ..OrderView::new(order, &[]) });
        view.shrink_to_fit();
        view
    };
    if before.status == after.status && visible(before) == visible(after) {
        return None;
    }
    let kind = match (before.status, after.status) {
        (from, OrderStatus::Filled) if from != OrderStatus::Filled => EventKind::OrderFilled,
        (from, OrderStatus::Canceled) if from != OrderStatus::Canceled => EventKind::OrderCancelled,
        _ => EventKind::OrderUpdated,
    };
    Some(event(kind, json(&OrderView::new(after, legs))))
}

fn at_epoch() -> plimsoll_core_domain::views::At {
    plimsoll_core_domain::views::At(DateTime::UNIX_EPOCH)
}

/// The events of a booked fill, without the order's own.
pub(crate) fn fill_event(fill: &Fill) -> NewEvent {
    event(EventKind::TradeExecuted, json(&FillView::from(fill)))
}

impl Tx<'_> {
    /// The events that follow fills: the positions that changed, and the profit.
    pub(crate) fn portfolio_events(
        &mut self,
        order: &Order,
        holding: &Holding,
        now: DateTime<Utc>,
    ) -> Result<[NewEvent; 2], StoreError> {
        let pnl = self.pnl(order.user_id, &|_| None, now)?;
        Ok([
            event(EventKind::PositionUpdated, json(&PositionView::from(holding))),
            event(EventKind::PnlUpdated, json(&pnl)),
        ])
    }
}
