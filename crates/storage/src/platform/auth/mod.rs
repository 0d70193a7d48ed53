//! The stores of accounts: what is beside users and their sessions.

mod mail;

pub use mail::{MAIL_QUEUE, SEND_MAIL, SendMail};
