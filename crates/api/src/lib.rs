//! Plimsoll: api.

pub mod ws;
