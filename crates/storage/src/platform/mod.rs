//! The platform's own database: users, sessions, accounts, orders, fills, positions, jobs, streams, audit.

pub mod accounts;
pub mod audit;
pub mod auth;
pub mod backup;
pub mod figures;
mod idempotency;
pub mod keys;
pub mod letters;
pub mod orders;
pub mod outbound;
pub mod portfolio;
pub mod reconciliation;
pub mod risk;
pub mod sessions;
pub mod signals;
mod sown;
pub mod streams;
mod users;
