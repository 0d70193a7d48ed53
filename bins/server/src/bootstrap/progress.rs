//! What a start-up tells while it goes on.

use std::time::{Duration, Instant};

/// Tells of each step of a start-up and the time it took.
#[derive(Debug)]
pub struct Progress {
    began: Instant,
    last: Instant,
    lines: bool,
}

impl Progress {
    /// Lines on standard output, for a person who waits.
    #[must_use]
    pub fn lines() -> Self {
        Self::new(true)
    }

    /// Log events.
    #[must_use]
    pub fn log() -> Self {
        Self::new(false)
    }

    fn new(lines: bool) -> Self {
        let now = Instant::now();
        Self { began: now, last: now, lines }
    }

    /// A step is done.
    pub fn step(&mut self, what: &str) {
        let took = self.last.elapsed();
        self.last = Instant::now();
        if self.lines {
            println!("{:>7} ms  {what}", took.as_millis());
        } else {
            tracing::info!(duration_ms = u64::try_from(took.as_millis()).unwrap_or(u64::MAX), "{what}");
        }
    }

    /// Since the beginning.
    #[must_use]
    pub fn total(&self) -> Duration {
        self.began.elapsed()
    }
}
