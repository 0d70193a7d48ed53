//! What an account's order stream brings.

use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use plimsoll_core_domain::Clock;
use plimsoll_core_domain::broker::{BoxFuture, BrokerError, TradeSink, TradeUpdate};
use plimsoll_storage::Db;
use tokio::sync::{OwnedSemaphorePermit, Semaphore};

use super::apply::{apply, report_of_update};
use super::catch_up::{CatchUpError, Progress, catch_up};
use super::connection::Connection;
use super::fence::Fence;
use super::reports::{Report, Teller};

/// Between tries of a comparison that failed.
const CATCH_UP_PAUSES: [u64; 6] = [100, 250, 500, 1_000, 2_000, 5_000];

/// Before a try that the rate limit asks for.
const SHORTEST_PAUSE: Duration = Duration::from_millis(100);
/// Between comparisons while orders are open: an order stream that is silent is found out in time.
const COMPARE_EVERY: Duration = Duration::from_secs(25);

/// Takes one account's updates.
#[derive(Clone)]
pub(super) struct Sink {
    connection: Arc<Connection>,
    db: Db,
    clock: Arc<dyn Clock>,
    fence: Fence,
    teller: Teller,
    /// The turn to connect, until the account is compared or that has failed once.
    turn: Arc<Mutex<Option<OwnedSemaphorePermit>>>,
}

impl Sink {
    pub(super) fn new(
        connection: Arc<Connection>,
        db: Db,
        clock: Arc<dyn Clock>,
        fence: Fence,
        teller: Teller,
    ) -> Self {
        Self { connection, db, clock, fence, teller, turn: Arc::default() }
    }

    fn end_turn(&self) {
        drop(self.turn.lock().unwrap_or_else(PoisonError::into_inner).take());
    }

    async fn catch_up(&self, progress: &mut Progress) -> Result<(), CatchUpError> {
        catch_up(&self.connection, &self.db, &*self.clock, &self.fence, progress).await
    }
}

/// Follows the stream as long as this instance has the account, from its turn among those that connect on.
pub(super) async fn follow(sink: Sink, starts: Arc<Semaphore>) {
    // never closed, so there is always a turn
    let turn = starts.acquire_owned().await.ok();
    *sink.turn.lock().unwrap_or_else(PoisonError::into_inner) = turn;
    loop {
        let broker = Arc::clone(&sink.connection.broker);
        let end = broker.follow(&sink).await;
        sink.end_turn();
        match end {
            BrokerError::Unauthorized(why) => {
                tracing::warn!(account.id = %sink.connection.account, %why, "the account cannot be connected");
                // The supervisor was told, and ends this.
                std::future::pending::<()>().await;
            }
            error => {
                tracing::warn!(account.id = %sink.connection.account, %error, "the order stream ended");
                tokio::time::sleep(Duration::from_secs(1)).await;
            }
        }
    }
}

/// Compares an account's open orders with the broker again and again, as long as this instance has it. A comparison
/// that fails changes nothing about the account: the next one comes soon.
pub(super) async fn compare(sink: Sink) {
    let account = sink.connection.account;
    loop {
        tokio::time::sleep(COMPARE_EVERY).await;
        if !sink.connection.is_ready() {
            continue;
        }
        let compared = match sink.db.read(move |tx| tx.open_orders(account)).await {
            Ok(open) if open.is_empty() => continue,
            Ok(_) => sink.catch_up(&mut Progress::default()).await,
            Err(error) => Err(error.into()),
        };
        if let Err(why) = compared {
            tracing::debug!(account.id = %account, %why, "open orders could not be compared with the broker now");
        }
    }
}

impl TradeSink for Sink {
    fn connected(&self) -> BoxFuture<'_, ()> {
        Box::pin(async {
            let (mut tries, mut progress) = (0, Progress::default());
            while let Err(why) = self.catch_up(&mut progress).await {
                self.end_turn();
                let pause = match &why {
                    CatchUpError::OtherAccount(_) => {
                        self.teller.tell(Report::Refused(why.to_string()));
                        std::future::pending().await
                    }
                    CatchUpError::Broker(BrokerError::Throttled { retry_after }) => {
                        tracing::info!(account.id = %self.connection.account, ?retry_after, "the comparison with the broker waits for the rate limit");
                        (*retry_after).max(SHORTEST_PAUSE)
                    }
                    why => {
                        tracing::warn!(account.id = %self.connection.account, %why, "the account could not be compared with the broker yet");
                        let ms = CATCH_UP_PAUSES.get(tries).or(CATCH_UP_PAUSES.last()).copied();
                        tries += 1;
                        ms.map_or(SHORTEST_PAUSE, Duration::from_millis)
                    }
                };
                tokio::time::sleep(pause).await;
            }
            if !self.connection.is_ready() {
                tracing::info!(account.id = %self.connection.account, "the account agrees with the broker and takes orders");
            }
            self.connection.set_ready();
            self.end_turn();
            self.teller.tell(Report::Agreed);
        })
    }

    fn update(&self, update: TradeUpdate) -> BoxFuture<'_, ()> {
        Box::pin(async move {
            let report = report_of_update(update);
            let (id, cause) = (report.seen.id.clone(), report.cause.clone());
            let fills = !report.executions.is_empty();
            if !apply(&self.db, &*self.clock, &self.fence, self.connection.account, report).await {
                // A leg whose entry's answer is still on its way (its job fetches it), or an order placed elsewhere.
                tracing::debug!(broker.order.id = %id, cause, "an update of an order that is not on record");
            }
            if fills {
                self.connection.moved.notify_one();
                self.connection.filled.notify_one();
            }
        })
    }

    fn disconnected(&self, reason: String, retry_in: Duration) -> BoxFuture<'_, ()> {
        Box::pin(async move {
            self.end_turn();
            tracing::warn!(account.id = %self.connection.account, reason, ?retry_in, "the order stream is off");
        })
    }
}
