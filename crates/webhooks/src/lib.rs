#![doc = include_str!("../README.md")]

mod address;
mod answer;
mod guard;
mod resolver;
mod sender;

pub use address::is_public;
pub use answer::{Failure, excerpt};
pub use guard::{Guard, LONGEST_URL, Target, TargetRefusal};
pub use sender::{Attempt, Message, Outcome, SendLimits, Sender, SenderError};
