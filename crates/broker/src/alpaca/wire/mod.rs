//! Alpaca's JSON, and how it maps to the port's types. What is unknown is ignored or carried through; what is missing
//! and needed makes the answer unreadable.

mod book;
mod decimal;
mod error;
mod order;
mod request;
mod time;
mod trades;
mod update;

pub(crate) use book::{AccountBody, AssetBody, ClockBody, FillBody, HistoryBody, MovementBody, PositionBody};
pub(crate) use error::ErrorBody;
pub(crate) use order::OrderBody;
pub(crate) use request::{create_order, replace_order};
pub(crate) use trades::LastTradesBody;
pub(crate) use update::{Command, Incoming, read_message};

/// An answer that is JSON of the right shape, but does not say what it must.
#[derive(Debug, PartialEq, Eq, thiserror::Error)]
#[error("{field} is missing or has no meaning here")]
pub(crate) struct Unreadable {
    pub(crate) field: &'static str,
}

impl Unreadable {
    fn field(field: &'static str) -> Self {
        Self { field }
    }
}
