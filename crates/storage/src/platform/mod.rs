//! The platform's own database: users, sessions, accounts, orders, fills, positions, jobs, streams, audit.

pub mod accounts;
pub mod audit;
mod idempotency;
pub mod keys;
pub mod orders;
pub mod portfolio;
mod sessions;
pub mod streams;
mod users;
