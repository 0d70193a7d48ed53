//! Jobs by the clock: one for each slot of a period, however many instances ask for it.

use std::sync::{Arc, Condvar, Mutex, PoisonError};
use std::thread::{self, JoinHandle};
use std::time::{Duration, Instant};

use chrono::{DateTime, TimeDelta, Utc};
use plimsoll_core_domain::StoreError;
use serde::{Deserialize, Serialize};

use super::queue::{JobQueue, JobStore};
use super::types::{DEFAULT_ATTEMPTS, NewJob};

/// Pause after a slot could not be asked for, at most.
const AGAIN: Duration = Duration::from_secs(5);

/// A kind of job that is due once in each period. Slots are counted from the beginning of 1970, by the store's clock, so
/// that every instance means the same ones.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Schedule {
    /// Which workers do it.
    pub queue: String,
    /// Which handler does it.
    pub kind: String,
    /// The period, at least a millisecond.
    pub every: Duration,
}

/// The payload of a slot's job.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct SlotPayload {
    /// The number of the slot.
    pub slot: i64,
}

impl Schedule {
    /// A schedule.
    pub fn new(queue: impl Into<String>, kind: impl Into<String>, every: Duration) -> Self {
        Self { queue: queue.into(), kind: kind.into(), every }
    }

    /// The period in milliseconds.
    #[must_use]
    pub fn period_ms(&self) -> i64 {
        i64::try_from(self.every.as_millis()).unwrap_or(i64::MAX).max(1)
    }

    /// The slot that comes next, and when it begins.
    #[must_use]
    pub fn next_slot(&self, now: DateTime<Utc>) -> (i64, DateTime<Utc>) {
        let period = self.period_ms();
        let slot = now.timestamp_millis().div_euclid(period).saturating_add(1);
        let begins = slot.checked_mul(period).and_then(DateTime::from_timestamp_millis);
        (slot, begins.unwrap_or(DateTime::<Utc>::MAX_UTC))
    }

    /// The job of a slot, due when the slot begins.
    #[must_use]
    pub fn job(&self, slot: i64, wait: TimeDelta) -> NewJob {
        NewJob {
            max_attempts: DEFAULT_ATTEMPTS,
            ..NewJob::new(self.queue.as_str(), self.kind.as_str(), &SlotPayload { slot })
                .dedup(slot.to_string())
                .after(wait.to_std().unwrap_or_default())
        }
    }
}

/// Asks for the job of each schedule's coming slot, on a thread of its own. Stop it; dropping it leaves the thread running.
pub struct Scheduler {
    stop: Arc<(Mutex<bool>, Condvar)>,
    thread: JoinHandle<()>,
}

impl Scheduler {
    /// Asks at once, and then twice in each slot, so that one failure misses none. A slot that the store missed
    /// altogether is missed: the next one does its work.
    ///
    /// # Errors
    /// The system gives no more threads.
    pub fn start<S: JobStore>(store: S, schedules: Vec<Schedule>) -> std::io::Result<Self> {
        let stop = Arc::new((Mutex::new(false), Condvar::new()));
        let shared = Arc::clone(&stop);
        let thread = thread::Builder::new().name("job-schedule".to_owned()).spawn(move || {
            let mut asks: Vec<(Schedule, Instant)> =
                schedules.into_iter().map(|schedule| (schedule, Instant::now())).collect();
            let mut stopped = shared.0.lock().unwrap_or_else(PoisonError::into_inner);
            while !*stopped {
                let now = Instant::now();
                drop(stopped);
                for (schedule, at) in asks.iter_mut().filter(|(_, at)| *at <= now) {
                    *at = Instant::now() + ask(&store, schedule);
                }
                stopped = shared.0.lock().unwrap_or_else(PoisonError::into_inner);
                if *stopped {
                    break;
                }
                let Some(next) = asks.iter().map(|(_, at)| *at).min() else { break };
                let pause = next.saturating_duration_since(Instant::now()).max(Duration::from_millis(1));
                stopped = shared.1.wait_timeout(stopped, pause).unwrap_or_else(PoisonError::into_inner).0;
            }
        })?;
        Ok(Self { stop, thread })
    }

    /// Asks for nothing more, and waits until a question under way has its answer.
    pub fn stop(self) {
        *self.stop.0.lock().unwrap_or_else(PoisonError::into_inner) = true;
        self.stop.1.notify_all();
        if self.thread.join().is_err() {
            tracing::error!("the thread of schedules had panicked");
        }
    }
}

