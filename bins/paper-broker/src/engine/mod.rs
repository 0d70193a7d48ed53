//! The one thread that owns the exchange.
//!
//! Requests come as closures through a channel. The thread takes all that wait (at most [`MAX_BATCH`]), runs them, writes
//! what changed in one transaction, and only then lets the answers out and sends the stream's messages: whatever a
//! client was told is on disk. Between requests it advances simulator time.
//!
//! While the database is away nothing new is run and nobody is told of what is not on disk. What was run already is kept and
//! written as soon as it can be.

mod world;

use std::sync::Arc;
use std::sync::mpsc::{self, Receiver, RecvTimeoutError, Sender};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use plimsoll_core_domain::Clock;
use plimsoll_paper_exchange::{Change, ClockState, TradeUpdate};
use plimsoll_storage::Db;
use plimsoll_storage::paper::{Batch, SaveError, WriterToken};
use tokio::sync::{oneshot, watch};

use crate::stream::Hub;

pub(crate) use world::World;

/// Requests that share a transaction.
const MAX_BATCH: usize = 64;

/// How long after a change the exchange is looked at again: acknowledgements and first fills are due then.
const HURRY: Duration = Duration::from_millis(8);

/// Pause between attempts to write while the database is away.
const RETRY: Duration = Duration::from_millis(250);

/// Attempts between two lines in the log.
const LOG_EVERY: u64 = 40;

/// How often the clock is written while nothing else changes.
const CLOCK_EVERY: Duration = Duration::from_secs(5);

/// Lets an answer out; `true` when what it says is on disk.
type Completion = Box<dyn FnOnce(bool)>;
type Job = Box<dyn FnOnce(&mut World) -> Completion + Send>;

enum Message {
    Job(Job),
    Stop,
}

/// Why a request has no answer.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum EngineError {
    /// It was not run and changed nothing.
    NotRun,
    /// It was run but could not be written; it takes effect if the database comes back before this process ends.
    Unknown,
}

/// Where requests go. Cheap to clone.
#[derive(Clone)]
pub(crate) struct Engine {
    messages: Sender<Message>,
}

/// Where the books are kept.
pub(crate) struct Store {
    pub(crate) db: Db,
    pub(crate) writer: WriterToken,
}

/// Why the engine ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Ended {
    /// It was asked to.
    Stopped,
    /// Another process has taken the books over.
    TakenOver,
    /// It panicked; the log says where.
    Failed,
}

impl Engine {
    /// Starts the thread.
    pub(crate) fn start(
        world: World,
        store: Store,
        hub: Arc<Hub>,
        clock: Arc<dyn Clock>,
        tick: Duration,
        ended: watch::Sender<Option<Ended>>,
    ) -> std::io::Result<(Self, JoinHandle<()>)> {
        let (messages, incoming) = mpsc::channel();
        let thread = std::thread::Builder::new().name("paper-exchange".into()).spawn(move || {
            let report = EndReport { ended, why: Ended::Failed };
            Loop { world, store, hub, clock, tick, pending: None, kept_clock: None, failures: 0 }
                .run(&incoming, report);
        })?;
        Ok((Self { messages }, thread))
    }

    /// Runs `work` on the exchange and waits until its changes are on disk.
    pub(crate) async fn call<T, W>(&self, work: W) -> Result<T, EngineError>
    where
        T: Send + 'static,
        W: FnOnce(&mut World) -> T + Send + 'static,
    {
        let (answer, answered) = oneshot::channel();
        self.send(work, move |value| drop(answer.send(value)))?;
        // a request that is dropped unrun drops its sender
        answered.await.map_err(|_| EngineError::NotRun)?.ok_or(EngineError::Unknown)
    }

    /// [`call`](Self::call) for threads that are no task.
    pub(crate) fn call_blocking<T, W>(&self, work: W) -> Result<T, EngineError>
    where
        T: Send + 'static,
        W: FnOnce(&mut World) -> T + Send + 'static,
    {
        let (answer, answered) = mpsc::sync_channel(1);
        self.send(work, move |value| drop(answer.send(value)))?;
        answered.recv().map_err(|_| EngineError::NotRun)?.ok_or(EngineError::Unknown)
    }

    fn send<T, W, A>(&self, work: W, answer: A) -> Result<(), EngineError>
    where
        T: Send + 'static,
        W: FnOnce(&mut World) -> T + Send + 'static,
        A: FnOnce(Option<T>) + Send + 'static,
    {
        let job: Job = Box::new(move |world| {
            let value = work(world);
            Box::new(move |written| answer(written.then_some(value)))
        });
        self.messages.send(Message::Job(job)).map_err(|_| EngineError::NotRun)
    }

    /// Asks the thread to write what is left and end.
    pub(crate) fn stop(&self) {
        // where the thread has ended already there is nothing to stop
        drop(self.messages.send(Message::Stop));
    }
}

/// Tells of the end, also when the thread panics.
struct EndReport {
    ended: watch::Sender<Option<Ended>>,
    why: Ended,
}

