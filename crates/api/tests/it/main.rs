//! The service over HTTP, on a real PostgreSQL.

#![allow(clippy::unwrap_used, reason = "a failed unwrap is a failed test")]

mod admin_users;
mod api_tokens;
mod basics;
mod callers;
mod gatekeeping;
mod login_load;
mod matrix;
mod registration;
mod reset;
mod timing;
mod two_factor;
mod world;
