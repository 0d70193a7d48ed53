//! The steps of sending, one transaction each, with the calls to the broker between them.

use std::time::Duration;

use chrono::{DateTime, Utc};
use plimsoll_core_domain::broker::{Broker, BrokerError, BrokerOrder, Dedupe, OrderListQuery};
use plimsoll_core_domain::order::{IllegalMove, ObserveError, Order, OrderStatus};
use plimsoll_core_domain::{AccountId, BrokerOrderId, ClientOrderId, OrderId};
use rust_decimal::Decimal;

use super::compare::{Difference, compare_order};
use super::outcome::{Outcome, classify};
use super::port::{Brokers, LockedOrder, OrderEvent, SubmitStore};
use super::replacing::{Ready, Replacing};
use super::step::{Absent, Step, next_step, sent_for};
use super::watch::WatchPayload;
use crate::jobs::{JobContext, JobFailure, JobQueue, JobStore, Settled, Settlement, TimedOut};
use crate::retry::Jitter;

/// Longest page of the broker's order list.
const PAGE: u16 = 500;
/// Pages of the last look; a list that is longer proves nothing.
const PAGES: usize = 40;

/// How a refusal of a repeat is put on record, before the broker's words.
const REFUSED: &str = "refused when it was sent again";

/// The answer to the one call that has an effect at the broker.
pub(super) type Answer = Result<Result<BrokerOrder, BrokerError>, TimedOut>;

/// One pass of the protocol over one order.
pub(super) struct Protocol<'r, S> {
    pub(super) context: &'r JobContext<'r, S>,
    pub(super) brokers: &'r dyn Brokers,
    pub(super) order: OrderId,
    pub(super) account: Option<AccountId>,
    pub(super) dedupe: fn(&dyn Broker) -> Dedupe,
    /// The order that it replaces, if any.
    pub(super) replacing: Option<Replacing<'r>>,
    pub(super) wire: &'r dyn Fn(&dyn Broker, &Order) -> Answer,
}

/// What a transaction decided.
enum Plan {
    Settled(Settled),
    /// `submitting` is committed.
    Send(Box<Order>),
    /// Ask first; if it is absent, then this. The time is that before the look.
    Look(Box<LockedOrder>, Absent),
}

/// A look without an answer.
const UNCLEAR: Look = Look::Unclear { retry_after: None };

/// What a look at the broker brought.
pub(super) enum Look {
    Found(Box<BrokerOrder>),
    Absent,
    /// No answer that says either.
    Unclear {
        retry_after: Option<Duration>,
    },
}

