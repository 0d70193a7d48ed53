//! The passing of time as an argument: a test decides it, and then never waits.

use std::time::Duration;

use plimsoll_core_domain::broker::BoxFuture;

/// A clock that only goes forward, and ways to wait by it.
pub trait Time: Send + Sync {
    /// How long ago a fixed moment was.
    fn now(&self) -> Duration;

    /// Blocks the thread for `pause`.
    fn sleep(&self, pause: Duration);

    /// The same for a task.
    fn wait(&self, pause: Duration) -> BoxFuture<'static, ()>;
}

/// The computer's monotonic clock. Tasks wait by tokio's timer, and so by its paused clock in tests that have one.
#[derive(Clone, Copy, Debug)]
pub struct Monotonic(tokio::time::Instant);

impl Monotonic {
    /// Counts from now.
    #[must_use]
    pub fn new() -> Self {
        Self(tokio::time::Instant::now())
    }
}

impl Default for Monotonic {
    fn default() -> Self {
        Self::new()
    }
}

impl Time for Monotonic {
    fn now(&self) -> Duration {
        self.0.elapsed()
    }

    fn sleep(&self, pause: Duration) {
        std::thread::sleep(pause);
    }

    fn wait(&self, pause: Duration) -> BoxFuture<'static, ()> {
        Box::pin(tokio::time::sleep(pause))
    }
}

/// A clock that stands still but for waiting: whoever waits moves it on and goes on at once. So a future that is not
/// ready when it is first looked at has run out of any time that it was given.
#[cfg(any(test, feature = "testing"))]
#[derive(Clone, Debug, Default)]
pub struct TestTime(std::sync::Arc<std::sync::Mutex<Passed>>);

#[cfg(any(test, feature = "testing"))]
#[derive(Debug, Default)]
struct Passed {
    now: Duration,
    pauses: Vec<Duration>,
}

#[cfg(any(test, feature = "testing"))]
impl TestTime {
    /// Moves the clock on.
    pub fn pass(&self, time: Duration) {
        self.passed().now += time;
    }

    /// All pauses that were waited for, in their order.
    #[must_use]
    pub fn pauses(&self) -> Vec<Duration> {
        self.passed().pauses.clone()
    }

    fn passed(&self) -> std::sync::MutexGuard<'_, Passed> {
        self.0.lock().unwrap_or_else(std::sync::PoisonError::into_inner)
    }
}

#[cfg(any(test, feature = "testing"))]
impl Time for TestTime {
    fn now(&self) -> Duration {
        self.passed().now
    }

    fn sleep(&self, pause: Duration) {
        let mut passed = self.passed();
        passed.now += pause;
        passed.pauses.push(pause);
    }

    fn wait(&self, pause: Duration) -> BoxFuture<'static, ()> {
        let time = self.clone();
        Box::pin(async move { time.sleep(pause) })
    }
}