impl Drop for EndReport {
    fn drop(&mut self) {
        self.ended.send_replace(Some(self.why));
    }
}

/// What was run and is not on disk yet.
struct Pending {
    batch: Batch,
    updates: Vec<TradeUpdate>,
    clock: Option<KeptClock>,
}

/// The clock as it was last written.
struct KeptClock {
    state: ClockState,
    at: Instant,
}

struct Loop {
    world: World,
    store: Store,
    hub: Arc<Hub>,
    clock: Arc<dyn Clock>,
    tick: Duration,
    pending: Option<Pending>,
    kept_clock: Option<KeptClock>,
    failures: u64,
}

impl Loop {
    fn run(mut self, incoming: &Receiver<Message>, mut report: EndReport) {
        let mut next_tick = Instant::now();
        let mut stopping = false;
        while !stopping {
            let mut jobs = Vec::new();
            match incoming.recv_timeout(next_tick.saturating_duration_since(Instant::now())) {
                Ok(Message::Job(job)) => jobs.push(job),
                Ok(Message::Stop) | Err(RecvTimeoutError::Disconnected) => stopping = true,
                Err(RecvTimeoutError::Timeout) => {}
            }
            while !stopping && jobs.len() < MAX_BATCH {
                match incoming.try_recv() {
                    Ok(Message::Job(job)) => jobs.push(job),
                    Ok(Message::Stop) => stopping = true,
                    Err(_) => break,
                }
            }
            let due = Instant::now() >= next_tick;
            if self.pending.is_some() {
                // dropping the requests answers them; only a due attempt may cost time
                jobs.clear();
                if due || stopping {
                    next_tick = Instant::now() + RETRY;
                    let Ok(written) = self.write() else {
                        report.why = Ended::TakenOver;
                        return;
                    };
                    if written {
                        self.publish();
                    }
                }
                continue;
            }
            let real = self.clock.now();
            self.world.look_at_clock(real);
            let completions: Vec<Completion> = jobs.into_iter().map(|job| job(&mut self.world)).collect();
            if due {
                self.world.advance();
                self.hub.send_held_back();
            }
            let changed = self.gather();
            let Ok(written) = self.write() else {
                report.why = Ended::TakenOver;
                return;
            };
            completions.into_iter().for_each(|complete| complete(written));
            if written {
                self.publish();
            }
            let now = Instant::now();
            if due {
                next_tick = now + self.tick;
            }
            if changed {
                next_tick = next_tick.min(now + HURRY);
            }
        }
        report.why = Ended::Stopped;
    }

    /// Moves what changed into `pending`. Says whether anything did.
    fn gather(&mut self) -> bool {
        let mut batch = std::mem::take(&mut self.world.unsaved);
        let mut updates = Vec::new();
        for change in self.world.exchange.drain() {
            match change {
                Change::Record(record) => batch.add(record),
                Change::Update(update) => updates.push(update),
            }
        }
        let clock = self.clock_to_keep();
        if clock.is_some() {
            batch.set_clock(self.world.clock_now());
        }
        let changed = !batch.is_empty() || !updates.is_empty();
        if changed {
            self.pending = Some(Pending { batch, updates, clock });
        }
        changed
    }

    /// The clock, when it was set since it was last written, or when that is a while ago.
    fn clock_to_keep(&self) -> Option<KeptClock> {
        let (state, at) = (self.world.clock.state(), Instant::now());
        let fresh =
            self.kept_clock.as_ref().is_some_and(|kept| kept.state == *state && at - kept.at < CLOCK_EVERY);
        (!fresh).then(|| KeptClock { state: state.clone(), at })
    }

    /// Writes what is pending. `Ok(false)`: not now, it is kept.
    fn write(&mut self) -> Result<bool, Fatal> {
        let Some(pending) = &mut self.pending else { return Ok(true) };
        let writer = self.store.writer;
        match self.store.db.run_blocking(|tx| tx.save_paper_batch(writer, &pending.batch)) {
            Ok(()) => {
                if self.failures > 0 {
                    tracing::info!(
                        attempts = self.failures,
                        "the paper broker's database is back, everything is written"
                    );
                }
                self.failures = 0;
                if let Some(clock) = pending.clock.take() {
                    self.kept_clock = Some(clock);
                }
                Ok(true)
            }
            Err(SaveError::TakenOver) => {
                tracing::error!("another paper broker has taken over these books; this one stops");
                Err(Fatal)
            }
            Err(SaveError::Store(error)) => {
                if self.failures.is_multiple_of(LOG_EVERY) {
                    tracing::error!(%error, "the paper broker cannot write its books and answers nothing until it can");
                }
                self.failures += 1;
                Ok(false)
            }
        }
    }

    /// Sends the messages of what is on disk now.
    fn publish(&mut self) {
        if let Some(pending) = self.pending.take() {
            self.hub.publish(&pending.updates);
        }
    }
}

/// Nothing more may be written.
#[derive(Debug, PartialEq, Eq)]
struct Fatal;
