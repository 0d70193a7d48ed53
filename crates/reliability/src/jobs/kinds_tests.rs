use std::collections::HashSet;
use std::sync::Mutex;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::{Arc, Condvar};
use std::thread;

use plimsoll_core_domain::SystemClock;
use serde_json::json;
use tokio::runtime::{Builder, Runtime};
use uuid::Uuid;

use super::*;
use crate::jobs::{
    JobContext, JobId, JobQueue, JobState, NewJob, Retryable, Settled, Settlement, queue_for_retry,
};
use crate::retry::{Jitter, Policy};
use crate::testing::{MemoryStore, MemoryTx};
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
        let (store, handle) = (self.store.clone(), self.runtime.handle().clone());
        JobRunner::new(store, "q", Uuid::from_u128(1), handle, timings, Arc::new(Jitter::MIN))
    }

    fn enqueue(&self, kind: &str, jobs: usize) -> Vec<JobId> {
        let new = |n: usize| NewJob { max_attempts: 2, ..NewJob::new("q", kind, &json!({ "n": n })) };
        (0..jobs).map(|n| self.store.transaction(|tx| tx.enqueue(&new(n))).unwrap().unwrap()).collect()
    }

    fn until(&self, what: &str, holds: impl Fn() -> bool) {
        let began = Instant::now();
        while !holds() {
            assert!(
                began.elapsed() < Duration::from_secs(20),
                "not in time: {what}: {:?}",
                self.store.jobs()
            );
            thread::sleep(Duration::from_millis(2));
        }
    }

    fn all_done(&self) -> bool {
        self.store.jobs().iter().all(|row| row.state == JobState::Done)
    }
}

fn n_of(job: &Job) -> i64 {
    job.payload["n"].as_i64().unwrap()
}

#[test]
fn a_kind_runs_no_more_often_at_once_than_it_may() {
    let bench = Bench::new();
    bench.enqueue("scarce", 12);
    bench.enqueue("plenty", 30);
    let (now, most) = (Arc::new(AtomicUsize::new(0)), Arc::new(AtomicUsize::new(0)));
    let (its_now, its_most) = (Arc::clone(&now), Arc::clone(&most));
    let scarce = move |context: &Context<'_>, _: &Job| {
        its_most.fetch_max(its_now.fetch_add(1, Ordering::SeqCst) + 1, Ordering::SeqCst);
        thread::sleep(Duration::from_millis(3));
        its_now.fetch_sub(1, Ordering::SeqCst);
        context.finish(&Settlement::Done)
    };
    let plenty = |context: &Context<'_>, _: &Job| context.finish(&Settlement::Done);
    // a look only every minute: the end of a job must bring the next one of a limited kind
    let timings = Timings { job_poll: Duration::from_secs(60), ..Timings::default() };
    let workers = bench
        .runner(timings)
        .handle("scarce", Policy::INTERNAL, scarce)
        .handle("plenty", Policy::INTERNAL, plenty)
        .at_most("scarce", 2)
        .start(6, bench.store.wake())
        .unwrap();
    bench.until("all done", || bench.all_done());
    assert_eq!(workers.stats().done, 42);
    assert!(workers.stop(Duration::from_secs(5)).cut.is_empty());
    assert_eq!(most.load(Ordering::SeqCst), 2);
}

#[test]
fn a_batch_is_one_transaction_and_counts_each_job() {
    let bench = Bench::new();
    bench.enqueue("small", 25);
    let sizes = Arc::new(Mutex::new(Vec::new()));
    let seen = Arc::clone(&sizes);
    let runner = bench.runner(Timings::default()).handle_batches(
        "small",
        Policy::INTERNAL,
        10,
        move |tx: &mut MemoryTx<'_>, jobs: &[Job]| {
            seen.lock().unwrap().push(jobs.len());
            tx.note_effect();
            Ok(())
        },
    );
    while runner.run_due(10).unwrap() > 0 {}
    assert!(bench.all_done());
    assert_eq!(*sizes.lock().unwrap(), [10, 10, 5]);
    assert_eq!((bench.store.effects(), runner.stats().done, runner.stats().claimed), (3, 25, 25));
    assert!(runner.held().is_empty());
}

#[test]
fn one_bad_job_of_a_batch_fails_by_itself() {
    for panics in [false, true] {
        let bench = Bench::new();
        let ids = bench.enqueue("small", 5);
        let runner = bench.runner(Timings::default()).handle_batches(
            "small",
            Policy::INTERNAL,
            10,
            move |tx: &mut MemoryTx<'_>, jobs: &[Job]| {
                for job in jobs {
                    tx.note_effect();
                    if n_of(job) == 3 {
                        assert!(!panics, "on purpose");
                        return Err(JobFailure::permanent("three is not liked"));
                    }
                }
                Ok(())
            },
        );
        assert_eq!(runner.run_due(1).unwrap(), 5);
        for (n, id) in ids.into_iter().enumerate() {
            let expected = match (n, panics) {
                (3, false) => JobState::Dead,
                (3, true) => JobState::Ready,
                _ => JobState::Done,
            };
            assert_eq!(bench.store.job(id).state, expected, "{n} {panics}");
        }
        assert_eq!(bench.store.effects(), 4, "what the failed attempts did was rolled back");
        assert!(runner.held().is_empty());
    }
}

