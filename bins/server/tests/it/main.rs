//! Integration tests of the server package, and of what the repository promises as a whole.

#![expect(clippy::unwrap_used, reason = "a helper that fails, fails the test that called it")]

mod backups;
mod canary;
mod cli;
mod config;
mod connections;
mod dead_letters;
mod demo;
mod deploy;
mod docs;
mod example_client;
mod faults;
mod first_hour;
mod hardening;
mod import;
mod instances;
mod keys;
mod kill;
mod layering;
mod mail;
mod monitoring;
mod people;
mod reconcile;
mod rotation;
mod scripts;
mod security;
mod seeded_keys;
mod session;
mod systemd;
mod users;
mod webhooks;
