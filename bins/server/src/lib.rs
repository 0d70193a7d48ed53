//! The server: configuration, command line, bootstrap and wiring.
pub mod config;
pub mod trading;
