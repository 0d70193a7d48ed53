//! The threads: one that claims, several that work, one that keeps the leases.

use std::cmp::Reverse;
use std::collections::{BinaryHeap, HashMap, VecDeque};
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::thread::{self, JoinHandle};
use std::time::{Duration, Instant};

use super::kinds::{Busy, Unit};
use super::queue::JobStore;
use super::runner::{JobRunner, PRUNE_BATCH};
use super::stats::JobStats;
use super::types::{Job, JobId, job_topic};
use super::wake::{Listening, Wake};

/// Jobs claimed beyond the free threads, so that none waits for a claim.
const PREFETCH: usize = 2;

/// What a stop left behind.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct StopReport {
    /// Jobs that were claimed and not begun: given back.
    pub given_back: usize,
    /// Jobs whose handlers did not end in time. Their leases were given back too; what they still do is fenced off.
    pub cut: Vec<JobId>,
}

/// A unit that a thread is doing.
struct Running {
    thread: usize,
    unit: Arc<Unit>,
    since: Instant,
}

impl Running {
    fn kind(&self) -> &str {
        self.unit.first().map_or("", |job| job.kind.as_str())
    }
}

#[derive(Default)]
struct State {
    waiting: VecDeque<Arc<Unit>>,
    running: Vec<Running>,
    /// Threads that were given up because their unit did not end within its time, and the unit's kind.
    hung: HashMap<usize, String>,
    /// The threads that work, by their numbers.
    threads: HashMap<usize, JoinHandle<()>>,
    next_thread: usize,
    /// Jobs that this process put off, by the time at which they are due.
    due: BinaryHeap<Reverse<Instant>>,
    /// Someone rang, or the last claim was full.
    look: bool,
    stop: bool,
}

struct Shared {
    state: Mutex<State>,
    changed: Condvar,
}

impl Shared {
    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn wait<'a>(&self, state: MutexGuard<'a, State>, limit: Duration) -> MutexGuard<'a, State> {
        self.changed.wait_timeout(state, limit).unwrap_or_else(PoisonError::into_inner).0
    }
}

/// Running workers of one queue. Stop them; dropping them leaves the threads running.
pub struct Workers<S> {
    runner: Arc<JobRunner<S>>,
    shared: Arc<Shared>,
    claimer: JoinHandle<()>,
    keeper: JoinHandle<()>,
    _listening: Listening,
}

impl<S: JobStore> JobRunner<S> {
    /// Starts `threads` workers (at least one) and looks for jobs at once, whenever `wake` rings the queue's topic, when a
    /// job that was put off here is due, and regularly.
    ///
    /// # Errors
    /// The system gives no more threads.
    pub fn start(self, threads: usize, wake: &Wake) -> std::io::Result<Workers<S>> {
        let runner = Arc::new(self);
        let threads = threads.max(1);
        let shared = Arc::new(Shared {
            state: Mutex::new(State { look: true, ..State::default() }),
            changed: Condvar::new(),
        });
        let listening = {
            let shared = Arc::clone(&shared);
            wake.listen(job_topic(&runner.queue), move || {
                shared.lock().look = true;
                shared.changed.notify_all();
            })
        };
        {
            let mut state = shared.lock();
            for _ in 0..threads {
                spawn_worker(&runner, &shared, &mut state)?;
            }
        }
        let spawn = |role: &str, run: fn(&Arc<JobRunner<S>>, &Arc<Shared>, usize)| {
            let (runner, shared) = (Arc::clone(&runner), Arc::clone(&shared));
            let name = format!("job-{}-{role}", runner.queue);
            thread::Builder::new().name(name).spawn(move || run(&runner, &shared, threads))
        };
        let claimer = spawn("claim", claim)?;
        let keeper = spawn("keep", keep)?;
        Ok(Workers { runner, shared, claimer, keeper, _listening: listening })
    }
}

impl<S: JobStore> Workers<S> {
    /// How attempts ended so far.
    pub fn stats(&self) -> JobStats {
        self.runner.stats()
    }

    /// Jobs that are being done now.
    #[must_use]
    pub fn running(&self) -> usize {
        self.shared.lock().running.iter().map(|running| running.unit.len()).sum()
    }

