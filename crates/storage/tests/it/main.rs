//! Storage against a real PostgreSQL.

mod db;
mod jobs;
mod migrations;
mod notifications;
mod private_postgres;
