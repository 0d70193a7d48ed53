//! The service over HTTP, on a real PostgreSQL.

#![allow(clippy::unwrap_used, reason = "a failed unwrap is a failed test")]
#![allow(clippy::disallowed_methods, reason = "ids of a test need no source that others can replace")]

mod admin_users;
mod api_tokens;
mod audit;
mod audit_coverage;
mod backups;
mod basics;
mod broker;
mod callers;
mod canary;
mod dead_letters;
mod gatekeeping;
mod login_load;
mod matrix;
mod outbound;
mod realtime;
mod reconciliation;
mod refused_logins;
mod registration;
mod remembered;
mod reset;
mod risk;
mod signal_orders;
mod signals;
mod story;
mod timing;
mod two_factor;
mod world;
