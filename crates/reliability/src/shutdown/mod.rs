//! Ending the process in good order and in time.
//!
//! The phases, each with its budget: **drain** (say that no more work is wanted, go on serving while balancers notice),
//! then **requests** and **background** side by side (running requests and jobs end, or are cut), then the **callbacks** in
//! reverse order of their registration. A watchdog thread ends the process at the deadline whatever else hangs.

mod budget;

use std::fmt;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, mpsc};
use std::thread;
use std::time::{Duration, Instant};

use tokio_util::sync::CancellationToken;

pub use budget::Budgets;

use crate::timings::Timings;

type Work = Box<dyn FnOnce(Duration) + Send>;
type Exit = dyn Fn(i32, &[String]) + Send + Sync;

/// When a step runs.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Phase {
    /// At once: readiness off, sockets told.
    Drain,
    /// After the drain: running requests end.
    Requests,
    /// Beside [`Phase::Requests`]: jobs end and are given back.
    Background,
}

struct Step {
    phase: Phase,
    name: String,
    work: Work,
}

#[derive(Default)]
struct State {
    steps: Vec<Step>,
    callbacks: Vec<(String, Work)>,
    running: Vec<String>,
    cut: Vec<String>,
    began: Option<Instant>,
    finished: bool,
}

struct Inner {
    budgets: Budgets,
    exit: Box<Exit>,
    state: Mutex<State>,
    finished: std::sync::Condvar,
    draining: CancellationToken,
    stopping: CancellationToken,
}

/// How the shutdown went.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct ShutdownReport {
    /// Steps and callbacks that did not end in their time, or panicked.
    pub cut: Vec<String>,
    /// From its beginning.
    pub took: Duration,
}

/// Coordinates the end of one process. Clones share it.
#[derive(Clone)]
pub struct Shutdown {
    inner: Arc<Inner>,
}

impl Shutdown {
    /// A coordinator with the budgets of `timings`. `exit(code, cut)` must end the process at once; it is called by the
    /// watchdog at the deadline (code 1, with the names of what was cut) and at a second signal.
    pub fn new(timings: &Timings, exit: impl Fn(i32, &[String]) + Send + Sync + 'static) -> Self {
        let inner = Inner {
            budgets: Budgets::within(timings),
            exit: Box::new(exit),
            state: Mutex::default(),
            finished: std::sync::Condvar::new(),
            draining: CancellationToken::new(),
            stopping: CancellationToken::new(),
        };
        Self { inner: Arc::new(inner) }
    }

    /// Cancelled first of all: readiness answers 503, no new leases, sockets close.
    #[must_use]
    pub fn draining(&self) -> &CancellationToken {
        &self.inner.draining
    }

    /// Cancelled after the drain: stop accepting, stop background work.
    #[must_use]
    pub fn stopping(&self) -> &CancellationToken {
        &self.inner.stopping
    }

    /// Runs `work` on a thread of its own in `phase`, with the time it has. What is still running then is cut: it goes on
    /// until the process ends, and is not waited for.
    pub fn step(&self, phase: Phase, name: impl Into<String>, work: impl FnOnce(Duration) + Send + 'static) {
        self.lock().steps.push(Step { phase, name: name.into(), work: Box::new(work) });
    }

    /// Runs `work` on a thread of its own after all phases, the last registered first.
    pub fn callback(&self, name: impl Into<String>, work: impl FnOnce() + Send + 'static) {
        self.lock().callbacks.push((name.into(), Box::new(move |_| work())));
    }

    /// What the handler of SIGTERM and SIGINT calls. The first signal begins the shutdown and starts the watchdog; answers
    /// `true` then, and [`run`](Self::run) is to be called. A second one ends the process at once with `code` (130 or 143).
    pub fn signal(&self, code: i32) -> bool {
        if self.begin() {
            return true;
        }
        let cut = self.unfinished();
        (self.inner.exit)(code, &cut);
        false
    }

