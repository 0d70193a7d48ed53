//! The paper broker through its own wire.

#![allow(clippy::unwrap_used, reason = "a failed unwrap is a failed test")]

mod alpaca_py;
mod cli;
mod contract;
mod durability;
mod errors;
mod faults;
mod forms;
mod orders;
mod sim;
mod stream;
mod support;
