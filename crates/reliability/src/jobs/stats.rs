//! What a runner counts.

use std::sync::atomic::{AtomicU64, Ordering};

/// How attempts ended since the start of the process.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct JobStats {
    /// Jobs claimed.
    pub claimed: u64,
    /// Jobs done.
    pub done: u64,
    /// Attempts that failed and will be repeated.
    pub retried: u64,
    /// Attempts put off without counting.
    pub snoozed: u64,
    /// Jobs given up.
    pub dead: u64,
    /// Results thrown away because another worker had the job.
    pub lost: u64,
    /// Attempts that panicked.
    pub panicked: u64,
    /// Results that the store did not take.
    pub unsettled: u64,
    /// Attempts that did not end within their time.
    pub hung: u64,
}

#[derive(Debug, Default)]
pub(super) struct Counters {
    pub(super) claimed: AtomicU64,
    pub(super) done: AtomicU64,
    pub(super) retried: AtomicU64,
    pub(super) snoozed: AtomicU64,
    pub(super) dead: AtomicU64,
    pub(super) lost: AtomicU64,
    pub(super) panicked: AtomicU64,
    pub(super) unsettled: AtomicU64,
    pub(super) hung: AtomicU64,
}

impl Counters {
    pub(super) fn read(&self) -> JobStats {
        let read = |counter: &AtomicU64| counter.load(Ordering::Relaxed);
        JobStats {
            claimed: read(&self.claimed),
            done: read(&self.done),
            retried: read(&self.retried),
            snoozed: read(&self.snoozed),
            dead: read(&self.dead),
            lost: read(&self.lost),
            panicked: read(&self.panicked),
            unsettled: read(&self.unsettled),
            hung: read(&self.hung),
        }
    }
}
