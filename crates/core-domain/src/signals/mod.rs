//! Signals from outside: how they are read, what a hook allows, and which orders follow from them. Nothing here knows a
//! database, a broker or the time of day.

#[cfg(test)]
mod examples;
mod fields;
mod message;
mod number;
mod orders;
mod plan;
mod reason;
mod rules;
mod sizing;
mod ticker;

pub use fields::Fields;
pub use message::{Action, ExitAt, Message, Stance, Stated};
pub use number::parse_number;
pub use orders::{Known, Wanted};
pub use plan::{Move, Place, Plan};
pub use reason::{Reason, Refusal};
pub use rules::{CLOCK_SKEW, HookRules};
pub use sizing::{Given, Sizing};
pub use ticker::{SymbolMap, symbol_of};
