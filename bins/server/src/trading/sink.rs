//! What an account's order stream brings.

use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use plimsoll_core_domain::broker::{BoxFuture, BrokerError, TradeSink, TradeUpdate};
use plimsoll_reliability::reconcile::{ReconcileError, Scope, Trigger};
use tokio::sync::{OwnedSemaphorePermit, Semaphore};

use super::apply::{apply, report_of_update};
use super::reconcile::Comparer;
use super::reports::{Report, Teller};

/// Between tries of a comparison that failed.
const CATCH_UP_PAUSES: [u64; 6] = [100, 250, 500, 1_000, 2_000, 5_000];

/// Before a try that the rate limit asks for.
const SHORTEST_PAUSE: Duration = Duration::from_millis(100);

/// Takes one account's updates.
#[derive(Clone)]
pub(super) struct Sink {
    pub(super) comparer: Comparer,
    teller: Teller,
    /// The turn to connect, until the account is compared or that has failed once.
    turn: Arc<Mutex<Option<OwnedSemaphorePermit>>>,
}

impl Sink {
    pub(super) fn new(comparer: Comparer, teller: Teller) -> Self {
        Self { comparer, teller, turn: Arc::default() }
    }

    fn end_turn(&self) {
        drop(self.turn.lock().unwrap_or_else(PoisonError::into_inner).take());
    }
}

/// Follows the stream as long as this instance has the account, from its turn among those that connect on.
pub(super) async fn follow(sink: Sink, starts: Arc<Semaphore>) {
    // never closed, so there is always a turn
    let turn = starts.acquire_owned().await.ok();
    *sink.turn.lock().unwrap_or_else(PoisonError::into_inner) = turn;
    loop {
        let broker = Arc::clone(&sink.comparer.connection.broker);
        let end = broker.follow(&sink).await;
        sink.end_turn();
        match end {
            BrokerError::Unauthorized(why) => {
                tracing::warn!(account.id = %sink.comparer.connection.account, %why, "the account cannot be connected");
                // The supervisor was told, and ends this.
                std::future::pending::<()>().await;
            }
            error => {
                tracing::warn!(account.id = %sink.comparer.connection.account, %error, "the order stream ended");
                tokio::time::sleep(Duration::from_secs(1)).await;
            }
        }
    }
}

impl TradeSink for Sink {
    fn connected(&self) -> BoxFuture<'_, ()> {
        Box::pin(async {
            let ready = self.comparer.connection.is_ready();
            let trigger = if ready { Trigger::Reconnect } else { Trigger::Start };
            let (mut tries, mut run) = (0, self.comparer.begin(trigger, Scope::Everything));
            while let Err(why) = self.comparer.attempt(&mut run).await {
                self.end_turn();
                let pause = match &why {
                    ReconcileError::OtherAccount => {
                        self.teller.tell(Report::Refused(why.to_string()));
                        std::future::pending().await
                    }
                    ReconcileError::Broker(BrokerError::Throttled { retry_after }) => {
                        tracing::info!(account.id = %self.comparer.connection.account, ?retry_after, "the comparison with the broker waits for the rate limit");
                        (*retry_after).max(SHORTEST_PAUSE)
                    }
                    why => {
                        tracing::warn!(account.id = %self.comparer.connection.account, %why, "the account could not be compared with the broker yet");
                        let ms = CATCH_UP_PAUSES.get(tries).or(CATCH_UP_PAUSES.last()).copied();
                        tries += 1;
                        ms.map_or(SHORTEST_PAUSE, Duration::from_millis)
                    }
                };
                tokio::time::sleep(pause).await;
            }
            if !self.comparer.connection.is_ready() {
                tracing::info!(account.id = %self.comparer.connection.account, "the account agrees with the broker and takes orders");
            }
            self.comparer.connection.set_ready();
            self.end_turn();
            self.teller.tell(Report::Agreed);
        })
    }

    fn update(&self, update: TradeUpdate) -> BoxFuture<'_, ()> {
        Box::pin(async move {
            let (of, report) = (&self.comparer, report_of_update(update));
            let (id, cause) = (report.seen.id.clone(), report.cause.clone());
            let fills = !report.executions.is_empty();
            if !apply(&of.db, &*of.clock, &of.fence, of.connection.account, report).await {
                // A leg whose entry's answer is still on its way (its job fetches it), or an order placed elsewhere.
                tracing::debug!(broker.order.id = %id, cause, "an update of an order that is not on record");
            }
            if fills {
                self.comparer.connection.moved.notify_one();
                self.comparer.connection.filled.notify_one();
            }
        })
    }

    fn disconnected(&self, reason: String, retry_in: Duration) -> BoxFuture<'_, ()> {
        Box::pin(async move {
            self.end_turn();
            tracing::warn!(account.id = %self.comparer.connection.account, reason, ?retry_in, "the order stream is off");
        })
    }
}
