//! Replacing and canceling orders.

use chrono::{DateTime, Utc};
use rust_decimal::Decimal;

use crate::account::AccountId;
use crate::order::{
    CancelOutcome, GroupRole, NewOrder, Order, OrderClass, OrderId, OrderStatus, OrderType, Replacement, Side,
};
use crate::record::{EventKind, OrderRecord};
use crate::refusal::Refusal;

use super::limits::{Candidate, trail_stop};
use super::{Exchange, rules};

impl Exchange {
    /// Asks for an order's replacement and answers with the new order, which takes over after the acknowledgement's
    /// delay. If the old one ends first, the new one is rejected.
    ///
    /// A `qty` is the total of the new order, whose own `filled_qty` starts at 0.
    ///
    /// # Errors
    /// 404 for an unknown order, 422 for a state or change that cannot be, 403 for what a new order would get it for.
    pub fn replace(
        &mut self,
        account: AccountId,
        id: OrderId,
        change: Replacement,
        now: DateTime<Utc>,
    ) -> Result<Order, Refusal> {
        self.advance(now);
        let old = self.own(account, id)?.clone();
        let change =
            Replacement { client_order_id: change.client_order_id.filter(|id| !id.is_empty()), ..change };
        let merged = self.check_replacement(&old, &change)?;
        let asset = self.asset(&old.order.symbol)?;
        let mut new = self.blank(account, &asset, old.order.side, old.order.kind, merged.time_in_force);
        if let Some(id) = change.client_order_id {
            new.order.client_order_id = id;
        }
        new.order.replaces = Some(id);
        new.order.qty = merged.qty.map(|qty| qty.normalize());
        new.order.limit_price = merged.limit_price.map(|price| price.normalize());
        new.order.stop_price = merged.stop_price.or(old.order.stop_price).map(|price| price.normalize());
        new.order.trail_price = merged.trail_price.map(|price| price.normalize());
        new.order.trail_percent = merged.trail_percent.map(|percent| percent.normalize());
        new.order.extended_hours = old.order.extended_hours;
        new.order.order_class = old.order.order_class;
        new.order.position_intent = old.order.position_intent;
        new.order.group_id = old.order.group_id;
        new.order.group_role = old.order.group_role;
        new.order.expires_at = self.expiry(&new.order);
        new.working.parent = old.working.parent;
        new.working.collar = old.working.collar;
        new.working.triggered = old.working.triggered;
        if new.order.kind == OrderType::TrailingStop
            && let Some(hwm) = old.order.hwm
        {
            new.order.hwm = Some(hwm);
            new.order.stop_price =
                trail_stop(new.order.side, hwm, new.order.trail_price, new.order.trail_percent);
        }
        let new_id = new.order.id;
        let mut old = old;
        old.order.status = OrderStatus::PendingReplace;
        old.working.successor = Some(new_id);
        old.working.due = Some(self.now + self.config.ack_delay());
        self.save(old);
        self.enter(new);
        self.emit(id, EventKind::PendingReplace, None);
        self.order(account, new_id, false)
    }

    /// All checks of a replacement; the order that would be asked for.
    fn check_replacement(&self, old: &OrderRecord, change: &Replacement) -> Result<NewOrder, Refusal> {
        let order = &old.order;
        match order.status {
            OrderStatus::New | OrderStatus::PartiallyFilled | OrderStatus::Held => {}
            status if status.is_final() => {
                return Err(Refusal::rule(format!("order is already in \"{status}\" state")));
            }
            status => return Err(Refusal::rule(format!("cannot replace order in {status} status"))),
        }
        if order.notional.is_some() {
            return Err(Refusal::rule("notional orders cannot be replaced"));
        }
        if (Replacement { client_order_id: None, ..change.clone() }) == Replacement::default() {
            return Err(Refusal::field(
                "at least one of qty, time_in_force, limit_price, stop_price or trail is required",
            ));
        }
        let merged = merge(old, change)?;
        let asset = self.asset(&order.symbol)?;
        let quote = self.quote(&order.symbol).ok_or_else(|| Refusal::rule("asset has no price"))?;
        let context = rules::Context {
            asset: &asset,
            configurations: &self.account(old.account)?.record.configurations,
            last: quote.last,
            ask: quote.ask,
            now: self.now,
        };
        rules::check(&merged, &context)?;
        if order.order_class != OrderClass::Simple {
            use crate::order::TimeInForce::{Day, Gtc};
            if !matches!(merged.time_in_force, Day | Gtc) {
                return Err(Refusal::rule(format!("{} orders must be DAY or GTC orders", order.order_class)));
            }
            self.check_sibling(old, &merged)?;
        }
        let used = |id: &String| self.accounts[&old.account].by_client_id.contains_key(id);
        if change.client_order_id.as_ref().is_some_and(used) {
            return Err(Refusal::field("client_order_id must be unique"));
        }
        let waits = old.working.parent.is_some() && !old.working.live;
        // A stop that shares its shares with a take-profit is bounded by that one.
        let shares = order.group_role == Some(GroupRole::StopLoss) && self.has_take_profit(order.id);
        if !waits && !shares {
            let mut candidate = Candidate::of(old.account, &merged, order.asset_class, &quote);
            candidate.simple = order.order_class == OrderClass::Simple;
            candidate.instead_of = Some(order.id);
            candidate.kind = order.kind;
            self.check_limits(&candidate, order.position_intent)?;
        }
        Ok(merged)
    }