/// Asks for the coming slot; answers how long to wait before asking again.
fn ask<S: JobStore>(store: &S, schedule: &Schedule) -> Duration {
    let pause = (schedule.every / 2).max(Duration::from_millis(1));
    let asked = std::panic::catch_unwind(std::panic::AssertUnwindSafe(|| {
        store.transaction::<_, StoreError, _>(|tx| tx.enqueue_slot(schedule))
    }));
    match asked {
        Ok(Ok(_)) => pause,
        Ok(Err(error)) => {
            tracing::debug!(%error, kind = %schedule.kind, "the next slot's job could not be asked for");
            pause.min(AGAIN)
        }
        Err(_) => {
            tracing::error!(kind = %schedule.kind, "asking for the next slot's job panicked");
            pause.min(AGAIN)
        }
    }
}

impl std::fmt::Debug for Scheduler {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Scheduler")
    }
}

#[cfg(test)]
mod tests {
    use plimsoll_core_domain::SystemClock;

    use super::*;
    use crate::jobs::JobId;
    use crate::testing::MemoryStore;

    const MINUTE: Duration = Duration::from_secs(60);

    fn at(millis: i64) -> DateTime<Utc> {
        DateTime::from_timestamp_millis(millis).unwrap()
    }

    /// CLN-1: every instance asks for the same slot, however far into the one before it.
    #[test]
    fn instances_mean_the_same_slots() {
        let schedule = Schedule::new("q", "sweep", MINUTE);
        for (now, slot, begins) in
            [(120_000, 3, 180_000), (120_001, 3, 180_000), (179_999, 3, 180_000), (180_000, 4, 240_000)]
        {
            assert_eq!(schedule.next_slot(at(now)), (slot, at(begins)), "{now}");
        }
    }

    #[test]
    fn a_period_of_nothing_is_no_division_by_it_and_an_endless_one_no_overflow() {
        assert_eq!(Schedule::new("q", "k", Duration::ZERO).next_slot(at(5)), (6, at(6)));
        let endless = Schedule::new("q", "k", Duration::MAX);
        assert_eq!(endless.next_slot(at(5)), (1, DateTime::<Utc>::MAX_UTC));
    }

    fn ask_once(store: &MemoryStore, schedule: &Schedule) -> Option<JobId> {
        store.transaction::<_, StoreError, _>(|tx| tx.enqueue_slot(schedule)).unwrap()
    }

    #[test]
    fn a_slot_has_one_job_even_after_it_was_done() {
        let store = MemoryStore::stopped();
        let schedule = Schedule::new("q", "sweep", MINUTE);
        let id = ask_once(&store, &schedule).unwrap();
        assert_eq!(ask_once(&store, &schedule), None);
        let job = store.job(id);
        assert_eq!(job.run_at, schedule.next_slot(store.now()).1);
        assert_eq!(job.job.decode::<SlotPayload>().unwrap().slot, schedule.next_slot(store.now()).0);
        // one that asks late, with the job long done, asks for the next one only
        store.advance(MINUTE);
        assert!(ask_once(&store, &schedule).is_some());
        assert_eq!(ask_once(&store, &schedule), None);
        assert_eq!(store.jobs().len(), 2);
    }

    #[test]
    fn slots_do_not_pile_up_behind_one_that_waits() {
        let store = MemoryStore::stopped();
        let schedule = Schedule::new("q", "sweep", MINUTE);
        let mut asked = 0;
        for _ in 0..20 {
            asked += usize::from(ask_once(&store, &schedule).is_some());
            store.advance(MINUTE);
        }
        assert_eq!(asked, 2, "one that is overdue and the one behind it");
    }

    #[test]
    fn another_period_takes_effect_at_once() {
        let store = MemoryStore::stopped();
        ask_once(&store, &Schedule::new("q", "sweep", MINUTE * 600)).unwrap();
        assert!(ask_once(&store, &Schedule::new("q", "sweep", MINUTE)).is_some());
    }

    #[test]
    fn the_thread_asks_and_ends() {
        let store = MemoryStore::new(Arc::new(SystemClock));
        let schedules = vec![Schedule::new("q", "one", MINUTE), Schedule::new("q", "two", MINUTE)];
        let scheduler = Scheduler::start(store.clone(), schedules).unwrap();
        let began = Instant::now();
        while store.jobs().len() < 2 {
            assert!(began.elapsed() < Duration::from_secs(10), "{:?}", store.jobs());
            thread::sleep(Duration::from_millis(2));
        }
        scheduler.stop();
    }
}
