#![doc = include_str!("../README.md")]

mod clock;
mod database;
mod process;
mod programs;
mod server;

pub use clock::FixedClock;
pub use database::TestDb;
pub use process::{ChildGuard, free_port};
pub use programs::{example, program};
pub use server::server_url;