    /// Claims nothing more, gives back what was not begun, lets running handlers end for at most `limit` and gives back
    /// the rest.
    pub fn stop(self, limit: Duration) -> StopReport {
        let deadline = Instant::now() + limit;
        self.runner.stopping.cancel();
        let unbegun: Vec<Job> = {
            let mut state = self.shared.lock();
            state.stop = true;
            state.waiting.drain(..).flat_map(|unit| unit.to_vec()).collect()
        };
        self.shared.changed.notify_all();
        let mut report = StopReport { given_back: self.give_back(Some(&unbegun)), cut: Vec::new() };
        let mut state = self.shared.lock();
        while !state.running.is_empty() {
            let left = deadline.saturating_duration_since(Instant::now());
            if left.is_zero() {
                break;
            }
            state = self.shared.wait(state, left);
        }
        report.cut =
            state.running.iter().flat_map(|running| running.unit.iter().map(|job| job.lease.id)).collect();
        // a claim that was under way may have come in
        let late: Vec<Job> = state.waiting.drain(..).flat_map(|unit| unit.to_vec()).collect();
        // a thread that was given up is waited for by nobody
        let workers: Vec<_> = state.threads.drain().map(|(_, thread)| thread).collect();
        drop(state);
        report.given_back += self.give_back(Some(&late));
        if report.cut.is_empty() {
            for thread in workers.into_iter().chain([self.claimer, self.keeper]) {
                if thread.join().is_err() {
                    tracing::error!("a job thread had panicked");
                }
            }
            let late: Vec<Job> =
                self.shared.lock().waiting.drain(..).flat_map(|unit| unit.to_vec()).collect();
            report.given_back += give_back(&self.runner, Some(&late));
        } else {
            give_back(&self.runner, None);
        }
        report
    }

    fn give_back(&self, jobs: Option<&[Job]>) -> usize {
        give_back(&self.runner, jobs)
    }
}

fn give_back<S: JobStore>(runner: &JobRunner<S>, jobs: Option<&[Job]>) -> usize {
    runner.give_back(jobs).unwrap_or_else(|error| {
        tracing::warn!(%error, "jobs could not be given back; their leases will run out");
        0
    })
}

/// Starts one more thread that works.
fn spawn_worker<S: JobStore>(
    runner: &Arc<JobRunner<S>>,
    shared: &Arc<Shared>,
    state: &mut State,
) -> std::io::Result<()> {
    let number = state.next_thread;
    let (its_runner, its_shared) = (Arc::clone(runner), Arc::clone(shared));
    let thread = thread::Builder::new()
        .name(format!("job-{}-{number}", runner.queue))
        .spawn(move || work(&its_runner, &its_shared, number))?;
    state.next_thread += 1;
    state.threads.insert(number, thread);
    Ok(())
}

impl State {
    fn busy(&self, threads: usize) -> Busy {
        let mut busy = Busy { most_hung: threads, ..Busy::default() };
        let running = self.running.iter().map(|running| &running.unit);
        for unit in self.waiting.iter().chain(running) {
            if let Some(job) = unit.first() {
                *busy.units.entry(job.kind.clone()).or_default() += 1;
            }
        }
        for kind in self.hung.values() {
            *busy.hung.entry(kind.clone()).or_default() += 1;
        }
        busy
    }
}

/// Keeps as many jobs at hand as there are free threads, and a few more.
fn claim<S: JobStore>(runner: &Arc<JobRunner<S>>, shared: &Arc<Shared>, threads: usize) {
    let mut state = shared.lock();
    let mut next_look = Instant::now();
    while !state.stop {
        let room = (threads + PREFETCH).saturating_sub(state.running.len() + state.waiting.len());
        let now = Instant::now();
        while state.due.peek().is_some_and(|due| due.0 <= now) {
            state.due.pop();
            state.look = true;
        }
        state.look |= now >= next_look;
        if room == 0 || !state.look {
            let wake_at = state.due.peek().map_or(next_look, |due| due.0.min(next_look));
            // without room only a worker's end helps, and it notifies
            let limit =
                if room == 0 { runner.timings.job_poll } else { wake_at.saturating_duration_since(now) };
            state = shared.wait(state, limit.max(Duration::from_micros(100)));
            continue;
        }
        state.look = false;
        let busy = state.busy(threads);
        drop(state);
        let (claimed, more) =
            guarded("claiming jobs", || runner.claim_units(room, &busy)).unwrap_or_default();
        // spread over instances: nine tenths to eleven tenths
        let poll = runner.timings.job_poll;
        next_look = Instant::now() + poll * 9 / 10 + runner.jitter.jitter().of(poll / 5);
        state = shared.lock();
        state.look |= more;
        if !claimed.is_empty() {
            state.waiting.extend(claimed.into_iter().map(Arc::new));
            shared.changed.notify_all();
        }
    }
}