    /// A leg's new price must stay on its side of the other leg's.
    fn check_sibling(&self, old: &OrderRecord, merged: &NewOrder) -> Result<(), Refusal> {
        for id in self.members(old.account, old.order.group_id) {
            let other = &self.orders[&id].order;
            let (limit, stop) = match (old.order.group_role, other.group_role) {
                (Some(GroupRole::TakeProfit), Some(GroupRole::StopLoss)) => {
                    (merged.limit_price, other.stop_price)
                }
                (Some(GroupRole::StopLoss), Some(GroupRole::TakeProfit)) => {
                    (other.limit_price, merged.stop_price)
                }
                _ => continue,
            };
            let (Some(limit), Some(stop)) = (limit, stop) else { continue };
            let (wrong, relation) = match old.order.side {
                Side::Sell => (limit <= stop, ">"),
                Side::Buy => (limit >= stop, "<"),
            };
            if wrong {
                let text = format!("take_profit.limit_price must be {relation} stop_loss.stop_price");
                return Err(Refusal::rule(text));
            }
        }
        Ok(())
    }

    /// The new order takes over.
    pub(super) fn complete_replacement(&mut self, old_id: OrderId) {
        let mut old = self.record(old_id);
        let Some(new_id) = old.working.successor.take() else { return };
        let mut new = self.record(new_id);
        old.working.due = None;
        if new.order.status.is_final() || new.order.status == OrderStatus::PendingCancel {
            old.order.status = self.status_before(&old);
            self.save(old);
            self.emit(old_id, EventKind::OrderReplaceRejected, None);
            return;
        }
        let was_live = old.working.live;
        let parent_filled =
            old.working.parent.is_none_or(|parent| self.orders[&parent].order.status == OrderStatus::Filled);
        old.order.status = OrderStatus::Replaced;
        old.order.replaced_at = Some(self.now);
        old.order.replaced_by = Some(new_id);
        old.working.live = false;
        old.working.retry_at = None;
        let account = old.account;
        self.save(old);
        self.emit(old_id, EventKind::Replaced, None);

        let twin = new.order.group_role == Some(GroupRole::StopLoss) && self.has_take_profit(new_id);
        new.working.live = was_live || parent_filled;
        let works = new.working.live && (!twin || new.working.triggered);
        new.order.status = if works { OrderStatus::New } else { OrderStatus::Held };
        let (qty, group, role) = (new.order.qty, new.order.group_id, new.order.group_role);
        self.save(new);
        if works {
            self.emit(new_id, EventKind::New, None);
        }
        for id in self.members(account, group) {
            let mut leg = self.record(id);
            if leg.working.parent == Some(old_id) {
                leg.working.parent = Some(new_id);
                if role == Some(GroupRole::Entry) || leg.order.filled_qty.is_zero() {
                    leg.order.qty = qty;
                }
                self.save(leg);
            }
        }
        self.consider(new_id);
    }

    /// What an order goes back to when a change of it came to nothing.
    fn status_before(&self, record: &OrderRecord) -> OrderStatus {
        let twin =
            record.order.group_role == Some(GroupRole::StopLoss) && self.has_take_profit(record.order.id);
        if !record.order.filled_qty.is_zero() {
            OrderStatus::PartiallyFilled
        } else if !record.working.live || twin {
            OrderStatus::Held
        } else {
            OrderStatus::New
        }
    }

