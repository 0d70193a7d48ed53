//! Comparing one order, without asking anybody.

use std::time::Duration;

use chrono::{DateTime, Utc};
use plimsoll_core_domain::broker::{BrokerOrder, BrokerStatus};
use plimsoll_core_domain::order::{BrokerView, Order, OrderStatus};

use super::port::Missing;
use super::table::Case;

/// So many targeted looks must have missed a live order before it counts as gone.
const LOOKS: u32 = 3;

/// Whether the broker's report, as it stands, would change nothing of the order: most orders of most runs.
#[must_use]
pub fn changes_nothing(order: &Order, seen: &BrokerOrder) -> bool {
    let BrokerStatus::Known(status) = seen.status else { return false };
    let view = BrokerView { status, updated_at: seen.updated_at, filled_qty: seen.filled_qty };
    order.broker_order_id.as_ref() == Some(&seen.id)
        && order.broker.is_some_and(|known| known.merge(view) == known)
        && order.filled_qty == seen.filled_qty
        && order.unbooked_qty().is_zero()
}

/// What it means that a targeted look did not find the order.
///
/// `missing` is what earlier runs noted; `listed` tells whether a complete list was read, in which it was not.
/// `enough` is the time over which it must have been missing.
#[must_use]
pub fn missing_case(
    order: &Order,
    missing: Option<&Missing>,
    listed: bool,
    now: DateTime<Utc>,
    enough: Duration,
) -> Option<Case> {
    match order.status {
        // Never sent, as far as anybody knows.
        OrderStatus::PendingSubmit => None,
        OrderStatus::Submitting | OrderStatus::Unknown => Some(Case::UnsentNotFound),
        // A replacement whose answer is on its way has no id at the broker yet.
        _ if order.broker_order_id.is_none() => Some(Case::UnsentNotFound),
        _ => {
            let over = missing.map(|seen| (now - seen.since).to_std().unwrap_or_default());
            let looks = missing.map_or(1, |seen| seen.looks.saturating_add(1));
            let gone = listed && looks >= LOOKS && over.is_some_and(|over| over >= enough);
            Some(if gone { Case::LiveGone } else { Case::LiveNotFound })
        }
    }
}

/// Since when an order has been in its state: while it is sent or looked for, its last look-up is no news.
#[must_use]
pub fn under_way_since(order: &Order) -> DateTime<Utc> {
    match order.status {
        OrderStatus::PendingSubmit => order.created_at,
        OrderStatus::Submitting | OrderStatus::Unknown => order.submit.started_at.unwrap_or(order.created_at),
        _ => order.updated_at,
    }
}

/// Whether an open order has been under way, or unconfirmed, for longer than `age`. Ages are of our own clock.
///
/// `confirmed` is when the broker last showed the order, or when it last changed here.
#[must_use]
pub fn stale_case(
    order: &Order,
    confirmed: DateTime<Utc>,
    now: DateTime<Utc>,
    age: Duration,
) -> Option<Case> {
    let older = |at: DateTime<Utc>| (now - at).to_std().is_ok_and(|since| since > age);
    match order.status {
        status if status.is_final() => None,
        OrderStatus::PendingSubmit
        | OrderStatus::Submitting
        | OrderStatus::Unknown
        | OrderStatus::PendingCancel
        | OrderStatus::PendingReplace => older(under_way_since(order)).then_some(Case::StalePending),
        _ => older(confirmed.max(order.updated_at)).then_some(Case::StaleUnconfirmed),
    }
}
