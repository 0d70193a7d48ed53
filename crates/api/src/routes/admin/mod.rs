//! Administration.

pub mod audit;
pub mod audit_verify;
pub mod users;
