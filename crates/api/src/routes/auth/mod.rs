//! Signing in and out.

pub mod api_tokens;
pub mod login;
pub mod logout;
pub mod me;
pub mod register;
pub mod resend_verification;
pub mod sessions;
pub mod setup;
pub mod step_up;
pub mod two_factor;
pub mod verification_status;
pub mod verify_email;
