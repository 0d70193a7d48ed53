//! What an account's order stream brings.

use std::sync::Arc;
use std::time::Duration;

use plimsoll_core_domain::Clock;
use plimsoll_core_domain::broker::{BoxFuture, BrokerError, TradeSink, TradeUpdate};
use plimsoll_storage::Db;

use super::apply::{apply, report_of_update};
use super::catch_up::{CatchUpError, Progress, catch_up};
use super::connection::Connection;

/// How long credentials that were refused are left alone.
const REFUSED_PAUSE: Duration = Duration::from_secs(60);
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
}

impl Sink {
    pub(super) fn new(connection: Arc<Connection>, db: Db, clock: Arc<dyn Clock>) -> Self {
        Self { connection, db, clock }
    }
}

/// Follows the stream as long as the server runs.
pub(super) async fn follow(sink: Sink) {
    loop {
        let broker = Arc::clone(&sink.connection.broker);
        match broker.follow(&sink).await {
            BrokerError::Unauthorized(why) => {
                tracing::error!(account.id = %sink.connection.account, %why, "the broker refuses the account's credentials");
                tokio::time::sleep(REFUSED_PAUSE).await;
            }
            error => {
                tracing::warn!(account.id = %sink.connection.account, %error, "the order stream ended");
                tokio::time::sleep(Duration::from_secs(1)).await;
            }
        }
    }
}

/// Compares an account's open orders with the broker again and again, as long as the server runs. A comparison that
/// fails changes nothing about the account: the next one comes soon.
pub(super) async fn compare(sink: Sink) {
    let account = sink.connection.account;
    loop {
        tokio::time::sleep(COMPARE_EVERY).await;
        if !sink.connection.is_ready() {
            continue;
        }
        let compared = match sink.db.read(move |tx| tx.open_orders(account)).await {
            Ok(open) if open.is_empty() => continue,
            Ok(_) => catch_up(&sink.connection, &sink.db, &*sink.clock, &mut Progress::default()).await,
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
            while let Err(why) = catch_up(&self.connection, &self.db, &*self.clock, &mut progress).await {
                let pause = match &why {
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
        })
    }

    fn update(&self, update: TradeUpdate) -> BoxFuture<'_, ()> {
        Box::pin(async move {
            let report = report_of_update(update);
            let (id, cause) = (report.seen.id.clone(), report.cause.clone());
            if !apply(&self.db, &*self.clock, self.connection.account, report).await {
                // A leg whose entry's answer is still on its way (its job fetches it), or an order placed elsewhere.
                tracing::debug!(broker.order.id = %id, cause, "an update of an order that is not on record");
            }
        })
    }

    fn disconnected(&self, reason: String, retry_in: Duration) -> BoxFuture<'_, ()> {
        Box::pin(async move {
            tracing::warn!(account.id = %self.connection.account, reason, ?retry_in, "the order stream is off");
        })
    }
}
