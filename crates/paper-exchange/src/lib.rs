#![doc = include_str!("../README.md")]

pub mod account;
pub mod asset;
pub mod calendar;
pub mod clock;
pub mod config;
pub mod decimal_text;
mod exchange;
mod ids;
pub mod market;
pub mod order;
pub mod record;
mod refusal;

pub use account::AccountId;
pub use clock::{ClockState, ReplayClock};
pub use config::ExchangeConfig;
pub use exchange::{Exchange, RestoreError};
pub use market::{Market, MarketData, Quote};
pub use order::{NewOrder, Order, OrderId, OrderQuery, Replacement};
pub use record::{Change, Record, TradeEvent, TradeUpdate};
pub use refusal::Refusal;
