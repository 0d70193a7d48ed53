//! Kinds of an embedding service's own: a type that says what to do, put into the queue by one call.

use plimsoll_core_domain::StoreError;
use serde::Serialize;
use serde::de::DeserializeOwned;

use super::context::{JobContext, JobFailure, Settled};
use super::queue::{JobQueue, JobStore};
use super::runner::JobRunner;
use super::types::{Job, JobId, NewJob};
use crate::retry::Policy;

/// What is to be done, as data. The type is the payload of its jobs: no secrets in the clear, at most 64 KiB of JSON.
pub trait Retryable: Serialize + DeserializeOwned {
    /// The queue; choose one of your own, so that your workers and others' do not wait for each other.
    const QUEUE: &'static str;
    /// The kind, one word for each type. It outlives releases: jobs in the store have it.
    const KIND: &'static str;

    /// How often and how fast it is tried.
    #[must_use]
    fn policy() -> Policy {
        Policy::default()
    }

    /// What names the effect, if two jobs for it must not be open at once: a client order id, a message id.
    #[must_use]
    fn effect_id(&self) -> Option<String> {
        None
    }

    /// The job, for those who want to change it before it is inserted.
    #[must_use]
    fn job(&self) -> NewJob {
        let job = NewJob::new(Self::QUEUE, Self::KIND, self).attempts(&Self::policy());
        match self.effect_id() {
            Some(id) => job.dedup(id),
            None => job,
        }
    }
}

/// Puts `what` into the queue, in a transaction of its own: from its return on it is done once, or becomes a dead letter with
/// its reason, whatever crashes. `None`: an open job of its kind has the same effect id already. Blocks the thread.
///
/// Where other rows belong to the same act, insert the job in their transaction instead: [`queue_for_retry_in`].
///
/// ```
/// use std::sync::Arc;
///
/// use plimsoll_reliability::Timings;
/// use plimsoll_reliability::jobs::{
///     JobContext, JobFailure, JobRunner, Retryable, Settled, Settlement, queue_for_retry,
/// };
/// use plimsoll_reliability::retry::SeededJitter;
/// use plimsoll_reliability::testing::MemoryStore; // or plimsoll_storage::Db
///
/// #[derive(serde::Serialize, serde::Deserialize)]
/// struct SendInvoice {
///     invoice: u64,
/// }
///
/// impl Retryable for SendInvoice {
///     const QUEUE: &'static str = "billing";
///     const KIND: &'static str = "send_invoice";
///
///     fn effect_id(&self) -> Option<String> {
///         Some(format!("invoice-{}", self.invoice))
///     }
/// }
///
/// let store = MemoryStore::stopped();
/// let runtime = tokio::runtime::Builder::new_multi_thread().enable_time().build()?;
///
/// // anywhere in the service
/// let first = queue_for_retry(&store, &SendInvoice { invoice: 7 })?;
/// let twin = queue_for_retry(&store, &SendInvoice { invoice: 7 })?;
/// assert!(first.is_some() && twin.is_none());
///
/// // in its workers
/// let owner = uuid::Uuid::from_u128(1); // new with every start of the process
/// let jitter = Arc::new(SeededJitter::new(7));
/// let runner = JobRunner::new(store, "billing", owner, runtime.handle().clone(), Timings::default(), jitter)
///     .handle_retryable(|context: &JobContext<'_, MemoryStore>, what: SendInvoice| {
///         assert_eq!(what.invoice, 7);
///         context.finish(&Settlement::Done)
///     });
/// assert_eq!(runner.run_due(10)?, 1); // or `start` it on threads of its own
/// assert_eq!(runner.stats().done, 1);
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
///
/// # Errors
/// The store's: nothing was inserted. Also when the payload is too large.
pub fn queue_for_retry<S: JobStore, R: Retryable>(store: &S, what: &R) -> Result<Option<JobId>, StoreError> {
    let job = what.job();
    store.transaction(|tx| tx.enqueue(&job))
}

/// The same in a transaction that is open: the job is there exactly if the transaction commits.
///
/// # Errors
/// As [`queue_for_retry`].
pub fn queue_for_retry_in<Q: JobQueue, R: Retryable>(
    tx: &mut Q,
    what: &R,
) -> Result<Option<JobId>, StoreError> {
    tx.enqueue(&what.job())
}

impl<S: JobStore> JobRunner<S> {
    /// Does the jobs of `R` by `handler`. A payload that is no `R` makes a dead letter at once.
    ///
    /// # Panics
    /// The runner is of another queue than `R`: such jobs would never be seen.
    #[must_use]
    pub fn handle_retryable<R, F>(self, handler: F) -> Self
    where
        R: Retryable + 'static,
        F: Fn(&JobContext<'_, S>, R) -> Result<Settled, JobFailure> + Send + Sync + 'static,
    {
        assert_eq!(self.queue, R::QUEUE, "jobs of {} are in another queue", R::KIND);
        self.handle(R::KIND, R::policy(), move |context: &JobContext<'_, S>, job: &Job| {
            handler(context, job.decode::<R>()?)
        })
    }
}
