//! Durable jobs: work that must happen once it was promised, whatever crashes.
//!
//! A job is inserted in the transaction of the act that calls for it. A worker claims it with a fencing token and a lease,
//! does it, and settles it by that token: local effects and the settlement share one transaction, so they happen exactly
//! once. Effects elsewhere happen at least once and carry an id that makes repeats harmless.

mod context;
mod queue;
mod record;
mod runner;
mod schedule;
mod types;
mod wake;
mod workers;

pub use context::{Handler, JobContext, JobFailure, Settled, TimedOut};
pub use queue::{Claim, JobQueue, JobStore, Reaped};
pub use record::{
    JobCount, JobFilter, JobRecord, LetterFilter, Resolution, Resolved, UnknownResolution, redacted,
};
pub use runner::{JobRunner, JobStats};
pub use schedule::{Schedule, Scheduler, SlotPayload};
pub use types::{
    DEFAULT_ATTEMPTS, Job, JobId, JobLease, JobState, LONGEST_ERROR, MAX_CRASHES, NewJob, Settlement,
    clip_error, job_topic,
};
pub use wake::{Listening, Wake};
pub use workers::{StopReport, Workers};
