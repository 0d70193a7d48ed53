#![doc = include_str!("../README.md")]

mod alpaca;
mod broker;
mod config;
mod engine;
mod faults;
mod http;
mod keys;
mod rate_limit;
mod request_log;
mod sim;
mod sim_keys;
mod stream;
mod wire;

pub use broker::{Handle, PaperBroker, StartError};
pub use config::{Config, Database, MarketSource};
pub use engine::Ended;
pub use faults::{Action, FaultRule, Match};
pub use keys::{KeyFileError, Login};
pub use stream::{Connections, Frames, StreamSettings};
