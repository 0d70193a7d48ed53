#![doc = include_str!("../README.md")]

mod alpaca;
mod config;
#[cfg(feature = "testing")]
pub mod contract;
mod credentials;
mod reconnect;

pub use alpaca::{Alpaca, AlpacaServer, install_crypto_provider};
pub use config::{AlpacaConfig, AlpacaTimings, ConfigError};
pub use credentials::{CredentialError, CredentialSource, Credentials, StaticCredentials};
