#![doc = include_str!("../README.md")]

pub mod backup;
pub mod idempotency;
pub mod jobs;
pub mod leases;
pub mod reconcile;
pub mod retry;
pub mod shutdown;
pub mod submit;
#[cfg(any(test, feature = "testing"))]
pub mod testing;
mod timings;
#[cfg(feature = "webhooks")]
pub mod webhooks;

pub use timings::Timings;
