//! Asks for the job of each slot, before the slot begins: until then the job is open, and its key keeps other instances
//! from asking for it again.

use std::sync::Arc;
use std::time::Duration;

use plimsoll_core_domain::{Clock, StoreError};
use plimsoll_reliability::jobs::{JobQueue, NewJob};
use plimsoll_storage::{Db, Tx};
use serde_json::json;

use super::QUEUE;

/// The slot that comes next, and how long until it begins.
fn next_slot(now_millis: i64, every: Duration) -> (i64, Duration) {
    let period = i64::try_from(every.as_millis()).unwrap_or(i64::MAX).max(1);
    let slot = now_millis.div_euclid(period).saturating_add(1);
    let wait = slot.saturating_mul(period).saturating_sub(now_millis);
    (slot, Duration::from_millis(u64::try_from(wait).unwrap_or_default()))
}

/// The job of the coming slot.
fn job(kind: &str, every: Duration, now_millis: i64) -> NewJob {
    let (slot, wait) = next_slot(now_millis, every);
    NewJob::new(QUEUE, kind, &json!({ "slot": slot })).dedup(slot.to_string()).after(wait)
}

/// Asks for the jobs of `kind`, one for each `every`, as long as it runs. A slot that the database missed is missed: the
/// next one does its work.
pub(super) async fn run(kind: &'static str, every: Duration, db: Db, clock: Arc<dyn Clock>) {
    loop {
        let job = job(kind, every, clock.now().timestamp_millis());
        let asked = db.run(move |tx: &mut Tx<'_>| tx.enqueue(&job)).await;
        if let Err::<_, StoreError>(error) = asked {
            tracing::debug!(%error, kind, "the next slot's job could not be asked for");
        }
        // Twice in each slot, so that a failure does not miss one.
        tokio::time::sleep((every / 2).max(Duration::from_millis(1))).await;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const MINUTE: Duration = Duration::from_secs(60);

    /// CLN-1: every instance asks for the same job at the same time, however far into the slot before it.
    #[test]
    fn instances_ask_for_the_same_slot() {
        assert_eq!(next_slot(120_000, MINUTE), (3, MINUTE));
        assert_eq!(next_slot(120_001, MINUTE), (3, Duration::from_millis(59_999)));
        assert_eq!(next_slot(179_999, MINUTE), (3, Duration::from_millis(1)));
        assert_eq!(next_slot(180_000, MINUTE), (4, MINUTE));
        let (one, other) = (job("sweep", MINUTE, 121_000), job("sweep", MINUTE, 170_000));
        assert_eq!(one.dedup_key, other.dedup_key);
        assert_eq!(one.delay - other.delay, Duration::from_secs(49));
        assert_ne!(one.dedup_key, job("sweep", MINUTE, 181_000).dedup_key);
    }

    #[test]
    fn a_period_of_nothing_is_no_division_by_it() {
        assert_eq!(next_slot(5, Duration::ZERO), (6, Duration::from_millis(1)));
    }
}
