//! The stores of accounts: what is beside users and their sessions.

mod challenges;
mod mail;
mod two_factor;
mod throttle;

pub use mail::{MAIL_QUEUE, SEND_MAIL, SendMail};
