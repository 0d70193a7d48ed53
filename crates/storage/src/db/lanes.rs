//! Who may use the database next, and the threads on which tasks use it: as many turns as connections, one fair queue of
//! bounded length in front.
//!
//! A turn that ends goes straight to whoever waits longest. Work of tasks runs on threads of the pool's own, at most one
//! per connection: under load a thread takes up the next piece of work without a task being woken in between. Threads
//! that are no task wait in the same queue and do their work themselves.

use std::any::Any;
use std::collections::VecDeque;
use std::panic::{AssertUnwindSafe, catch_unwind, resume_unwind};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::thread::{self, Thread};
use std::time::{Duration, Instant};

use tokio::sync::oneshot;

use super::settings::DbSettings;

/// No turn came in time.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct Busy;

/// A piece of work of a task.
trait Call: Send {
    /// Does it, and drops everything that it held.
    fn work(&mut self);
    /// Tells the task, once the turn has gone on.
    fn deliver(self: Box<Self>);
}

type Outcome<R> = Result<R, Box<dyn Any + Send>>;

struct Calling<W, R> {
    work: Option<W>,
    outcome: Option<Outcome<R>>,
    caller: oneshot::Sender<Outcome<R>>,
}

impl<W, R> Call for Calling<W, R>
where
    W: FnOnce() -> R + Send,
    R: Send,
{
    fn work(&mut self) {
        if let Some(work) = self.work.take() {
            self.outcome = Some(catch_unwind(AssertUnwindSafe(work)));
        }
    }

    fn deliver(self: Box<Self>) {
        if let Some(outcome) = self.outcome {
            // a caller that has hung up is told nothing
            let _ = self.caller.send(outcome);
        }
    }
}

/// A thread that waits for its turn.
struct Parked {
    granted: AtomicBool,
    thread: Thread,
}

enum Waiter {
    Task(Box<dyn Call>),
    Thread(Arc<Parked>),
}

#[derive(Default)]
struct State {
    /// Turns that are taken.
    in_use: usize,
    /// Work that has its turn and waits for one of the threads.
    ready: VecDeque<Box<dyn Call>>,
    /// Those that wait for a turn, oldest first, by ascending numbers.
    queue: VecDeque<(u64, Waiter)>,
    next: u64,
    threads: usize,
    idle: usize,
    closed: bool,
}

struct Shared {
    state: Mutex<State>,
    work: Condvar,
    name: String,
    size: usize,
    max_waiters: usize,
    wait: Duration,
    wait_when_full: Duration,
}

/// The turns of one pool. Its threads end when it is dropped and they have nothing left to do.
pub(crate) struct Lanes(Arc<Shared>);

impl Lanes {
    pub(crate) fn new(settings: &DbSettings) -> Self {
        Self(Arc::new(Shared {
            state: Mutex::default(),
            work: Condvar::new(),
            name: format!("db-{}", settings.kind.name()),
            size: settings.size.max(1) as usize,
            max_waiters: settings.max_waiters as usize,
            wait: settings.wait,
            wait_when_full: settings.wait_when_full,
        }))
    }

    /// Waits for a turn and does `work` on one of the pool's threads. A panic in it goes on here. A caller that hangs up
    /// takes its work out of the queue; work that has begun is not stopped. Needs a tokio runtime with its timer on.
    pub(crate) async fn run<R, W>(&self, work: W) -> Result<R, Busy>
    where
        W: FnOnce() -> R + Send + 'static,
        R: Send + 'static,
    {
        let (caller, mut outcome) = oneshot::channel();
        let began = tokio::time::Instant::now();
        let call = Box::new(Calling { work: Some(work), outcome: None, caller });
        let outcome = match self.0.enter(Waiter::Task(call)) {
            None => outcome.await,
            Some(place) => {
                let waiting = Waiting { shared: &self.0, number: place.number };
                let early = if place.is_beyond {
                    let limit = began + self.0.wait_when_full;
                    match tokio::time::timeout_at(limit, &mut outcome).await {
                        Err(_) if self.0.leave_if_beyond(waiting.number) => return Err(Busy),
                        early => early.ok(),
                    }
                } else {
                    None
                };
                match early {
                    Some(outcome) => outcome,
                    None => match tokio::time::timeout_at(began + self.0.wait, &mut outcome).await {
                        Err(_) if self.0.leave(waiting.number) => return Err(Busy),
                        // its turn came a moment ago
                        Err(_) => outcome.await,
                        Ok(outcome) => outcome,
                    },
                }
            }
        };
        match outcome {
            Ok(Ok(value)) => Ok(value),
            Ok(Err(panic)) => resume_unwind(panic),
            // no thread could be started for it
            Err(_) => Err(Busy),
        }
    }

    /// Waits for a turn by parking this thread. Works without a runtime.
    pub(crate) fn admit_blocking(&self) -> Result<Turn<'_>, Busy> {
        let began = Instant::now();
        let parked = Arc::new(Parked { granted: AtomicBool::new(false), thread: thread::current() });
        let Some(place) = self.0.enter(Waiter::Thread(Arc::clone(&parked))) else { return Ok(Turn(&self.0)) };
        if place.is_beyond
            && !parked.wait_until(began + self.0.wait_when_full)
            && self.0.leave_if_beyond(place.number)
        {
            return Err(Busy);
        }
        if parked.wait_until(began + self.0.wait) || !self.0.leave(place.number) {
            return Ok(Turn(&self.0));
        }
        Err(Busy)
    }

    /// Turns that are taken.
    pub(crate) fn in_use(&self) -> usize {
        self.0.lock().in_use
    }

    /// Those that wait for a turn and have a place in the queue.
    pub(crate) fn waiting(&self) -> usize {
        self.0.lock().queue.len().min(self.0.max_waiters)
    }
}

