//! Wishes to cancel or replace an order: written here, carried out by their jobs.

use chrono::{DateTime, Utc};
use plimsoll_core_domain::broker::ReplaceOrder;
use plimsoll_core_domain::order::{NewOrder, Order, OrderSize, OrderStatus, Pricing, SubmitNotes, Trail};
use plimsoll_core_domain::risk::{Candidate, RiskRefusal, check, check_unclear};
use plimsoll_core_domain::stream::{EventKind, StreamId};
use plimsoll_core_domain::views::{OrderView, json};
use plimsoll_core_domain::{
    AccountId, ClientOrderId, OrderId, Price, Quantity, StoreError, StoreErrorKind, Symbol,
};
use plimsoll_reliability::jobs::JobQueue;
use plimsoll_reliability::submit::{CancelPayload, OrderEvent, ReplacePayload, SubmitStore};
use rust_decimal::Decimal;

use super::events::{event, order_event};
use super::write::HistoryLine;
use crate::db::Tx;
use crate::platform::risk::ExposureQuery;

/// What became of a wish to cancel.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum CancelWish {
    /// No such order in this account.
    NoOrder,
    /// It is final.
    NotOpen(Box<Order>),
    /// It had not been sent: it is canceled now.
    Withdrawn(Box<Order>),
    /// The broker will be asked.
    Asked(Box<Order>),
}

/// What became of a wish to replace.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum ReplaceWish {
    /// No such order in this account.
    NoOrder,
    /// It is final.
    NotOpen(Box<Order>),
    /// It is not final and takes no replacement now: it is not working at the broker yet, or a change is under way.
    NotNow(Box<Order>),
    /// The change does not fit the order: which field, a stable code, and why.
    Unfit(&'static str, &'static str, String),
    /// A limit or a halt is in the way.
    Risk(RiskRefusal),
    /// The replacement, accepted; the broker will be asked.
    Asked(Box<Order>),
}

/// The new order of a replacement.
#[derive(Clone, Debug)]
pub struct NewReplacement {
    /// Its id.
    pub id: OrderId,
    /// Its client order id.
    pub client_order_id: ClientOrderId,
    /// After it, it is not sent any more.
    pub deadline: DateTime<Utc>,
}

