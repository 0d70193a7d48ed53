//! Sending orders to a broker: each at most once, none forgotten, whatever crashes.
//!
//! Before an order goes out, `submitting` is committed; on any try but the first the broker is asked for the order's
//! client id before it is sent again; an answer that is not clear leaves the order `unknown` until looking has told its
//! fate. The job that sends an order goes on as the job that looks for it.

mod cancel;
mod compare;
mod outcome;
mod port;
mod protocol;
mod replace;
mod send;
mod step;

pub use cancel::{CANCEL_ORDER, CancelOrder, CancelPayload};
pub use compare::{Difference, compare};
pub use outcome::{Outcome, classify};
pub use port::{Brokers, LockedOrder, OrderEvent, SubmitStore};
pub use replace::{REPLACE_ORDER, ReplaceOrderJob, ReplacePayload};
pub use send::{SUBMIT_ORDER, SubmitOrderJob, SubmitPayload};
pub use step::{Absent, MAX_SENDS_IN_DOUBT, MISSES, Step, next_step};

/// The queue of everything that speaks to a broker about orders.
pub const BROKER_QUEUE: &str = "broker";

#[cfg(test)]
mod tests;
