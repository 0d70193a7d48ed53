//! Sending orders to a broker: each takes effect at most once, none is forgotten, whatever crashes.
//!
//! Before an order goes out, `submitting` is committed; on any try but the first the broker is asked for the order's
//! client id before it is sent again; an answer that is not clear leaves the order `unknown` until looking has told its
//! fate. A clear answer is one about that sending alone: after one in doubt, a refusal of the next settles nothing. The job that sends an order goes on as the job that looks for it. One that was not found counts as not sent, and
//! is looked for on for a week: should it appear, it comes alive, and its owner is told.

mod cancel;
mod compare;
mod outcome;
mod port;
mod protocol;
mod replace;
mod replacing;
mod send;
mod step;
mod watch;

pub use cancel::{CANCEL_ORDER, CancelOrder, CancelPayload};
pub use compare::{Difference, compare, compare_order};
pub use outcome::{Outcome, classify};
pub use port::{Brokers, LockedOrder, OrderEvent, SubmitStore};
pub use replace::{REPLACE_ORDER, ReplaceOrderJob, ReplacePayload};
pub use send::{SUBMIT_ORDER, SubmitOrderJob, SubmitPayload};
pub use step::{Absent, MAX_SENDS_IN_DOUBT, MISSES, Step, next_step};
pub use watch::{WATCH_ORDER, WatchOrder, WatchPayload};

/// The queue of everything that speaks to a broker about orders.
pub const BROKER_QUEUE: &str = "broker";

#[cfg(test)]
mod tests;