    /// Asks for a cancel. The order may still fill until the acknowledgement's delay is over; canceling a member of a
    /// group ends what is left of the group. Asking again is no error.
    ///
    /// # Errors
    /// 404 for an unknown order, 422 `order is already in "…" state`.
    pub fn cancel(&mut self, account: AccountId, id: OrderId, now: DateTime<Utc>) -> Result<(), Refusal> {
        self.advance(now);
        let mut record = self.own(account, id)?.clone();
        match record.order.status {
            OrderStatus::PendingCancel => return Ok(()),
            OrderStatus::PendingReplace => {
                return Err(Refusal::rule("order is already in \"pending_replace\" state"));
            }
            status if status.is_final() => {
                return Err(Refusal::rule(format!("order is already in \"{status}\" state")));
            }
            _ => {}
        }
        record.order.status = OrderStatus::PendingCancel;
        record.working.due = Some(self.now + self.config.ack_delay());
        self.save(record);
        self.emit(id, EventKind::PendingCancel, None);
        Ok(())
    }

    /// Asks for a cancel of every open order; a row for each tried.
    ///
    /// # Errors
    /// 404 for an unknown account.
    pub fn cancel_all(
        &mut self,
        account: AccountId,
        now: DateTime<Utc>,
    ) -> Result<Vec<CancelOutcome>, Refusal> {
        self.advance(now);
        let open: Vec<OrderId> = self.account(account)?.open.values().copied().collect();
        let mut rows = Vec::new();
        for id in open {
            if self.orders[&id].order.status.is_open() {
                rows.push(CancelOutcome { id, refusal: self.cancel(account, id, now).err() });
            }
        }
        Ok(rows)
    }

    /// An account's order.
    pub(super) fn own(&self, account: AccountId, id: OrderId) -> Result<&OrderRecord, Refusal> {
        self.account(account)?;
        self.orders
            .get(&id)
            .filter(|record| record.account == account)
            .ok_or_else(|| Refusal::not_found("order not found"))
    }
}

/// The request that the changed order would have been made by.
fn merge(old: &OrderRecord, change: &Replacement) -> Result<NewOrder, Refusal> {
    let order = &old.order;
    let kind = order.kind;
    let refuse = |field: &str| Err(Refusal::rule(format!("{field} cannot be replaced for {kind} orders")));
    if change.limit_price.is_some() && !matches!(kind, OrderType::Limit | OrderType::StopLimit) {
        return refuse("limit_price");
    }
    if change.stop_price.is_some() && !matches!(kind, OrderType::Stop | OrderType::StopLimit) {
        return refuse("stop_price");
    }
    if change.trail.is_some() && kind != OrderType::TrailingStop {
        return refuse("trail");
    }
    if let Some(qty) = change.qty {
        if qty <= Decimal::ZERO {
            return Err(Refusal::field("qty must be > 0"));
        }
        if !qty.fract().is_zero() && order.asset_class == crate::order::AssetClass::UsEquity {
            return Err(Refusal::rule("qty must be a whole number"));
        }
        if order.qty.is_some_and(|old| !old.fract().is_zero()) {
            return Err(Refusal::rule("qty of fractional orders cannot be replaced"));
        }
        if old.working.parent.is_some() {
            return Err(Refusal::rule("qty of legs cannot be replaced"));
        }
    }
    let triggered = old.working.triggered;
    if triggered && change.stop_price.is_some() {
        return Err(Refusal::rule("stop_price cannot be replaced after the stop was reached"));
    }
    let stops = matches!(kind, OrderType::Stop | OrderType::StopLimit) && !triggered;
    Ok(NewOrder {
        symbol: order.symbol.clone(),
        qty: change.qty.or(order.qty),
        notional: None,
        side: order.side,
        // A stop that was reached is a limit or market order as far as rules go.
        kind: match kind {
            OrderType::StopLimit if triggered => OrderType::Limit,
            OrderType::Stop if triggered => OrderType::Market,
            kind => kind,
        },
        time_in_force: change.time_in_force.unwrap_or(order.time_in_force),
        limit_price: change.limit_price.or(order.limit_price),
        stop_price: if stops { change.stop_price.or(order.stop_price) } else { None },
        trail_price: order.trail_price.map(|price| change.trail.unwrap_or(price)),
        trail_percent: order.trail_percent.map(|percent| change.trail.unwrap_or(percent)),
        extended_hours: order.extended_hours,
        client_order_id: change.client_order_id.clone(),
        order_class: OrderClass::Simple,
        take_profit: None,
        stop_loss: None,
        position_intent: None,
    })
}
