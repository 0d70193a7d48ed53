//! Trading: the connections to brokers, the jobs that speak to them, and what their order streams bring.

mod account_news;
mod apply;
mod connection;
mod connections;
mod doubts;
mod failover;
mod fence;
mod gateway;
mod halt_job;
mod hearing;
mod links;
mod loss;
mod marks;
mod places;
mod reconcile;
mod reports;
mod seed;
mod send_on;
mod servers;
mod shares;
mod showing;
mod sink;
mod supervisor;
mod sync_job;
mod tasks;
mod vault_keys;
mod watched;

use std::sync::Arc;
use std::time::{Duration, Instant};

use plimsoll_core_domain::StoreError;
use plimsoll_realtime::Hub;
use plimsoll_reliability::jobs::{Listening, StopReport, Workers};
use plimsoll_reliability::leases::LeaseStore;
use plimsoll_reliability::submit::{
    BROKER_QUEUE, CANCEL_ORDER, CancelOrder, REPLACE_ORDER, ReplaceOrderJob, SUBMIT_ORDER, SubmitOrderJob,
    WATCH_ORDER, WatchOrder,
};
use plimsoll_storage::Db;
use plimsoll_storage::platform::keys::PlatformKeys;
use plimsoll_storage::platform::orders::SYNC_ORDER;
use plimsoll_storage::platform::reconciliation::{RECONCILE, RECONCILE_QUEUE};
use plimsoll_storage::platform::risk::ENFORCE_HALT;
use tokio::runtime::Handle;
use tokio::sync::{Notify, Semaphore, mpsc};
use tokio::task::JoinHandle;
use tokio_util::sync::CancellationToken;

pub use connection::Connection;
pub use connections::Connections;
pub use seed::{SeedKeys, SeedOwner};
pub use servers::{AlpacaServers, BrokerServers};
pub(crate) use supervisor::TOPIC as ACCOUNTS;

use self::links::Links;
use self::places::Places;
use self::reconcile::{Pace, Reconcile};
use self::seed::Sower;
use self::supervisor::{Supervisor, SupervisorParts};
use self::tasks::Shop;
use self::vault_keys::VaultDoor;
use crate::workers::JobParts;

/// So many accounts connect to their brokers and are compared with them at a time.
const STARTS: usize = 16;
/// Giving the accounts back takes at least this long of a stop.
const LEAVES_WITHIN: Duration = Duration::from_secs(2);

/// What trading needs of the rest of the server.
pub struct TradingParts {
    /// What all job threads need; the pool of jobs also takes what the order streams bring.
    pub job: JobParts,
    /// Where events are heard.
    pub hub: Hub,
    /// Job threads.
    pub threads: usize,
    /// The brokers.
    pub servers: Arc<dyn BrokerServers>,
    /// The installation's keys, which open the vault.
    pub keys: Arc<PlatformKeys>,
    /// Keys that the server itself was given.
    pub seed: Option<SeedKeys>,
    /// No other instance can be running on this database: leases that are there belong to processes that are gone.
    pub alone: bool,
}

/// Trading while it runs.
pub struct TradingHandle {
    /// The connections.
    pub connections: Arc<Connections>,
    workers: Workers<Db>,
    comparisons: Workers<Db>,
    supervisor: JoinHandle<()>,
    stop: CancellationToken,
    runtime: Handle,
    _woken: Listening,
}

