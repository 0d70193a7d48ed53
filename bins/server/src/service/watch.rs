//! What is looked after while the service runs: the database's reachability, forgotten callers.

use std::time::Duration;

use actix_web::web;
use plimsoll_api::state::AppState;
use plimsoll_observability::readiness::Readiness;
use plimsoll_storage::Db;

/// Two misses make the server unready, one hit makes it ready again.
const MISSES: u32 = 2;
/// Asks the database every second.
pub(super) async fn database(control: Db, readiness: Readiness) {
    let mut every = tokio::time::interval(Duration::from_secs(1));
    every.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
    let mut misses = 0;
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
