//! Administration.

pub mod alerts;
pub mod audit;
pub mod audit_verify;
pub mod dead_letters;
pub mod jobs;
pub mod users;
