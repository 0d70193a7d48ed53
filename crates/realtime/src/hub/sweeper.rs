//! The thread that keeps a hub in step with the log.

use std::io;
use std::sync::{Arc, PoisonError};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use super::Hub;
use crate::sync::{Condvar, Mutex, lock};

/// A thread that calls [`Hub::repair`] and [`Hub::sweep`] until it is dropped.
pub struct Sweeper {
    stop: Arc<(Mutex<bool>, Condvar)>,
    thread: Option<JoinHandle<()>>,
}

impl Sweeper {
    /// Starts the thread: `repair_every` of about 50 ms, `sweep_every` of about a second.
    ///
    /// # Errors
    /// The system gives no thread.
    pub fn start(hub: Hub, repair_every: Duration, sweep_every: Duration) -> io::Result<Self> {
        let stop = Arc::new((Mutex::new(false), Condvar::new()));
        let theirs = stop.clone();
        let run = move || run(&hub, &theirs, repair_every, sweep_every);
        let thread = std::thread::Builder::new().name("stream-sweeper".into()).spawn(run)?;
        Ok(Self { stop, thread: Some(thread) })
    }
}

impl Drop for Sweeper {
    fn drop(&mut self) {
        *lock(&self.stop.0) = true;
        self.stop.1.notify_all();
        if let Some(thread) = self.thread.take() {
            // A panic in there was reported by its own thread; a drop must not panic again.
            let _ = thread.join();
        }
    }
}

fn run(hub: &Hub, (stop, changed): &(Mutex<bool>, Condvar), repair_every: Duration, sweep_every: Duration) {
    let mut swept = Instant::now();
    let mut failing = false;
    loop {
        let stopped = lock(stop);
        let waited = changed.wait_timeout_while(stopped, repair_every, |stopped| !*stopped);
        if *waited.unwrap_or_else(PoisonError::into_inner).0 {
            return;
        }
        let now = Instant::now();
        let mut result = hub.repair(now);
        if now.duration_since(swept) >= sweep_every {
            swept = now;
            result = result.and(hub.sweep().map(drop));
        }
        match result {
            Ok(()) => failing = false,
            // Said once per outage: it is tried again many times a second.
            Err(error) if !failing => {
                failing = true;
                tracing::warn!(%error, "Streams cannot be compared with the log; this is tried again.");
            }
            Err(_) => {}
        }
    }
}
