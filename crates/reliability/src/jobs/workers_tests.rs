use std::sync::atomic::{AtomicU32, Ordering};

use plimsoll_core_domain::{StoreError, SystemClock};
use tokio::runtime::{Builder, Runtime};
use uuid::Uuid;

use super::*;
use crate::jobs::{Claim, JobContext, JobFailure, JobQueue, JobState, NewJob, Settled, Settlement};
use crate::retry::{Policy, SeededJitter};
use crate::testing::MemoryStore;
use crate::timings::Timings;

type Context<'a> = JobContext<'a, MemoryStore>;

struct Bench {
    store: MemoryStore,
    runtime: Runtime,
}

impl Bench {
    fn new() -> Self {
        let runtime = Builder::new_multi_thread().worker_threads(1).enable_time().build().unwrap();
        Self { store: MemoryStore::new(Arc::new(SystemClock)), runtime }
    }

    fn runner(&self, timings: Timings) -> JobRunner<MemoryStore> {
        let handle = self.runtime.handle().clone();
        JobRunner::new(
            self.store.clone(),
            "q",
            Uuid::from_u128(1),
            handle,
            timings,
            Arc::new(SeededJitter::new(1)),
        )
    }

    fn enqueue(&self, job: &NewJob) -> JobId {
        self.store.transaction(|tx| tx.enqueue(job)).unwrap().unwrap()
    }

    fn count(&self, state: JobState) -> usize {
        self.store.jobs().iter().filter(|row| row.state == state).count()
    }

    fn until(&self, what: &str, holds: impl Fn(&Self) -> bool) {
        let began = Instant::now();
        while !holds(self) {
            assert!(began.elapsed() < Duration::from_secs(10), "not in time: {what}");
            thread::sleep(Duration::from_millis(2));
        }
    }
}

fn job() -> NewJob {
    NewJob::new("q", "k", &())
}

fn done(context: &Context<'_>, _: &Job) -> Result<Settled, JobFailure> {
    context.settle_with(|tx| {
        tx.note_effect();
        Ok(Settlement::Done)
    })
}

/// Polling alone would take this long: whatever is quicker was woken.
fn slow_poll() -> Timings {
    Timings { job_poll: Duration::from_secs(600), ..Timings::default() }
}

#[test]
fn every_job_is_done_once_by_several_threads() {
    let bench = Bench::new();
    for _ in 0..50 {
        bench.enqueue(&job());
    }
    let workers =
        bench.runner(slow_poll()).handle("k", Policy::INTERNAL, done).start(4, bench.store.wake()).unwrap();
    bench.until("all done", |bench| bench.count(JobState::Done) == 50);
    for _ in 0..50 {
        bench.enqueue(&job()); // rings
    }
    bench.until("all done", |bench| bench.count(JobState::Done) == 100);
    assert_eq!(workers.stop(Duration::from_secs(5)), StopReport::default());
    assert_eq!(bench.store.effects(), 100);
}

#[test]
fn without_a_ring_the_regular_look_finds_jobs() {
    let bench = Bench::new();
    let timings = Timings { job_poll: Duration::from_millis(20), ..Timings::default() };
    let workers = bench.runner(timings).handle("k", Policy::INTERNAL, done).start(1, &Wake::new()).unwrap();
    thread::sleep(Duration::from_millis(50));
    bench.enqueue(&job());
    bench.until("done", |bench| bench.count(JobState::Done) == 1);
    workers.stop(Duration::from_secs(5));
}

#[test]
fn a_job_that_was_put_off_comes_back_at_its_time() {
    let bench = Bench::new();
    let tries = Arc::new(AtomicU32::new(0));
    let seen = Arc::clone(&tries);
    let handler = move |context: &Context<'_>, _: &Job| {
        if seen.fetch_add(1, Ordering::Relaxed) == 0 {
            return context.finish(&Settlement::Snooze { after: Duration::from_millis(30) });
        }
        context.finish(&Settlement::Done)
    };
    let id = bench.enqueue(&job());
    let began = Instant::now();
    let workers = bench
        .runner(slow_poll())
        .handle("k", Policy::INTERNAL, handler)
        .start(1, bench.store.wake())
        .unwrap();
    bench.until("done", |bench| bench.count(JobState::Done) == 1);
    assert!(began.elapsed() >= Duration::from_millis(30));
    assert_eq!(bench.store.job(id).job.attempt, 1);
    assert_eq!(workers.stats().snoozed, 1);
    workers.stop(Duration::from_secs(5));
}

