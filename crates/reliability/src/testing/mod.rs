//! The ports in memory, a broker that misbehaves on demand, and a process that can die at any step.

mod broker;
mod faults;
mod jobs;
mod store;

pub use broker::{Answer, FakeBroker};
pub use faults::Faults;
pub use store::{MemoryStore, MemoryTx, StoredJob};
