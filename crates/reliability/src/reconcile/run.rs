//! One comparison: what is asked of the broker, in which order, and what is concluded.

mod balances;
mod fills;
mod orders;
mod takeover;

use std::time::Duration;

use plimsoll_core_domain::StoreError;
use plimsoll_core_domain::broker::{Broker, BrokerError, BrokerOrder, BrokerStatus};
use plimsoll_core_domain::order::Order;

use super::port::{Books, BooksError, Scope};
use super::progress::{About, Progress};
use super::report::{Finding, Outcome, Subject};
use super::table::{Case, Class};

#[cfg(test)]
pub(super) use self::fills::execution_of;
pub use self::fills::read_fills;
pub use self::orders::look;

/// Pages of one reading.
const MAX_PAGES: usize = 1_000;
/// So many answers in a row that cannot be used end a try: the broker has a bad time, not the order.
const BAD_TIME: u32 = 3;

/// Why the comparison is not complete.
#[derive(Debug, thiserror::Error)]
pub enum ReconcileError {
    /// The broker did not answer.
    #[error(transparent)]
    Broker(#[from] BrokerError),
    /// The store did not.
    #[error(transparent)]
    Store(#[from] StoreError),
    /// A reading does not end.
    #[error("the broker's book of fills has more than {MAX_PAGES} pages in the window")]
    TooMany,
    /// The credentials are another account's.
    #[error("the key belongs to another account at the broker than the one on record")]
    OtherAccount,
    /// Another instance has the account by now.
    #[error("another instance has the account now")]
    Lost,
    /// The run's calls are used up.
    #[error("the run has made its {0} calls to the broker")]
    Budget(u32),
}

impl From<BooksError> for ReconcileError {
    fn from(error: BooksError) -> Self {
        match error {
            BooksError::Store(error) => Self::Store(error),
            BooksError::Lost => Self::Lost,
        }
    }
}

/// The bounds of a run.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Limits {
    /// A live order must have been missing for so long before it counts as gone.
    pub missing_for: Duration,
    /// An order that is under way, or unconfirmed, for longer is stale.
    pub stale_age: Duration,
    /// Calls to the broker, over all tries.
    pub calls: u32,
    /// Positions and cash are asked for until they are told: what is held must be known before the account trades.
    pub insist: bool,
}

/// One try of a run.
pub struct Attempt<'a> {
    broker: &'a dyn Broker,
    books: &'a dyn Books,
    limits: Limits,
    scope: Scope,
    progress: &'a mut Progress,
    /// What another try may settle.
    unsettled: Option<ReconcileError>,
    in_a_row: u32,
    /// Whether all pages of the list of open orders were read.
    listed: bool,
}

impl std::fmt::Debug for Attempt<'_> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Attempt").field("scope", &self.scope).finish_non_exhaustive()
    }
}

impl<'a> Attempt<'a> {
    /// A try that goes on where the one before it ended.
    pub fn new(
        broker: &'a dyn Broker,
        books: &'a dyn Books,
        limits: Limits,
        scope: Scope,
        progress: &'a mut Progress,
    ) -> Self {
        Self { broker, books, limits, scope, progress, unsettled: None, in_a_row: 0, listed: false }
    }

    /// Compares every open order, every order with a fill in the window, and, where the scope says so, positions and cash.
    /// Repeats change nothing. An order that the broker refuses to show, or whose answers stay unusable, is left to a job
    /// of its own, and the run is partial.
    ///
    /// # Errors
    /// The comparison is not complete; the progress has what is.
    pub async fn run(mut self) -> Result<Outcome, ReconcileError> {
        let account = self.ask(|broker| broker.account()).await?;
        if !self.books.claim(&account.number).await? {
            return Err(ReconcileError::OtherAccount);
        }
        let snapshot = self.books.snapshot().await?;
        self.read_book(&snapshot).await?;
        self.compare_open(&snapshot).await?;
        self.fetch_ended().await?;
        if let Some(error) = self.unsettled.take() {
            return Err(error);
        }
        self.look_for_stale(&snapshot);
        if self.scope == Scope::Everything && !self.progress.given_up(&About::Money) {
            match self.compare_money(&snapshot, account.cash).await {
                Ok(()) => {}
                Err(error) if self.limits.insist => return Err(error),
                Err(error) => {
                    self.failed(About::Money, error)?;
                }
            }
            if let Some(error) = self.unsettled.take() {
                return Err(error);
            }
        }
        // What no complete list was read of may have orders that nobody here knows.
        let complete = !self.progress.gave_up() && (self.listed || self.scope == Scope::Orders);
        Ok(Outcome::new(self.progress.scanned(), std::mem::take(&mut self.progress.findings), complete))
    }

    /// One call to the broker.
    async fn ask<'b, T, F>(&mut self, call: impl FnOnce(&'b dyn Broker) -> F) -> Result<T, ReconcileError>
    where
        'a: 'b,
        F: Future<Output = Result<T, BrokerError>>,
    {
        if self.progress.calls >= self.limits.calls {
            return Err(ReconcileError::Budget(self.limits.calls));
        }
        self.progress.calls += 1;
        Ok(call(self.broker).await?)
    }

    fn find(
        &mut self,
        case: Case,
        subject: Subject,
        local: impl std::fmt::Display,
        broker: impl std::fmt::Display,
    ) {
        self.progress.findings.push(Finding::new(case, subject, local, broker));
    }

    /// What an unusable answer means: `true` when the subject is given up by it, `false` when another try asks again.
    ///
    /// # Errors
    /// Nothing more is to be had in this try.
    fn failed(&mut self, about: About, error: ReconcileError) -> Result<bool, ReconcileError> {
        let Some(given_up) = self.progress.count(&about, &error) else { return Err(error) };
        if given_up {
            tracing::warn!(?about, %error, "left out of the comparison with the broker");
            return Ok(true);
        }
        self.in_a_row += 1;
        if self.in_a_row >= BAD_TIME {
            return Err(error);
        }
        self.unsettled = Some(error);
        Ok(false)
    }
}

fn subject(order: &Order) -> Subject {
    Subject::Order(order.id, order.terms.symbol.clone())
}

/// The broker's word for the order's state.
fn word(seen: &BrokerOrder) -> String {
    match &seen.status {
        BrokerStatus::Known(status) => status.as_str().to_owned(),
        BrokerStatus::Other(word) => word.clone(),
    }
}

impl Outcome {
    /// Whether nothing in it is worth a row of its own.
    #[must_use]
    pub fn is_silent(&self) -> bool {
        self.findings.iter().all(|finding| finding.case.rule().class == Class::Timing)
    }
}
