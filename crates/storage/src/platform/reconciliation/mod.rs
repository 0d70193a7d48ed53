//! What comparisons of accounts with their brokers read and write: the books' side of the reconciliation port, runs,
//! differences, the ledger.

mod blocks;
mod books;
mod discrepancies;
mod ledger;
mod runs;
mod standings;

pub use blocks::DueComparison;
pub use books::AccountOwner;
pub use discrepancies::{Discrepancy, Resolution, Resolved};
pub use runs::{FinishedRun, RECONCILE, RECONCILE_QUEUE, ReconcilePayload, RunRow, RunTotals};
pub use standings::AccountStanding;
