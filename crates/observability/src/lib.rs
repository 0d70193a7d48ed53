#![doc = include_str!("../README.md")]

pub mod config_report;
pub mod health;
pub mod logging;
pub mod metrics;
pub mod process;
pub mod readiness;
