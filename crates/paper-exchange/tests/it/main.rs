//! The exchange through its public interface.
#![expect(clippy::unwrap_used, reason = "helpers of tests may panic as tests may")]

mod account;
mod amend;
mod groups;
mod lifecycle;
mod market;
mod properties;
mod refusals;
mod restart;
mod support;
mod wire;
