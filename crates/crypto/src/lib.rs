#![doc = include_str!("../README.md")]

pub mod canonical;
mod client_order_id;
mod data_key;
mod device_cookie;
mod encoded;
pub mod fernet;
mod installation_key;
mod key_ring;
mod mac_chain;
mod master_key;
pub mod passwords;
mod pepper;
mod random;
pub mod sealing;
mod secret_key;
pub mod stream;
pub mod tokens;
mod webhook;

pub use client_order_id::{ClientOrderIdKey, OrderOrigin};
pub use data_key::DataKey;
pub use device_cookie::{DeviceCookies, DeviceId};
pub use fernet::FernetKey;
pub use installation_key::{InstallationKey, KeyPurpose, WrongPurpose};
pub use key_ring::{KeyId, KeyRing, KeyRingError, ParseKeyIdError};
pub use mac_chain::{BrokenLink, MacChain};
pub use master_key::{
    DEFAULT_STRETCHING_ITERATIONS, EXAMPLE_KEY, KeyForm, MIN_PASS_PHRASE_CHARS, MasterKey, MasterKeyError,
    Stretching, StretchingError,
};
pub use pepper::Pepper;
pub use random::OsRandom;
pub use sealing::{Aad, OpenError, open, seal};
pub use secret_key::SecretKey;
pub use stream::{OpeningReader, SealingWriter, StreamKey};
pub use webhook::WebhookSecret;

/// The trait of every source of secrets in this crate, so that a caller need not name `rand` itself.
pub use rand::CryptoRng;
