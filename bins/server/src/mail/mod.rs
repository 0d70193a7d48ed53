//! Mails: sent by jobs, over SMTP where it is configured; otherwise they stay in the outbox table.

mod job;
mod reset_job;
mod smtp;

use std::sync::Arc;

use plimsoll_auth::AccountPolicy;
use plimsoll_auth::mail::Links;
use plimsoll_core_domain::Clock;
use plimsoll_reliability::Timings;
use plimsoll_reliability::jobs::{JobRunner, Wake, Workers};
use plimsoll_reliability::retry::JitterSource;
use plimsoll_storage::Db;
use plimsoll_storage::platform::auth::{MAIL_QUEUE, REQUEST_RESET, SEND_MAIL};
use plimsoll_storage::platform::keys::PlatformKeys;
use tokio::runtime::Handle;
use uuid::Uuid;

pub use smtp::{Postman, SendError, SmtpSettings, SmtpTls};

/// Threads that send mails.
const THREADS: usize = 1;

/// What sending mails needs of the rest of the server.
pub struct MailParts {
    /// The pool of jobs.
    pub jobs: Db,
    /// The pool of leases.
    pub control: Db,
    /// The time.
    pub clock: Arc<dyn Clock>,
    /// Wakes the job threads.
    pub wake: Wake,
    /// Every duration.
    pub timings: Timings,
    /// Spreads pauses.
    pub jitter: Arc<dyn JitterSource>,
    /// This process, among the owners of leases.
    pub owner: Uuid,
    /// The runtime of calls; it must outlive the job threads.
    pub runtime: Handle,
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
    let policy = parts.timings.mail();
    let resets = reset_job::RequestReset { policy: parts.policy, keys: parts.keys };
    let handler = job::SendMails::new(parts.postman, parts.links, parts.clock);
    JobRunner::new(parts.jobs, MAIL_QUEUE, parts.owner, parts.runtime, parts.timings, parts.jitter)
        .control(parts.control)
        .handle(SEND_MAIL, policy, handler)
        .handle(REQUEST_RESET, policy, resets)
        .start(THREADS, &parts.wake)
}
