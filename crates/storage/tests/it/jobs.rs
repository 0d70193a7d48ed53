//! The job table and leases, against a real server.

#![expect(clippy::unwrap_used, reason = "helpers of tests fail by panicking")]

use std::collections::HashSet;
use std::sync::{Arc, Barrier, Mutex};
use std::thread;
use std::time::{Duration, Instant};

use plimsoll_core_domain::StoreError;
use plimsoll_reliability::Timings;
use plimsoll_reliability::jobs::{
    Claim, Job, JobContext, JobFailure, JobId, JobLease, JobQueue, JobRunner, JobStore, MAX_CRASHES, NewJob,
    Reaped, Schedule, Settlement, Wake, job_topic,
};
use plimsoll_reliability::leases::{FenceToken, LeaseKeeper, LeaseStore};
use plimsoll_reliability::retry::{Jitter, Policy, SeededJitter};
use plimsoll_storage::{AfterCommit, CommitNote, Db, DbSettings, PoolKind};
use plimsoll_testkit::TestDb;
use serde_json::json;
use uuid::Uuid;

const LEASE: Duration = Duration::from_secs(30);
const MEMORY: Duration = Duration::from_secs(15 * 60);

struct Bench {
    test: TestDb,
    db: Db,
    kinds: Vec<String>,
}

impl Bench {
    fn new() -> Self {
        let test = TestDb::platform();
        let db = test.db_with(DbSettings::new(PoolKind::Jobs, 8));
        Self { test, db, kinds: vec!["k".into()] }
    }

    fn enqueue(&self, job: &NewJob) -> Option<JobId> {
        self.db.transaction(|tx| tx.enqueue(job)).unwrap()
    }

    fn claim(&self, limit: usize, lease: Duration) -> Vec<Job> {
        let owner = Uuid::from_u128(1);
        let claim = Claim { queue: "q", kinds: &self.kinds, except: &[], limit, owner, lease };
        self.db.autocommit(|tx| tx.claim(&claim)).unwrap()
    }

    fn settle(&self, lease: JobLease, settlement: &Settlement) -> bool {
        self.db.autocommit(|tx| tx.settle(lease, settlement)).unwrap()
    }

    fn reap(&self) -> Reaped {
        let policy = Policy::new(Duration::from_secs(1), Duration::from_secs(300), 15);
        self.db.autocommit(|tx| tx.reap(&policy, MEMORY, Jitter::MIN, 100)).unwrap()
    }

    fn row(&self, id: JobId) -> serde_json::Value {
        let columns = "*, extract(epoch FROM run_at - now())::float8 AS due_in, \
                       extract(epoch FROM lease_until - now())::float8 AS leased_for";
        self.test.rows(&format!("SELECT {columns} FROM jobs WHERE id = {}", id.0)).remove(0)
    }

    fn runner(&self, timings: Timings) -> (tokio::runtime::Runtime, JobRunner<Db>) {
        let runtime =
            tokio::runtime::Builder::new_multi_thread().worker_threads(1).enable_time().build().unwrap();
        let (owner, handle, jitter) =
            (Uuid::from_u128(1), runtime.handle().clone(), Arc::new(SeededJitter::new(1)));
        let runner = JobRunner::new(self.db.clone(), "q", owner, handle, timings, jitter);
        (runtime, runner)
    }
}

fn job() -> NewJob {
    NewJob::new("q", "k", &json!({"n": 1}))
}

#[test]
fn each_job_is_claimed_by_one_of_eight_threads() {
    let bench = Bench::new();
    bench.test.execute(
        "INSERT INTO jobs (queue, kind, max_attempts, payload) SELECT 'q', 'k', 3, '{}' FROM generate_series(1, 400)",
    );
    let (barrier, claimed) = (Barrier::new(8), Mutex::new(Vec::new()));
    thread::scope(|scope| {
        for _ in 0..8 {
            scope.spawn(|| {
                barrier.wait();
                loop {
                    let jobs = bench.claim(7, LEASE);
                    if jobs.is_empty() {
                        return;
                    }
                    claimed.lock().unwrap().extend(jobs.iter().map(|job| job.lease.id));
                }
            });
        }
    });
    let claimed = claimed.into_inner().unwrap();
    assert_eq!(claimed.len(), 400);
    assert_eq!(claimed.iter().collect::<HashSet<_>>().len(), 400);
}

