//! Plimsoll: server.
pub mod trading;
