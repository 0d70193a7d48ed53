//! Posts signed messages to addresses that strangers chose, without letting those strangers reach what stands behind the
//! firewall.
//!
//! - [`Guard`] reads an address and says which network addresses may be connected to. Names are looked up by its own
//!   resolver, and the connection is made to the very addresses that were checked: a name that changes its mind between
//!   look and connect gains nothing.
//! - [`Sender`] posts once: signed as Standard Webhooks asks, no redirect followed, no proxy, connect and total time
//!   bounded, of the answer no more than a short excerpt kept, without anything that looks like a secret.
//!
//! Whether and when to try again is the caller's business.

mod address;
mod answer;
mod guard;
mod resolver;
mod sender;

pub use address::is_public;
pub use answer::{Failure, excerpt};
pub use guard::{Guard, LONGEST_URL, Target, TargetRefusal};
pub use sender::{Attempt, Message, Outcome, SendLimits, Sender, SenderError};
