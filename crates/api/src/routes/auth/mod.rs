//! Signing in and out.

pub mod login;
pub mod logout;
pub mod me;
pub mod register;
pub mod resend_verification;
pub mod setup;
pub mod verification_status;
pub mod verify_email;
