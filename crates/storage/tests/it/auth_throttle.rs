//! Counters of attempts.

use std::sync::atomic::{AtomicU32, Ordering};
use std::time::Duration;

use chrono::TimeDelta;
use plimsoll_auth::ports::ThrottleStore;
use plimsoll_auth::testing::MemoryStore;
use plimsoll_auth::throttle::{FailureRule, Limit, Verdict};
use plimsoll_core_domain::StoreError;

use crate::world::{World, at};

const RULE: FailureRule = FailureRule {
    free: 3,
    window: TimeDelta::seconds(60),
    first: TimeDelta::seconds(10),
    longest: TimeDelta::seconds(35),
};

/// LOG-9: thirty parallel attempts pass a limit of seven exactly seven times.
#[test]
fn parallel_attempts_never_pass_the_limit() {
    let world = World::new();
    let passed = AtomicU32::new(0);
    let limit = Limit::new(7, TimeDelta::hours(1), 7);
    std::thread::scope(|scope| {
        for _ in 0..30 {
            scope.spawn(|| {
                let verdict = world.db.run_blocking(|tx| tx.take("test", b"key", limit, at(0))).unwrap();
                if verdict == Verdict::Allowed {
                    passed.fetch_add(1, Ordering::Relaxed);
                }
            });
        }
    });
    assert_eq!(passed.into_inner(), 7);
}

/// LOG-3, LOG-9: the store and the in-memory one say the same, step by step.
#[test]
fn buckets_and_failures_agree_with_the_model() {
    let world = World::new();
    let mut model = MemoryStore::new();
    let limit = Limit::new(2, TimeDelta::seconds(20), 3);
    for second in [0, 0, 0, 0, 1, 9, 10, 11, 12, 40, 41, 41, 41, 60] {
        let real = world.db.run_blocking(|tx| tx.take("bucket", b"k", limit, at(second))).unwrap();
        assert_eq!(real, model.take("bucket", b"k", limit, at(second)).unwrap(), "at {second}");
    }
    for second in [0, 1, 2, 3, 11, 12, 13, 33, 40, 70, 75, 200, 201] {
        let real = world.db.run_blocking(|tx| tx.count_failure("f", b"k", RULE, at(second))).unwrap();
        assert_eq!(real, model.count_failure("f", b"k", RULE, at(second)).unwrap(), "at {second}");
    }
    let clear = |key: &'static [u8]| world.db.run_blocking(move |tx| tx.clear("f", key)).unwrap();
    assert!(clear(b"k") && !clear(b"k"));
}

/// LOG-3: counters outlive the process, and a rolled back attempt is not counted.
#[test]
fn a_block_is_kept_by_the_database() {
    let world = World::new();
    for _ in 0..3 {
        world.db.run_blocking(|tx| tx.count_failure("f", b"k", RULE, at(0))).unwrap();
    }
    let again = world.test.db();
    let verdict = again.run_blocking(|tx| tx.count_failure("f", b"k", RULE, at(4))).unwrap();
    assert_eq!(verdict, Verdict::Blocked { retry_after: Duration::from_secs(6) });
    let _: Result<(), StoreError> = again.run_blocking(|tx| {
        tx.count_failure("f", b"other", RULE, at(0))?;
        Err(StoreError::new(plimsoll_core_domain::StoreErrorKind::Other, "roll back"))
    });
    assert_eq!(world.test.rows("SELECT count(*)::int AS n FROM throttles")[0]["n"], 1);
}
