//! Users' events on their way to users' webhooks: from the streams to deliveries, and from there out.

mod dispatcher;
mod job;
mod turns;

use std::sync::Arc;
use std::time::Duration;

use plimsoll_reliability::jobs::Workers;
use plimsoll_reliability::retry::{Dependencies, Monotonic};
use plimsoll_reliability::webhooks::Sender;
use plimsoll_storage::Db;
use plimsoll_storage::platform::outbound::{SEND_WEBHOOK, WEBHOOK_QUEUE};

use self::dispatcher::Dispatcher;
use crate::workers::JobParts;

/// The topic that rings when an event stands in some user's stream.
pub(crate) const EVENTS: &str = "outbound:events";
/// Threads that post messages.
const THREADS: usize = 12;
/// Of which so many may be busy with whom.
const SHARES: turns::Shares = turns::Shares { at_one_hook: 2, at_one_user: 4, at_slow_hooks: 6 };
/// Hooks whose health is remembered.
const MOST_HOOKS: usize = 10_000;

/// What posting needs of the rest of the server.
pub(crate) struct OutboundParts {
    /// What all job threads need.
    pub(crate) job: JobParts,
    /// Posts messages.
    pub(crate) sender: Sender,
}

/// Posting while it runs.
pub(crate) struct OutboundHandle {
    dispatcher: Dispatcher,
    workers: Workers<Db>,
}

/// Starts the thread that makes deliveries and those that post them.
///
/// # Errors
/// A thread cannot be started.
pub(crate) fn start(parts: OutboundParts) -> std::io::Result<OutboundHandle> {
    let OutboundParts { job, sender } = parts;
    let policy = job.timings.webhook();
    let handler = job::PostMessages {
        sender,
        clock: Arc::clone(&job.clock),
        health: Dependencies::new(policy, Arc::new(Monotonic::new()), MOST_HOOKS),
        turns: turns::Turns::new(SHARES),
    };
    let workers =
        job.runner(WEBHOOK_QUEUE).handle(SEND_WEBHOOK, policy, handler).start(THREADS, &job.wake)?;
    let dispatcher = Dispatcher::start(&job, policy)?;
    Ok(OutboundHandle { dispatcher, workers })
}

impl OutboundHandle {
    /// Makes no further deliveries, lets running posts end within `limit`, and gives the rest back. Blocks.
    pub(crate) fn stop(self, limit: Duration) {
        drop(self.dispatcher);
        self.workers.stop(limit);
    }
}
