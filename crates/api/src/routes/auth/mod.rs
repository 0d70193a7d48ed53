//! Signing in and out.

pub mod api_tokens;
pub mod cancel;
pub mod change_email;
pub mod change_password;
pub mod confirm_email;
pub mod login;
pub mod logout;
pub mod me;
pub mod register;
pub mod request_reset;
pub mod resend_verification;
pub mod reset_password;
pub mod sessions;
pub mod setup;
pub mod step_up;
pub mod two_factor;
pub mod validate_reset_token;
pub mod verification_status;
pub mod verify_email;
