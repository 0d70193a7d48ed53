//! The promises about the order stream.

use std::collections::BTreeMap;
use std::sync::{Mutex, PoisonError};
use std::time::Duration;

use plimsoll_core_domain::BrokerOrderId;
use plimsoll_core_domain::broker::{BoxFuture, BrokerOrder, TradeSink, TradeUpdate};
use plimsoll_core_domain::order::{OrderStatus, Pricing};
use rust_decimal::Decimal;

use super::{Bench, same, status};

/// Keeps what comes.
#[derive(Default)]
struct Recorder(Mutex<Record>);

#[derive(Default)]
struct Record {
    connected: u32,
    updates: Vec<TradeUpdate>,
}

impl Recorder {
    fn look<T>(&self, at: impl FnOnce(&mut Record) -> T) -> T {
        at(&mut self.0.lock().unwrap_or_else(PoisonError::into_inner))
    }

    fn of(&self, id: &BrokerOrderId) -> Vec<TradeUpdate> {
        self.look(|record| record.updates.iter().filter(|update| update.order.id == *id).cloned().collect())
    }
}

impl TradeSink for Recorder {
    fn connected(&self) -> BoxFuture<'_, ()> {
        Box::pin(async { self.look(|record| record.connected += 1) })
    }
    fn update(&self, update: TradeUpdate) -> BoxFuture<'_, ()> {
        Box::pin(async { self.look(|record| record.updates.push(update)) })
    }
    fn disconnected(&self, _reason: String, _retry_in: Duration) -> BoxFuture<'_, ()> {
        Box::pin(async {})
    }
}

impl Bench<'_> {
    pub(super) async fn stream_matches(&self) -> Result<(), String> {
        let recorder = Recorder::default();
        tokio::select! {
            error = self.broker.follow(&recorder) => Err(format!("the stream ended: {error}")),
            result = self.watched(&recorder) => result,
        }
    }

    async fn watched(&self, recorder: &Recorder) -> Result<(), String> {
        self.until("the stream is on", async || match recorder.look(|record| record.connected) {
            0 => Err("it is not connected".to_owned()),
            _ => Ok(()),
        })
        .await?;

        let order = self.place(self.buy(1, Pricing::Market)).await?;
        let filled = self
            .order_until(&order.id, "it is filled", |order| status(order) == Some(OrderStatus::Filled))
            .await?;
        self.shown(recorder, &filled).await?;
        let streamed = fold(&recorder.of(&order.id));
        same("the sum of the streamed fills", &streamed, &filled.filled_qty)?;

        let order = self.place(self.resting(1)).await?;
        let canceled = self.cancel_and_wait(&order.id).await?;
        self.shown(recorder, &canceled).await?;
        same("the sum of the streamed fills", &fold(&recorder.of(&order.id)), &Decimal::ZERO)
    }

    /// Waits until the stream shows the order's last state.
    async fn shown(&self, recorder: &Recorder, last: &BrokerOrder) -> Result<(), String> {
        self.until("the stream shows its last state", async || {
            let updates = recorder.of(&last.id);
            let Some(update) = updates.iter().find(|update| update.order.status == last.status) else {
                let events: Vec<_> = updates.iter().map(|update| update.event.as_str()).collect();
                return Err(format!("its events are {events:?}"));
            };
            let streamed = &update.order;
            same("client id on the stream", &streamed.client_order_id, &last.client_order_id)?;
            same("symbol on the stream", &streamed.symbol, &last.symbol)?;
            same("side on the stream", &streamed.side, &last.side)?;
            same("quantity on the stream", &streamed.qty, &last.qty)?;
            same("filled quantity on the stream", &streamed.filled_qty, &last.filled_qty)?;
            same("average price on the stream", &streamed.filled_avg_price, &last.filled_avg_price)
        })
        .await
    }
}

/// The quantity that the stream's fills add up to, repeats taken once.
fn fold(updates: &[TradeUpdate]) -> Decimal {
    let fills: BTreeMap<_, _> = updates
        .iter()
        .filter_map(|update| update.fill.map(|(qty, _)| (update.event_id.as_deref(), qty.get())))
        .collect();
    fills.into_values().sum()
}
