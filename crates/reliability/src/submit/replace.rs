//! The job that asks for a replacement. The replacement is an order of its own here, with its own client id, and goes
//! through the same protocol as any order; only the call at its heart is another, and the old order is looked at first.

use std::fmt;
use std::sync::Arc;

use plimsoll_core_domain::broker::{Broker, ReplaceOrder};
use plimsoll_core_domain::order::{Order, TimeInForce, Trail};
use plimsoll_core_domain::{AccountId, BrokerOrderId, OrderId, Price, Quantity};
use serde::{Deserialize, Serialize};

use super::BROKER_QUEUE;
use super::port::{Brokers, SubmitStore};
use super::protocol::Protocol;
use super::replacing::Replacing;
use super::send::dedupe_of_replacement;
use crate::jobs::{Handler, Job, JobContext, JobFailure, JobStore, NewJob, Settled};

/// The kind of [`ReplaceOrderJob`].
pub const REPLACE_ORDER: &str = "replace_order";

/// What to replace by what. An absent field leaves the old order's value.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct ReplacePayload {
    /// The replacement, ours.
    pub order_id: OrderId,
    /// Its account.
    pub account_id: AccountId,
    /// The order to be replaced, the broker's.
    pub target: BrokerOrderId,
    /// The new size as it stood when the replacement was taken, where it is not `total` that decides.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub qty: Option<Quantity>,
    /// What the old order and the new one are to fill together: less what the old one has filled by then, it is sent. None
    /// for legs, whose size is the broker's.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub total: Option<Quantity>,
    /// The new limit.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub limit_price: Option<Price>,
    /// The new stop.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub stop_price: Option<Price>,
    /// The new trailing distance in currency.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub trail_price: Option<Price>,
    /// The new trailing distance in per cent.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub trail_percent: Option<Price>,
    /// How long it stands.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub time_in_force: Option<TimeInForce>,
}

impl ReplacePayload {
    /// The replacement `order` of the broker's order `target`.
    #[must_use]
    pub fn new(order: &Order, target: BrokerOrderId, change: &ReplaceOrder) -> Self {
        let (trail_price, trail_percent) = match change.trail {
            Some(Trail::Price(distance)) => (Some(distance), None),
            Some(Trail::Percent(distance)) => (None, Some(distance)),
            None => (None, None),
        };
        Self {
            order_id: order.id,
            account_id: order.account_id,
            target,
            qty: change.qty,
            total: None,
            limit_price: change.limit_price,
            stop_price: change.stop_price,
            trail_price,
            trail_percent,
            time_in_force: change.time_in_force,
        }
    }

    /// The same with a total of the old order's fills and the new order.
    #[must_use]
    pub fn total(self, total: Option<Quantity>) -> Self {
        Self { total, ..self }
    }

    /// The job to insert in the transaction that accepts the replacement.
    #[must_use]
    pub fn job(&self, order: &Order) -> NewJob {
        NewJob::new(BROKER_QUEUE, REPLACE_ORDER, self).dedup(order.client_order_id.as_str())
    }

    /// The broker's new order counts its fills from zero, and takes the old one's size where none is named: what is left is
    /// named, but for a fraction that has not changed, which no broker takes.
    fn qty(&self, order: &Order) -> Option<Quantity> {
        match self.total {
            Some(total) => order.terms.qty().filter(|rest| rest.is_whole() || *rest != total),
            None => self.qty,
        }
    }

    fn change(&self, order: &Order) -> ReplaceOrder {
        ReplaceOrder {
            client_order_id: Some(order.client_order_id.clone()),
            qty: self.qty(order),
            limit_price: self.limit_price,
            stop_price: self.stop_price,
            trail: self.trail_price.map(Trail::Price).or(self.trail_percent.map(Trail::Percent)),
            time_in_force: self.time_in_force,
        }
    }
}

/// Asks for replacements: the handler of [`REPLACE_ORDER`].
pub struct ReplaceOrderJob {
    brokers: Arc<dyn Brokers>,
}

impl ReplaceOrderJob {
    /// Asks these brokers.
    #[must_use]
    pub fn new(brokers: Arc<dyn Brokers>) -> Self {
        Self { brokers }
    }
}

impl fmt::Debug for ReplaceOrderJob {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("ReplaceOrderJob")
    }
}

impl<S> Handler<S> for ReplaceOrderJob
where
    S: JobStore,
    for<'a> S::Tx<'a>: SubmitStore,
{
    fn run(&self, context: &JobContext<'_, S>, job: &Job) -> Result<Settled, JobFailure> {
        let payload: ReplacePayload = job.decode()?;
        let wire = |broker: &dyn Broker, order: &Order| {
            let change = payload.change(order);
            context.wait(context.timings().broker_call, broker.replace(&payload.target, &change))
        };
        let protocol = Protocol {
            context,
            brokers: &*self.brokers,
            order: payload.order_id,
            account: Some(payload.account_id),
            dedupe: dedupe_of_replacement,
            replacing: Some(Replacing { target: &payload.target, total: payload.total }),
            wire: &wire,
        };
        protocol.run()
    }
}
