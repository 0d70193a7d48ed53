use std::sync::atomic::AtomicBool;

use plimsoll_core_domain::StoreErrorKind;
use serde_json::json;

use super::*;
use crate::jobs::{JobState, MAX_CRASHES, NewJob};
use crate::retry::{ErrorClass, Jitter};
use crate::testing::{Faults, MemoryStore, MemoryTx};

fn runtime() -> Handle {
    static RUNTIME: std::sync::OnceLock<tokio::runtime::Runtime> = std::sync::OnceLock::new();
    RUNTIME
        .get_or_init(|| {
            tokio::runtime::Builder::new_multi_thread().worker_threads(1).enable_time().build().unwrap()
        })
        .handle()
        .clone()
}

fn runner(store: &MemoryStore, owner: u128) -> JobRunner<MemoryStore> {
    let timings = Timings { job_settle_retry: Duration::from_millis(1), ..Timings::default() };
    JobRunner::new(store.clone(), "q", Uuid::from_u128(owner), runtime(), timings, Arc::new(Jitter::MIN))
}

fn enqueue(store: &MemoryStore, job: &NewJob) -> Option<JobId> {
    store.transaction(|tx| tx.enqueue(job)).unwrap()
}

fn job(kind: &str) -> NewJob {
    NewJob::new("q", kind, &json!({"n": 1}))
}

type Context<'a> = JobContext<'a, MemoryStore>;

fn failing(class: ErrorClass) -> impl Fn(&Context<'_>, &Job) -> Result<Settled, JobFailure> {
    move |_, _| Err(JobFailure::Failed { class, message: "on purpose".into() })
}

#[test]
fn local_effect_and_settlement_commit_together() {
    let store = MemoryStore::stopped();
    let id = enqueue(&store, &job("k")).unwrap();
    let runner = runner(&store, 1).handle("k", Policy::INTERNAL, |context: &Context<'_>, job: &Job| {
        assert_eq!(job.decode::<HashMap<String, i32>>().unwrap()["n"], 1);
        assert_eq!(job.attempt, 1);
        assert!(context.trusted() && !context.stopping());
        context.settle_with(|tx| {
            tx.note_effect();
            Ok(Settlement::Done)
        })
    });
    assert_eq!(runner.run_due(10).unwrap(), 1);
    assert_eq!((store.job(id).state, store.effects()), (JobState::Done, 1));
    assert_eq!(runner.run_due(10).unwrap(), 0);
    assert_eq!(runner.stats(), JobStats { claimed: 1, done: 1, ..JobStats::default() });
}

#[test]
fn an_error_after_the_effect_rolls_the_effect_back() {
    let store = MemoryStore::stopped();
    let id = enqueue(&store, &job("k")).unwrap();
    let runner = runner(&store, 1).handle("k", Policy::INTERNAL, |context: &Context<'_>, _: &Job| {
        context.settle_with(|tx| {
            tx.note_effect();
            Err(StoreError::new(StoreErrorKind::Contention, "deadlock detected").into())
        })
    });
    runner.run_due(1).unwrap();
    let row = store.job(id);
    assert_eq!((row.state, store.effects(), row.job.attempt), (JobState::Ready, 0, 1));
    assert!(row.last_error.unwrap().contains("deadlock"));
    assert_eq!(
        row.run_at - store.now(),
        chrono::TimeDelta::milliseconds(500),
        "half of the base, without jitter"
    );
}

#[test]
fn failures_end_by_their_class() {
    for (class, state, attempt, after_ms) in [
        (ErrorClass::Transient, JobState::Ready, 1, 500),
        (ErrorClass::Throttled { after: Duration::from_secs(9) }, JobState::Ready, 1, 9_000),
        (ErrorClass::Ambiguous, JobState::Ready, 1, 500),
        (ErrorClass::Snooze { after: Duration::from_secs(3) }, JobState::Ready, 0, 3_000),
        (ErrorClass::Permanent, JobState::Dead, 1, 0),
    ] {
        let store = MemoryStore::stopped();
        let id = enqueue(&store, &job("k")).unwrap();
        runner(&store, 1).handle("k", Policy::INTERNAL, failing(class)).run_due(1).unwrap();
        let row = store.job(id);
        assert_eq!((row.state, row.job.attempt), (state, attempt), "{class:?}");
        assert_eq!((row.run_at - store.now()).num_milliseconds(), after_ms, "{class:?}");
    }
}

