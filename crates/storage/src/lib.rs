#![doc = include_str!("../README.md")]

pub mod db;
#[cfg(feature = "platform")]
pub mod jobs;
#[cfg(any(feature = "platform", feature = "paper"))]
pub mod migrate;
pub mod notify;
#[cfg(feature = "paper")]
pub mod paper;
#[cfg(feature = "platform")]
pub mod platform;
#[cfg(feature = "private-postgres")]
pub mod private_postgres;
#[cfg(feature = "testing")]
pub mod testing;

pub use crate::db::{AfterCommit, CommitNote, Db, DbSettings, PoolKind, Tx};
