//! The job that asks for a cancel. Asking twice does no harm, so an unclear answer is answered by asking again, and a
//! broker that is away is asked until it is back or the order is final: no outage uses up an accepted cancel. Neither does a
//! refusal, for as long as the broker shows the order as open; of an order that was replaced, the replacement is canceled.

use std::fmt;
use std::sync::Arc;
use std::time::Duration;

use chrono::{DateTime, Utc};
use plimsoll_core_domain::broker::{Broker, BrokerError, BrokerOrder};
use plimsoll_core_domain::order::{Order, OrderStatus};
use plimsoll_core_domain::{AccountId, BrokerOrderId, OrderId};
use serde::{Deserialize, Serialize};

use super::BROKER_QUEUE;
use super::port::{Brokers, LockedOrder, OrderEvent, SubmitStore};
use super::protocol::{bump, illegal, lock, observe};
use super::step::sent_for;
use super::watch::{WatchPayload, watch_pause, watched_for};
use crate::jobs::{
    Handler, Job, JobContext, JobFailure, JobQueue, JobStore, NewJob, Settled, Settlement, TimedOut,
};
use crate::retry::ErrorClass;

/// The kind of [`CancelOrder`].
pub const CANCEL_ORDER: &str = "cancel_order";
const NO_ANSWER: &str = "no answer from the broker in time";

/// Which order to cancel.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct CancelPayload {
    /// Ours.
    pub order_id: OrderId,
    /// Its account: the job goes to the instance that has it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub account_id: Option<AccountId>,
}

impl CancelPayload {
    /// The job to insert in the transaction that takes the wish; it goes before orders that wait.
    #[must_use]
    pub fn job(order: &Order) -> NewJob {
        Self::job_of(order.id, order.account_id)
    }

    fn job_of(order: OrderId, account: AccountId) -> NewJob {
        let payload = Self { order_id: order, account_id: Some(account) };
        let job = NewJob::new(BROKER_QUEUE, CANCEL_ORDER, &payload).dedup(order.to_string());
        NewJob { priority: -10, ..job }
    }
}

/// Cancels orders: the handler of [`CANCEL_ORDER`].
pub struct CancelOrder {
    brokers: Arc<dyn Brokers>,
}

impl CancelOrder {
    /// Asks these brokers.
    #[must_use]
    pub fn new(brokers: Arc<dyn Brokers>) -> Self {
        Self { brokers }
    }
}

impl fmt::Debug for CancelOrder {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("CancelOrder")
    }
}

enum Plan {
    Settled(Settled),
    Ask(Box<LockedOrder>, BrokerOrderId),
}

impl<S> Handler<S> for CancelOrder
where
    S: JobStore,
    for<'a> S::Tx<'a>: SubmitStore,
{
    fn run(&self, context: &JobContext<'_, S>, job: &Job) -> Result<Settled, JobFailure> {
        let CancelPayload { order_id, .. } = job.decode()?;
        let (locked, broker_id) = match begin(context, order_id)? {
            Plan::Settled(settled) => return Ok(settled),
            Plan::Ask(locked, id) => (locked, id),
        };
        let broker = match self.brokers.of_account(locked.order.account_id) {
            Ok(broker) => broker,
            Err(after) => return context.finish(&Settlement::Snooze { after }),
        };
        if !context.trusted() {
            return Err(JobFailure::LeaseLost);
        }
        match context.wait(context.timings().broker_call, broker.cancel(&broker_id)) {
            Ok(Ok(())) => asked(context, order_id),
            // filled, canceled or unknown there: what it is now decides
            Ok(Err(BrokerError::Refused { .. } | BrokerError::NotFound)) => {
                let seen = see(context, &*broker, &locked, &broker_id)?;
                refused(context, job, order_id, &seen)
            }
            Ok(Err(error)) => Err(failure(context, order_id, &error)),
            Err(TimedOut) => Err(ask_again(context, order_id, &NO_ANSWER)),
        }
    }
}

