//! What is looked after while the service runs: the database's reachability, old rows, forgotten callers.

use std::time::Duration;

use actix_web::web;
use chrono::TimeDelta;
use plimsoll_api::state::AppState;
use plimsoll_core_domain::StoreError;
use plimsoll_observability::readiness::Readiness;
use plimsoll_storage::{Db, Tx};

/// Two misses make the server unready, one hit makes it ready again.
const MISSES: u32 = 2;
/// How long events of a stream are kept, and how many.
const KEEP_EVENTS: (TimeDelta, i64) = (TimeDelta::hours(24), 10_000);
/// Rows deleted by one statement.
const BATCH: i64 = 1_000;
/// Statements of one turn, for events and for keys: the watch over the database must not stand still for long.
const MAX_BATCHES: usize = 200;

/// Asks the database every second; prunes what is too old every minute.
pub(super) async fn database(control: Db, readiness: Readiness, jobs: Db) {
    let mut every = tokio::time::interval(Duration::from_secs(1));
    every.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
    let (mut misses, mut beat) = (0, 0_u64);
    loop {
        every.tick().await;
        match control.ping().await {
            Ok(()) => {
                misses = 0;
                readiness.settled("database");
            }
            Err(error) => {
                misses += 1;
                if misses == MISSES {
                    tracing::warn!(%error, "the database does not answer; the server is not ready");
                    readiness.missing("database");
                }
            }
        }
        beat += 1;
        if beat % 60 == 0 {
            let events = |tx: &mut Tx<'_>| tx.prune_events(KEEP_EVENTS.0, KEEP_EVENTS.1, BATCH);
            let (events, keys) = (prune(&jobs, events).await, prune(&jobs, |tx| tx.prune_keys(BATCH)).await);
            if (events, keys) != (0, 0) {
                tracing::debug!(events, keys, "old rows were deleted");
            }
        }
    }
}

/// Deletes batch after batch, each in a transaction of its own, until nothing more is due; answers how many rows went.
/// What is left after [`MAX_BATCHES`] or an error waits for the next turn.
async fn prune(
    jobs: &Db,
    batch: impl FnOnce(&mut Tx<'_>) -> Result<usize, StoreError> + Copy + Send + 'static,
) -> usize {
    let mut rows = 0;
    for _ in 0..MAX_BATCHES {
        match jobs.run(batch).await {
            Ok(deleted) => {
                rows += deleted;
                if i64::try_from(deleted).is_ok_and(|deleted| deleted < BATCH) {
                    break;
                }
            }
            Err(error) => {
                tracing::debug!(%error, "old rows could not be deleted now");
                break;
            }
        }
    }
    rows
}

/// Forgets callers that were not heard of for a while.
pub(super) async fn tidy(state: web::Data<AppState>) {
    let mut every = tokio::time::interval(Duration::from_secs(30));
    loop {
        every.tick().await;
        state.tidy();
    }
}
