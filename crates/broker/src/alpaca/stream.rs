//! The order stream: connecting again and again, and handing over what comes (Alpaca's contract section 6).

mod handshake;
mod session;

use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use plimsoll_core_domain::broker::{BrokerError, TradeSink};
use rand::RngExt;
use rand::rngs::SmallRng;
use tokio::net::TcpStream;
use tokio::time::Instant;
use tokio_tungstenite::{MaybeTlsStream, WebSocketStream};

use super::http::Http;
use crate::reconnect::Reconnect;

type Socket = WebSocketStream<MaybeTlsStream<TcpStream>>;

/// Why a connection came to nothing, or ended.
#[derive(Debug)]
enum End {
    /// The credentials are refused: no further try.
    Unauthorized(String),
    /// Anything else: try again, not before `retry_after` where the broker says so.
    Lost { reason: String, retry_after: Option<Duration> },
}

impl End {
    fn lost(reason: impl Into<String>) -> Self {
        Self::Lost { reason: reason.into(), retry_after: None }
    }
}

fn rng(jitter: &Mutex<SmallRng>) -> MutexGuard<'_, SmallRng> {
    jitter.lock().unwrap_or_else(PoisonError::into_inner)
}

pub(super) async fn follow(http: &Http, jitter: &Mutex<SmallRng>, sink: &dyn TradeSink) -> BrokerError {
    let timings = http.config.timings;
    let mut reconnect = Reconnect::new(timings.reconnect_base, timings.reconnect_cap);
    loop {
        let mask = rng(jitter).random();
        let end = match handshake::connect(http, mask).await {
            Ok(connected) => {
                let since = Instant::now();
                let end = session::run(connected, &http.config, sink).await;
                // A server that drops every new connection is not worth a quick retry.
                if since.elapsed() >= timings.reconnect_cap {
                    reconnect.reset();
                }
                end
            }
            Err(end) => end,
        };
        let (reason, retry_after) = match end {
            End::Unauthorized(why) => return BrokerError::Unauthorized(why),
            End::Lost { reason, retry_after } => (reason, retry_after.unwrap_or_default()),
        };
        let delay = reconnect.next_delay(&mut *rng(jitter)).max(retry_after);
        let retry_ms = u64::try_from(delay.as_millis()).unwrap_or(u64::MAX);
        tracing::warn!(reason, retry_ms, "The broker's order stream is off");
        sink.disconnected(reason, delay).await;
        tokio::time::sleep(delay).await;
    }
}