impl Tx<'_> {
    /// Takes a wish to cancel an order.
    ///
    /// # Errors
    /// The store's own.
    pub fn wish_cancel(
        &mut self,
        account: AccountId,
        id: OrderId,
        now: DateTime<Utc>,
    ) -> Result<CancelWish, StoreError> {
        let Some(before) = Tx::lock_order(self, account, id)? else { return Ok(CancelWish::NoOrder) };
        if before.status.is_final() {
            return Ok(CancelWish::NotOpen(Box::new(before)));
        }
        if before.status == OrderStatus::PendingSubmit && before.submit.attempts == 0 {
            let mut after = before.clone();
            after
                .move_to(OrderStatus::Canceled, Some("canceled before it was sent"), now)
                .map_err(|why| StoreError::new(StoreErrorKind::Other, why.to_string()))?;
            self.save_order(&before, &after, &OrderEvent::Withdrawn, now)?;
            return Ok(CancelWish::Withdrawn(Box::new(after)));
        }
        let job = CancelPayload::job(&before);
        if self.enqueue(&job)?.is_none() {
            self.let_go(&job)?;
        }
        Ok(CancelWish::Asked(Box::new(before)))
    }

    /// Takes a wish to replace an order. `price_of`: what a symbol trades at, as the broker said within the last minute.
    ///
    /// # Errors
    /// The store's own.
    pub fn wish_replace(
        &mut self,
        account: AccountId,
        id: OrderId,
        change: &ReplaceOrder,
        new: NewReplacement,
        price_of: &dyn Fn(&Symbol) -> Option<Price>,
        now: DateTime<Utc>,
    ) -> Result<ReplaceWish, StoreError> {
        let (limits, halts, unclear) = self.lock_risk(account)?;
        let Some(old) = Tx::lock_order(self, account, id)? else { return Ok(ReplaceWish::NoOrder) };
        let replaceable =
            matches!(old.status, OrderStatus::New | OrderStatus::PartiallyFilled | OrderStatus::Held);
        let Some(target) = old.broker_order_id.clone().filter(|_| replaceable) else {
            let old = Box::new(old);
            return Ok(if old.status.is_final() {
                ReplaceWish::NotOpen(old)
            } else {
                ReplaceWish::NotNow(old)
            });
        };
        let mut terms = match changed_terms(&old, change) {
            Ok(terms) => terms,
            Err((pointer, code, why)) => return Ok(ReplaceWish::Unfit(pointer, code, why)),
        };
        // The broker's new order counts its fills from zero. An absent quantity would carry the original one over and
        // overfill what is half filled (contract section 7), so what is left is sent: by what is known here now, and taken
        // anew when it is sent. The size of a leg is the broker's.
        let total = if old.parent_id.is_some() { None } else { terms.qty() };
        if let Some(total) = total {
            let Ok(rest) = Quantity::new(total.get() - filled_anywhere(&old)) else {
                return Ok(ReplaceWish::NotNow(Box::new(old)));
            };
            terms.size = OrderSize::Qty(rest);
        }
        // A leg goes out of a position, whatever its price.
        let looks =
            halts.level().is_some() || limits.looks_at_orders() || unclear.of(&terms.symbol).is_some();
        if old.parent_id.is_none() && looks {
            let reference = price_of(&terms.symbol);
            let exposure = self.exposure(&ExposureQuery {
                account,
                terms: &terms,
                reference,
                without: &[old.id],
                before: None,
                last_minute: limits.max_orders_per_minute.unwrap_or(0),
                now,
            })?;
            let left = old.open_qty().and_then(|left| Quantity::new(left).ok());
            let candidate =
                Candidate { terms: &terms, reference, closes: false, replaces: left.map(OrderSize::Qty) };
            let checked = check(&candidate, &limits, halts, &exposure)
                .and_then(|()| check_unclear(&candidate, &unclear, &exposure));
            if let Err(refusal) = checked {
                return Ok(ReplaceWish::Risk(refusal));
            }
        }
        let replacement = Order {
            id: new.id,
            client_order_id: new.client_order_id,
            broker_order_id: None,
            terms,
            status: OrderStatus::PendingSubmit,
            status_reason: None,
            filled_qty: Decimal::ZERO,
            filled_value: Decimal::ZERO,
            broker: None,
            replaces: Some(old.id),
            replaced_by: None,
            submit: SubmitNotes {
                attempts: 0,
                deadline: new.deadline,
                started_at: None,
                probes: 0,
                doubt: false,
            },
            created_at: now,
            submitted_at: None,
            updated_at: now,
            closed_at: None,
            version: 1,
            ..old.clone()
        };
        self.insert_order_row(&replacement, "replacement")?;
        let change = ReplaceOrder { qty: None, ..change.clone() };
        let payload = ReplacePayload::new(&replacement, target, &change).total(total);
        self.enqueue(&payload.job(&replacement))?;
        let mut events = vec![event(EventKind::OrderCreated, json(&OrderView::new(&replacement, &[])))];
        events.extend(self.move_old(&old, OrderStatus::PendingReplace, None, "replace_asked", now)?);
        self.append_events(StreamId::User(old.user_id), &events, now)?;
        Ok(ReplaceWish::Asked(Box::new(replacement)))
    }

    /// The order that a replacement stands for follows the replacement's fate.
    pub(crate) fn settle_replaced(
        &mut self,
        replacement: &Order,
        change: &OrderEvent<'_>,
        now: DateTime<Utc>,
    ) -> Result<Vec<plimsoll_core_domain::stream::NewEvent>, StoreError> {
        let Some(old) = replacement.replaces else { return Ok(Vec::new()) };
        let taken = matches!(change, OrderEvent::Taken(_) | OrderEvent::Found(_) | OrderEvent::Revived(_));
        let refused = matches!(
            change,
            OrderEvent::Rejected { .. }
                | OrderEvent::NotSent
                | OrderEvent::Withdrawn
                | OrderEvent::Conflict(_)
        );
        if !taken && !refused {
            return Ok(Vec::new());
        }
        let Some(old) = Tx::lock_order(self, replacement.account_id, old)? else { return Ok(Vec::new()) };
        if taken {
            // The broker says itself when the old one has ended; here only the link is kept.
            let mut linked = old.clone();
            linked.replaced_by = Some(replacement.id);
            if linked != old {
                linked.version += 1;
                linked.updated_at = now.max(linked.updated_at);
                self.update_order_row(&linked)?;
            }
            return Ok(Vec::new());
        }
        if old.status != OrderStatus::PendingReplace {
            return Ok(Vec::new());
        }
        // Back to where the broker last saw it.
        let live = match old.broker.map(|view| view.status) {
            Some(OrderStatus::Held) if old.filled_qty.is_zero() => OrderStatus::Held,
            _ if old.filled_qty.is_zero() => OrderStatus::New,
            _ => OrderStatus::PartiallyFilled,
        };
        let reason = replacement.status_reason.as_deref().unwrap_or("the replacement was refused");
        Ok(self.move_old(&old, live, Some(reason), "replace_refused", now)?.into_iter().collect())
    }

    fn move_old(
        &mut self,
        old: &Order,
        to: OrderStatus,
        reason: Option<&str>,
        cause: &str,
        now: DateTime<Utc>,
    ) -> Result<Option<plimsoll_core_domain::stream::NewEvent>, StoreError> {
        let mut moved = old.clone();
        moved
            .move_to(to, reason, now)
            .map_err(|why| StoreError::new(StoreErrorKind::Other, why.to_string()))?;
        self.update_order_row(&moved)?;
        if moved.status != old.status {
            let line = HistoryLine {
                version: moved.version,
                at: now,
                from: Some(old.status),
                to: moved.status,
                cause,
                detail: reason,
            };
            self.insert_history(&moved, &line)?;
        }
        Ok(order_event(old, &moved, &[]))
    }
}

