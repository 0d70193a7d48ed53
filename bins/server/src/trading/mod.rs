//! Trading: the connections to brokers, the jobs that speak to them, and what their order streams bring.

mod apply;
mod catch_up;
mod connection;
mod gateway;
mod marks;
mod sink;
mod sync_job;

use std::sync::Arc;
use std::time::Duration;

use plimsoll_core_domain::Clock;
use plimsoll_core_domain::broker::Broker;
use plimsoll_realtime::Hub;
use plimsoll_reliability::Timings;
use plimsoll_reliability::jobs::{JobRunner, StopReport, Wake, Workers};
use plimsoll_reliability::retry::JitterSource;
use plimsoll_reliability::submit::{
    BROKER_QUEUE, CANCEL_ORDER, CancelOrder, REPLACE_ORDER, ReplaceOrderJob, SUBMIT_ORDER, SubmitOrderJob,
};
use plimsoll_storage::Db;
use plimsoll_storage::platform::accounts::BrokerAccountRow;
use plimsoll_storage::platform::orders::SYNC_ORDER;
use tokio::runtime::Handle;
use tokio::task::JoinHandle;
use uuid::Uuid;

pub use connection::{Connection, Connections};

/// What trading needs of the rest of the server.
pub struct TradingParts {
    /// The pool of jobs and of what the order streams bring.
    pub jobs: Db,
    /// The pool of leases.
    pub control: Db,
    /// Where events are heard.
    pub hub: Hub,
    /// The time.
    pub clock: Arc<dyn Clock>,
    /// Wakes the job threads.
    pub wake: Wake,
    /// Every duration.
    pub timings: Timings,
    /// Spreads pauses.
    pub jitter: Arc<dyn JitterSource>,
    /// This process, among the owners of leases.
    pub owner: Uuid,
    /// Job threads.
    pub threads: usize,
    /// The runtime of calls and streams; it must outlive the job threads.
    pub runtime: Handle,
    /// The accounts, each with the adapter that has its credentials.
    pub accounts: Vec<(BrokerAccountRow, Arc<dyn Broker>)>,
}

/// Trading while it runs.
pub struct TradingHandle {
    /// The connections.
    pub connections: Arc<Connections>,
    workers: Workers<Db>,
    tasks: Vec<JoinHandle<()>>,
}

/// Starts the job threads, and the stream and the price marks of each account.
///
/// # Errors
/// A thread cannot be started.
pub fn start(parts: TradingParts) -> std::io::Result<TradingHandle> {
    let connections = Arc::new(Connections::new(parts.accounts, Arc::clone(&parts.clock)));
    let brokers: Arc<Connections> = Arc::clone(&connections);
    let query = parts.timings.broker_query();
    let runner = JobRunner::new(
        parts.jobs.clone(),
        BROKER_QUEUE,
        parts.owner,
        parts.runtime.clone(),
        parts.timings,
        parts.jitter,
    )
    .control(parts.control)
    .handle(SUBMIT_ORDER, query, SubmitOrderJob::new(brokers.clone()))
    .handle(CANCEL_ORDER, query, CancelOrder::new(brokers.clone()))
    .handle(REPLACE_ORDER, query, ReplaceOrderJob::new(brokers))
    .handle(
        SYNC_ORDER,
        query,
        sync_job::SyncOrder::new(Arc::clone(&connections), Arc::clone(&parts.clock)),
    );
    let workers = runner.start(parts.threads, &parts.wake)?;
    let mut tasks = Vec::new();
    for connection in connections.all() {
        let sink = sink::Sink::new(Arc::clone(connection), parts.jobs.clone(), Arc::clone(&parts.clock));
        tasks.push(parts.runtime.spawn(sink::follow(sink)));
        let marks = marks::Marks::new(
            Arc::clone(connection),
            parts.jobs.clone(),
            parts.hub.clone(),
            Arc::clone(&parts.clock),
        );
        tasks.push(parts.runtime.spawn(marks.run()));
    }
    Ok(TradingHandle { connections, workers, tasks })
}

impl TradingHandle {
    /// Ends the streams, lets running jobs end within `limit`, and gives the rest back. Blocks.
    pub fn stop(self, limit: Duration) -> StopReport {
        let report = self.workers.stop(limit);
        for task in &self.tasks {
            task.abort();
        }
        report
    }
}
