//! The hub from outside: order, resume, limits, and any interleaving of them.
#![expect(clippy::unwrap_used, reason = "a panic is how a test fails, in its helpers too")]

mod delivery;
mod exactly_once;
mod harness;
mod limits;
mod resume;
mod threads;
