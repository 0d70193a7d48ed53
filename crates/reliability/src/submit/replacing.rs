//! What a replacement needs beside the protocol: a look at the order that it replaces, just before it is asked for.

use std::time::Duration;

use plimsoll_core_domain::broker::{Broker, BrokerError, BrokerStatus};
use plimsoll_core_domain::order::{Order, OrderSize, OrderStatus};
use plimsoll_core_domain::{BrokerOrderId, Quantity, StoreError};
use rust_decimal::Decimal;

use super::port::{LockedOrder, SubmitStore};
use super::protocol::{Look, Protocol, in_doubt, spread, until_deadline};
use super::step::Step;
use crate::jobs::{JobFailure, JobStore, Settled, Settlement};

/// The order to be replaced.
#[derive(Clone, Copy, Debug)]
pub(super) struct Replacing<'r> {
    /// The broker's id.
    pub(super) target: &'r BrokerOrderId,
    /// What both orders are to fill together, where that is for us to say.
    pub(super) total: Option<Quantity>,
}

/// Whether a replacement may be asked for now.
pub(super) enum Ready {
    /// Yes; so much of the old order is filled at the broker.
    Go(Decimal),
    /// No, and the job is settled.
    Settled(Settled),
}

impl<S> Protocol<'_, S>
where
    S: JobStore,
    for<'a> S::Tx<'a>: SubmitStore,
{
    /// Looks at the old order when the next step is a first sending. Does nothing for what replaces nothing.
    pub(super) fn look_at_target(&self, broker: &dyn Broker) -> Result<Ready, JobFailure> {
        if self.replacing.is_none() {
            return Ok(Ready::Go(Decimal::ZERO));
        }
        let locked = self.context.transaction(|tx| super::protocol::lock(tx, self.order))?;
        if locked.forbidden.is_some() || self.step(&locked, (self.dedupe)(broker)) != Step::Send {
            return Ok(Ready::Go(Decimal::ZERO));
        }
        self.ready(broker, &locked)
    }

    /// Looks at the old order: what of it is filled, and whether this replacement has taken its place already.
    pub(super) fn ready(&self, broker: &dyn Broker, locked: &LockedOrder) -> Result<Ready, JobFailure> {
        let Some(Replacing { target, .. }) = self.replacing else { return Ok(Ready::Go(Decimal::ZERO)) };
        let doubt = in_doubt(locked.order.status);
        let old = match self.look_by_id(broker, target) {
            Look::Found(old) => old,
            Look::Unclear { retry_after } => return self.not_now(locked, retry_after).map(Ready::Settled),
            // a first request is refused in the broker's own words
            Look::Absent if !doubt => return Ok(Ready::Go(Decimal::ZERO)),
            Look::Absent => return self.missed(None).map(Ready::Settled),
        };
        if let Some(next) = &old.replaced_by {
            match self.look_by_id(broker, next) {
                Look::Found(next) if next.client_order_id == locked.order.client_order_id.as_str() => {
                    return self.found(&next).map(Ready::Settled);
                }
                Look::Unclear { retry_after } => {
                    return self.not_now(locked, retry_after).map(Ready::Settled);
                }
                Look::Found(_) | Look::Absent => {}
            }
        }
        // Between orders nothing is certain that was asked for before: it is looked for, and not asked for again.
        let changing = matches!(&old.status, BrokerStatus::Known(status)
            if status.is_final() || *status == OrderStatus::PendingReplace);
        if doubt && changing {
            return self.missed(None).map(Ready::Settled);
        }
        Ok(Ready::Go(old.filled_qty))
    }

    /// Sizes the replacement by what of the old order is filled, at the broker (`filled`) or on record here. `false`: nothing
    /// is left of it.
    pub(super) fn size(
        &self,
        tx: &mut S::Tx<'_>,
        order: &mut Order,
        filled: Decimal,
    ) -> Result<bool, StoreError> {
        let (Some(Replacing { total: Some(total), .. }), Some(old)) = (self.replacing, order.replaces) else {
            return Ok(true);
        };
        let filled = filled.max(tx.filled_of(order.account_id, old)?);
        match Quantity::new(total.get() - filled) {
            Ok(rest) => {
                order.terms.size = OrderSize::Qty(rest);
                Ok(true)
            }
            Err(_) => Ok(false),
        }
    }

    /// The old order was not shown: nothing was sent, and it is looked at again.
    fn not_now(&self, locked: &LockedOrder, retry_after: Option<Duration>) -> Result<Settled, JobFailure> {
        if locked.order.status != OrderStatus::PendingSubmit {
            return self.look_later(locked, retry_after);
        }
        let jitter = self.context.jitter();
        let pause = self.context.timings().cancel_wait;
        let after = retry_after.map_or(pause, |after| spread(after.max(pause), jitter));
        self.context.finish(&Settlement::Snooze { after: after.min(until_deadline(locked)) })
    }

    fn look_by_id(&self, broker: &dyn Broker, id: &BrokerOrderId) -> Look {
        match self.context.wait(self.context.timings().broker_call, broker.order(id)) {
            Ok(Ok(seen)) => Look::Found(Box::new(seen)),
            Ok(Err(BrokerError::NotFound)) => Look::Absent,
            Ok(Err(BrokerError::Throttled { retry_after })) => {
                Look::Unclear { retry_after: Some(retry_after) }
            }
            Ok(Err(_)) | Err(_) => Look::Unclear { retry_after: None },
        }
    }
}
