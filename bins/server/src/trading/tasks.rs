//! What runs for an account while this instance has it: its order stream, the comparisons, the marks.

use std::sync::Arc;
use std::time::Duration;

use plimsoll_core_domain::{AccountId, Clock};
use plimsoll_realtime::Hub;
use plimsoll_storage::Db;
use tokio::runtime::Handle;
use tokio::sync::Semaphore;
use tokio::task::{JoinHandle, JoinSet};

use super::account_news;
use super::connection::Connection;
use super::fence::Fence;
use super::loss;
use super::marks::Marks;
use super::reconcile::due;
use super::reconcile::{Comparer, Pace};
use super::reports::Teller;
use super::sink::{self, Sink};

/// Between the panic of a task and its next start.
const AFTER_PANIC: Duration = Duration::from_secs(1);

/// What the tasks of all accounts share.
#[derive(Clone)]
pub(super) struct Shop {
    pub(super) jobs: Db,
    pub(super) hub: Hub,
    pub(super) clock: Arc<dyn Clock>,
    pub(super) runtime: Handle,
    /// So many accounts connect and compare at a time.
    pub(super) starts: Arc<Semaphore>,
    /// How often an account's loss is looked at.
    pub(super) loss_look: Duration,
    /// How accounts are compared with their brokers.
    pub(super) pace: Pace,
}

/// The tasks of one account. They end with this.
#[derive(Debug)]
pub(super) struct AccountTasks(Vec<JoinHandle<()>>);

impl Shop {
    /// Starts everything for an account that this instance has.
    pub(super) fn open(&self, connection: &Arc<Connection>, fence: Fence, teller: Teller) -> AccountTasks {
        connection.set_fence(fence.clone());
        let comparer = Comparer {
            connection: Arc::clone(connection),
            db: self.jobs.clone(),
            clock: Arc::clone(&self.clock),
            fence,
            pace: self.pace,
        };
        let sink = Sink::new(comparer, teller);
        let account = connection.account;
        let (follower, starts) = (sink.clone(), Arc::clone(&self.starts));
        let follow = move || sink::follow(follower.clone(), Arc::clone(&starts));
        let compare = move || due::compare(sink.comparer.clone());
        AccountTasks(vec![
            self.runtime.spawn(lasting(account, follow)),
            self.runtime.spawn(lasting(account, compare)),
            self.marks(connection),
            self.losses(connection),
            self.account_news(connection),
        ])
    }

    fn losses(&self, connection: &Arc<Connection>) -> JoinHandle<()> {
        let (connection, db, clock) = (Arc::clone(connection), self.jobs.clone(), Arc::clone(&self.clock));
        let (account, every) = (connection.account, self.loss_look);
        let watch = move || loss::watch(Arc::clone(&connection), db.clone(), Arc::clone(&clock), every);
        self.runtime.spawn(lasting(account, watch))
    }

    fn account_news(&self, connection: &Arc<Connection>) -> JoinHandle<()> {
        let (connection, db, clock) = (Arc::clone(connection), self.jobs.clone(), Arc::clone(&self.clock));
        let account = connection.account;
        let tell = move || account_news::tell(Arc::clone(&connection), db.clone(), Arc::clone(&clock));
        self.runtime.spawn(lasting(account, tell))
    }

    /// Starts the price marks alone.
    pub(super) fn mark(&self, connection: &Arc<Connection>) -> AccountTasks {
        AccountTasks(vec![self.marks(connection)])
    }

    fn marks(&self, connection: &Arc<Connection>) -> JoinHandle<()> {
        let (connection, db) = (Arc::clone(connection), self.jobs.clone());
        let (hub, clock) = (self.hub.clone(), Arc::clone(&self.clock));
        let account = connection.account;
        let marks =
            move || Marks::new(Arc::clone(&connection), db.clone(), hub.clone(), Arc::clone(&clock)).run();
        self.runtime.spawn(lasting(account, marks))
    }
}

impl AccountTasks {
    /// Ends the tasks and waits for that: afterwards nothing of them is under way but what the fence keeps out.
    pub(super) async fn end(mut self) {
        for task in &self.0 {
            task.abort();
        }
        for task in self.0.drain(..) {
            drop(task.await);
        }
    }
}

impl Drop for AccountTasks {
    fn drop(&mut self) {
        for task in &self.0 {
            task.abort();
        }
    }
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
