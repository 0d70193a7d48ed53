//! The routes: one endpoint, one file.

pub mod account;
pub mod auth;
pub mod fills;
pub mod health;
pub mod openapi;
pub mod orders;
pub mod pnl;
pub mod portfolio_history;
pub mod positions;
pub mod problems;
