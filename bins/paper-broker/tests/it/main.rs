//! The paper broker through its own wire.

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
