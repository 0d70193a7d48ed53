//! Repeats as a method of what is called.

use std::future::Future;

use super::call::Retry;
use super::class::Classify;
use super::gave_up::GaveUp;

/// Closures that call on their thread.
pub trait RetrySync<T, E> {
    /// Calls it, with the repeats of `retry`.
    ///
    /// # Errors
    /// Why there is no success.
    fn retry(self, retry: &Retry) -> Result<T, GaveUp<E>>;
}

impl<T, E, F> RetrySync<T, E> for F
where
    F: FnMut() -> Result<T, E>,
    E: Classify,
{
    fn retry(self, retry: &Retry) -> Result<T, GaveUp<E>> {
        retry.call(self)
    }
}

/// Closures that make futures.
pub trait RetryAsync<T, E> {
    /// Calls it, with the repeats of `retry`.
    ///
    /// # Errors
    /// Why there is no success.
    fn retry_async(self, retry: &Retry) -> impl Future<Output = Result<T, GaveUp<E>>>;
}

impl<T, E, F, W> RetryAsync<T, E> for F
where
    F: FnMut() -> W,
    W: Future<Output = Result<T, E>>,
    E: Classify,
{
    fn retry_async(self, retry: &Retry) -> impl Future<Output = Result<T, GaveUp<E>>> {
        retry.call_async(self)
    }
}
