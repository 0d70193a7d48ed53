//! The paper broker's books: what the exchange keeps, its clock, the clients' keys and watchlists.
//!
//! One process writes. It takes a [`WriterToken`] when it starts; whoever holds an older one writes nothing more, so
//! two brokers on one database cannot mix their books. Every batch goes to disk in one transaction.

mod load;
mod save;
mod watchlist;

use std::collections::HashMap;

use plimsoll_core_domain::StoreError;
use plimsoll_paper_exchange::record::{AccountRecord, ExchangeRecord, Execution, OrderRecord};
use plimsoll_paper_exchange::{AccountId, ClockState, OrderId, Record};
use uuid::Uuid;

pub use self::watchlist::Watchlist;

/// The right to write; see [`Tx::take_paper_writer`](crate::Tx::take_paper_writer).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct WriterToken(i64);

/// A client's key. The secret is known to the client only.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ApiKey {
    /// Sent in `APCA-API-KEY-ID`.
    pub key_id: String,
    /// The account it opens.
    pub account: AccountId,
    /// SHA-256 of the secret.
    pub secret_sha256: [u8; 32],
}

/// Why a batch was not written. Nothing of it is on disk.
#[derive(Debug, thiserror::Error)]
pub enum SaveError {
    /// Another process has taken the books over; this one must stop.
    #[error("another paper broker has taken over these books")]
    TakenOver,
    /// The store's own failure. With kind `CommitUnknown` it may be on disk all the same; writing a batch twice does no
    /// harm.
    #[error(transparent)]
    Store(#[from] StoreError),
}

/// Rows to write together. Adding a newer record of the same thing replaces the older one.
#[derive(Clone, Debug, Default)]
pub struct Batch {
    exchange: Option<ExchangeRecord>,
    clock: Option<ClockState>,
    accounts: HashMap<AccountId, AccountRecord>,
    orders: HashMap<OrderId, OrderRecord>,
    executions: Vec<Execution>,
    keys: Vec<ApiKey>,
    revoked: Vec<(AccountId, String)>,
    watchlists: HashMap<Uuid, WatchlistChange>,
}

#[derive(Clone, Debug)]
enum WatchlistChange {
    Save(Watchlist),
    Delete(AccountId),
}

impl Batch {
    /// Adds a record of the exchange.
    pub fn add(&mut self, record: Record) {
        match record {
            Record::Exchange(row) => self.exchange = Some(row),
            Record::Account(row) => drop(self.accounts.insert(row.id, row)),
            Record::Order(row) => drop(self.orders.insert(row.order.id, row)),
            Record::Execution(row) => self.executions.push(row),
        }
    }

    /// Keeps the clock's state.
    pub fn set_clock(&mut self, state: ClockState) {
        self.clock = Some(state);
    }

    /// Adds a client's key; its account must be on disk or in this batch.
    pub fn add_key(&mut self, key: ApiKey) {
        self.revoked.retain(|(_, id)| *id != key.key_id);
        self.keys.push(key);
    }

    /// Removes a client's key.
    pub fn revoke_key(&mut self, account: AccountId, key_id: &str) {
        self.keys.retain(|key| key.key_id != key_id);
        self.revoked.push((account, key_id.to_owned()));
    }

    /// Writes a watchlist, new or changed.
    pub fn save_watchlist(&mut self, list: Watchlist) {
        self.watchlists.insert(list.id, WatchlistChange::Save(list));
    }

    /// Removes a watchlist.
    pub fn delete_watchlist(&mut self, account: AccountId, id: Uuid) {
        self.watchlists.insert(id, WatchlistChange::Delete(account));
    }

    /// Whether there is nothing to write.
    pub fn is_empty(&self) -> bool {
        self.exchange.is_none()
            && self.clock.is_none()
            && self.accounts.is_empty()
            && self.orders.is_empty()
            && self.executions.is_empty()
            && self.keys.is_empty()
            && self.revoked.is_empty()
            && self.watchlists.is_empty()
    }
}

/// Everything on disk.
#[derive(Clone, Debug, Default)]
pub struct Books {
    /// The exchange's records; empty before its first start.
    pub records: Vec<Record>,
    /// The clock as it was last written.
    pub clock: Option<ClockState>,
    /// All clients' keys.
    pub keys: Vec<ApiKey>,
    /// All watchlists.
    pub watchlists: Vec<Watchlist>,
}
