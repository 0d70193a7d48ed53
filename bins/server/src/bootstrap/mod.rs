//! Everything that must be there before requests can come: data folder, keys, databases, paper broker.

mod data_dir;
mod database;
mod error;
mod hardening;
mod keys;
mod paper;
mod progress;

pub use data_dir::{is_locked, prepare, write_private};
pub use database::Databases;
pub use error::StartError;
pub(crate) use error::root_cause;
pub use hardening::harden;
pub use keys::{Settle, generate_key, key_ring, key_ring_of_backup};
pub use paper::start_paper_broker;
pub use progress::Progress;
