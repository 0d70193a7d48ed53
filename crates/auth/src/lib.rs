#![doc = include_str!("../README.md")]

mod act;
pub mod admin;
pub mod api_tokens;
pub mod backup_codes;
pub mod cancel;
pub mod challenges;
pub mod clean_up;
mod client;
mod email;
pub mod email_change;
pub mod login;
pub mod mail;
mod network;
pub mod password_change;
pub mod password_rules;
mod policy;
pub mod ports;
pub mod qr;
pub mod registration;
pub mod reset;
pub mod sessions;
pub mod setup;
pub mod step_up;
#[cfg(any(test, feature = "testing"))]
pub mod testing;
pub mod throttle;
pub mod totp;
pub mod two_factor;
pub mod two_factor_reset;
pub mod unfinished;
mod user;
pub mod vault;

pub use act::Act;
pub use client::{ClientInfo, MAX_USER_AGENT_CHARS};
pub use email::{EmailAddress, EmailError, MAX_EMAIL_BYTES};
pub use network::{IpNetwork, IpNetworkError};
pub use policy::{
    AccountPolicy, AdminPolicy, ApiTokenPolicy, LoginPolicy, RegistrationPolicy, ResetPolicy,
    RetentionPolicy, TwoFactorPolicy,
};
pub use sessions::{Session, SessionPolicy, Transport};
pub use user::{Account, AccountState, NewUser, Role, UnknownName, User};

pub use plimsoll_core_domain::{StoreError, StoreErrorKind, UserId};
