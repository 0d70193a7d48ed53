//! What is looked after while the service runs: the database's reachability, old rows, forgotten callers.

use std::time::Duration;

use actix_web::web;
use chrono::TimeDelta;
use plimsoll_api::state::AppState;
use plimsoll_core_domain::StoreError;
use plimsoll_observability::readiness::Readiness;
use plimsoll_storage::Db;

/// Two misses make the server unready, one hit makes it ready again.
const MISSES: u32 = 2;
/// How long events of a stream are kept, and how many.
const KEEP_EVENTS: (TimeDelta, i64) = (TimeDelta::hours(24), 10_000);
/// Rows deleted by one statement.
const BATCH: i64 = 1_000;

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
            let pruned = jobs
                .run(|tx| {
                    let events = tx.prune_events(KEEP_EVENTS.0, KEEP_EVENTS.1, BATCH)?;
                    Ok::<_, StoreError>((events, tx.prune_keys(BATCH)?))
                })
                .await;
            match pruned {
                Ok((0, 0)) => {}
                Ok((events, keys)) => tracing::debug!(events, keys, "old rows were deleted"),
                Err(error) => tracing::debug!(%error, "old rows could not be deleted now"),
            }
        }
    }
}

/// Forgets callers that were not heard of for a while.
pub(super) async fn tidy(state: web::Data<AppState>) {
    let mut every = tokio::time::interval(Duration::from_secs(30));
    loop {
        every.tick().await;
        state.tidy();
    }
}
