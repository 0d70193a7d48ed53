#![doc = include_str!("../README.md")]

pub mod audit;
pub mod broker;
pub mod clock;
pub mod error;
pub mod events;
pub mod fill;
pub mod ids;
pub mod money;
pub mod order;
pub mod pnl;
pub mod position;
pub mod repository;
pub mod store;
pub mod stream;
pub mod use_cases;

pub use clock::{Clock, SystemClock};
pub use ids::*;
pub use money::{Currency, Money, Price, Quantity};
pub use store::{StoreError, StoreErrorKind};
