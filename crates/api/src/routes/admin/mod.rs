//! Administration.

pub mod users;