#[test]
fn a_batch_with_a_lost_lease_settles_the_others() {
    let bench = Bench::new();
    let ids = bench.enqueue("small", 3);
    let runner = bench.runner(Timings::default()).handle_batches(
        "small",
        Policy::INTERNAL,
        10,
        |tx: &mut MemoryTx<'_>, jobs: &[Job]| {
            jobs.iter().for_each(|_| tx.note_effect());
            Ok(())
        },
    );
    let (units, _) = runner.claim_units(1, &Busy::default()).unwrap();
    let lost = units[0][1].lease;
    bench.store.autocommit(|tx| tx.give_back(&[lost])).unwrap();
    runner.execute_unit(&units[0], Duration::ZERO);
    let states: Vec<_> = ids.iter().map(|id| bench.store.job(*id).state).collect();
    assert_eq!(states, [JobState::Done, JobState::Ready, JobState::Done]);
    assert_eq!((bench.store.effects(), runner.stats().lost), (2, 1));
}

/// A job that never ends is a dead letter after its attempts, and the queue flows on meanwhile: on one thread.
#[test]
fn a_job_that_never_ends_is_given_up_and_the_queue_flows() {
    let bench = Bench::new();
    let stuck = bench.enqueue("endless", 1)[0];
    let gate = Arc::new((Mutex::new(false), Condvar::new()));
    let shut = Arc::clone(&gate);
    let ended = Arc::new(AtomicUsize::new(0));
    let its_end = Arc::clone(&ended);
    let settled_late = Arc::new(AtomicBool::new(false));
    let settled = Arc::clone(&settled_late);
    let endless = move |context: &Context<'_>, _: &Job| {
        let mut open = shut.0.lock().unwrap();
        while !*open {
            open = shut.1.wait(open).unwrap();
        }
        drop(open);
        assert!(!context.trusted(), "its lease is lost");
        let end = context.finish(&Settlement::Done);
        settled.fetch_or(end.is_ok(), Ordering::SeqCst);
        its_end.fetch_add(1, Ordering::SeqCst);
        end
    };
    let timings = Timings {
        job_reap: Duration::from_millis(5),
        job_poll: Duration::from_millis(5),
        retry_internal_base: Duration::from_millis(1),
        ..Timings::default()
    };
    let policy = Policy::new(Duration::from_millis(1), Duration::from_millis(1), 15);
    let workers = bench
        .runner(timings)
        .handle("endless", policy, endless)
        .handle("good", policy, |context: &Context<'_>, _: &Job| context.finish(&Settlement::Done))
        .within("endless", Duration::from_millis(20))
        .at_most("endless", 5)
        .start(1, bench.store.wake())
        .unwrap();
    bench.until("a dead letter", || bench.store.job(stuck).state == JobState::Dead);
    let row = bench.store.job(stuck);
    assert_eq!(row.job.attempt, 2);
    assert_eq!(row.last_error.as_deref(), Some("did not end within 0.02 s"));
    let good: HashSet<_> = bench.enqueue("good", 5).into_iter().collect();
    bench.store.wake().ring_all();
    bench.until("others are done", || good.iter().all(|id| bench.store.job(*id).state == JobState::Done));
    assert_eq!((workers.stats().hung, workers.stats().dead), (2, 1));
    // a stop does not wait for threads that were given up
    let report = workers.stop(Duration::from_secs(10));
    assert!(report.cut.is_empty(), "{report:?}");
    *gate.0.lock().unwrap() = true;
    gate.1.notify_all();
    bench.until("the handlers end", || ended.load(Ordering::SeqCst) == 2);
    assert!(!settled_late.load(Ordering::SeqCst), "what ends late settles nothing");
    assert_eq!(bench.store.job(stuck).state, JobState::Dead);
}

#[test]
fn a_kind_that_hangs_again_and_again_is_left_alone() {
    let bench = Bench::new();
    let runner =
        bench.runner(Timings::default()).handle("k", Policy::INTERNAL, |_: &Context<'_>, _: &Job| {
            Err(JobFailure::permanent("not to be run here"))
        });
    bench.enqueue("k", 1);
    let hung = |count| Busy { hung: [("k".to_owned(), count)].into(), most_hung: 2, ..Busy::default() };
    assert!(runner.claim_units(5, &hung(2)).unwrap().0.is_empty());
    assert_eq!(runner.claim_units(5, &hung(1)).unwrap().0.len(), 1);
}

#[derive(Debug, serde::Serialize, serde::Deserialize)]
struct Greet {
    name: String,
}

impl Retryable for Greet {
    const QUEUE: &'static str = "q";
    const KIND: &'static str = "greet";
    fn effect_id(&self) -> Option<String> {
        Some(self.name.clone())
    }
}

#[test]
fn what_is_queued_for_retry_has_its_policys_attempts_and_its_effects_id() {
    let bench = Bench::new();
    let ada = Greet { name: "ada".to_owned() };
    let id = queue_for_retry(&bench.store, &ada).unwrap().unwrap();
    assert_eq!(queue_for_retry(&bench.store, &ada).unwrap(), None);
    let row = bench.store.job(id);
    assert_eq!((row.job.max_attempts, row.job.dedup_key.as_deref()), (5, Some("ada")));
    // one of another form is dead at once
    let odd = NewJob::new("q", "greet", &json!({ "name": 7 }));
    let odd = bench.store.transaction(|tx| tx.enqueue(&odd)).unwrap().unwrap();
    let runner = bench.runner(Timings::default()).handle_retryable(
        |context: &Context<'_>, greet: Greet| -> Result<Settled, JobFailure> {
            assert_eq!(greet.name, "ada");
            context.finish(&Settlement::Done)
        },
    );
    assert_eq!(runner.run_due(10).unwrap(), 2);
    assert_eq!((bench.store.job(id).state, bench.store.job(odd).state), (JobState::Done, JobState::Dead));
}
