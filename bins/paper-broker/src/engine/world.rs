use std::collections::HashMap;

use chrono::{DateTime, Utc};
use plimsoll_paper_exchange::asset::Asset;
use plimsoll_paper_exchange::clock::ClockError;
use plimsoll_paper_exchange::{ClockState, Exchange, ReplayClock};
use plimsoll_storage::paper::{Batch, Watchlist};
use sha2::{Digest, Sha256};
use uuid::{Builder, Uuid};

/// Everything the engine's thread owns.
pub(crate) struct World {
    pub(crate) exchange: Exchange,
    pub(crate) clock: ReplayClock,
    pub(crate) watchlists: Vec<Watchlist>,
    /// Rows to write with the next batch, besides what the exchange changes.
    pub(crate) unsaved: Batch,
    real: DateTime<Utc>,
    sim: DateTime<Utc>,
    ids_made: u64,
    /// Symbols of assets that were looked up, by id: at a fixed price the exchange knows the ids of traded ones only.
    met: HashMap<Uuid, String>,
}

impl World {
    pub(crate) fn new(
        exchange: Exchange,
        clock: ReplayClock,
        watchlists: Vec<Watchlist>,
        real: DateTime<Utc>,
    ) -> Self {
        let sim = exchange.now();
        Self {
            exchange,
            clock,
            watchlists,
            unsaved: Batch::default(),
            real,
            sim,
            ids_made: 0,
            met: HashMap::new(),
        }
    }

    /// Simulator time of the request or tick that runs.
    pub(crate) fn now(&self) -> DateTime<Utc> {
        self.sim
    }

    /// Lets an asset be found by its id from now on.
    pub(crate) fn remember(&mut self, asset: &Asset) {
        self.met.insert(asset.id, asset.symbol.clone());
    }

    /// The symbol behind an id that was met, else the text as it is.
    pub(crate) fn symbol_of<'a>(&'a self, symbol_or_id: &'a str) -> &'a str {
        let met = Uuid::parse_str(symbol_or_id).ok().and_then(|id| self.met.get(&id));
        met.map_or(symbol_or_id, String::as_str)
    }

    pub(crate) fn look_at_clock(&mut self, real: DateTime<Utc>) {
        self.real = real;
        self.sim = self.clock.now(real);
    }

    /// The clock in the form that is kept: as if it had been set to the present just now.
    pub(crate) fn clock_now(&self) -> ClockState {
        ClockState { base_sim: self.sim, base_real: self.real, ..self.clock.state().clone() }
    }

    /// Brings the exchange to the present.
    pub(crate) fn advance(&mut self) {
        self.exchange.advance(self.sim);
    }

    /// Changes the clock, and brings the exchange to the time it shows then.
    pub(crate) fn set_clock(
        &mut self,
        change: impl FnOnce(&mut ReplayClock, DateTime<Utc>) -> Result<(), ClockError>,
    ) -> Result<(), ClockError> {
        change(&mut self.clock, self.real)?;
        self.look_at_clock(self.real);
        self.advance();
        Ok(())
    }

    /// A new id. It need not be secret, only unique.
    pub(crate) fn next_id(&mut self) -> Uuid {
        self.ids_made += 1;
        let hash = Sha256::new()
            .chain_update(self.real.timestamp_micros().to_be_bytes())
            .chain_update(self.ids_made.to_be_bytes())
            .finalize();
        let bytes: [u8; 16] = std::array::from_fn(|at| hash[at]);
        Builder::from_random_bytes(bytes).into_uuid()
    }
}
