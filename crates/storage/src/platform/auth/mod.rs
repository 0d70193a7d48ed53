//! The stores of accounts: what is beside users and their sessions.

mod api_tokens;
mod challenges;
mod clean_up;
mod email_change;
mod login;
mod logins;
mod mail;
mod reset;
mod setup;
mod throttle;
mod two_factor;
mod two_factor_reset;
mod unfinished;
mod user_admin;
mod vault;
mod verification;
mod ws_tickets;

pub use mail::{MAIL_QUEUE, SEND_MAIL, SendMail, StoredMail};
pub use reset::{REQUEST_RESET, ResetRequest};
pub use vault::{accounts_topic, user_of_accounts_topic};
pub use ws_tickets::MAX_WAITING as MAX_WAITING_WS_TICKETS;
