//! What every set of job threads needs of the rest of the server.

use std::sync::Arc;

use plimsoll_core_domain::Clock;
use plimsoll_reliability::Timings;
use plimsoll_reliability::jobs::{JobRunner, Wake};
use plimsoll_reliability::retry::JitterSource;
use plimsoll_storage::Db;
use tokio::runtime::Handle;
use uuid::Uuid;

/// The surroundings of job threads.
#[derive(Clone)]
pub struct JobParts {
    /// The pool of jobs, and of what follows from them.
    pub jobs: Db,
    /// The pool of leases.
    pub control: Db,
    /// The time.
    pub clock: Arc<dyn Clock>,
    /// Wakes the threads.
    pub wake: Wake,
    /// Every duration.
    pub timings: Timings,
    /// Spreads pauses.
    pub jitter: Arc<dyn JitterSource>,
    /// This process, among the owners of leases.
    pub owner: Uuid,
    /// The runtime of calls; it must outlive the threads.
    pub runtime: Handle,
}

impl JobParts {
    /// A runner of a queue, without handlers.
    pub(crate) fn runner(&self, queue: &'static str) -> JobRunner<Db> {
        JobRunner::new(
            self.jobs.clone(),
            queue,
            self.owner,
            self.runtime.clone(),
            self.timings.clone(),
            Arc::clone(&self.jitter),
        )
        .control(self.control.clone())
    }
}
