//! What to do next with an order: a pure function of its state and the time.

use std::time::Duration;

use chrono::{DateTime, Utc};
use plimsoll_core_domain::broker::Dedupe;
use plimsoll_core_domain::order::{OrderStatus, SubmitNotes};

use crate::timings::Timings;

/// An order whose fate is unclear is sent again only while it was sent fewer times than this.
pub const MAX_SENDS_IN_DOUBT: i32 = 2;
/// Looks that must have failed before an order counts as not sent.
pub const MISSES: i32 = 5;

/// The next step.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Step {
    /// Commit `submitting`, then send. Nothing can be at the broker yet.
    Send,
    /// Ask the broker for the client id first. Found: adopt it.
    LookUpFirst(
        /// Otherwise.
        Absent,
    ),
    /// Too late, and never sent, or only with clear answers that nothing was done: it will not be sent any more.
    NotSent,
    /// Nothing to do any more.
    Nothing,
}

/// What follows when the broker does not know the client id.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Absent {
    /// Too early to mean anything: look again at the next time.
    Early,
    /// Commit `submitting`, then send under the same id.
    Send,
    /// Count the miss and look again later.
    Miss,
    /// Read one complete list; not there either: it was never sent.
    LastLook,
    /// Read one complete list; not there either: a human decides, since this broker would take a second order.
    AskHuman,
}

/// What to do with an order in `status` at `now`, which is by the clock of `notes`.
#[must_use]
pub fn next_step(
    status: OrderStatus,
    notes: &SubmitNotes,
    dedupe: Dedupe,
    timings: &Timings,
    now: DateTime<Utc>,
) -> Step {
    let in_time = now < notes.deadline;
    match status {
        OrderStatus::PendingSubmit if !in_time => Step::NotSent,
        OrderStatus::PendingSubmit if notes.attempts == 0 => Step::Send,
        OrderStatus::PendingSubmit => Step::LookUpFirst(Absent::Send),
        OrderStatus::Submitting | OrderStatus::Unknown => {
            let elapsed = sent_for(notes, now);
            Step::LookUpFirst(if elapsed < timings.submit_settle {
                Absent::Early
            } else if in_time && dedupe == Dedupe::Forever && may_repeat(status, notes) {
                Absent::Send
            } else if notes.probes + 1 < MISSES || elapsed < timings.not_sent_after {
                Absent::Miss
            } else if dedupe == Dedupe::Forever {
                Absent::LastLook
            } else {
                Absent::AskHuman
            })
        }
        _ => Step::Nothing,
    }
}

/// `submitting` is what a crash leaves behind: whether it was sent at all is not known, and the deadline alone bounds the
/// tries. `unknown` was sent for certain.
fn may_repeat(status: OrderStatus, notes: &SubmitNotes) -> bool {
    status == OrderStatus::Submitting || notes.attempts < MAX_SENDS_IN_DOUBT
}

/// How long ago sending was last begun.
pub(super) fn sent_for(notes: &SubmitNotes, now: DateTime<Utc>) -> Duration {
    notes.started_at.map_or(Duration::MAX, |at| (now - at).to_std().unwrap_or_default())
}
