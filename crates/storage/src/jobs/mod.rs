//! The job table and the leases of singletons, on PostgreSQL.
//!
//! Times are the database's. Statements that touch several rows lock them in the order of their ids or pass over locked
//! ones, so that no two of them can wait for each other.

mod leases;
mod queue;
mod records;

use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use plimsoll_core_domain::StoreError;
use plimsoll_reliability::jobs::JobStore;

use crate::db::{Db, Tx};

pub use records::{ReplayJob, UntoldLetters};

/// Spreads the pauses of transactions that are repeated at the same time.
static SEED: AtomicU64 = AtomicU64::new(0);

impl JobStore for Db {
    type Tx<'a> = Tx<'a>;

    fn transaction<T, E, F>(&self, work: F) -> Result<T, E>
    where
        F: FnMut(&mut Tx<'_>) -> Result<T, E>,
        E: From<StoreError>,
    {
        self.run_retrying_blocking(SEED.fetch_add(1, Ordering::Relaxed), work)
    }

    fn autocommit<T, E, F>(&self, work: F) -> Result<T, E>
    where
        F: FnMut(&mut Tx<'_>) -> Result<T, E>,
        E: From<StoreError>,
    {
        self.read_blocking(work)
    }
}

/// For `? * interval '1 microsecond'`.
fn micros(time: Duration) -> i64 {
    i64::try_from(time.as_micros()).unwrap_or(i64::MAX)
}

fn limit(rows: usize) -> i64 {
    i64::try_from(rows).unwrap_or(i64::MAX)
}
