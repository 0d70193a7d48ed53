mod cancels;
mod crashes;
mod repeats;
mod replaces;
mod sends;
mod tables;
mod watches;

use std::sync::{Arc, OnceLock};
use std::time::Duration;

use chrono::TimeDelta;
use plimsoll_core_domain::order::{
    Environment, LegRole, NewOrder, Order, OrderRequest, OrderSource, OrderStatus, OrderType, Side,
    SourceKind, SubmitNotes, TimeInForce,
};
use plimsoll_core_domain::{AccountId, ClientOrderId, OrderId, UserId};
use rust_decimal::Decimal;
use tokio::runtime::{Builder, Handle, Runtime};
use uuid::Uuid;

use super::{
    CANCEL_ORDER, CancelOrder, REPLACE_ORDER, ReplaceOrderJob, SUBMIT_ORDER, SubmitOrderJob, SubmitPayload,
    WATCH_ORDER, WatchOrder,
};
use crate::Timings;
use crate::jobs::{JobId, JobQueue, JobRunner, JobState, JobStore, NewJob};
use crate::retry::Jitter;
use crate::testing::{FakeBroker, Faults, MemoryStore};

fn runtime() -> Handle {
    static RUNTIME: OnceLock<Runtime> = OnceLock::new();
    RUNTIME
        .get_or_init(|| Builder::new_multi_thread().worker_threads(1).enable_time().build().unwrap())
        .handle()
        .clone()
}

/// The real times, but for a call that never answers: nobody wants to wait 5 s for it.
fn timings() -> Timings {
    Timings { broker_call: Duration::from_millis(50), ..Timings::default() }
}

fn terms(order_type: OrderType) -> NewOrder {
    let limit = (order_type == OrderType::Limit).then(|| Decimal::new(50_012, 2));
    OrderRequest {
        symbol: "SPY".into(),
        side: Some(Side::Buy),
        order_type: Some(order_type),
        time_in_force: Some(TimeInForce::Day),
        qty: Some(Decimal::TEN),
        limit_price: limit,
        ..OrderRequest::default()
    }
    .validate()
    .unwrap()
}

/// A store, a broker, and processes that come and go.
struct World {
    store: MemoryStore,
    broker: FakeBroker,
}

impl World {
    fn new() -> Self {
        let store = MemoryStore::stopped();
        Self { broker: FakeBroker::new(&store), store }
    }

    fn without_dedupe() -> Self {
        let World { store, broker } = Self::new();
        Self { store, broker: broker.without_dedupe() }
    }

    /// Accepts an order: row and job in one transaction.
    fn accept(&self, order_type: OrderType) -> Order {
        let order = self.order(order_type, 1);
        self.store.put_order(order.clone());
        self.enqueue(&SubmitPayload::job(&order)).unwrap();
        order
    }

    fn order(&self, order_type: OrderType, n: u128) -> Order {
        let now = self.store.now();
        let deadline = now + TimeDelta::from_std(timings().submit_deadline(order_type)).unwrap();
        Order {
            id: OrderId(Uuid::from_u128(n)),
            account_id: AccountId(3),
            user_id: UserId(7),
            client_order_id: ClientOrderId::new(format!("plm-{n}")).unwrap(),
            broker_order_id: None,
            terms: terms(order_type),
            parent_id: None,
            role: LegRole::Entry,
            status: OrderStatus::PendingSubmit,
            status_reason: None,
            filled_qty: Decimal::ZERO,
            filled_value: Decimal::ZERO,
            broker: None,
            source: OrderSource { kind: SourceKind::Api, id: None },
            environment: Environment::Paper,
            replaces: None,
            replaced_by: None,
            submit: SubmitNotes { attempts: 0, deadline, started_at: None, probes: 0, doubt: false },
            created_at: now,
            submitted_at: None,
            updated_at: now,
            closed_at: None,
            version: 1,
        }
    }

    fn enqueue(&self, job: &NewJob) -> Option<JobId> {
        self.store.transaction(|tx| tx.enqueue(job)).unwrap()
    }

    /// A process with its own way of dying.
    fn process(&self, owner: u128, faults: Faults) -> JobRunner<MemoryStore> {
        process(&self.store, &self.broker, owner, faults)
    }

    /// Healthy processes do what is left, each at its time, until nothing is open but the watch over orders that were given
    /// up, or ten days have passed.
    fn settle_down(&self) {
        self.settle(|kind| kind != WATCH_ORDER);
    }

    /// The same until the watch has ended too.
    fn watch_on(&self) {
        self.settle(|_| true);
    }

    fn settle(&self, counts: impl Fn(&str) -> bool) {
        let until = self.store.now() + TimeDelta::days(10);
        let healthy = self.process(99, Faults::default());
        loop {
            healthy.reap().unwrap();
            while healthy.run_due(10).unwrap() > 0 {}
            let jobs = self.store.jobs();
            let open = jobs.iter().filter(|row| counts(&row.job.kind)).filter_map(|row| match row.state {
                JobState::Ready => Some(row.run_at),
                JobState::Leased => Some(row.lease_until + TimeDelta::milliseconds(1)),
                _ => None,
            });
            let Some(next) = open.min().filter(|next| *next < until) else { return };
            self.store.advance((next - self.store.now()).to_std().unwrap_or_default());
        }
    }

    fn job_state(&self) -> JobState {
        self.store.jobs()[0].state
    }
}

fn process(store: &MemoryStore, broker: &FakeBroker, owner: u128, faults: Faults) -> JobRunner<MemoryStore> {
    let brokers = Arc::new(broker.for_process(faults.clone()));
    let timings = timings();
    JobRunner::new(
        store.with_faults(faults),
        super::BROKER_QUEUE,
        Uuid::from_u128(owner),
        runtime(),
        timings.clone(),
        Arc::new(Jitter::MIN),
    )
    .handle(SUBMIT_ORDER, timings.broker_query(), SubmitOrderJob::new(brokers.clone()))
    .handle(CANCEL_ORDER, timings.broker_query(), CancelOrder::new(brokers.clone()))
    .handle(WATCH_ORDER, timings.broker_query(), WatchOrder::new(brokers.clone()))
    .handle(REPLACE_ORDER, timings.broker_query(), ReplaceOrderJob::new(brokers))
}

fn secs(n: u64) -> Duration {
    Duration::from_secs(n)
}
