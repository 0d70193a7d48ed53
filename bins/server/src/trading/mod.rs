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

use plimsoll_core_domain::broker::Broker;
use plimsoll_core_domain::{AccountId, Clock};
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
use tokio::task::{JoinHandle, JoinSet};
use uuid::Uuid;

pub use connection::{Connection, Connections};

/// Between the panic of a task and its next start.
const AFTER_PANIC: Duration = Duration::from_secs(1);

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
        let account = connection.account;
        let follower = sink.clone();
        tasks.push(parts.runtime.spawn(lasting(account, move || sink::follow(follower.clone()))));
        tasks.push(parts.runtime.spawn(lasting(account, move || sink::compare(sink.clone()))));
        let (connection, db) = (Arc::clone(connection), parts.jobs.clone());
        let (hub, clock) = (parts.hub.clone(), Arc::clone(&parts.clock));
        let marks = move || {
            marks::Marks::new(Arc::clone(&connection), db.clone(), hub.clone(), Arc::clone(&clock)).run()
        };
        tasks.push(parts.runtime.spawn(lasting(account, marks)));
    }
    Ok(TradingHandle { connections, workers, tasks })
}

/// Runs an account's work again when it panicked: the account must not be without it. Dropping this ends the work.
async fn lasting<W>(account: AccountId, work: impl Fn() -> W)
where
    W: Future<Output = ()> + Send + 'static,
{
    loop {
        // A set ends its tasks when it is dropped.
        let mut task = JoinSet::new();
        task.spawn(work());
        match task.join_next().await {
            Some(Err(error)) if error.is_panic() => {
                tracing::error!(account.id = %account, %error, "a task of the account panicked; it starts again");
            }
            _ => return,
        }
        tokio::time::sleep(AFTER_PANIC).await;
    }
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

#[cfg(test)]
mod tests {
    use std::sync::atomic::{AtomicU32, Ordering};

    use super::*;

    #[tokio::test]
    async fn work_that_panics_starts_again() {
        let starts = Arc::new(AtomicU32::new(0));
        let counted = Arc::clone(&starts);
        let work = move || {
            let first = counted.fetch_add(1, Ordering::SeqCst) == 0;
            async move { assert!(!first, "the first start panics") }
        };
        tokio::time::timeout(Duration::from_secs(10), lasting(AccountId(1), work)).await.unwrap();
        assert_eq!(starts.load(Ordering::SeqCst), 2);
    }
}