#[test]
fn leases_of_long_jobs_are_renewed_and_those_of_the_vanished_taken_back() {
    let bench = Bench::new();
    let vanished = bench.enqueue(&job());
    // claimed by a process that is gone
    let gone = bench.runner(Timings::default().scaled(0.002)).handle("k", Policy::INTERNAL, done);
    assert_eq!(gone.claim(1).unwrap().len(), 1);
    let long = bench.enqueue(&NewJob::new("q", "long", &()));
    let timings = Timings { job_lease: Duration::from_millis(200), ..Timings::default().scaled(0.002) };
    let workers = bench
        .runner(timings)
        .handle("k", Policy::INTERNAL, done)
        .handle("long", Policy::INTERNAL, |context: &Context<'_>, _: &Job| {
            thread::sleep(Duration::from_millis(600));
            context.finish(&Settlement::Done)
        })
        .start(2, bench.store.wake())
        .unwrap();
    bench.until("both done", |bench| bench.count(JobState::Done) == 2);
    assert_eq!(bench.store.job(vanished).job.crash_count, 1);
    assert_eq!(bench.store.job(long).job.crash_count, 0);
    workers.stop(Duration::from_secs(5));
}

#[test]
fn a_heap_of_finished_jobs_is_cleared_away_without_waiting_between_batches() {
    let bench = Bench::new();
    let (kinds, count) = (["k".to_owned()], 4 * PRUNE_BATCH + 1);
    let claim = Claim {
        queue: "q",
        kinds: &kinds,
        except: &[],
        limit: count,
        owner: Uuid::nil(),
        lease: Duration::from_secs(30),
    };
    bench
        .store
        .transaction(|tx| {
            for _ in 0..count {
                tx.enqueue(&job())?;
            }
            for job in tx.claim(&claim)? {
                assert!(tx.settle(job.lease, &Settlement::Done)?);
            }
            Ok::<_, StoreError>(())
        })
        .unwrap();
    let (job_prune, job_keep_done) = (Duration::from_millis(1_500), Duration::from_millis(1));
    let timings = Timings { job_prune, job_keep_done, ..slow_poll() };
    let began = Instant::now();
    let workers = bench.runner(timings).start(1, bench.store.wake()).unwrap();
    bench.until("all cleared away", |bench| bench.store.jobs().is_empty());
    assert!(began.elapsed() >= job_prune, "the first time at its time");
    assert!(began.elapsed() < job_prune * 4, "a batch each time would take five times as long");
    workers.stop(Duration::from_secs(5));
}

#[test]
fn a_stop_gives_back_what_was_not_begun_and_lets_the_rest_end() {
    let bench = Bench::new();
    for _ in 0..5 {
        bench.enqueue(&job());
    }
    let handler = |context: &Context<'_>, _: &Job| {
        while !context.stopping() {
            thread::sleep(Duration::from_millis(1));
        }
        thread::sleep(Duration::from_millis(50));
        context.finish(&Settlement::Done)
    };
    let workers = bench
        .runner(slow_poll())
        .handle("k", Policy::INTERNAL, handler)
        .start(1, bench.store.wake())
        .unwrap();
    bench.until("claimed", |bench| bench.count(JobState::Leased) == 1 + PREFETCH && workers.running() == 1);
    let report = workers.stop(Duration::from_secs(5));
    assert_eq!(report, StopReport { given_back: PREFETCH, cut: vec![] });
    assert_eq!((bench.count(JobState::Done), bench.count(JobState::Ready)), (1, 4));
    assert!(bench.store.jobs().iter().all(|row| row.job.attempt <= 1 && row.state != JobState::Leased));
}

#[test]
fn a_handler_that_does_not_end_is_cut_and_its_job_given_back() {
    let bench = Bench::new();
    let id = bench.enqueue(&job());
    let ended = Arc::new(AtomicU32::new(0));
    let seen = Arc::clone(&ended);
    let handler = move |context: &Context<'_>, job: &Job| {
        thread::sleep(Duration::from_millis(300));
        assert!(!context.trusted());
        let outcome = done(context, job);
        assert_eq!(outcome, Err(JobFailure::LeaseLost));
        seen.store(1, Ordering::Release);
        outcome
    };
    let workers = bench
        .runner(slow_poll())
        .handle("k", Policy::INTERNAL, handler)
        .start(1, bench.store.wake())
        .unwrap();
    bench.until("running", |_| workers.running() == 1);
    let report = workers.stop(Duration::from_millis(20));
    assert_eq!(report.cut, [id]);
    let row = bench.store.job(id);
    assert_eq!((row.state, row.job.attempt), (JobState::Ready, 0));
    bench.until("the frozen handler has ended", |_| ended.load(Ordering::Acquire) == 1);
    assert_eq!(bench.store.effects(), 0, "what it still did was rolled back");
}
