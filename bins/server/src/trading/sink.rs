//! What an account's order stream brings.

use std::sync::Arc;
use std::time::Duration;

use plimsoll_core_domain::Clock;
use plimsoll_core_domain::broker::{BoxFuture, BrokerError, TradeSink, TradeUpdate};
use plimsoll_storage::Db;

use super::apply::{apply, report_of_update};
use super::catch_up::catch_up;
use super::connection::Connection;

/// How long credentials that were refused are left alone.
const REFUSED_PAUSE: Duration = Duration::from_secs(60);
/// Between tries of a comparison that failed.
const CATCH_UP_PAUSES: [u64; 6] = [100, 250, 500, 1_000, 2_000, 5_000];

/// Takes one account's updates.
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

impl TradeSink for Sink {
    fn connected(&self) -> BoxFuture<'_, ()> {
        Box::pin(async {
            let mut tries = 0;
            while let Err(why) = catch_up(&self.connection, &self.db, &*self.clock).await {
                tracing::warn!(account.id = %self.connection.account, %why, "the account could not be compared with the broker yet");
                let ms = CATCH_UP_PAUSES.get(tries).or(CATCH_UP_PAUSES.last()).copied().unwrap_or(5_000);
                tries += 1;
                tokio::time::sleep(Duration::from_millis(ms)).await;
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