fn work<S: JobStore>(runner: &Arc<JobRunner<S>>, shared: &Arc<Shared>, thread: usize) {
    let mut state = shared.lock();
    while !state.stop {
        let Some(unit) = state.waiting.pop_front() else {
            state = shared.changed.wait(state).unwrap_or_else(PoisonError::into_inner);
            continue;
        };
        state.running.push(Running { thread, unit: Arc::clone(&unit), since: Instant::now() });
        drop(state);
        // nothing in it should panic; if it does, the thread and its place among the running must survive
        let due = catch_unwind(AssertUnwindSafe(|| runner.execute_unit(&unit, runner.timings.job_trust)));
        let due = due.unwrap_or_else(|_| {
            tracing::error!("jobs could not be run; their leases will run out");
            runner.forget(&unit);
            None
        });
        state = shared.lock();
        let given_up = match state.running.iter().position(|running| running.thread == thread) {
            Some(at) => {
                state.running.swap_remove(at);
                false
            }
            None => state.hung.remove(&thread).is_some(),
        };
        if let Some(after) = due {
            // beyond the next regular look there is nothing to remember
            if after < runner.timings.job_poll * 64 {
                state.due.push(Reverse(Instant::now() + after));
            }
        }
        state.look |= given_up || unit.first().is_some_and(|job| runner.is_limited(&job.kind));
        shared.changed.notify_all();
        if given_up {
            // another thread has this one's place
            return;
        }
    }
}

/// Gives up the threads whose units did not end within their time: the attempts have failed, and others take the places.
fn give_up_hung<S: JobStore>(runner: &Arc<JobRunner<S>>, shared: &Arc<Shared>) {
    let mut hung = Vec::new();
    {
        let mut state = shared.lock();
        let is_late = |running: &Running| running.since.elapsed() > runner.limit_of(running.kind());
        while let Some(at) = state.running.iter().position(is_late) {
            let running = state.running.swap_remove(at);
            state.hung.insert(running.thread, running.kind().to_owned());
            state.threads.remove(&running.thread);
            if !state.stop
                && let Err(error) = spawn_worker(runner, shared, &mut state)
            {
                tracing::error!(%error, "a thread that hangs could not be replaced");
            }
            hung.push(running);
        }
    }
    for running in hung {
        let limit = runner.limit_of(running.kind());
        tracing::error!(
            job.kind = running.kind(),
            limit_s = limit.as_secs_f64(),
            "a job did not end within its time; its thread was given up"
        );
        runner.overrun(&running.unit, limit);
        shared.changed.notify_all();
    }
}

/// Renews, reaps, prunes, and gives up threads that hang. Renewals go first: after an outage of the store they save what still runs here.
fn keep<S: JobStore>(runner: &Arc<JobRunner<S>>, shared: &Arc<Shared>, _threads: usize) {
    let timings = &runner.timings;
    let began = Instant::now();
    let (mut renew, mut reap, mut prune) = (began + timings.job_renew, began, began + timings.job_prune);
    loop {
        {
            // after a stop the leases of what still runs must be kept until it has ended
            let state = shared.lock();
            if state.stop && state.running.is_empty() {
                return;
            }
            let next = renew.min(reap).min(prune).saturating_duration_since(Instant::now());
            if !next.is_zero() {
                drop(shared.wait(state, next));
                continue;
            }
        }
        let now = Instant::now();
        if now >= renew {
            // a failed renewal is tried again soon: the leases last three times as long
            let done = guarded("renewing the leases of jobs", || runner.renew()).is_some();
            renew = now + if done { timings.job_renew } else { timings.job_renew / 10 };
        }
        if now >= reap {
            give_up_hung(runner, shared);
            if guarded("taking expired leases back", || runner.reap()).is_some_and(|reaped| reaped.ready > 0)
            {
                shared.lock().look = true;
            }
            reap = now + timings.job_reap;
        }
        if now >= prune {
            let cleared = guarded("clearing finished jobs away", || runner.prune());
            // a full batch: there is more. The next turn goes on with it, after the renewals that are due
            prune = if cleared >= Some(PRUNE_BATCH) { now } else { now + timings.job_prune };
        }
    }
}

fn guarded<T, E: std::fmt::Display>(what: &str, work: impl FnOnce() -> Result<T, E>) -> Option<T> {
    match catch_unwind(AssertUnwindSafe(work)) {
        Ok(Ok(value)) => Some(value),
        Ok(Err(error)) => {
            tracing::warn!(%error, "{what} failed; it will be tried again");
            None
        }
        Err(_) => {
            tracing::error!("{what} panicked; it will be tried again");
            None
        }
    }
}

impl<S> std::fmt::Debug for Workers<S> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Workers").field("runner", &self.runner).finish_non_exhaustive()
    }
}

#[cfg(test)]
#[path = "workers_tests.rs"]
mod tests;
