//! Password hashes: a few at once, on threads of their own, with a bounded queue in front.
//!
//! A hash takes a good part of a second of a core, and tens of megabytes. A thread keeps that memory while there is work,
//! and gives it back soon after. It gives way to the rest of the server: with as many hashes under way as there are cores, a
//! request that only reads would else wait for a whole slice of the scheduler. When too many requests wait, the next one is told so at once; one that has gone,
//! or has waited too long, costs no hash.

use std::collections::VecDeque;
use std::fmt;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use plimsoll_core_domain::{StoreError, StoreErrorKind};
use plimsoll_crypto::passwords::Passwords;
use tokio::sync::oneshot;

/// Requests that may wait for each thread.
const WAITING_PER_THREAD: usize = 16;
/// The longest wait for a turn.
const PATIENCE: Duration = Duration::from_secs(4);
/// How long a thread without work keeps its memory.
const KEEP_MEMORY: Duration = Duration::from_secs(1);
/// How far the threads step back behind the rest of the server, as `nice(2)` counts it.
const NICENESS: i32 = 10;

/// Computes password hashes. Dropped, it ends its threads when they have done what is under way.
pub struct Hashing {
    shared: Arc<Shared>,
}

struct Shared {
    queue: Mutex<Queue>,
    changed: Condvar,
    /// The most that may wait.
    room: usize,
}

#[derive(Default)]
struct Queue {
    waiting: VecDeque<Waiting>,
    closed: bool,
}

struct Waiting {
    since: Instant,
    task: Box<dyn Task>,
}

trait Task: Send {
    /// Whether somebody still waits for it.
    fn is_wanted(&self) -> bool;
    fn run(self: Box<Self>, passwords: &Passwords);
}

struct Work<T, F> {
    compute: F,
    answer: oneshot::Sender<Result<T, Panicked>>,
}

struct Panicked;

impl<T, F> Task for Work<T, F>
where
    F: FnOnce(&Passwords) -> T + Send,
    T: Send,
{
    fn is_wanted(&self) -> bool {
        !self.answer.is_closed()
    }

    fn run(self: Box<Self>, passwords: &Passwords) {
        let Self { compute, answer } = *self;
        // The work is gone afterwards; memory whose lock it poisoned is not used again.
        let done = catch_unwind(AssertUnwindSafe(|| compute(passwords)));
        drop(answer.send(done.map_err(|_| Panicked)));
    }
}

impl Hashing {
    /// At most `parallel` at once, at least one.
    ///
    /// # Panics
    /// When the system starts no more threads.
    #[must_use]
    pub fn new(passwords: &Passwords, parallel: usize) -> Self {
        let threads = parallel.max(1);
        let room = threads * WAITING_PER_THREAD;
        let shared = Arc::new(Shared { queue: Mutex::default(), changed: Condvar::new(), room });
        for number in 1..=threads {
            let (shared, passwords) = (Arc::clone(&shared), passwords.keeping_memory());
            let thread = std::thread::Builder::new().name(format!("hash-{number}"));
            let started = thread.spawn(move || {
                give_way();
                shared.serve(&passwords);
            });
            drop(started.expect("a server that starts has threads to start"));
        }
        Self { shared }
    }

    /// Whether a hash asked for now would find room to wait: for asking before anything is counted.
    ///
    /// # Errors
    /// `Unavailable`: too many wait already.
    pub fn check_room(&self) -> Result<(), StoreError> {
        self.shared.has_room(&mut self.shared.queue()).then_some(()).ok_or_else(busy)
    }

    /// Runs `work` when it is its turn.
    ///
    /// # Errors
    /// `Unavailable` at once when too many wait already, and later when its turn does not come in time.
    pub async fn run<T, F>(&self, work: F) -> Result<T, StoreError>
    where
        F: FnOnce(&Passwords) -> T + Send + 'static,
        T: Send + 'static,
    {
        let (answer, done) = oneshot::channel();
        let task = Box::new(Work { compute: work, answer });
        if !self.shared.take_in(Waiting { since: Instant::now(), task }) {
            return Err(busy());
        }
        match done.await {
            Ok(Ok(done)) => Ok(done),
            Ok(Err(Panicked)) => Err(StoreError::new(StoreErrorKind::Other, "a password hash panicked")),
            Err(_) => Err(busy()),
        }
    }
}

/// On Linux a thread has a nice value of its own; elsewhere it would be the whole process that steps back.
fn give_way() {
    #[cfg(target_os = "linux")]
    if let Err(error) = rustix::process::nice(NICENESS) {
        tracing::debug!(%error, "password hashes run with the priority of everything else");
    }
}

fn busy() -> StoreError {
    StoreError::busy(Duration::from_secs(1))
}

impl Shared {
    fn queue(&self) -> MutexGuard<'_, Queue> {
        // Nothing that can panic runs under the lock.
        self.queue.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn has_room(&self, queue: &mut Queue) -> bool {
        if queue.waiting.len() >= self.room {
            queue.waiting.retain(|waiting| waiting.task.is_wanted());
        }
        queue.waiting.len() < self.room
    }

    /// `false`: there is no room.
    fn take_in(&self, waiting: Waiting) -> bool {
        let mut queue = self.queue();
        if !self.has_room(&mut queue) {
            return false;
        }
        queue.waiting.push_back(waiting);
        drop(queue);
        self.changed.notify_one();
        true
    }

    /// Computes what waits, until the queue is closed.
    fn serve(&self, passwords: &Passwords) {
        while let Some(next) = self.next(passwords) {
            if next.task.is_wanted() && next.since.elapsed() < PATIENCE {
                next.task.run(passwords);
            }
        }
    }

    /// The next one; `None`: the queue is closed and empty. Memory is given back after a while without work.
    fn next(&self, passwords: &Passwords) -> Option<Waiting> {
        let mut idle = false;
        let mut queue = self.queue();
        loop {
            if let Some(next) = queue.waiting.pop_front() {
                return Some(next);
            }
            if queue.closed {
                return None;
            }
            if idle {
                queue = self.changed.wait(queue).unwrap_or_else(PoisonError::into_inner);
                continue;
            }
            let (woken, wait) =
                self.changed.wait_timeout(queue, KEEP_MEMORY).unwrap_or_else(PoisonError::into_inner);
            queue = woken;
            if wait.timed_out() && queue.waiting.is_empty() {
                drop(queue);
                passwords.release_memory();
                idle = true;
                queue = self.queue();
            }
        }
    }
}

impl Drop for Hashing {
    fn drop(&mut self) {
        self.shared.queue().closed = true;
        self.shared.changed.notify_all();
    }
}

impl fmt::Debug for Hashing {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Hashing")
            .field("waiting", &self.shared.queue().waiting.len())
            .field("room", &self.shared.room)
            .finish()
    }
}

#[cfg(test)]
mod tests;
