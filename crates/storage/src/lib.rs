#![doc = include_str!("../README.md")]

pub mod db;
#[cfg(any(feature = "platform", feature = "paper"))]
pub mod migrate;
pub mod notify;
#[cfg(feature = "private-postgres")]
pub mod private_postgres;

pub use crate::db::{AfterCommit, CommitNote, Db, DbSettings, PoolKind, Tx};
