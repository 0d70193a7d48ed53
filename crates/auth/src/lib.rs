#![doc = include_str!("../README.md")]

mod client;
mod email;
pub mod login;
pub mod ports;
pub mod sessions;
#[cfg(any(test, feature = "testing"))]
pub mod testing;
mod user;

pub use client::{ClientInfo, MAX_USER_AGENT_CHARS};
pub use email::{EmailAddress, EmailError, MAX_EMAIL_BYTES};
pub use sessions::{Session, SessionPolicy};
pub use user::{Account, AccountState, NewUser, Role, UnknownName, User};

pub use plimsoll_core_domain::{StoreError, StoreErrorKind, UserId};