#[test]
fn the_last_attempt_that_fails_makes_a_dead_letter() {
    let store = MemoryStore::stopped();
    let id = enqueue(&store, &job("k").attempts(&Policy::new(Duration::ZERO, Duration::ZERO, 3))).unwrap();
    let runner = runner(&store, 1).handle("k", Policy::INTERNAL, failing(ErrorClass::Transient));
    for attempt in 1..=3 {
        assert_eq!(store.job(id).state, JobState::Ready, "before attempt {attempt}");
        store.advance(Duration::from_secs(10));
        assert_eq!(runner.run_due(1).unwrap(), 1);
    }
    let row = store.job(id);
    assert_eq!((row.state, row.job.attempt), (JobState::Dead, 3));
    assert_eq!(row.last_error.as_deref(), Some("on purpose"));
    assert_eq!(runner.stats().dead, 1);
}

#[test]
fn a_panic_is_a_transient_failure_with_its_message() {
    let store = MemoryStore::stopped();
    let id = enqueue(&store, &job("k")).unwrap();
    let runner = runner(&store, 1).handle(
        "k",
        Policy::INTERNAL,
        |_: &Context<'_>, _: &Job| -> Result<Settled, JobFailure> { panic!("poison") },
    );
    runner.run_due(1).unwrap();
    let row = store.job(id);
    assert_eq!(row.state, JobState::Ready);
    assert_eq!(row.last_error.as_deref(), Some("panicked: poison"));
    assert_eq!(runner.stats().panicked, 1);
    assert!(runner.held().is_empty());
}

#[test]
fn an_unreadable_payload_is_dead_at_once_and_not_quoted() {
    let store = MemoryStore::stopped();
    let id = enqueue(&store, &NewJob::new("q", "k", &json!({"order_id": "hush-hush"}))).unwrap();
    let runner = runner(&store, 1).handle("k", Policy::INTERNAL, |context: &Context<'_>, job: &Job| {
        let _: crate::submit::SubmitPayload = job.decode()?;
        context.finish(&Settlement::Done)
    });
    runner.run_due(1).unwrap();
    let row = store.job(id);
    assert_eq!(row.state, JobState::Dead);
    assert_eq!(row.last_error.as_deref(), Some("the payload does not have the form of k"));
}

#[test]
fn a_worker_that_was_frozen_past_its_lease_changes_nothing() {
    let store = MemoryStore::stopped();
    let id = enqueue(&store, &job("k")).unwrap();
    let other = store.clone();
    let runner = runner(&store, 1).handle("k", Policy::INTERNAL, move |context: &Context<'_>, _: &Job| {
        // while this one sleeps, its lease runs out and another instance does the job
        other.advance(Duration::from_secs(31));
        let second =
            self::runner(&other, 2).handle("k", Policy::INTERNAL, |context: &Context<'_>, _: &Job| {
                context.settle_with(|tx| {
                    tx.note_effect();
                    Ok(Settlement::Done)
                })
            });
        assert_eq!(second.reap().unwrap().ready, 1);
        other.advance(Duration::from_secs(2));
        assert_eq!(second.run_due(1).unwrap(), 1);
        let outcome = context.settle_with(|tx| {
            tx.note_effect();
            Ok(Settlement::Done)
        });
        assert_eq!(outcome, Err(JobFailure::LeaseLost));
        outcome
    });
    runner.run_due(1).unwrap();
    assert_eq!((store.job(id).state, store.effects()), (JobState::Done, 1));
    assert_eq!(runner.stats().lost, 1);
}