#[test]
fn a_claim_is_one_statement_and_brings_the_whole_job() {
    let bench = Bench::new();
    let parent = bench.enqueue(&job()).unwrap();
    bench.claim(1, LEASE);
    let new = NewJob { parent: Some(parent), ..job().dedup("x").attempts(&Policy::WEBHOOK) };
    let id = bench.enqueue(&new).unwrap();
    let counter = bench.db.count_queries();
    let jobs = bench.claim(5, LEASE);
    assert_eq!(counter.sent(), 1);
    drop(counter);
    let row = bench.row(id);
    let expected = Job {
        lease: JobLease { id, token: 1 },
        queue: "q".into(),
        kind: "k".into(),
        attempt: 1,
        max_attempts: 8,
        crash_count: 0,
        dedup_key: Some("x".into()),
        payload: json!({"n": 1}),
        parent: Some(parent),
        created_at: jobs[0].created_at,
    };
    assert_eq!(jobs, [expected]);
    assert_eq!(row["lease_owner"], Uuid::from_u128(1).to_string());
    let leased_for = row["leased_for"].as_f64().unwrap();
    assert!((29.0..=30.0).contains(&leased_for), "{leased_for}");
}

#[test]
fn priority_goes_before_time_before_id_and_nothing_comes_too_early() {
    let bench = Bench::new();
    let first = bench.enqueue(&job()).unwrap();
    let second = bench.enqueue(&job()).unwrap();
    let urgent = bench.enqueue(&NewJob { priority: -1, ..job() }).unwrap();
    bench.enqueue(&job().after(Duration::from_secs(60))).unwrap();
    bench.enqueue(&NewJob { queue: "other".into(), ..job() }).unwrap();
    bench.enqueue(&NewJob { kind: "another release's".into(), ..job() }).unwrap();
    let ids: Vec<_> = bench.claim(10, LEASE).iter().map(|job| job.lease.id).collect();
    assert_eq!(ids, [urgent, first, second]);
}

#[test]
fn a_stale_token_settles_nothing() {
    let bench = Bench::new();
    let id = bench.enqueue(&job()).unwrap();
    let stale = bench.claim(1, Duration::ZERO)[0].lease;
    thread::sleep(Duration::from_millis(2));
    assert_eq!(bench.reap(), Reaped { ready: 1, dead: 0 });
    bench.test.execute("UPDATE jobs SET run_at = now()");
    let current = bench.claim(1, LEASE)[0].lease;
    assert_eq!(current.token, stale.token + 1);
    let hold = |lease| bench.db.transaction(|tx| tx.hold_job(lease)).unwrap();
    assert!(!hold(stale) && hold(current));
    for settlement in [
        Settlement::Done,
        Settlement::Dead { error: "x".into() },
        Settlement::Snooze { after: Duration::ZERO },
        Settlement::Retry { after: Duration::ZERO, error: "x".into() },
    ] {
        assert!(!bench.settle(stale, &settlement), "{settlement:?}");
    }
    assert_eq!(bench.row(id)["state"], "leased");
    assert!(bench.settle(current, &Settlement::Done));
    assert!(!bench.settle(current, &Settlement::Done), "once");
    assert_eq!(bench.row(id)["state"], "done");
}

#[test]
fn the_local_effect_of_a_stale_worker_is_rolled_back_with_its_settlement() {
    let bench = Bench::new();
    bench.test.execute("CREATE TABLE effect (n int)");
    bench.enqueue(&job()).unwrap();
    let stale = bench.claim(1, LEASE)[0].lease;
    bench.db.autocommit(|tx| tx.give_back(&[stale])).unwrap();
    let finish = |lease: JobLease| {
        bench.db.transaction(|tx| {
            tx.execute_raw("INSERT INTO effect VALUES (1)")?;
            if tx.settle(lease, &Settlement::Done)? { Ok(()) } else { Err(JobFailure::LeaseLost) }
        })
    };
    assert_eq!(finish(stale), Err(JobFailure::LeaseLost));
    assert_eq!(bench.test.rows("SELECT * FROM effect").len(), 0);
    assert_eq!(finish(bench.claim(1, LEASE)[0].lease), Ok(()));
    assert_eq!(bench.test.rows("SELECT * FROM effect").len(), 1);
}

