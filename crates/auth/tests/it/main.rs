//! Second factors beside programs that other people wrote.

#![allow(clippy::unwrap_used, reason = "a failed unwrap is a failed test")]

mod outside;
mod pyotp;
mod qr_code;