#[test]
fn a_renewal_finds_lost_leases_and_keeps_the_others() {
    let store = MemoryStore::stopped();
    let (a, b) = (enqueue(&store, &job("k")).unwrap(), enqueue(&store, &job("k")).unwrap());
    let runner = runner(&store, 1).handle("k", Policy::INTERNAL, failing(ErrorClass::Transient));
    let jobs = runner.claim(2).unwrap();
    let held = |id| Arc::clone(&runner.held()[&id]);
    store.transaction(|tx| tx.give_back(&[jobs[0].lease])).unwrap();
    store.advance(Duration::from_secs(20));
    runner.renew().unwrap();
    assert!(!held(a).trusted(Duration::from_secs(20)));
    assert!(held(b).trusted(Duration::from_secs(20)));
    assert_eq!(store.job(b).lease_until - store.now(), chrono::TimeDelta::seconds(30));
    assert!(!held(b).trusted(Duration::ZERO), "an old renewal is not trusted");
}

#[test]
fn a_job_that_ends_its_process_again_and_again_is_dead() {
    let store = MemoryStore::stopped();
    let id = enqueue(&store, &job("k")).unwrap();
    for crash in 1..=MAX_CRASHES as u32 {
        // each time a new process claims the job and is never heard of again
        let runner =
            runner(&store, u128::from(crash)).handle("k", Policy::INTERNAL, failing(ErrorClass::Transient));
        assert_eq!(runner.claim(1).unwrap().len(), 1, "crash {crash}");
        store.advance(Duration::from_secs(31));
        runner.reap().unwrap();
        assert_eq!((store.job(id).job.crash_count, store.job(id).job.attempt), (crash, 0));
        store.advance(Duration::from_secs(60));
    }
    let row = store.job(id);
    assert_eq!(row.state, JobState::Dead);
    assert!(row.last_error.unwrap().starts_with("crash loop"));
}

/// So many crashes, each with an orderly end and a pause after it; how the job stands then.
fn crashes_between(settlement: &Settlement, pause: Duration, crashes: u128) -> (JobState, u32) {
    let store = MemoryStore::stopped();
    let id = enqueue(&store, &job("k")).unwrap();
    for crash in 1..=crashes {
        let end = settlement.clone();
        let runner =
            runner(&store, crash)
                .handle("k", Policy::INTERNAL, move |context: &Context<'_>, _: &Job| context.finish(&end));
        assert_eq!(runner.claim(1).unwrap().len(), 1, "crash {crash}");
        store.advance(Duration::from_secs(31));
        runner.reap().unwrap();
        store.advance(Duration::from_secs(60));
        runner.run_due(1).unwrap();
        store.advance(pause);
    }
    (store.job(id).state, store.job(id).job.crash_count)
}

#[test]
fn an_orderly_end_between_two_crashes_does_not_make_the_first_forgotten() {
    for settlement in [
        Settlement::Snooze { after: Duration::from_secs(1) },
        Settlement::Retry { after: Duration::from_secs(1), error: "x".into() },
    ] {
        let most = MAX_CRASHES as u32;
        let soon = Duration::from_secs(60);
        assert_eq!(crashes_between(&settlement, soon, u128::from(most - 1)), (JobState::Ready, most - 1));
        assert_eq!(crashes_between(&settlement, soon, u128::from(most)), (JobState::Dead, most));
        let later = Duration::from_secs(15 * 60);
        assert_eq!(crashes_between(&settlement, later, 2 * u128::from(most)), (JobState::Ready, 1));
    }
}

#[test]
fn a_failure_that_cannot_be_written_down_is_left_to_the_reaper() {
    let (store, faults) = (MemoryStore::stopped(), Faults::default());
    let id = enqueue(&store, &job("k")).unwrap();
    let mortal = store.with_faults(faults.clone());
    let runner = runner(&mortal, 1).handle("k", Policy::INTERNAL, move |_: &Context<'_>, _: &Job| {
        faults.kill();
        Err(JobFailure::transient("x"))
    });
    runner.run_due(1).unwrap();
    assert_eq!((store.job(id).state, runner.stats().unsettled), (JobState::Leased, 1));
    assert!(runner.held().is_empty(), "it is not renewed any more");
    store.advance(Duration::from_secs(31));
    assert_eq!(self::runner(&store, 2).reap().unwrap(), Reaped { ready: 1, dead: 0 });
}