#[test]
fn settlements_write_what_they_say() {
    let bench = Bench::new();
    let id = bench.enqueue(&job()).unwrap();
    for round in 1..=12 {
        let lease = bench.claim(1, LEASE)[0].lease;
        let error = format!("failure {round}\0{}", "x".repeat(3_000));
        assert!(bench.settle(lease, &Settlement::Retry { after: Duration::ZERO, error }));
    }
    let row = bench.row(id);
    assert_eq!((row["state"].as_str(), row["attempt"].as_i64()), (Some("ready"), Some(12)));
    assert_eq!(row["last_error"].as_str().unwrap().len(), 2048);
    let errors = row["errors"].as_array().unwrap();
    assert_eq!(
        (errors.len(), errors[0]["attempt"].as_i64(), errors[9]["attempt"].as_i64()),
        (10, Some(3), Some(12))
    );

    let lease = bench.claim(1, LEASE)[0].lease;
    assert!(bench.settle(lease, &Settlement::Snooze { after: Duration::from_secs(40) }));
    let row = bench.row(id);
    assert_eq!(row["attempt"], 12, "a snooze costs no attempt");
    assert!((39.0..=40.0).contains(&row["due_in"].as_f64().unwrap()));
    assert_eq!(bench.test.rows("SELECT * FROM retry_queue").len(), 1);

    bench.test.execute("UPDATE jobs SET run_at = now()");
    let lease = bench.claim(1, LEASE)[0].lease;
    assert!(bench.settle(lease, &Settlement::Dead { error: "enough".into() }));
    let dead = bench.test.rows("SELECT * FROM dead_letter_queue");
    assert_eq!((dead.len(), dead[0]["last_error"].as_str()), (1, Some("enough")));
    assert!(!dead[0]["finished_at"].is_null());
}

#[test]
fn expired_leases_are_taken_back_with_a_growing_pause_and_a_crash_loop_ends() {
    let bench = Bench::new();
    let (id, kept) = (bench.enqueue(&job()).unwrap(), bench.enqueue(&job()).unwrap());
    for crash in 1..=MAX_CRASHES {
        let lease = bench.claim(1, Duration::ZERO)[0].lease;
        assert_eq!(lease.id, id);
        if crash == 1 {
            assert_eq!(bench.claim(1, LEASE)[0].lease.id, kept);
        }
        thread::sleep(Duration::from_millis(2));
        let dead = usize::from(crash == MAX_CRASHES);
        assert_eq!(bench.reap(), Reaped { ready: 1 - dead, dead });
        assert_eq!(bench.reap(), Reaped::default());
        let row = bench.row(id);
        assert_eq!((row["crash_count"].as_i64(), row["attempt"].as_i64()), (Some(crash.into()), Some(0)));
        if dead == 0 {
            let pause = 0.5 * f64::from(1 << (crash - 1));
            assert!((pause - 0.2..=pause).contains(&row["due_in"].as_f64().unwrap()), "{crash}: {row}");
            bench.test.execute("UPDATE jobs SET run_at = now() WHERE state = 'ready'");
        }
    }
    let row = bench.row(id);
    assert_eq!(row["state"], "dead");
    assert!(row["last_error"].as_str().unwrap().starts_with("crash loop"));
    assert_eq!(bench.row(kept)["state"], "leased", "a lease that stands is left alone");
}

#[test]
fn crashes_are_forgotten_with_time_and_not_by_what_the_job_does_in_between() {
    let bench = Bench::new();
    let id = bench.enqueue(&job()).unwrap();
    let crash = || {
        bench.test.execute("UPDATE jobs SET run_at = now()");
        assert_eq!(bench.claim(1, Duration::ZERO)[0].lease.id, id);
        thread::sleep(Duration::from_millis(2));
        bench.reap()
    };
    let run = |settlement: &Settlement| {
        bench.test.execute("UPDATE jobs SET run_at = now()");
        let lease = bench.claim(1, LEASE)[0].lease;
        assert!(bench.settle(lease, settlement));
    };
    let snooze = Settlement::Snooze { after: Duration::ZERO };
    let retry = Settlement::Retry { after: Duration::ZERO, error: "x".into() };
    for _ in 0..2 {
        assert_eq!(crash(), Reaped { ready: 1, dead: 0 });
        run(&snooze);
        assert_eq!(crash(), Reaped { ready: 1, dead: 0 });
        run(&retry);
    }
    assert_eq!(bench.row(id)["crash_count"], MAX_CRASHES - 1);
    bench.test.execute("UPDATE jobs SET crashed_at = crashed_at - interval '16 minutes'");
    assert_eq!(crash(), Reaped { ready: 1, dead: 0 });
    assert_eq!(bench.row(id)["crash_count"], 1, "the others were long ago");
    for crash_number in 2..=MAX_CRASHES {
        run(&snooze);
        let dead = usize::from(crash_number == MAX_CRASHES);
        assert_eq!(crash(), Reaped { ready: 1 - dead, dead });
    }
    assert!(bench.row(id)["last_error"].as_str().unwrap().starts_with("crash loop"));
}