impl<S> Protocol<'_, S>
where
    S: JobStore,
    for<'a> S::Tx<'a>: SubmitStore,
{
    pub(super) fn run(&self) -> Result<Settled, JobFailure> {
        let account = match self.account {
            Some(account) => account,
            None => self.context.transaction(|tx| Ok(lock(tx, self.order)?.order.account_id))?,
        };
        let broker = match self.brokers.of_account(account) {
            Ok(broker) => broker,
            Err(after) => return self.without_broker(after),
        };
        let filled = match self.look_at_target(&*broker)? {
            Ready::Go(filled) => filled,
            Ready::Settled(settled) => return Ok(settled),
        };
        match self.begin(&*broker, account, filled)? {
            Plan::Settled(settled) => Ok(settled),
            Plan::Send(order) => self.send(&*broker, &order),
            Plan::Look(locked, absent) => match self.look(&*broker, &locked.order.client_order_id) {
                Look::Found(seen) => self.found(&seen),
                Look::Unclear { retry_after } => self.look_later(&locked, retry_after),
                Look::Absent => self.absent(&*broker, &locked, absent),
            },
        }
    }

    /// T1 and T2: whether it is still to be sent, and that it is being sent now. `filled`: of the order that it replaces.
    fn begin(&self, broker: &dyn Broker, account: AccountId, filled: Decimal) -> Result<Plan, JobFailure> {
        self.context.transaction(|tx| {
            let locked = lock(tx, self.order)?;
            if locked.order.account_id != account {
                return Err(JobFailure::permanent("the order is of another account than the job"));
            }
            match self.step(&locked, (self.dedupe)(broker)) {
                Step::Nothing => self.context.settle(tx, Settlement::Done).map(Plan::Settled),
                Step::NotSent => {
                    self.not_sent(tx, &locked, "its time ran out before it could be sent").map(Plan::Settled)
                }
                Step::Send => match &locked.forbidden {
                    Some(why) => self.not_sent(tx, &locked, why).map(Plan::Settled),
                    None => self.mark_submitting(tx, &locked, filled),
                },
                Step::LookUpFirst(absent) => Ok(Plan::Look(Box::new(locked), absent)),
            }
        })
    }

    /// Nothing can be sent for this account now. An order that is too old says so all the same.
    fn without_broker(&self, after: Duration) -> Result<Settled, JobFailure> {
        self.context.transaction(|tx| {
            let locked = lock(tx, self.order)?;
            match self.step(&locked, Dedupe::Never) {
                Step::Nothing => self.context.settle(tx, Settlement::Done),
                Step::NotSent => {
                    self.not_sent(tx, &locked, "its time ran out while nothing could be sent for the account")
                }
                Step::Send if locked.forbidden.is_some() => {
                    self.not_sent(tx, &locked, locked.forbidden.as_deref().unwrap_or_default())
                }
                Step::Send | Step::LookUpFirst(_) => {
                    // one that is being sent or in doubt is not ended by its deadline, which may be long past
                    let after = if locked.order.status == OrderStatus::PendingSubmit {
                        after.min(until_deadline(&locked))
                    } else {
                        after
                    };
                    self.context.settle(tx, Settlement::Snooze { after })
                }
            }
        })
    }

    /// W1, then T3.
    fn send(&self, broker: &dyn Broker, order: &Order) -> Result<Settled, JobFailure> {
        if !self.context.trusted() {
            // frozen since the commit: whoever has the job by now looks before sending
            return Err(JobFailure::LeaseLost);
        }
        let outcome = match (self.wire)(broker, order) {
            Ok(answer) => classify(answer, &order.client_order_id),
            Err(TimedOut) => Outcome::Unclear { reason: "no answer from the broker in time".into() },
        };
        match outcome {
            Outcome::Taken(seen) => self.taken(&seen),
            Outcome::Duplicate => match self.look(broker, &order.client_order_id) {
                Look::Found(seen) => self.found(&seen),
                Look::Absent | Look::Unclear { .. } => {
                    self.unclear("the broker knows the client order id and did not show the order")
                }
            },
            Outcome::Unclear { reason } => self.unclear(&reason),
            Outcome::Rejected { code, reason } => self.rejected(code, &reason),
            Outcome::Throttled { after } => {
                self.put_off(Some(after), "the broker takes no more requests for now")
            }
            Outcome::Unreachable => self.put_off(None, "the broker cannot be reached"),
        }
    }

    /// The broker does not know the client id, and did not at the time of `locked`.
    fn absent(
        &self,
        broker: &dyn Broker,
        locked: &LockedOrder,
        absent: Absent,
    ) -> Result<Settled, JobFailure> {
        if absent == Absent::Send
            && let Err(after) = self.brokers.may_repeat(locked.order.account_id)
        {
            return self.look_later(locked, Some(after));
        }
        let filled = match absent {
            Absent::Send => match self.ready(broker, locked)? {
                Ready::Go(filled) => filled,
                Ready::Settled(settled) => return Ok(settled),
            },
            _ => Decimal::ZERO,
        };
        let plan = match absent {
            Absent::Early => return self.look_later(locked, None),
            Absent::Send => self.context.transaction(|tx| {
                let current = lock(tx, self.order)?;
                if current.order.version != locked.order.version || current.now >= current.order.submit.deadline {
                    // moved on meanwhile: decide afresh
                    let again = Settlement::Snooze { after: Duration::ZERO };
                    return self.context.settle(tx, again).map(Plan::Settled);
                }
                match &current.forbidden {
                    Some(_) if in_doubt(current.order.status) => {
                        // forbidden since the look: from now on it is only looked for
                        let again = Settlement::Snooze { after: Duration::ZERO };
                        return self.context.settle(tx, again).map(Plan::Settled);
                    }
                    Some(why) => return self.not_sent(tx, &current, why).map(Plan::Settled),
                    None => {}
                }
                self.mark_submitting(tx, &current, filled)
            })?,
            Absent::Miss => Plan::Settled(self.missed(None)?),
            Absent::LastLook | Absent::AskHuman => match self.list(broker, &locked.order)? {
                Look::Found(seen) => Plan::Settled(self.found(&seen)?),
                Look::Unclear { retry_after } => Plan::Settled(self.look_later(locked, retry_after)?),
                Look::Absent if absent == Absent::AskHuman => Plan::Settled(self.missed(Some(
                    "the order was not found at the broker, which would take a second one: look there and decide",
                ))?),
                Look::Absent => Plan::Settled(self.context.transaction(|tx| {
                    let current = lock(tx, self.order)?;
                    if !in_doubt(current.order.status) {
                        return self.context.settle(tx, Settlement::Done);
                    }
                    self.not_sent(tx, &current, refusal(&current.order, "it never reached the broker"))
                })?),
            },
        };
        match plan {
            Plan::Settled(settled) => Ok(settled),
            Plan::Send(order) => self.send(broker, &order),
            Plan::Look(..) => Err(JobFailure::transient("a decision asked for a second look")),
        }
    }

    fn look(&self, broker: &dyn Broker, id: &ClientOrderId) -> Look {
        match self.context.wait(self.context.timings().broker_call, broker.order_by_client_id(id)) {
            Ok(Ok(seen)) if seen.client_order_id == id.as_str() => Look::Found(Box::new(seen)),
            Ok(Err(BrokerError::NotFound)) => Look::Absent,
            Ok(Err(BrokerError::Throttled { retry_after })) => {
                Look::Unclear { retry_after: Some(retry_after) }
            }
            Ok(Ok(_) | Err(_)) | Err(TimedOut) => Look::Unclear { retry_after: None },
        }
    }

    /// The complete list of what the broker has taken since an order that it had before this one, whatever became of it: a
    /// market order that filled is in no list of open ones. No time window: the broker's clock is not ours.
    fn list(&self, broker: &dyn Broker, order: &Order) -> Result<Look, JobFailure> {
        let from = self.context.transaction(|tx| Ok::<_, JobFailure>(tx.sent_before(order)?))?;
        let bounded = from.is_some();
        Ok(match self.list_from(broker, order.client_order_id.as_str(), from) {
            // the broker does not know the order to begin with: then from the first one
            None if bounded => {
                self.list_from(broker, order.client_order_id.as_str(), None).unwrap_or(UNCLEAR)
            }
            look => look.unwrap_or(UNCLEAR),
        })
    }

    /// `None`: the broker does not list from there.
    fn list_from(&self, broker: &dyn Broker, id: &str, from: Option<BrokerOrderId>) -> Option<Look> {
        let mut query = OrderListQuery { limit: PAGE, after_order_id: from, ..OrderListQuery::default() };
        for _ in 0..PAGES {
            let page = match self.context.wait(self.context.timings().broker_call, broker.orders(&query)) {
                Ok(Ok(page)) => page,
                Ok(Err(BrokerError::Throttled { retry_after })) => {
                    return Some(Look::Unclear { retry_after: Some(retry_after) });
                }
                Ok(Err(BrokerError::Refused { .. } | BrokerError::NotFound)) => return None,
                Ok(Err(_)) | Err(TimedOut) => return Some(UNCLEAR),
            };
            let (count, last) = (page.len(), page.last().map(|order| order.id.clone()));
            // what replaces a leg is shown under its entry
            let mut rows = page.into_iter().flat_map(|mut order| {
                let legs = std::mem::take(&mut order.legs);
                let with_legs = BrokerOrder { legs: legs.clone(), ..order };
                std::iter::once(with_legs).chain(legs)
            });
            if let Some(seen) = rows.find(|order| order.client_order_id == id) {
                return Some(Look::Found(Box::new(seen)));
            }
            if count < usize::from(PAGE) {
                return Some(Look::Absent);
            }
            query.after_order_id = last;
        }
        Some(UNCLEAR)
    }

    fn taken(&self, seen: &BrokerOrder) -> Result<Settled, JobFailure> {
        self.record(|_, after, now| {
            observe(after, seen, now)?;
            Ok((Settlement::Done, Some(OrderEvent::Taken(seen))))
        })
    }

    pub(super) fn found(&self, seen: &BrokerOrder) -> Result<Settled, JobFailure> {
        self.record(|before, after, now| match compare_order(before, seen) {
            Ok(()) => {
                observe(after, seen, now)?;
                Ok((Settlement::Done, Some(OrderEvent::Found(seen))))
            }
            Err(_) if before.status == OrderStatus::Conflict => Ok((Settlement::Done, None)),
            Err(difference) => {
                let reason = differs(difference);
                pass_through_submitting(after, now)?;
                after.move_to(OrderStatus::Conflict, Some(&reason), now).map_err(illegal)?;
                Ok((Settlement::Dead { error: reason }, Some(OrderEvent::Conflict(seen))))
            }
        })
    }

    fn rejected(&self, code: Option<i64>, reason: &str) -> Result<Settled, JobFailure> {
        self.record(|before, after, now| {
            if !in_doubt(before.status) {
                return Ok((Settlement::Done, None));
            }
            if before.submit.doubt {
                // Only this sending was refused, perhaps because of the one that arrived: looking settles it.
                let code = code.map(|code| format!(" ({code})")).unwrap_or_default();
                let reason = format!("{REFUSED}{code}: {reason}");
                after.move_to(OrderStatus::Unknown, Some(&reason), now).map_err(illegal)?;
                let after = self.pause(before, now);
                return Ok((Settlement::Snooze { after }, Some(OrderEvent::Unclear)));
            }
            after.move_to(OrderStatus::Rejected, Some(reason), now).map_err(illegal)?;
            Ok((Settlement::Done, Some(OrderEvent::Rejected { code })))
        })
    }

    fn put_off(&self, retry_after: Option<Duration>, reason: &str) -> Result<Settled, JobFailure> {
        let jitter = self.context.jitter();
        self.record(|before, after, now| {
            if before.status != OrderStatus::Submitting {
                return Ok((Settlement::Done, None));
            }
            let doubt = before.submit.doubt;
            let to = if doubt { OrderStatus::Unknown } else { OrderStatus::PendingSubmit };
            after.move_to(to, Some(reason), now).map_err(illegal)?;
            if doubt {
                // this one came to nothing for certain, and may be made up for; the one before may not be forgotten
                after.submit.attempts -= 1;
            }
            let attempt = u32::try_from(before.submit.attempts).unwrap_or(1);
            let locked = LockedOrder { order: before.clone(), now, forbidden: None };
            let pause = self.context.timings().broker_query().delay(attempt, jitter, None);
            // at its deadline it ends, which asks nothing of the broker
            let after = retry_after.map_or(pause, |after| spread(after, jitter));
            let after = if doubt { after } else { after.min(until_deadline(&locked)) };
            Ok((Settlement::Snooze { after }, Some(OrderEvent::PutOff)))
        })
    }

    fn unclear(&self, reason: &str) -> Result<Settled, JobFailure> {
        self.record(|before, after, now| {
            if before.status != OrderStatus::Submitting {
                return Ok((Settlement::Done, None));
            }
            after.move_to(OrderStatus::Unknown, Some(reason), now).map_err(illegal)?;
            Ok((Settlement::Snooze { after: self.pause(before, now) }, Some(OrderEvent::Unclear)))
        })
    }

    /// Looked for at a time when that means something, and not found. `give_up`: a human must go on.
    pub(super) fn missed(&self, give_up: Option<&str>) -> Result<Settled, JobFailure> {
        self.record(|before, after, now| {
            if !in_doubt(before.status) {
                return Ok((Settlement::Done, None));
            }
            let reason = give_up
                .unwrap_or_else(|| refusal(before, "no clear answer, and not found at the broker so far"));
            after.move_to(OrderStatus::Unknown, Some(reason), now).map_err(illegal)?;
            after.submit.probes += 1;
            let settlement = match give_up {
                Some(reason) => Settlement::Dead { error: reason.to_owned() },
                None => Settlement::Snooze { after: self.pause(before, now) },
            };
            Ok((settlement, Some(OrderEvent::Missed)))
        })
    }

    pub(super) fn look_later(
        &self,
        locked: &LockedOrder,
        retry_after: Option<Duration>,
    ) -> Result<Settled, JobFailure> {
        let jitter = self.context.jitter();
        let mut after =
            retry_after.map_or_else(|| self.pause(&locked.order, locked.now), |after| spread(after, jitter));
        if locked.order.status == OrderStatus::PendingSubmit {
            // at its deadline it ends, which asks nothing of the broker
            after = after.min(until_deadline(locked));
        }
        self.context.finish(&Settlement::Snooze { after })
    }

    /// T3: lock, change, settle, save, in one transaction.
    fn record<'e, F>(&self, change: F) -> Result<Settled, JobFailure>
    where
        F: Fn(&Order, &mut Order, DateTime<Utc>) -> Result<(Settlement, Option<OrderEvent<'e>>), JobFailure>,
    {
        self.context.transaction(|tx| {
            let LockedOrder { order: before, now, .. } = lock(tx, self.order)?;
            let mut after = before.clone();
            let (settlement, event) = change(&before, &mut after, now)?;
            let settled = self.context.settle(tx, settlement)?;
            if let Some(event) = event {
                bump(&before, &mut after, now);
                tx.save_order(&before, &after, &event, now)?;
            }
            Ok(settled)
        })
    }

    fn mark_submitting(
        &self,
        tx: &mut S::Tx<'_>,
        locked: &LockedOrder,
        filled: Decimal,
    ) -> Result<Plan, JobFailure> {
        let (before, now) = (&locked.order, locked.now);
        let mut after = before.clone();
        if !self.size(tx, &mut after, filled)? {
            if in_doubt(before.status) {
                let again = Settlement::Snooze { after: self.pause(before, now) };
                return self.context.settle(tx, again).map(Plan::Settled);
            }
            let why = "nothing is left to be replaced: the order has filled";
            return self.not_sent(tx, locked, why).map(Plan::Settled);
        }
        after.move_to(OrderStatus::Submitting, None, now).map_err(illegal)?;
        after.submit.doubt |= in_doubt(before.status);
        after.submit.attempts += 1;
        after.submit.started_at = Some(now);
        after.submit.probes = 0;
        bump(before, &mut after, now);
        if !tx.hold_job(self.context.lease())? {
            return Err(JobFailure::LeaseLost);
        }
        tx.save_order(before, &after, &OrderEvent::Submitting, now)?;
        Ok(Plan::Send(Box::new(after)))
    }

    fn not_sent(
        &self,
        tx: &mut S::Tx<'_>,
        locked: &LockedOrder,
        reason: &str,
    ) -> Result<Settled, JobFailure> {
        let (before, now) = (&locked.order, locked.now);
        let mut after = before.clone();
        after.move_to(OrderStatus::NotSent, Some(reason), now).map_err(illegal)?;
        bump(before, &mut after, now);
        let settled = self.context.settle(tx, Settlement::Done)?;
        if before.submit.attempts > 0 {
            tx.enqueue(&WatchPayload::job(before, self.context.timings()))?;
        }
        tx.save_order(before, &after, &OrderEvent::NotSent, now)?;
        Ok(settled)
    }

    pub(super) fn step(&self, locked: &LockedOrder, dedupe: Dedupe) -> Step {
        let mut notes = locked.order.submit.clone();
        if locked.forbidden.is_some() && in_doubt(locked.order.status) {
            // It may have arrived. It is not sent again, and looked for as long as any other.
            notes.deadline = notes.deadline.min(locked.now);
        }
        next_step(locked.order.status, &notes, dedupe, self.context.timings(), locked.now)
    }

    fn pause(&self, order: &Order, now: DateTime<Utc>) -> Duration {
        let elapsed = sent_for(&order.submit, now).min(Duration::from_secs(7 * 24 * 60 * 60));
        self.context.timings().probe_pause(elapsed)
    }
}

/// Why an order is in conflict.
pub(super) fn differs(difference: Difference) -> String {
    format!("the broker holds another order under this id: its {difference} differs")
}

pub(super) fn lock<T: SubmitStore>(tx: &mut T, id: OrderId) -> Result<LockedOrder, JobFailure> {
    tx.lock_order(id)?.ok_or_else(|| JobFailure::permanent("there is no such order"))
}

/// Every change has a version of its own, also one of the notes alone.
pub(super) fn bump(before: &Order, after: &mut Order, now: DateTime<Utc>) {
    if after.version == before.version {
        after.version += 1;
        after.updated_at = now.max(after.updated_at);
    }
}

pub(super) fn observe(order: &mut Order, seen: &BrokerOrder, now: DateTime<Utc>) -> Result<(), JobFailure> {
    pass_through_submitting(order, now)?;
    match order.observe(seen, now) {
        Ok(_) => Ok(()),
        Err(ObserveError::Move(error)) => Err(illegal(error)),
        Err(error) => Err(JobFailure::permanent(error.to_string())),
    }
}

/// The table knows no way from `pending_submit` to a broker's state: an order that a frozen worker sent after all has
/// been `submitting` on the way.
fn pass_through_submitting(order: &mut Order, now: DateTime<Utc>) -> Result<(), JobFailure> {
    if order.status == OrderStatus::PendingSubmit {
        order.move_to(OrderStatus::Submitting, None, now).map_err(illegal)?;
    }
    Ok(())
}

pub(super) fn illegal(error: IllegalMove) -> JobFailure {
    JobFailure::permanent(error.to_string())
}

/// The broker's words to a repeat that it refused, as they stand on record; `otherwise` where there are none.
fn refusal<'o>(order: &'o Order, otherwise: &'o str) -> &'o str {
    order.status_reason.as_deref().filter(|reason| reason.starts_with(REFUSED)).unwrap_or(otherwise)
}

/// The broker's pause, and up to an eighth more: what waits for the same instant does not wake in it all at once.
pub(super) fn spread(pause: Duration, jitter: Jitter) -> Duration {
    pause + jitter.of(pause / 8)
}

pub(super) const fn in_doubt(status: OrderStatus) -> bool {
    matches!(status, OrderStatus::Submitting | OrderStatus::Unknown)
}

pub(super) fn until_deadline(locked: &LockedOrder) -> Duration {
    (locked.order.submit.deadline - locked.now).to_std().unwrap_or_default()
}