impl Drop for Lanes {
    fn drop(&mut self) {
        self.0.lock().closed = true;
        self.0.work.notify_all();
    }
}

/// The right of a thread to hold one connection; give the connection back before dropping it.
pub(crate) struct Turn<'a>(&'a Arc<Shared>);

impl Drop for Turn<'_> {
    fn drop(&mut self) {
        let mut state = self.0.lock();
        if let Some(next) = state.pass_on() {
            let unserved = self.0.hand(&mut state, next);
            drop(state);
            drop(unserved);
        }
    }
}

/// Where a waiter stands.
struct Place {
    number: u64,
    /// Beyond the places of the queue: it waits for one of those first.
    is_beyond: bool,
}

/// Takes a waiter that has hung up out of the queue.
struct Waiting<'a> {
    shared: &'a Shared,
    number: u64,
}

impl Drop for Waiting<'_> {
    fn drop(&mut self) {
        self.shared.leave(self.number);
    }
}

impl Parked {
    /// Whether its turn has come by `deadline`.
    fn wait_until(&self, deadline: Instant) -> bool {
        loop {
            if self.granted.load(Ordering::Acquire) {
                return true;
            }
            let left = deadline.saturating_duration_since(Instant::now());
            if left.is_zero() {
                return false;
            }
            thread::park_timeout(left);
        }
    }
}

impl State {
    /// Ends a turn: it goes to whoever waits longest. Work of a task is answered, with its turn.
    fn pass_on(&mut self) -> Option<Box<dyn Call>> {
        match self.queue.pop_front() {
            Some((_, Waiter::Task(call))) => Some(call),
            Some((_, Waiter::Thread(parked))) => {
                parked.granted.store(true, Ordering::Release);
                parked.thread.unpark();
                None
            }
            None => {
                self.in_use -= 1;
                None
            }
        }
    }
}

impl Shared {
    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Takes a turn, or a place among those that wait.
    fn enter(self: &Arc<Self>, waiter: Waiter) -> Option<Place> {
        let mut state = self.lock();
        if state.in_use < self.size {
            state.in_use += 1;
            if let Waiter::Task(call) = waiter {
                let unserved = self.hand(&mut state, call);
                drop(state);
                drop(unserved);
            }
            return None;
        }
        let number = state.next;
        state.next += 1;
        let is_beyond = state.queue.len() >= self.max_waiters;
        state.queue.push_back((number, waiter));
        Some(Place { number, is_beyond })
    }

    /// Gives work that has its turn to one of the threads. Without any thread at all it is given back, and its turn ends.
    fn hand(self: &Arc<Self>, state: &mut State, call: Box<dyn Call>) -> Vec<Box<dyn Call>> {
        state.ready.push_back(call);
        if state.ready.len() <= state.idle {
            self.work.notify_one();
            return Vec::new();
        }
        if state.threads < self.size {
            let shared = Arc::clone(self);
            match thread::Builder::new().name(self.name.clone()).spawn(move || shared.serve()) {
                Ok(_) => state.threads += 1,
                Err(error) if state.threads == 0 => {
                    tracing::error!(%error, "no thread for the database could be started");
                    let mut unserved: Vec<_> = state.ready.drain(..).collect();
                    let mut ended = unserved.len();
                    while ended > 0 {
                        ended -= 1;
                        if let Some(next) = state.pass_on() {
                            unserved.push(next);
                            ended += 1;
                        }
                    }
                    return unserved;
                }
                Err(error) => tracing::warn!(%error, "one more thread for the database could not be started"),
            }
        }
        Vec::new()
    }

    /// A thread's life.
    fn serve(&self) {
        let mut state = self.lock();
        loop {
            let Some(call) = state.ready.pop_front() else {
                if state.closed {
                    state.threads -= 1;
                    return;
                }
                state.idle += 1;
                state = self.work.wait(state).unwrap_or_else(PoisonError::into_inner);
                state.idle -= 1;
                continue;
            };
            drop(state);
            let mut mine = Some(call);
            while let Some(mut call) = mine.take() {
                call.work();
                let mut state = self.lock();
                mine = state.pass_on().or_else(|| state.ready.pop_front());
                drop(state);
                // what the destructor of the value or of a panic does is no reason to lose the thread
                if catch_unwind(AssertUnwindSafe(|| call.deliver())).is_err() {
                    tracing::error!("what a task was told panicked when it was dropped");
                }
            }
            state = self.lock();
        }
    }

    /// Whether this waiter still waited; it does no more.
    fn leave(&self, number: u64) -> bool {
        self.remove(number, 0)
    }

    /// The same of one that has still no place in the queue.
    fn leave_if_beyond(&self, number: u64) -> bool {
        self.remove(number, self.max_waiters)
    }

    fn remove(&self, number: u64, from: usize) -> bool {
        let mut state = self.lock();
        let removed = match state.queue.binary_search_by_key(&number, |(number, _)| *number) {
            Ok(at) if at >= from => state.queue.remove(at),
            _ => None,
        };
        drop(state);
        removed.is_some()
    }
}

#[cfg(test)]
#[path = "lanes_tests.rs"]
mod tests;
