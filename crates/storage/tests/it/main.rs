//! Storage against a real PostgreSQL.

#![allow(clippy::unwrap_used, reason = "a failed unwrap is a failed test")]

mod accept;
mod apply;
mod audit;
mod db;
mod jobs;
mod migrations;
mod notifications;
mod private_postgres;
mod world;
