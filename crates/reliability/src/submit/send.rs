//! The job that sends an order, and looks for it where its fate is unclear.

use std::fmt;
use std::sync::Arc;

use plimsoll_core_domain::broker::{Broker, Dedupe, SubmitOrder};
use plimsoll_core_domain::order::Order;
use plimsoll_core_domain::{AccountId, OrderId};
use serde::{Deserialize, Serialize};

use super::BROKER_QUEUE;
use super::port::{Brokers, SubmitStore};
use super::protocol::Protocol;
use crate::jobs::{Handler, Job, JobContext, JobFailure, JobStore, NewJob, Settled};

/// The kind of [`SubmitOrderJob`].
pub const SUBMIT_ORDER: &str = "submit_order";

/// Which order to send.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct SubmitPayload {
    /// Ours.
    pub order_id: OrderId,
    /// Its account: saves reading the order to find its broker.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub account_id: Option<AccountId>,
}

impl SubmitPayload {
    /// The job to insert in the transaction that accepts the order.
    #[must_use]
    pub fn job(order: &Order) -> NewJob {
        let payload = Self { order_id: order.id, account_id: Some(order.account_id) };
        NewJob::new(BROKER_QUEUE, SUBMIT_ORDER, &payload).dedup(order.client_order_id.as_str())
    }
}

/// Sends orders: the handler of [`SUBMIT_ORDER`].
pub struct SubmitOrderJob {
    brokers: Arc<dyn Brokers>,
}

impl SubmitOrderJob {
    /// Sends over these brokers.
    #[must_use]
    pub fn new(brokers: Arc<dyn Brokers>) -> Self {
        Self { brokers }
    }
}

impl fmt::Debug for SubmitOrderJob {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("SubmitOrderJob")
    }
}

impl<S> Handler<S> for SubmitOrderJob
where
    S: JobStore,
    for<'a> S::Tx<'a>: SubmitStore,
{
    fn run(&self, context: &JobContext<'_, S>, job: &Job) -> Result<Settled, JobFailure> {
        let payload: SubmitPayload = job.decode()?;
        let wire = |broker: &dyn Broker, order: &Order| {
            let submit =
                SubmitOrder { client_order_id: order.client_order_id.clone(), order: order.terms.clone() };
            context.wait(context.timings().broker_call, broker.submit(&submit))
        };
        let protocol = Protocol {
            context,
            brokers: &*self.brokers,
            order: payload.order_id,
            account: payload.account_id,
            dedupe: |broker| broker.dedupe(),
            replacing: None,
            wire: &wire,
        };
        protocol.run()
    }
}

/// A replacement has no key of its own at every broker, but the order that it replaces can be replaced only once: a
/// second request for it takes no effect. The refusal of a second one says nothing of the first.
pub(super) fn dedupe_of_replacement(_broker: &dyn Broker) -> Dedupe {
    Dedupe::Forever
}