    /// Begins the shutdown without a signal; `false` when it has begun already.
    pub fn begin(&self) -> bool {
        {
            let mut state = self.lock();
            if state.began.is_some() {
                return false;
            }
            state.began = Some(Instant::now());
        }
        self.inner.draining.cancel();
        let this = self.clone();
        let watchdog = thread::Builder::new().name("shutdown-watchdog".into()).spawn(move || this.watch());
        if let Err(error) = watchdog {
            tracing::error!(%error, "no thread for the watchdog: the shutdown has no deadline");
        }
        true
    }

    /// Goes through the phases and answers when all is done or cut; begins the shutdown if nobody has. Blocks the thread.
    #[must_use]
    pub fn run(&self) -> ShutdownReport {
        self.begin();
        let began = self.lock().began.unwrap_or_else(Instant::now);
        let budgets = &self.inner.budgets;

        let drained = began + budgets.drain;
        self.phase(&[(Phase::Drain, drained)]);
        thread::sleep(drained.saturating_duration_since(Instant::now()));
        self.inner.stopping.cancel();
        let now = Instant::now();
        self.phase(&[
            (Phase::Requests, now + budgets.requests),
            (Phase::Background, now + budgets.background),
        ]);
        loop {
            let Some((name, work)) = self.lock().callbacks.pop() else { break };
            let running = self.spawn(name, work, budgets.callback);
            self.collect(vec![(running, Instant::now() + budgets.callback)]);
        }
        let mut state = self.lock();
        state.finished = true;
        self.inner.finished.notify_all();
        ShutdownReport { cut: state.cut.clone(), took: began.elapsed() }
    }

    /// Names of what is not done yet, and of what was cut.
    fn unfinished(&self) -> Vec<String> {
        let state = self.lock();
        let later =
            state.steps.iter().map(|step| &step.name).chain(state.callbacks.iter().map(|(name, _)| name));
        state.cut.iter().chain(&state.running).chain(later).cloned().collect()
    }

    fn watch(&self) {
        let deadline = Instant::now() + self.inner.budgets.total;
        let mut state = self.lock();
        while !state.finished {
            let left = deadline.saturating_duration_since(Instant::now());
            if left.is_zero() {
                drop(state);
                let cut = self.unfinished();
                (self.inner.exit)(1, &cut);
                return;
            }
            state = self.inner.finished.wait_timeout(state, left).unwrap_or_else(PoisonError::into_inner).0;
        }
    }

    fn phase(&self, phases: &[(Phase, Instant)]) {
        let mut started = Vec::new();
        for (phase, until) in phases {
            let steps: Vec<Step> = {
                let mut state = self.lock();
                let (now, later) = state.steps.drain(..).partition(|step| step.phase == *phase);
                state.steps = later;
                now
            };
            for step in steps {
                let time = until.saturating_duration_since(Instant::now());
                started.push((self.spawn(step.name, step.work, time), *until));
            }
        }
        self.collect(started);
    }

    fn spawn(&self, name: String, work: Work, time: Duration) -> Running {
        self.lock().running.push(name.clone());
        let (done, ended) = mpsc::channel();
        let thread = thread::Builder::new().name(format!("stop-{name}")).spawn(move || {
            let _ = done.send(catch_unwind(AssertUnwindSafe(|| work(time))).is_ok());
        });
        if let Err(error) = thread {
            // the sender is gone with the closure, so waiting ends at once
            tracing::error!(%error, step = name, "no thread for a step of the shutdown");
        }
        Running { name, ended }
    }

    fn collect(&self, started: Vec<(Running, Instant)>) {
        for (running, until) in started {
            let good = running.ended.recv_timeout(until.saturating_duration_since(Instant::now()));
            let mut state = self.lock();
            if let Some(at) = state.running.iter().position(|name| *name == running.name) {
                state.running.remove(at);
            }
            if good != Ok(true) {
                let what = if good.is_ok() { "panicked" } else { "did not end in its time" };
                tracing::warn!(step = running.name, "a step of the shutdown {what}");
                state.cut.push(running.name);
            }
        }
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        self.inner.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

struct Running {
    name: String,
    ended: mpsc::Receiver<bool>,
}

impl fmt::Debug for Shutdown {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Shutdown").field("budgets", &self.inner.budgets).finish_non_exhaustive()
    }
}

#[cfg(test)]
mod tests;