fn begin<S>(context: &JobContext<'_, S>, id: OrderId) -> Result<Plan, JobFailure>
where
    S: JobStore,
    for<'a> S::Tx<'a>: SubmitStore,
{
    context.transaction(|tx| {
        let locked = lock(tx, id)?;
        let timings = context.timings();
        if let Some(left) = watched_for(&locked, timings) {
            // Should it come alive, it is to be canceled then: that makes this job due.
            let after = watch_pause(&locked, timings, left);
            return context.settle(tx, Settlement::Snooze { after }).map(Plan::Settled);
        }
        let LockedOrder { order, now, .. } = &locked;
        let (order, now) = (order, *now);
        match order.status {
            OrderStatus::Replaced => replaced(context, tx, order, now).map(Plan::Settled),
            status if status.is_final() => context.settle(tx, Settlement::Done).map(Plan::Settled),
            OrderStatus::PendingSubmit => {
                // after a first try it stays revivable, should the broker show it after all
                let never_sent = order.submit.attempts == 0;
                let (to, settlement) = if never_sent {
                    (OrderStatus::Canceled, Settlement::Done)
                } else {
                    (OrderStatus::NotSent, Settlement::Snooze { after: timings.watch_first })
                };
                let mut after = order.clone();
                after.move_to(to, Some("canceled before it was sent"), now).map_err(illegal)?;
                bump(order, &mut after, now);
                let settled = context.settle(tx, settlement)?;
                if !never_sent {
                    tx.enqueue(&WatchPayload::job(order, timings))?;
                }
                tx.save_order(order, &after, &OrderEvent::Withdrawn, now)?;
                Ok(Plan::Settled(settled))
            }
            OrderStatus::Submitting | OrderStatus::Unknown => {
                let after =
                    (sent_for(&order.submit, now) / 8).clamp(timings.cancel_wait, longest_wait(timings));
                context.settle(tx, Settlement::Snooze { after }).map(Plan::Settled)
            }
            _ => match order.broker_order_id.clone() {
                Some(broker_id) => Ok(Plan::Ask(Box::new(locked), broker_id)),
                None => Err(JobFailure::permanent("the broker's id of the order is not known")),
            },
        }
    })
}

fn longest_wait(timings: &crate::Timings) -> Duration {
    timings.probe_late.max(timings.cancel_wait)
}

/// The broker will try. What comes of it, its stream tells.
fn asked<S>(context: &JobContext<'_, S>, id: OrderId) -> Result<Settled, JobFailure>
where
    S: JobStore,
    for<'a> S::Tx<'a>: SubmitStore,
{
    context.transaction(|tx| {
        let LockedOrder { order: before, now, .. } = lock(tx, id)?;
        let mut after = before.clone();
        let settled = context.settle(tx, Settlement::Done)?;
        let pending = before.status.check_move(OrderStatus::PendingCancel).is_ok() && before.status.is_open();
        if pending && after.move_to(OrderStatus::PendingCancel, None, now).map_err(illegal)?.is_some() {
            tx.save_order(&before, &after, &OrderEvent::CancelAsked, now)?;
        }
        Ok(settled)
    })
}

/// The wish holds for what took the order's place; that may become known a moment after the broker replaced it.
fn replaced<S>(
    context: &JobContext<'_, S>,
    tx: &mut S::Tx<'_>,
    order: &Order,
    now: DateTime<Utc>,
) -> Result<Settled, JobFailure>
where
    S: JobStore,
    for<'a> S::Tx<'a>: SubmitStore,
{
    let timings = context.timings();
    let settlement = match order.replaced_by {
        Some(_) => Settlement::Done,
        None if order.closed_at.is_some_and(|at| since(at, now) < timings.not_sent_after) => {
            Settlement::Snooze { after: timings.cancel_wait }
        }
        None => Settlement::Done,
    };
    let settled = context.settle(tx, settlement)?;
    if let Some(next) = order.replaced_by {
        tx.enqueue(&CancelPayload::job_of(next, order.account_id))?;
    }
    Ok(settled)
}

fn since(at: DateTime<Utc>, now: DateTime<Utc>) -> Duration {
    (now - at).to_std().unwrap_or_default()
}

/// The broker would not. What it shows decides: an order that is open there is asked for again, since it may take a cancel
/// in a moment (an order that is being taken or replaced takes none), for as long as a given up one is looked for.
fn refused<S>(
    context: &JobContext<'_, S>,
    job: &Job,
    id: OrderId,
    seen: &BrokerOrder,
) -> Result<Settled, JobFailure>
where
    S: JobStore,
    for<'a> S::Tx<'a>: SubmitStore,
{
    context.transaction(|tx| {
        let LockedOrder { order: before, now, .. } = lock(tx, id)?;
        let mut after = before.clone();
        observe(&mut after, seen, now)?;
        let timings = context.timings();
        let age = since(job.created_at, now);
        let over = after.status.is_final() || after.broker.is_some_and(|view| view.status.is_final());
        let settlement = match over {
            // a replaced one is followed
            true if after.broker.is_some_and(|view| view.status == OrderStatus::Replaced) => {
                Settlement::Snooze { after: Duration::ZERO }
            }
            true => Settlement::Done,
            false if age >= timings.watch_keep => Settlement::Dead {
                error: "the broker has refused to cancel the order all the time and shows it as open".to_owned(),
            },
            false => {
                tracing::warn!(order = %id, status = %after.status, "the broker refused a cancel of an order that is open; it is asked again");
                Settlement::Snooze { after: (age / 8).clamp(timings.cancel_wait, longest_wait(timings)) }
            }
        };
        let settled = context.settle(tx, settlement)?;
        if after != before {
            bump(&before, &mut after, now);
            tx.save_order(&before, &after, &OrderEvent::CancelRefused(seen), now)?;
        }
        Ok(settled)
    })
}

fn see<S: JobStore>(
    context: &JobContext<'_, S>,
    broker: &dyn Broker,
    locked: &LockedOrder,
    id: &BrokerOrderId,
) -> Result<BrokerOrder, JobFailure> {
    let order = locked.order.id;
    match context.wait(context.timings().broker_call, broker.order(id)) {
        Ok(Ok(seen)) => Ok(seen),
        // what was taken a moment ago may not be shown everywhere yet
        Ok(Err(error @ BrokerError::NotFound))
            if sent_for(&locked.order.submit, locked.now) < context.timings().submit_settle =>
        {
            Err(put_off(order, &error, context.timings().cancel_wait))
        }
        Ok(Err(BrokerError::NotFound)) => Err(JobFailure::permanent("the broker does not know the order")),
        Ok(Err(error)) => Err(failure(context, order, &error)),
        Err(TimedOut) => Err(ask_again(context, order, &NO_ANSWER)),
    }
}

fn failure<S: JobStore>(context: &JobContext<'_, S>, order: OrderId, error: &BrokerError) -> JobFailure {
    match error {
        // a broker that says "at once" must not be asked in a tight loop
        BrokerError::Throttled { retry_after } => {
            put_off(order, error, (*retry_after).max(context.timings().retry_broker_query_base))
        }
        BrokerError::Unreachable(_) | BrokerError::Unreadable(_) | BrokerError::Ambiguous(_) => {
            ask_again(context, order, error)
        }
        _ => JobFailure::transient(error.to_string()),
    }
}

fn ask_again<S: JobStore>(
    context: &JobContext<'_, S>,
    order: OrderId,
    reason: &dyn fmt::Display,
) -> JobFailure {
    put_off(order, reason, context.timings().cancel_retry)
}

/// The wish stands: no attempt is used up.
fn put_off(order: OrderId, reason: &dyn fmt::Display, after: Duration) -> JobFailure {
    tracing::warn!(%order, %reason, ?after, "a cancel did not get through to the broker and will be repeated");
    JobFailure::Failed { class: ErrorClass::Snooze { after }, message: reason.to_string() }
}
