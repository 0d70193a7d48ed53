//! Job handlers that panic, on real threads over a real pool. What a route's panic does is tested in `crates/api`
//! (`a_panic_is_an_answer_and_the_server_goes_on`, `a_panic_in_a_transaction_costs_no_connection`).

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::{Duration, Instant};

use plimsoll_core_domain::StoreError;
use plimsoll_reliability::Timings;
use plimsoll_reliability::jobs::{
    Job, JobContext, JobFailure, JobQueue, JobRunner, JobStore, NewJob, Settled, Settlement, Wake,
};
use plimsoll_reliability::retry::SeededJitter;
use plimsoll_storage::{Db, DbSettings, PoolKind};
use plimsoll_testkit::TestDb;
use tokio::runtime::Handle;
use uuid::Uuid;

use super::world::PATIENCE;

const EACH: usize = 8;

fn panics(_: &JobContext<'_, Db>, job: &Job) -> Result<Settled, JobFailure> {
    panic!("job {} has a fault", job.lease.id.0)
}

fn panics_in_its_transaction(context: &JobContext<'_, Db>, job: &Job) -> Result<Settled, JobFailure> {
    context.settle_with(|tx| {
        tx.execute_raw("INSERT INTO effects VALUES ('half done')")?;
        panic!("job {} has a fault", job.lease.id.0)
    })
}

fn works(context: &JobContext<'_, Db>, _: &Job) -> Result<Settled, JobFailure> {
    context.settle_with(|tx| {
        tx.execute_raw("INSERT INTO effects VALUES ('done')")?;
        Ok(Settlement::Done)
    })
}

/// Row 7. A job that panics is tried again and given up with its message; its thread and its connection go on.
#[tokio::test(flavor = "multi_thread")]
async fn row_07_jobs_that_panic() {
    let database = TestDb::platform();
    database.execute("CREATE TABLE effects (what text)");
    let db = database.db_with(DbSettings::new(PoolKind::Jobs, 3));
    let timings = Timings::default().scaled(0.01);
    let policy = timings.internal();
    let (runtime, jitter) = (Handle::current(), Arc::new(SeededJitter::new(1)));
    let workers = JobRunner::new(db.clone(), "faulty", Uuid::from_u128(7), runtime, timings, jitter)
        .handle("panics", policy, panics)
        .handle("panics_in_its_transaction", policy, panics_in_its_transaction)
        .handle("works", policy, works)
        .start(2, &Wake::new())
        .unwrap();
    let enqueue = |tx: &mut plimsoll_storage::Tx<'_>| -> Result<(), StoreError> {
        for n in 0..EACH {
            for kind in ["panics", "panics_in_its_transaction", "works"] {
                let mut job = NewJob::new("faulty", kind, &n);
                job.max_attempts = 2;
                tx.enqueue(&job)?;
            }
        }
        Ok(())
    };
    JobStore::transaction(&db, enqueue).unwrap();
    let count = |from: &str| {
        let rows = database.rows(&format!("SELECT count(*)::int AS n FROM {from}"));
        usize::try_from(rows[0]["n"].as_u64().unwrap()).unwrap()
    };
    let deadline = Instant::now() + PATIENCE;
    while count("jobs WHERE state IN ('ready', 'leased')") > 0 {
        assert!(Instant::now() < deadline, "{:?}", workers.stats());
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
    assert_eq!(count("jobs WHERE state = 'done' AND kind = 'works'"), EACH);
    assert_eq!(
        count("jobs WHERE state = 'dead' AND attempt = 2 AND last_error LIKE 'panicked: job % has a fault'"),
        2 * EACH
    );
    assert_eq!((count("effects WHERE what = 'done'"), count("effects")), (EACH, EACH));
    assert_eq!(workers.stats().panicked, 4 * EACH as u64);

    // All connections of the pool work, at the same time.
    let together = Arc::new(AtomicUsize::new(0));
    let mut all = tokio::task::JoinSet::new();
    for _ in 0..db.load().size {
        let (db, together) = (db.clone(), Arc::clone(&together));
        all.spawn_blocking(move || {
            db.run_blocking(|tx| {
                tx.execute_raw("SELECT 1")?;
                together.fetch_add(1, Ordering::AcqRel);
                let deadline = Instant::now() + PATIENCE;
                while together.load(Ordering::Acquire) < 3 && Instant::now() < deadline {
                    std::thread::yield_now();
                }
                Ok::<_, StoreError>(together.load(Ordering::Acquire))
            })
        });
    }
    while let Some(seen) = all.join_next().await {
        assert_eq!(seen.unwrap().unwrap(), 3);
    }
    // the workers go on looking for jobs until they are stopped
    assert!(tokio::task::spawn_blocking(move || workers.stop(PATIENCE)).await.unwrap().cut.is_empty());
    assert_eq!((db.load().in_use, db.load().size), (0, 3));
}
