#![doc = include_str!("../README.md")]

pub mod audit;
pub mod broker;
pub mod clock;
mod digits;
pub mod error;
pub mod fill;
pub mod ids;
pub mod money;
pub mod order;
pub mod outbound;
pub mod position;
pub mod risk;
pub mod signals;
pub mod store;
pub mod stream;
pub mod views;

pub use clock::{Clock, SystemClock};
pub use ids::*;
pub use money::{Currency, Money, Price, Quantity};
pub use store::{StoreError, StoreErrorKind};
