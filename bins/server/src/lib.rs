//! The server: configuration, command line, bootstrap and wiring.

pub mod backup;
pub mod bootstrap;
pub mod cli;
pub mod config;
pub mod demo;
pub mod mail;
mod operations;
mod outbound;
pub mod runtime;
pub mod service;
pub mod setup;
pub mod signals;
pub mod trading;
pub mod upkeep;
pub mod users;
pub mod workers;