#[test]
fn a_renewal_extends_the_leases_that_stand() {
    let bench = Bench::new();
    bench.enqueue(&job()).unwrap();
    bench.enqueue(&job()).unwrap();
    let leases: Vec<_> = bench.claim(2, Duration::from_secs(1)).iter().map(|job| job.lease).collect();
    bench.settle(leases[0], &Settlement::Done);
    let renewed = bench.db.autocommit(|tx| tx.renew(&leases, LEASE)).unwrap();
    assert_eq!(renewed, [leases[1].id]);
    assert!(bench.row(leases[1].id)["leased_for"].as_f64().unwrap() > 28.0);
    let stale = JobLease { token: 0, ..leases[1] };
    assert_eq!(bench.db.autocommit(|tx| tx.renew(&[stale], LEASE)).unwrap(), []);
}

#[derive(Default)]
struct Notes(Mutex<Vec<CommitNote>>);

impl AfterCommit for Notes {
    fn committed(&self, notes: Vec<CommitNote>) {
        self.0.lock().unwrap().extend(notes);
    }
}

#[test]
fn given_back_jobs_are_due_at_once_and_ring() {
    let bench = Bench::new();
    let notes = Arc::new(Notes::default());
    let db = bench.db.clone().with_after_commit(notes.clone());
    let ring = || CommitNote::Wake(job_topic("q"));
    let rung = || std::mem::take(&mut *notes.0.lock().unwrap());

    db.transaction(|tx| tx.enqueue(&job())).unwrap();
    assert_eq!(rung(), [ring()]);
    db.transaction(|tx| tx.enqueue(&job().after(LEASE))).unwrap();
    let failed = db.transaction(|tx| {
        tx.enqueue(&job())?;
        Err::<(), _>(StoreError::new(plimsoll_core_domain::StoreErrorKind::Other, "on purpose"))
    });
    assert!(failed.is_err());
    assert_eq!(rung(), [], "neither for later nor for what was rolled back");

    let lease = bench.claim(5, LEASE)[0].lease;
    let stale = JobLease { token: 0, ..lease };
    assert_eq!(db.autocommit(|tx| tx.give_back(&[stale])).unwrap(), 0);
    assert_eq!(db.autocommit(|tx| tx.give_back(&[lease])).unwrap(), 1);
    assert_eq!(rung(), [ring()]);
    let again = &bench.claim(5, LEASE)[0];
    assert_eq!((again.lease.id, again.lease.token, again.attempt), (lease.id, lease.token + 1, 1));
}

#[test]
fn one_open_job_per_key_however_many_insert_it() {
    let bench = Bench::new();
    let barrier = Barrier::new(8);
    let inserted: Vec<JobId> = thread::scope(|scope| {
        let threads: Vec<_> = (0..8)
            .map(|_| {
                scope.spawn(|| {
                    barrier.wait();
                    bench.enqueue(&job().dedup("slot:1"))
                })
            })
            .collect();
        threads.into_iter().filter_map(|thread| thread.join().unwrap()).collect()
    });
    assert_eq!(inserted.len(), 1);
    assert!(bench.enqueue(&NewJob { kind: "l".into(), ..job().dedup("slot:1") }).is_some(), "per kind");
    let lease = bench.claim(1, LEASE)[0].lease;
    assert_eq!(bench.enqueue(&job().dedup("slot:1")), None, "while it is leased");
    bench.settle(lease, &Settlement::Done);
    assert!(bench.enqueue(&job().dedup("slot:1")).is_some(), "a finished one does not count");
}

