//! Claiming and settling trivial jobs in batches, against the same two UPDATE statements sent by hand; and jobs one by one.

use std::os::unix::fs::PermissionsExt;
use std::sync::Arc;
use std::time::{Duration, Instant};

use plimsoll_core_domain::StoreError;
use plimsoll_reliability::Timings;
use plimsoll_reliability::jobs::{Job, JobContext, JobFailure, JobRunner, Settlement, Wake};
use plimsoll_reliability::retry::{Policy, SeededJitter};
use plimsoll_storage::migrate::{MigrationSet, migrate};
use plimsoll_storage::private_postgres::{Options, PrivatePostgres};
use plimsoll_storage::testing::RawConnection;
use plimsoll_storage::{Db, DbSettings, PoolKind, Tx};
use uuid::Uuid;

type Result<T> = std::result::Result<T, Box<dyn std::error::Error + Send + Sync>>;

/// Jobs of a round, unless the first argument says another number.
const JOBS: i64 = 50_000;
/// Rounds of each side.
const ROUNDS: usize = 5;
/// Jobs of a batch.
const BATCH: usize = 500;
/// Jobs of a round that are done one by one.
const SINGLES: i64 = 5_000;

fn main() -> Result<()> {
    let jobs = std::env::args().skip(1).find_map(|argument| argument.parse().ok()).unwrap_or(JOBS);
    let folder = tempfile::Builder::new().prefix("plimsoll-bench-").tempdir()?;
    // As root the database runs under an account that must be able to go in.
    std::fs::set_permissions(folder.path(), std::fs::Permissions::from_mode(0o711))?;
    let mut options = Options::new(folder.path().join("database"));
    options.path_var = "/usr/local/bin:/usr/bin:/bin".to_owned();
    let mut postgres = PrivatePostgres::start(options)?;
    postgres.ensure_database("plimsoll")?;
    let url = postgres.url("plimsoll");
    migrate(&url, MigrationSet::Platform)?;
    let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(1).enable_time().build()?;
    let db = Db::open(&url, DbSettings::new(PoolKind::Jobs, 4))?;

    let (mut batches, mut by_hand, mut ratios, mut singles) = (vec![], vec![], vec![], vec![]);
    for round in 0..ROUNDS {
        // in turns, and each side first in its turn
        let mut sides = [true, false];
        sides.rotate_left(round % 2);
        let (mut ours, mut peer) = (0.0, 0.0);
        for side in sides {
            fill(&url, jobs)?;
            if side {
                ours = rate(jobs, || work(&db, runtime.handle(), BATCH, 1, jobs))?;
            } else {
                peer = rate(jobs, || statements(&url, jobs))?;
            }
        }
        batches.push(ours);
        by_hand.push(peer);
        ratios.push(ours / peer);
        fill(&url, SINGLES)?;
        singles.push(rate(SINGLES, || work(&db, runtime.handle(), 1, 3, SINGLES))?);
    }
    println!("claim and settle in batches of {BATCH}: {:.0}/s (median of {ROUNDS})", median(&mut batches));
    println!("the two statements by hand: {:.0}/s", median(&mut by_hand));
    println!("ratio {:.2} ({:.2} to {:.2})", median(&mut ratios), ratios[0], ratios[ROUNDS - 1]);
    println!("one by one, three threads: {:.0}/s", median(&mut singles));
    postgres.stop(Duration::from_secs(60));
    Ok(())
}

fn median(of: &mut [f64]) -> f64 {
    of.sort_by(f64::total_cmp);
    of[of.len() / 2]
}

#[expect(clippy::cast_precision_loss, reason = "numbers of jobs are small")]
fn rate(jobs: i64, work: impl FnOnce() -> Result<()>) -> Result<f64> {
    let began = Instant::now();
    work()?;
    Ok(jobs as f64 / began.elapsed().as_secs_f64())
}

fn fill(url: &str, jobs: i64) -> Result<()> {
    let mut conn = RawConnection::open(url)?;
    conn.execute("TRUNCATE jobs")?;
    conn.execute(&format!(
        "INSERT INTO jobs (queue, kind, max_attempts, payload) \
         SELECT 'bench', 'trivial', 5, jsonb_build_object('n', n) FROM generate_series(1, {jobs}) n"
    ))?;
    conn.execute("VACUUM ANALYZE jobs")?;
    conn.execute("CHECKPOINT")?;
    Ok(())
}

/// Claimers, workers and keeper as in the server.
fn work(db: &Db, runtime: &tokio::runtime::Handle, batch: usize, threads: usize, jobs: i64) -> Result<()> {
    let timings = Timings::default();
    let (owner, jitter) = (Uuid::from_u128(1), Arc::new(SeededJitter::new(1)));
    let runner = JobRunner::new(db.clone(), "bench", owner, runtime.clone(), timings, jitter);
    let runner = if batch > 1 {
        let nothing = |_: &mut Tx<'_>, _: &[Job]| Ok::<(), JobFailure>(());
        // a second batch is claimed while the first is settled
        runner.handle_batches("trivial", Policy::INTERNAL, batch, nothing).at_most("trivial", 2)
    } else {
        runner.handle("trivial", Policy::INTERNAL, |context: &JobContext<'_, Db>, _: &Job| {
            context.finish(&Settlement::Done)
        })
    };
    let workers = runner.start(threads, &Wake::new())?;
    while i64::try_from(workers.stats().done)? < jobs {
        std::thread::sleep(Duration::from_millis(1));
    }
    workers.stop(Duration::from_secs(5));
    let left = db.read_blocking(|tx| tx.job_counts()).map_err(|error: StoreError| error.to_string())?;
    if left.is_empty() { Ok(()) } else { Err(format!("{left:?}").into()) }
}

fn statements(url: &str, jobs: i64) -> Result<()> {
    let mut conn = RawConnection::open(url)?;
    let claim = format!(
        "WITH pick AS MATERIALIZED (SELECT id FROM jobs WHERE state = 'ready' AND queue = 'bench' AND run_at <= now() \
         ORDER BY priority, run_at, id LIMIT {BATCH} FOR UPDATE SKIP LOCKED) \
         UPDATE jobs j SET state = 'leased', attempt = attempt + 1, lease_token = lease_token + 1, \
         lease_until = now() + interval '30 seconds' FROM pick WHERE j.id = pick.id"
    );
    let settle =
        "UPDATE jobs SET state = 'done', finished_at = now(), lease_until = NULL WHERE state = 'leased'";
    let batch = i64::try_from(BATCH)?;
    for _ in 0..(jobs + batch - 1) / batch {
        conn.execute(&claim)?;
        conn.execute(settle)?;
    }
    Ok(())
}
