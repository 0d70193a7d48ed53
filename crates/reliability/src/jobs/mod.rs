//! Durable jobs: work that must happen once it was promised, whatever crashes.
//!
//! A job is inserted in the transaction of the act that calls for it. A worker claims it with a fencing token and a lease,
//! does it, and settles it by that token: local effects and the settlement share one transaction, so they happen exactly
//! once. Effects elsewhere happen at least once and carry an id that makes repeats harmless.

mod context;
mod kinds;
mod queue;
mod record;
mod retryable;
mod runner;
mod schedule;
mod stats;
mod types;
mod wake;
mod workers;

pub use context::{Handler, JobContext, JobFailure, Settled, TimedOut};
pub use kinds::BatchHandler;
pub use queue::{Claim, JobQueue, JobStore, Reaped};
pub use record::{
    JobCount, JobFilter, JobRecord, LetterFilter, Resolution, Resolved, UnknownResolution, redacted,
};
pub use retryable::{Retryable, queue_for_retry, queue_for_retry_in};
pub use runner::JobRunner;
pub use schedule::{Schedule, Scheduler, SlotPayload};
pub use stats::JobStats;
pub use types::{
    DEFAULT_ATTEMPTS, Job, JobId, JobLease, JobState, LONGEST_ERROR, MAX_CRASHES, NewJob, Settlement,
    clip_error, job_topic,
};
pub use wake::{Listening, Wake};
pub use workers::{StopReport, Workers};