/// Why trading does not start.
#[derive(Debug, thiserror::Error)]
pub enum TradingError {
    /// The store.
    #[error(transparent)]
    Store(#[from] StoreError),
    /// A thread cannot be started.
    #[error(transparent)]
    Io(#[from] std::io::Error),
}

/// Looks which accounts there are, then starts the job threads and the supervisor of the accounts' connections. Blocks;
/// never to be called from async code.
///
/// # Errors
/// See [`TradingError`].
pub fn start(parts: TradingParts) -> Result<TradingHandle, TradingError> {
    let (reports, hears) = mpsc::unbounded_channel();
    let job = parts.job;
    let timings = &job.timings;
    let door = VaultDoor {
        db: job.jobs.clone(),
        keys: Arc::clone(&parts.keys),
        clock: Arc::clone(&job.clock),
        keep: timings.credential_keep,
    };
    let links = Links { servers: parts.servers, door, reports, places: Places::new(timings) };
    let connections = Arc::new(Connections::new(links, Arc::clone(&job.clock), timings.lease_trust));
    if parts.alone {
        job.control.run_blocking(|tx| tx.forget_leases(&[fence::ACCOUNT, fence::INSTANCE]))?;
    }
    let pace = Pace {
        interval: timings.reconcile_interval,
        unknown_for: timings.reconcile_unknown,
        stale_age: timings.stale_order_age,
        missing_for: timings.reconcile_missing,
    };
    let shop = Shop {
        jobs: job.jobs.clone(),
        hub: parts.hub,
        clock: Arc::clone(&job.clock),
        runtime: job.runtime.clone(),
        starts: Arc::new(Semaphore::new(STARTS)),
        loss_look: timings.loss_look,
        pace,
    };
    let halts = halt_job::EnforceHalt::new(Arc::clone(&parts.keys), Arc::clone(&job.clock), timings);
    let (keys, clock) = (parts.keys, Arc::clone(&job.clock));
    let sower = parts.seed.map(|seed| Sower { seed, keys, clock });
    let woken = Arc::new(Notify::new());
    let mut supervisor = Supervisor::new(SupervisorParts {
        control: job.control.clone(),
        shop,
        connections: Arc::clone(&connections),
        timings: timings.clone(),
        owner: job.owner,
        woken: Arc::clone(&woken),
        reports: hears,
        sower,
    });
    // Requests find the accounts from the first one on.
    job.runtime.block_on(supervisor.turn());
    let listening = job.wake.listen(ACCOUNTS, move || woken.notify_one());
    let stop = CancellationToken::new();
    let supervisor = job.runtime.spawn(supervisor.run(stop.clone()));

    let (brokers, elsewhere) = (Arc::clone(&connections), Arc::clone(&connections));
    let query = timings.broker_query();
    let sync = sync_job::SyncOrder::new(Arc::clone(&connections), Arc::clone(&job.clock));
    let reconcile = Reconcile {
        connections: Arc::clone(&connections),
        db: job.jobs.clone(),
        clock: Arc::clone(&job.clock),
        pace,
        kept: std::sync::Mutex::default(),
    };
    let others = Arc::clone(&connections);
    // Threads of their own: orders must not wait for comparisons.
    let comparisons = job
        .runner(RECONCILE_QUEUE)
        .leaving(move || others.picture().elsewhere.clone())
        .handle(RECONCILE, query, reconcile)
        .start(2, &job.wake)?;
    let workers = job
        .runner(BROKER_QUEUE)
        .leaving(move || elsewhere.picture().elsewhere.clone())
        .handle(SUBMIT_ORDER, query, SubmitOrderJob::new(brokers.clone()))
        .handle(CANCEL_ORDER, query, CancelOrder::new(brokers.clone()))
        .handle(WATCH_ORDER, query, WatchOrder::new(brokers.clone()))
        .handle(REPLACE_ORDER, query, ReplaceOrderJob::new(brokers))
        .handle(SYNC_ORDER, query, sync)
        .handle(ENFORCE_HALT, timings.internal(), halts)
        .start(parts.threads, &job.wake)?;
    Ok(TradingHandle {
        connections,
        workers,
        comparisons,
        supervisor,
        stop,
        runtime: job.runtime,
        _woken: listening,
    })
}

impl TradingHandle {
    /// Lets running jobs end within `limit`, gives the rest back, and then the accounts. Blocks.
    pub fn stop(self, limit: Duration) -> StopReport {
        let began = Instant::now();
        let report = self.workers.stop(limit);
        self.comparisons.stop(limit.saturating_sub(began.elapsed()));
        self.stop.cancel();
        let left = limit.saturating_sub(began.elapsed()).max(LEAVES_WITHIN);
        if self.runtime.block_on(async { tokio::time::timeout(left, self.supervisor).await }).is_err() {
            tracing::warn!("the accounts could not be given back in time; their leases will run out");
        }
        report
    }
}