/// What of an order is filled: by its booked fills, or by the broker's report where that is ahead of them.
fn filled_anywhere(order: &Order) -> Decimal {
    order.filled_qty + order.unbooked_qty()
}

type Unfit = (&'static str, &'static str, String);

/// The order's terms with the change applied (Alpaca's contract section 3, Replace).
fn changed_terms(old: &Order, change: &ReplaceOrder) -> Result<NewOrder, Unfit> {
    let unfit = |pointer, why: &str| (pointer, "not_allowed", why.to_owned());
    let mut terms = old.terms.clone();
    if let Some(qty) = change.qty {
        if old.parent_id.is_some() {
            return Err(unfit("/qty", "the quantity of a leg follows its entry"));
        }
        match old.terms.size {
            OrderSize::Notional(_) => return Err(unfit("/qty", "an order by amount cannot be replaced")),
            OrderSize::Qty(now) if !now.is_whole() || !qty.is_whole() => {
                return Err(unfit("/qty", "a fractional quantity cannot be changed"));
            }
            OrderSize::Qty(_) if qty.get() <= filled_anywhere(old) => {
                return Err(unfit("/qty", "must be more than what is filled already: it is the new total"));
            }
            OrderSize::Qty(_) => terms.size = OrderSize::Qty(qty),
        }
    }
    let equity = !terms.is_crypto();
    let on_tick = |pointer, price: Price| match price.check_tick(price.us_equity_tick()) {
        Err(error) if equity => Err((pointer, "sub_penny", error.to_string())),
        _ => Ok(price),
    };
    if let Some(price) = change.limit_price {
        let price = on_tick("/limit_price", price)?;
        terms.pricing = match terms.pricing {
            Pricing::Limit { .. } => Pricing::Limit { limit: price },
            Pricing::StopLimit { stop, .. } => Pricing::StopLimit { stop, limit: price },
            _ => return Err(unfit("/limit_price", "the order has no limit price")),
        };
    }
    if let Some(price) = change.stop_price {
        let price = on_tick("/stop_price", price)?;
        terms.pricing = match terms.pricing {
            Pricing::Stop { .. } => Pricing::Stop { stop: price },
            Pricing::StopLimit { limit, .. } => Pricing::StopLimit { stop: price, limit },
            _ => return Err(unfit("/stop_price", "the order has no stop price")),
        };
    }
    if let Some(trail) = change.trail {
        terms.pricing = match (terms.pricing, trail) {
            (Pricing::TrailingStop { trail: Trail::Price(_) }, Trail::Price(_))
            | (Pricing::TrailingStop { trail: Trail::Percent(_) }, Trail::Percent(_)) => {
                Pricing::TrailingStop { trail }
            }
            _ => return Err(unfit("/trail", "the order has no trailing distance of this kind")),
        };
    }
    if let Some(tif) = change.time_in_force {
        terms.time_in_force = tif;
    }
    if terms == old.terms {
        return Err(("", "no_change", "the request changes nothing".to_owned()));
    }
    Ok(terms)
}
