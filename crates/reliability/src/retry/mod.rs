//! When to try again, and when not.
//!
//! A [`Policy`] says how often and how fast. A [`Dependency`] is what is called, with the breaker and the budget that all
//! its callers share. [`Retry`] puts both around a call, on a thread or in a task; jobs use the policy's arithmetic and a
//! dependency directly, since their attempts are rows in a store.

mod breaker;
mod budget;
mod call;
mod class;
mod closures;
mod curve;
mod dependency;
mod gave_up;
mod jitter;
mod policy;
mod shared;
mod time;

pub use breaker::{Breaker, BreakerSettings, Change, Outcome, Ticket};
pub use budget::{BudgetSettings, RetryBudget};
pub use call::{Attempt, Pace, Retry, retry};
pub use class::{Classify, ErrorClass, Verdict};
pub use closures::{RetryAsync, RetrySync};
pub use dependency::{Dependencies, Dependency, Held, NotNow, Pass};
pub use gave_up::{GaveUp, Why};
pub use jitter::{Jitter, JitterSource, SeededJitter};
pub use policy::Policy;
pub use shared::{Party, PartyPass, Shared};
#[cfg(any(test, feature = "testing"))]
pub use time::TestTime;
pub use time::{Monotonic, Time};