#[test]
fn finished_jobs_are_cleared_away_by_state_and_age() {
    let bench = Bench::new();
    bench.test.execute(
        "INSERT INTO jobs (queue, kind, max_attempts, payload, state, finished_at) \
         SELECT 'q', 'k', 1, '{}', state, now() - days * interval '1 day' \
         FROM unnest(ARRAY['done', 'cancelled', 'dead']) state, unnest(ARRAY[0, 2, 100]) days; \
         INSERT INTO jobs (queue, kind, max_attempts, payload, state) VALUES ('q', 'k', 1, '{}', 'held')",
    );
    let day = Duration::from_secs(24 * 3600);
    let prune = |limit| bench.db.autocommit(|tx| tx.prune(day, 90 * day, limit)).unwrap();
    assert_eq!(prune(1), 2, "of each kind at most so many");
    assert_eq!(prune(100), 3);
    assert_eq!(prune(100), 0);
    let left = bench.test.rows("SELECT state, count(*) AS n FROM jobs GROUP BY state ORDER BY state");
    let left: Vec<_> =
        left.iter().map(|row| (row["state"].as_str().unwrap(), row["n"].as_i64().unwrap())).collect();
    assert_eq!(left, [("cancelled", 1), ("dead", 2), ("done", 1), ("held", 1)]);
}

#[test]
fn a_payload_that_is_too_large_is_refused() {
    let bench = Bench::new();
    // random text does not compress
    let noise: String =
        (0..200_000u64).map(|n| format!("{:x}", n.wrapping_mul(0x9E37_79B9_7F4A_7C15))).collect();
    let refused = bench.db.transaction(|tx| tx.enqueue(&NewJob::new("q", "k", &noise)));
    assert!(refused.is_err());
    assert!(bench.claim(1, LEASE).is_empty());
}

#[test]
fn workers_do_each_job_once_over_the_database() {
    let bench = Bench::new();
    bench.test.execute("CREATE TABLE effect (job bigint)");
    for _ in 0..60 {
        bench.enqueue(&job()).unwrap();
    }
    let (_runtime, runner) = bench.runner(Timings::default());
    let handler = |context: &JobContext<'_, Db>, job: &Job| {
        // every third fails at first, after its effect
        context.settle_with(|tx| {
            tx.execute_raw(&format!("INSERT INTO effect VALUES ({})", job.lease.id.0))?;
            if job.lease.id.0 % 3 == 0 && job.attempt == 1 {
                return Err(JobFailure::transient("on purpose"));
            }
            Ok(Settlement::Done)
        })
    };
    let policy = Policy::new(Duration::from_millis(20), Duration::from_millis(20), 5);
    let workers = runner.handle("k", policy, handler).start(4, &Wake::new()).unwrap();
    let began = Instant::now();
    while workers.stats().done < 60 {
        assert!(began.elapsed() < Duration::from_secs(20), "{:?}", workers.stats());
        thread::sleep(Duration::from_millis(10));
    }
    workers.stop(Duration::from_secs(5));
    let effects = &bench.test.rows("SELECT count(*) AS n, count(DISTINCT job) AS jobs FROM effect")[0];
    assert_eq!((effects["n"].as_i64(), effects["jobs"].as_i64()), (Some(60), Some(60)));
}

#[test]
fn a_lease_has_one_owner_and_its_token_grows_with_every_change() {
    let bench = Bench::new();
    let acquire = |owner: u128, ttl_ms: u64| {
        let ttl = Duration::from_millis(ttl_ms);
        bench.db.transaction(|tx| tx.acquire_lease("recon:1", Uuid::from_u128(owner), ttl)).unwrap()
    };
    assert_eq!(acquire(1, 15_000), Some(FenceToken(1)));
    assert_eq!(acquire(2, 15_000), None);
    assert_eq!(acquire(1, 1), Some(FenceToken(1)), "a renewal keeps the token");
    thread::sleep(Duration::from_millis(5));
    assert_eq!(acquire(2, 15_000), Some(FenceToken(2)));
    assert_eq!(acquire(1, 15_000), None);
    let release =
        |owner| bench.db.transaction(|tx| tx.release_lease("recon:1", Uuid::from_u128(owner))).unwrap();
    assert!(!release(1) && release(2));
    assert_eq!(acquire(1, 15_000), Some(FenceToken(3)));
    let fence = |token| bench.db.transaction(|tx| tx.hold_fence("recon:1", FenceToken(token))).unwrap();
    assert!(fence(3) && !fence(2) && !fence(4));

    let mut keeper = LeaseKeeper::new(bench.db.clone(), "recon:1", Uuid::from_u128(1), &Timings::default());
    assert_eq!(keeper.tick().unwrap(), Some(FenceToken(3)));
    keeper.release().unwrap();
    assert_eq!(acquire(2, 15_000), Some(FenceToken(4)));
}

