//! Storage against a real PostgreSQL.

#![allow(clippy::unwrap_used, reason = "a failed unwrap is a failed test")]
#![allow(clippy::disallowed_methods, reason = "ids of tests need no source")]

mod accept;
mod accounts;
mod apply;
mod audit;
mod audit_checkpoints;
mod auth_api_tokens;
mod auth_clean_up;
mod auth_throttle;
mod auth_two_factor;
mod auth_user_admin;
mod auth_verification;
mod backup;
mod claims;
mod db;
mod figures;
mod jobs;
mod keys;
mod letters;
mod lock_order;
mod migrations;
mod notifications;
#[cfg(feature = "paper")]
mod order_list;
mod outbound;
mod paper;
mod private_postgres;
mod reconciliation;
mod risk;
mod risk_carry;
mod risk_enforce;
mod streams;
mod vault;
mod world;
