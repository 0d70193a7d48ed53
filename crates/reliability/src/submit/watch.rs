//! The job that goes on looking for an order that counts as not sent although it may have left: for a week, with longer
//! and longer pauses. A broker that shows it late is right.

use std::fmt;
use std::sync::Arc;
use std::time::Duration;

use plimsoll_core_domain::broker::{BrokerError, BrokerOrder};
use plimsoll_core_domain::order::{Order, OrderStatus};
use plimsoll_core_domain::{AccountId, OrderId};
use serde::{Deserialize, Serialize};

use super::BROKER_QUEUE;
use super::compare::compare_order;
use super::port::{Brokers, LockedOrder, OrderEvent, SubmitStore};
use super::protocol::{bump, differs, illegal, lock, observe};
use super::step::sent_for;
use crate::Timings;
use crate::jobs::{Handler, Job, JobContext, JobFailure, JobStore, NewJob, Settled, Settlement};

/// The kind of [`WatchOrder`].
pub const WATCH_ORDER: &str = "watch_order";

/// Which order to look for.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct WatchPayload {
    /// Ours.
    pub order_id: OrderId,
    /// Its account: the job goes to the instance that has it.
    pub account_id: AccountId,
}

impl WatchPayload {
    /// The job to insert in the transaction that gives the order up.
    #[must_use]
    pub fn job(order: &Order, timings: &Timings) -> NewJob {
        let payload = Self { order_id: order.id, account_id: order.account_id };
        let job = NewJob::new(BROKER_QUEUE, WATCH_ORDER, &payload).dedup(order.id.to_string());
        // behind everything that is to be done now
        NewJob { priority: 10, delay: timings.watch_first, ..job }
    }
}

/// Looks for orders that were given up: the handler of [`WATCH_ORDER`].
pub struct WatchOrder {
    brokers: Arc<dyn Brokers>,
}

impl WatchOrder {
    /// Looks at these brokers.
    #[must_use]
    pub fn new(brokers: Arc<dyn Brokers>) -> Self {
        Self { brokers }
    }
}

impl fmt::Debug for WatchOrder {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("WatchOrder")
    }
}

/// For how long from now an order may still come alive after it was given up; `None` when it cannot, or not any more.
pub(super) fn watched_for(locked: &LockedOrder, timings: &Timings) -> Option<Duration> {
    let order = &locked.order;
    if order.status != OrderStatus::NotSent || order.submit.attempts == 0 {
        return None;
    }
    timings.watch_keep.checked_sub(sent_for(&order.submit, locked.now)).filter(|left| !left.is_zero())
}

/// The pause until the next look: as long as the order has been away so far, and a last look at the very end.
pub(super) fn watch_pause(locked: &LockedOrder, timings: &Timings, left: Duration) -> Duration {
    let longest = timings.watch_longest.max(timings.watch_first);
    sent_for(&locked.order.submit, locked.now).clamp(timings.watch_first, longest).min(left)
}

impl<S> Handler<S> for WatchOrder
where
    S: JobStore,
    for<'a> S::Tx<'a>: SubmitStore,
{
    fn run(&self, context: &JobContext<'_, S>, job: &Job) -> Result<Settled, JobFailure> {
        let payload: WatchPayload = job.decode()?;
        let timings = context.timings();
        let locked = context.transaction(|tx| lock(tx, payload.order_id))?;
        if locked.order.status != OrderStatus::NotSent || locked.order.submit.attempts == 0 {
            return context.finish(&Settlement::Done);
        }
        let broker = match self.brokers.of_account(locked.order.account_id) {
            Ok(broker) => broker,
            Err(_) if too_long(&locked, timings) => return given_up(context),
            Err(after) => return context.finish(&Settlement::Snooze { after }),
        };
        let look = broker.order_by_client_id(&locked.order.client_order_id);
        let after = match context.wait(timings.broker_call, look) {
            Ok(Ok(seen)) if seen.client_order_id == locked.order.client_order_id.as_str() => {
                return revive(context, payload.order_id, &seen);
            }
            Ok(Err(BrokerError::NotFound)) => match watched_for(&locked, timings) {
                Some(left) => watch_pause(&locked, timings, left),
                None => return context.finish(&Settlement::Done),
            },
            _ if too_long(&locked, timings) => return given_up(context),
            Ok(Err(BrokerError::Throttled { retry_after })) => retry_after.max(timings.watch_first),
            // a week ends with a clear word only
            _ => timings.watch_first,
        };
        context.finish(&Settlement::Snooze { after })
    }
}

/// Twice the time of the watch has passed, and nobody could ask the broker at its end.
fn too_long(locked: &LockedOrder, timings: &Timings) -> bool {
    sent_for(&locked.order.submit, locked.now) >= timings.watch_keep * 2
}

/// Nobody could ask for as long again as the watch lasts: a human must look.
fn given_up<S: JobStore>(context: &JobContext<'_, S>) -> Result<Settled, JobFailure> {
    let error =
        "the order counts as not sent, and the broker could not be asked for it to the end".to_owned();
    context.finish(&Settlement::Dead { error })
}

/// The broker has it after all.
fn revive<S>(context: &JobContext<'_, S>, id: OrderId, seen: &BrokerOrder) -> Result<Settled, JobFailure>
where
    S: JobStore,
    for<'a> S::Tx<'a>: SubmitStore,
{
    context.transaction(|tx| {
        let LockedOrder { order: before, now, .. } = lock(tx, id)?;
        if before.status != OrderStatus::NotSent {
            return context.settle(tx, Settlement::Done);
        }
        let mut after = before.clone();
        let (settlement, event) = match compare_order(&before, seen) {
            Ok(()) => {
                observe(&mut after, seen, now)?;
                (Settlement::Done, OrderEvent::Revived(seen))
            }
            Err(difference) => {
                let reason = differs(difference);
                after.move_to(OrderStatus::Conflict, Some(&reason), now).map_err(illegal)?;
                (Settlement::Dead { error: reason }, OrderEvent::Conflict(seen))
            }
        };
        bump(&before, &mut after, now);
        let settled = context.settle(tx, settlement)?;
        tx.save_order(&before, &after, &event, now)?;
        Ok(settled)
    })
}
