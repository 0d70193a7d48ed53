//! Prices of what an account holds, from the broker, while somebody watches.

use std::sync::Arc;
use std::time::{Duration, Instant};

use plimsoll_core_domain::broker::BrokerPosition;
use plimsoll_core_domain::views::{PositionView, json};
use plimsoll_core_domain::{Clock, Price, StoreError, Symbol};
use plimsoll_realtime::{Hub, Tick, TickKind};
use plimsoll_storage::Db;

use super::connection::Connection;

/// How often the broker is asked.
const EVERY: Duration = Duration::from_secs(2);
/// How long after a question about prices the broker is still asked.
const INTEREST: Duration = Duration::from_secs(30);

/// Keeps one account's prices.
pub(super) struct Marks {
    connection: Arc<Connection>,
    db: Db,
    hub: Hub,
    clock: Arc<dyn Clock>,
}

/// What the broker's positions trade at.
pub(super) fn prices(positions: &[BrokerPosition]) -> Vec<(Symbol, Price)> {
    let of = |row: &BrokerPosition| {
        Some((Symbol::new(row.symbol.clone()).ok()?, Price::new(row.current_price?).ok()?))
    };
    positions.iter().filter_map(of).collect()
}

impl Marks {
    pub(super) fn new(connection: Arc<Connection>, db: Db, hub: Hub, clock: Arc<dyn Clock>) -> Self {
        Self { connection, db, hub, clock }
    }

    /// Runs as long as the connection.
    pub(super) async fn run(self) {
        let mut every = tokio::time::interval(EVERY);
        every.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
        loop {
            every.tick().await;
            let asked = self.connection.seen().asked.is_some_and(|at| at.elapsed() < INTEREST);
            if !asked && !self.hub.is_heard(self.connection.user) {
                continue;
            }
            match self.connection.broker.positions().await {
                Ok(positions) => {
                    let now = Instant::now();
                    let prices = prices(&positions);
                    let moved: Vec<Symbol> = {
                        let mut seen = self.connection.seen();
                        let known: Vec<Symbol> = prices
                            .iter()
                            .filter(|(symbol, price)| {
                                seen.prices.get(symbol).is_none_or(|(_, old)| old != price)
                            })
                            .map(|(symbol, _)| symbol.clone())
                            .collect();
                        seen.prices.extend(prices.into_iter().map(|(symbol, price)| (symbol, (now, price))));
                        known
                    };
                    if !moved.is_empty()
                        && self.hub.is_heard(self.connection.user)
                        && let Err(error) = self.tell(&moved).await
                    {
                        tracing::debug!(%error, "price ticks were left out");
                    }
                }
                Err(error) => tracing::debug!(%error, "the broker's prices are not to be had"),
            }
        }
    }

    async fn tell(&self, moved: &[Symbol]) -> Result<(), StoreError> {
        let (user, now) = (self.connection.user, self.clock.now());
        let connection = Arc::clone(&self.connection);
        let price = move |symbol: &Symbol| connection.seen().prices.get(symbol).map(|(_, price)| *price);
        let own = price.clone();
        let (holdings, pnl) = self
            .db
            .read(move |tx| Ok::<_, StoreError>((tx.holdings(user)?, tx.pnl(user, &own, now)?)))
            .await?;
        for mut holding in holdings.into_iter().filter(|holding| moved.contains(&holding.symbol)) {
            holding.last_price = price(&holding.symbol).or(holding.last_price);
            let data = json(&PositionView::from(&holding));
            self.hub.tick(&Tick {
                user,
                kind: TickKind::Position,
                symbol: Some(holding.symbol.clone()),
                data: data.into(),
                at: now,
            });
        }
        self.hub.tick(&Tick { user, kind: TickKind::Pnl, symbol: None, data: json(&pnl).into(), at: now });
        Ok(())
    }
}
