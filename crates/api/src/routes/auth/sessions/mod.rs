//! The caller's sessions.

pub mod list;
pub mod revoke;
pub mod revoke_others;