#[test]
fn many_leases_are_kept_by_one_statement_each_time() {
    let bench = Bench::new();
    let (a, b) = (Uuid::from_u128(1), Uuid::from_u128(2));
    let names: Vec<String> = (1..=200).map(|n| format!("account:{n}")).collect();
    let acquire = |names: &[String], owner, ttl_ms| {
        let ttl = Duration::from_millis(ttl_ms);
        bench.db.transaction(|tx| tx.acquire_leases(names, owner, ttl)).unwrap()
    };
    let live = || bench.db.autocommit(|tx| tx.live_leases(&["account", "instance"])).unwrap();
    assert_eq!(acquire(&names[..150], a, 15_000).len(), 150);
    let of_b = acquire(&names, b, 15_000);
    assert_eq!(of_b.len(), 50, "what another has is left out");
    assert!(of_b.iter().all(|(name, token)| names[150..].contains(name) && *token == FenceToken(1)));
    assert_eq!(
        acquire(&names[..1], a, 15_000),
        [(names[0].clone(), FenceToken(1))],
        "its own keep their tokens"
    );
    assert!(bench.db.transaction(|tx| tx.mark_ready(&names[0], a)).unwrap());
    assert!(!bench.db.transaction(|tx| tx.mark_ready(&names[0], b)).unwrap());

    let counter = bench.db.count_queries();
    let ttl = Duration::from_millis(1);
    let renewed = bench.db.autocommit(|tx| tx.renew_leases(&names, a, ttl)).unwrap();
    assert_eq!(counter.sent(), 1);
    assert_eq!(renewed.len(), 150);
    thread::sleep(Duration::from_millis(5));
    assert_eq!(live().len(), 50, "those of a have run out");
    let taken = acquire(&names[..2], b, 15_000);
    assert_eq!(taken, [(names[0].clone(), FenceToken(2)), (names[1].clone(), FenceToken(2))]);
    assert!(live().iter().all(|lease| lease.owner == b && !lease.ready), "a new owner is not ready");
    assert_eq!(bench.db.transaction(|tx| tx.release_leases(&names, b)).unwrap(), 52);
    assert_eq!(bench.db.transaction(|tx| tx.forget_leases(&["account"])).unwrap(), 148);
    assert_eq!(live(), []);
}

#[test]
fn jobs_of_accounts_that_another_instance_has_are_left_to_it() {
    let bench = Bench::new();
    let of = |account: i64| NewJob::new("q", "k", &json!({ "account_id": account }));
    let ids: Vec<_> = [of(1), of(2), NewJob::new("q", "k", &json!({})), of(12)]
        .iter()
        .map(|job| bench.enqueue(job).unwrap())
        .collect();
    let claim = |except: &[&str]| -> Vec<JobId> {
        let except: Vec<String> = except.iter().map(|account| (*account).to_owned()).collect();
        let (kinds, owner) = (&bench.kinds, Uuid::from_u128(1));
        let claim = Claim { queue: "q", kinds, except: &except, limit: 10, owner, lease: LEASE };
        let jobs = bench.db.autocommit(|tx| tx.claim(&claim)).unwrap();
        jobs.into_iter().map(|job| job.lease.id).collect()
    };
    assert_eq!(claim(&["1", "2"]), [ids[2], ids[3]]);
    assert_eq!(claim(&["2"]), [ids[0]]);
    assert_eq!(claim(&[]), [ids[1]]);
}

