//! Reconciliation: comparing what is on record with what the broker shows, and what follows from every difference.
//!
//! What is decided is data: [`RULES`] has one row for each pair of states, and `docs/reconciliation.md` is generated from
//! it. [`Attempt::run`] makes one comparison over two ports: the broker, and [`Books`]. Orders come first, then fills,
//! positions and cash. Absence is never proof, a failed question is never "nothing there", and what changed here
//! while the broker was asked is left to the next run.

mod compare;
mod infer;
mod money;
mod port;
mod progress;
mod report;
mod run;
mod table;

pub use compare::{changes_nothing, missing_case, stale_case, under_way_since};
pub use infer::inferred;
pub use port::{
    Adopted, Applied, Books, BooksError, Held, Lack, Missing, OrderNews, Reported, Scope, Snapshot, Standing,
};
pub use progress::Progress;
pub use report::{Finding, Outcome, RunStatus, Subject, Trigger};
pub use run::{Attempt, Limits, ReconcileError, look, read_fills};
pub use table::{Action, Case, Class, Kind, RULES, Rule, markdown};

#[cfg(test)]
mod tests;