#[test]
fn one_open_job_per_key_and_priority_before_time_before_id() {
    let store = MemoryStore::stopped();
    let first = enqueue(&store, &job("k").dedup("a")).unwrap();
    assert_eq!(enqueue(&store, &job("k").dedup("a")), None);
    let other_kind = enqueue(&store, &job("l").dedup("a")).unwrap();
    let urgent = enqueue(&store, &NewJob { priority: -10, ..job("k") }).unwrap();
    let later = enqueue(&store, &job("k").after(Duration::from_secs(5))).unwrap();
    let foreign = enqueue(&store, &NewJob::new("other", "k", &())).unwrap();
    let runner = runner(&store, 1).handle("k", Policy::INTERNAL, failing(ErrorClass::Permanent)).handle(
        "l",
        Policy::INTERNAL,
        failing(ErrorClass::Permanent),
    );
    let order = |jobs: Vec<Job>| jobs.iter().map(|job| job.lease.id).collect::<Vec<_>>();
    assert_eq!(order(runner.claim(10).unwrap()), [urgent, first, other_kind]);
    store.advance(Duration::from_secs(5));
    assert_eq!(order(runner.claim(10).unwrap()), [later]);
    assert_eq!(store.job(foreign).state, JobState::Ready);
    runner.give_back(None).unwrap();
    assert_eq!(order(runner.claim(1).unwrap()), [urgent]);
    assert_eq!(store.job(urgent).job.attempt, 1, "giving back returns the attempt");
}

#[test]
fn finished_jobs_are_cleared_away_by_age() {
    let store = MemoryStore::stopped();
    enqueue(&store, &job("ok")).unwrap();
    let dead = enqueue(&store, &job("bad")).unwrap();
    let runner = runner(&store, 1)
        .handle("ok", Policy::INTERNAL, |context: &Context<'_>, _: &Job| context.finish(&Settlement::Done))
        .handle("bad", Policy::INTERNAL, failing(ErrorClass::Permanent));
    runner.run_due(2).unwrap();
    assert_eq!(runner.prune().unwrap(), 0);
    store.advance(Duration::from_secs(24 * 3600));
    assert_eq!(runner.prune().unwrap(), 1);
    assert_eq!(store.jobs()[0].job.lease.id, dead);
    store.advance(Duration::from_secs(90 * 24 * 3600));
    assert_eq!(runner.prune().unwrap(), 1);
}

#[test]
fn a_call_that_takes_too_long_is_given_up() {
    let store = MemoryStore::stopped();
    enqueue(&store, &job("k")).unwrap();
    let timed_out = Arc::new(AtomicBool::new(false));
    let seen = Arc::clone(&timed_out);
    let runner = runner(&store, 1).handle("k", Policy::INTERNAL, move |context: &Context<'_>, _: &Job| {
        let quick = context.wait(Duration::from_secs(5), async { 7 });
        let slow = context.wait(Duration::from_millis(5), std::future::pending::<()>());
        seen.store(quick == Ok(7) && slow.is_err(), Ordering::Relaxed);
        context.finish(&Settlement::Done)
    });
    runner.run_due(1).unwrap();
    assert!(timed_out.load(Ordering::Relaxed));
}

#[test]
fn a_transaction_holds_the_job_against_others() {
    let store = MemoryStore::stopped();
    enqueue(&store, &job("k")).unwrap();
    let runner = runner(&store, 1).handle("k", Policy::INTERNAL, failing(ErrorClass::Permanent));
    let lease = runner.claim(1).unwrap()[0].lease;
    let hold = |lease| store.transaction(|tx: &mut MemoryTx<'_>| tx.hold_job(lease)).unwrap();
    assert!(hold(lease));
    runner.give_back(None).unwrap();
    assert!(!hold(lease));
}