#[test]
fn a_takeover_waits_for_an_open_effect_and_a_renewal_does_not() {
    let bench = Bench::new();
    let acquire = |owner: u128, ttl_ms: u64| {
        let ttl = Duration::from_millis(ttl_ms);
        bench.db.transaction(|tx| tx.acquire_lease("x", Uuid::from_u128(owner), ttl)).unwrap()
    };
    assert_eq!(acquire(1, 15_000), Some(FenceToken(1)));
    let (open, renewed) = (Barrier::new(2), Barrier::new(2));
    thread::scope(|scope| {
        scope.spawn(|| {
            bench
                .db
                .transaction(|tx| {
                    assert!(tx.hold_fence("x", FenceToken(1))?);
                    open.wait();
                    renewed.wait();
                    thread::sleep(Duration::from_millis(300));
                    Ok::<_, StoreError>(())
                })
                .unwrap();
        });
        open.wait();
        let began = Instant::now();
        assert_eq!(acquire(1, 1), Some(FenceToken(1)));
        assert!(began.elapsed() < Duration::from_millis(200), "a renewal does not wait");
        thread::sleep(Duration::from_millis(5));
        renewed.wait();
        let began = Instant::now();
        assert_eq!(acquire(2, 15_000), Some(FenceToken(2)));
        assert!(began.elapsed() >= Duration::from_millis(250), "a takeover does");
    });
    assert!(!bench.db.transaction(|tx| tx.hold_fence("x", FenceToken(1))).unwrap());
}

/// Asks a queue for something and writes the answer down.
type Ask<'a> = &'a mut dyn FnMut(&mut dyn JobQueue) -> String;

#[test]
fn both_implementations_of_the_queue_agree() {
    let script = |store: &dyn Fn(Ask<'_>) -> String| {
        let kinds = vec!["k".to_owned()];
        let mut log = Vec::new();
        let mut leases: Vec<JobLease> = Vec::new();
        let claim = |leases: &mut Vec<JobLease>, limit| {
            store(&mut |tx| {
                let claim = Claim {
                    queue: "q",
                    kinds: &kinds,
                    except: &[],
                    limit,
                    owner: Uuid::from_u128(1),
                    lease: LEASE,
                };
                let jobs = tx.claim(&claim).unwrap();
                leases.extend(jobs.iter().map(|job| job.lease));
                // ids have gaps in a database, and there time goes on between the statements
                let of = |job: &Job| {
                    format!("{} {} {} {}", job.payload, job.lease.token, job.attempt, job.crash_count)
                };
                let mut jobs: Vec<_> = jobs.iter().map(of).collect();
                jobs.sort();
                jobs.join(", ")
            })
        };
        for n in 0..4 {
            let job = NewJob { priority: -(n % 2), ..NewJob::new("q", "k", &n) };
            let job = if n == 3 { job.dedup("same") } else { job };
            log.push(store(&mut |tx| tx.enqueue(&job).unwrap().is_some().to_string()));
            log.push(store(&mut |tx| tx.enqueue(&job.clone().dedup("same")).unwrap().is_some().to_string()));
        }
        log.push(claim(&mut leases, 3));
        let zero = Duration::ZERO;
        let settlements = [
            Settlement::Retry { after: zero, error: "e".into() },
            Settlement::Snooze { after: zero },
            Settlement::Done,
        ];
        for (lease, settlement) in leases.clone().into_iter().zip(&settlements) {
            log.push(store(&mut |tx| format!("{:?}", tx.hold_job(lease).unwrap())));
            log.push(store(&mut |tx| format!("{:?}", tx.settle(lease, settlement).unwrap())));
            log.push(store(&mut |tx| format!("{:?}", tx.settle(lease, settlement).unwrap())));
        }
        log.push(claim(&mut leases, 10));
        log.push(store(&mut |tx| format!("{:?}", tx.settle_done(&leases[..1]).unwrap())));
        let slots = Schedule::new("q", "slots", Duration::from_secs(3_600));
        for _ in 0..2 {
            log.push(store(&mut |tx| tx.enqueue_slot(&slots).unwrap().is_some().to_string()));
        }
        log.push(store(&mut |tx| format!("{:?}", tx.renew(&leases, LEASE).unwrap().len())));
        log.push(store(&mut |tx| format!("{:?}", tx.give_back(&leases).unwrap())));
        log.push(store(&mut |tx| format!("{:?}", tx.prune(zero, zero, 100).unwrap())));
        log.push(claim(&mut leases, 10));
        log
    };
    let bench = Bench::new();
    let database = script(&|work| bench.db.transaction(|tx| Ok::<_, StoreError>(work(tx))).unwrap());
    let memory = plimsoll_reliability::testing::MemoryStore::stopped();
    let memory = script(&|work| memory.transaction(|tx| Ok::<_, StoreError>(work(tx))).unwrap());
    assert_eq!(database, memory);
}
