//! Who may use the database next: as many permits as connections, a fair queue of bounded length in front.

use std::future::Future;
use std::pin::pin;
use std::sync::Arc;
use std::task::{Context, Poll, Wake, Waker};
use std::thread::{self, Thread};
use std::time::{Duration, Instant};

use tokio::sync::{OwnedSemaphorePermit, Semaphore};

use super::settings::DbSettings;

/// The right to hold one connection; give the connection back before dropping it.
pub(crate) type Permit = OwnedSemaphorePermit;

/// No turn came in time.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct Busy;

#[derive(Debug)]
pub(crate) struct Admission {
    permits: Arc<Semaphore>,
    places: Arc<Semaphore>,
    size: usize,
    max_waiters: usize,
    wait: Duration,
    wait_when_full: Duration,
}

impl Admission {
    pub(crate) fn new(settings: &DbSettings) -> Self {
        let (size, max_waiters) = (settings.size as usize, settings.max_waiters as usize);
        Self {
            permits: Arc::new(Semaphore::new(size)),
            places: Arc::new(Semaphore::new(max_waiters)),
            size,
            max_waiters,
            wait: settings.wait,
            wait_when_full: settings.wait_when_full,
        }
    }

    /// Waits as a task. Needs a tokio runtime with its timer on.
    pub(crate) async fn admit(&self) -> Result<Permit, Busy> {
        // Fair all the same: a freed permit goes straight to the first waiter and is never up for grabs.
        if let Ok(permit) = Arc::clone(&self.permits).try_acquire_owned() {
            return Ok(permit);
        }
        let deadline = tokio::time::Instant::now() + self.wait;
        let place = match Arc::clone(&self.places).try_acquire_owned() {
            Ok(place) => place,
            Err(_) => tokio::time::timeout(self.wait_when_full, Arc::clone(&self.places).acquire_owned())
                .await
                .map_err(|_| Busy)?
                .map_err(|_| Busy)?,
        };
        let permit = tokio::time::timeout_at(deadline, Arc::clone(&self.permits).acquire_owned()).await;
        drop(place);
        permit.map_err(|_| Busy)?.map_err(|_| Busy)
    }

    /// Waits by parking this thread, in the same queue as the tasks. Works without a runtime.
    pub(crate) fn admit_blocking(&self) -> Result<Permit, Busy> {
        if let Ok(permit) = Arc::clone(&self.permits).try_acquire_owned() {
            return Ok(permit);
        }
        let start = Instant::now();
        let place = match Arc::clone(&self.places).try_acquire_owned() {
            Ok(place) => place,
            Err(_) => block_until(Arc::clone(&self.places).acquire_owned(), start + self.wait_when_full)
                .ok_or(Busy)?
                .map_err(|_| Busy)?,
        };
        let permit = block_until(Arc::clone(&self.permits).acquire_owned(), start + self.wait);
        drop(place);
        permit.ok_or(Busy)?.map_err(|_| Busy)
    }

    pub(crate) fn in_use(&self) -> usize {
        self.size.saturating_sub(self.permits.available_permits())
    }

    pub(crate) fn waiting(&self) -> usize {
        self.max_waiters.saturating_sub(self.places.available_permits())
    }
}

struct Unpark(Thread);

impl Wake for Unpark {
    fn wake(self: Arc<Self>) {
        self.0.unpark();
    }
}

/// Polls `future` on this thread until it is done (`Some`) or `deadline` has passed (`None`).
fn block_until<F: Future>(future: F, deadline: Instant) -> Option<F::Output> {
    let mut future = pin!(future);
    let waker = Waker::from(Arc::new(Unpark(thread::current())));
    let mut context = Context::from_waker(&waker);
    loop {
        if let Poll::Ready(output) = future.as_mut().poll(&mut context) {
            return Some(output);
        }
        let left = deadline.checked_duration_since(Instant::now()).filter(|left| !left.is_zero())?;
        thread::park_timeout(left);
    }
}

#[cfg(test)]
mod tests {
    use super::super::settings::PoolKind;
    use super::*;

    fn admission(size: u32) -> Admission {
        let mut settings = DbSettings::new(PoolKind::Http, size);
        settings.wait = Duration::from_millis(200);
        settings.wait_when_full = Duration::from_millis(20);
        Admission::new(&settings)
    }

    #[tokio::test]
    async fn a_free_permit_is_given_at_once_and_comes_back() {
        let admission = admission(1);
        let permit = admission.admit().await.unwrap();
        assert_eq!((admission.in_use(), admission.waiting()), (1, 0));
        drop(permit);
        assert_eq!(admission.in_use(), 0);
    }

    #[tokio::test]
    async fn a_waiter_gives_up_after_the_wait() {
        let admission = admission(1);
        let _held = admission.admit().await.unwrap();
        let start = Instant::now();
        assert_eq!(admission.admit().await.unwrap_err(), Busy);
        assert!(start.elapsed() >= Duration::from_millis(200));
        assert_eq!(admission.waiting(), 0, "the place in the queue is free again");
    }

    #[tokio::test]
    async fn beyond_the_queue_the_wait_is_short() {
        let admission = Arc::new(admission(1));
        let held = admission.admit().await.unwrap();
        let waiters: Vec<_> = (0..4)
            .map(|_| {
                let admission = Arc::clone(&admission);
                tokio::spawn(async move { admission.admit().await.is_ok() })
            })
            .collect();
        while admission.waiting() < 4 {
            tokio::task::yield_now().await;
        }
        let start = Instant::now();
        assert_eq!(admission.admit().await.unwrap_err(), Busy);
        assert!(start.elapsed() < Duration::from_millis(150));
        drop(held);
        for waiter in waiters {
            assert!(waiter.await.unwrap(), "those already waiting are served");
        }
    }

    #[test]
    fn threads_wait_in_the_same_queue() {
        let admission = Arc::new(admission(1));
        let held = admission.admit_blocking().unwrap();
        assert_eq!(admission.admit_blocking().unwrap_err(), Busy);
        let other = {
            let admission = Arc::clone(&admission);
            thread::spawn(move || admission.admit_blocking().is_ok())
        };
        while admission.waiting() == 0 {
            thread::yield_now();
        }
        drop(held);
        assert!(other.join().unwrap());
    }
}
