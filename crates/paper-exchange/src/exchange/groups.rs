//! Brackets, OCO and OTO: what one member's fate does to the others.
//!
//! Before the entry is filled its legs are `held` and not live. Then the take-profit works, and the stop is watched while
//! it stays `held`, since both share one lot of shares; an oto's stop, which is alone, works. A take-profit's fill ends
//! the stop or shrinks it; a stop that is reached ends the take-profit and works.

use rust_decimal::Decimal;
use uuid::Uuid;

use crate::account::AccountId;
use crate::order::{GroupRole, OrderId, OrderStatus};
use crate::record::EventKind;

use super::Exchange;

impl Exchange {
    /// Members of a group that are not final, in the order of submission.
    pub(super) fn members(&self, account: AccountId, group: Option<Uuid>) -> Vec<OrderId> {
        let Some(group) = group else { return Vec::new() };
        let members = self.accounts[&account].groups.get(&group).into_iter().flatten().copied();
        members.filter(|id| !self.orders[id].order.status.is_final()).collect()
    }

    /// Ends what is left of a group.
    pub(super) fn end_group(&mut self, account: AccountId, group: Uuid, status: OrderStatus) {
        let status = if status == OrderStatus::Expired { status } else { OrderStatus::Canceled };
        for id in self.members(account, Some(group)) {
            self.finish(id, status, None);
        }
    }

    /// Ends the other exit of a stop that was reached.
    pub(super) fn end_twin(&mut self, id: OrderId) {
        self.end_role(id, GroupRole::StopLoss, GroupRole::TakeProfit);
    }

    /// What a fill of `qty` shares does to the order's group.
    pub(super) fn after_fill(&mut self, id: OrderId, qty: Decimal) {
        let record = self.record(id);
        let done = record.order.status == OrderStatus::Filled;
        match record.order.group_role {
            Some(GroupRole::Entry) if done => {
                for leg in self.members(record.account, record.order.group_id) {
                    self.activate(leg);
                }
            }
            Some(GroupRole::TakeProfit) if done => {
                self.end_role(id, GroupRole::TakeProfit, GroupRole::StopLoss)
            }
            Some(GroupRole::TakeProfit) => self.shrink_stop(id, qty),
            _ => {}
        }
    }

    /// A leg whose entry is filled.
    pub(super) fn activate(&mut self, id: OrderId) {
        let mut leg = self.record(id);
        if leg.order.status != OrderStatus::Held || leg.working.live {
            return;
        }
        leg.working.live = true;
        let works = leg.order.group_role == Some(GroupRole::TakeProfit) || !self.has_take_profit(id);
        if works {
            leg.order.status = OrderStatus::New;
        }
        self.save(leg);
        if works {
            self.emit(id, EventKind::New, None);
        }
        self.consider(id);
    }

    /// Whether the group of a stop leg has an open take-profit.
    pub(super) fn has_take_profit(&self, id: OrderId) -> bool {
        let record = &self.orders[&id];
        self.members(record.account, record.order.group_id)
            .iter()
            .any(|other| self.orders[other].order.group_role == Some(GroupRole::TakeProfit))
    }

    fn end_role(&mut self, id: OrderId, own: GroupRole, other: GroupRole) {
        let record = self.record(id);
        if record.order.group_role != Some(own) {
            return;
        }
        for member in self.members(record.account, record.order.group_id) {
            if self.orders[&member].order.group_role == Some(other) {
                self.end_alone(member);
            }
        }
    }

    /// Cancels a member and leaves the rest of its group alone.
    fn end_alone(&mut self, id: OrderId) {
        let mut record = self.record(id);
        if record.order.status.is_final() {
            return;
        }
        record.order.status = OrderStatus::Canceled;
        record.order.canceled_at = Some(self.now);
        let successor = record.working.successor.take();
        record.working.live = false;
        record.working.due = None;
        record.working.retry_at = None;
        self.save(record);
        self.emit(id, EventKind::Canceled, None);
        if let Some(successor) = successor {
            self.drop_successor(id, successor);
        }
    }

    /// A part-filled take-profit leaves less for the stop to protect.
    fn shrink_stop(&mut self, id: OrderId, qty: Decimal) {
        let record = self.record(id);
        for member in self.members(record.account, record.order.group_id) {
            let mut stop = self.record(member);
            if stop.order.group_role != Some(GroupRole::StopLoss) {
                continue;
            }
            let left = stop.order.qty.unwrap_or_default() - qty;
            if left <= stop.order.filled_qty {
                self.end_alone(member);
            } else {
                stop.order.qty = Some(left.normalize());
                self.save(stop);
            }
        }
    }
}
