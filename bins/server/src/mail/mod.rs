//! Mails: sent by jobs, over SMTP where it is configured; otherwise they stay in the outbox table.

mod job;
mod reset_job;
mod smtp;

use std::sync::Arc;

use plimsoll_auth::AccountPolicy;
use plimsoll_auth::mail::Links;
use plimsoll_reliability::jobs::Workers;
use plimsoll_reliability::retry::Monotonic;
use plimsoll_storage::Db;
use plimsoll_storage::platform::auth::{MAIL_QUEUE, REQUEST_RESET, SEND_MAIL};
use plimsoll_storage::platform::keys::PlatformKeys;

use crate::workers::JobParts;

pub use smtp::{Postman, SendError, SmtpSettings, SmtpTls};

/// Threads that send mails.
const THREADS: usize = 1;

/// What sending mails needs of the rest of the server.
pub struct MailParts {
    /// What all job threads need.
    pub job: JobParts,
    /// Durations and limits of accounts.
    pub policy: Arc<AccountPolicy>,
    /// The installation's keys.
    pub keys: Arc<PlatformKeys>,
    /// Where links lead.
    pub links: Links,
    /// `None`: mails stay in the outbox table.
    pub postman: Option<Postman>,
}

/// Starts the threads that send mails.
///
/// # Errors
/// A thread cannot be started.
pub fn start(parts: MailParts) -> std::io::Result<Workers<Db>> {
    let policy = parts.job.timings.mail();
    let resets = reset_job::RequestReset { policy: parts.policy, keys: parts.keys };
    let (clock, time) = (Arc::clone(&parts.job.clock), Arc::new(Monotonic::new()));
    let handler = job::SendMails::new(parts.postman, parts.links, clock, &policy, time);
    parts
        .job
        .runner(MAIL_QUEUE)
        .handle(SEND_MAIL, policy, handler)
        .handle(REQUEST_RESET, policy, resets)
        .start(THREADS, &parts.job.wake)
}
