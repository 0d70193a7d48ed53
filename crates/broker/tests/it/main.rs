//! The adapter against servers that run inside the test.

#![expect(clippy::unwrap_used, reason = "a test that cannot go on has failed")]

mod contract;
mod failures;
mod payloads;
mod quotes;
mod requests;
mod secrets;
mod stream;
mod support;
