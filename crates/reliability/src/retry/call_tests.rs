use std::cell::Cell;

use super::super::dependency::Held;
use super::super::{Jitter, RetryAsync, RetrySync, TestTime};
use super::*;
use crate::jobs::JobFailure;

#[derive(Clone, Debug, PartialEq, Eq)]
struct Failure(ErrorClass);

impl Classify for Failure {
    fn class(&self) -> ErrorClass {
        self.0
    }
}

impl fmt::Display for Failure {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:?}", self.0)
    }
}

const TRANSIENT: Failure = Failure(ErrorClass::Transient);
const PERMANENT: Failure = Failure(ErrorClass::Permanent);
const AMBIGUOUS: Failure = Failure(ErrorClass::Ambiguous);

const fn ms(n: u64) -> Duration {
    Duration::from_millis(n)
}

fn plain(attempts: u32) -> Policy {
    Policy::new(ms(100), ms(300), attempts)
}

fn with(policy: Policy) -> (Retry, TestTime) {
    let time = TestTime::default();
    (retry(policy, &Pace::new(time.clone(), Jitter::MIN)), time)
}

/// Fails with these, then answers how often it was called.
fn after(failures: &[Failure]) -> impl FnMut() -> Result<usize, Failure> {
    let mut calls = 0;
    move || {
        calls += 1;
        failures.get(calls - 1).cloned().map_or(Ok(calls), Err)
    }
}

#[test]
fn it_is_tried_until_it_succeeds_with_growing_pauses() {
    let (retry, time) = with(plain(5));
    assert_eq!(retry.call(after(&[TRANSIENT, TRANSIENT, TRANSIENT])), Ok(4));
    assert_eq!(time.pauses(), [ms(50), ms(100), ms(150)]);
}

#[test]
fn the_default_makes_five_attempts() {
    let (retry, time) = with(Policy { breaker: None, ..Policy::default() });
    let gave_up = retry.call(after(&[TRANSIENT; 9])).unwrap_err();
    assert_eq!(gave_up, GaveUp { why: Why::Attempts, attempts: 5, last: Some(TRANSIENT) });
    assert_eq!(time.pauses().len(), 4);
    assert_eq!(gave_up.to_string(), "failed 5 times: Transient");
}

#[test]
fn what_ends_the_same_way_and_what_is_too_early_is_not_tried_again() {
    let (retry, time) = with(plain(5));
    let gave_up = retry.call(after(&[PERMANENT])).unwrap_err();
    assert_eq!((gave_up.why, gave_up.attempts), (Why::Permanent, 1));
    let early = Failure(ErrorClass::Snooze { after: ms(9) });
    let gave_up = retry.call(after(&[TRANSIENT, early])).unwrap_err();
    assert_eq!((gave_up.class(), gave_up.attempts), (ErrorClass::Snooze { after: ms(9) }, 2));
    assert_eq!(time.pauses().len(), 1);
}

#[test]
fn a_longer_wait_that_was_asked_for_is_kept() {
    let (retry, time) = with(plain(5));
    let throttled = Failure(ErrorClass::Throttled { after: ms(7_000) });
    assert_eq!(retry.call(after(&[throttled])), Ok(2));
    assert_eq!(time.pauses(), [ms(7_000)]);
}

#[test]
fn what_may_have_been_done_is_not_done_again_unless_that_is_harmless() {
    let (retry, _) = with(plain(5));
    let gave_up = retry.call(after(&[AMBIGUOUS])).unwrap_err();
    assert_eq!((gave_up.class(), gave_up.attempts), (ErrorClass::Ambiguous, 1));
    assert_eq!(retry.harmless().call(after(&[AMBIGUOUS])), Ok(2));
}

#[test]
fn looking_decides_whether_it_was_done() {
    let (retry, time) = with(plain(3));
    let looks = Cell::new(0);
    let mut looked = vec![Ok(Some(7)), Err(TRANSIENT)];
    let look = || {
        looks.set(looks.get() + 1);
        looked.pop().unwrap()
    };
    let mut work = after(&[AMBIGUOUS]);
    assert_eq!(retry.call_looking(|_| work(), look), Ok(7), "found at the second look, not done again");
    assert_eq!((looks.get(), time.pauses()), (2, vec![ms(50), ms(100)]));

    let mut work = after(&[AMBIGUOUS]);
    assert_eq!(retry.call_looking(|_| work(), || Ok(None)), Ok(2), "not done, so it is done now");

    let mut work = after(&[AMBIGUOUS; 9]);
    let gave_up = retry.call_looking(|_| work(), || Ok(None)).unwrap_err();
    assert_eq!((gave_up.why, gave_up.attempts), (Why::Attempts, 3));

    let mut work = after(&[AMBIGUOUS]);
    let gave_up = retry.call_looking(|_| work(), || Err(TRANSIENT)).unwrap_err();
    assert_eq!(gave_up, GaveUp { why: Why::Ambiguous, attempts: 1, last: Some(TRANSIENT) });
    let mut work = after(&[AMBIGUOUS]);
    let gave_up = retry.call_looking(|_| work(), || Err(PERMANENT)).unwrap_err();
    assert_eq!((gave_up.why, gave_up.last), (Why::Ambiguous, Some(PERMANENT)));
}

#[test]
fn no_pause_begins_that_would_end_too_late() {
    let (retry, time) = with(Policy { total_time: Some(ms(200)), ..plain(9) });
    let gave_up = retry.call(after(&[TRANSIENT; 9])).unwrap_err();
    assert_eq!((gave_up.why.clone(), gave_up.attempts), (Why::Time, 3));
    assert_eq!(time.pauses(), [ms(50), ms(100)]);
    assert_eq!(gave_up.class(), ErrorClass::Transient);
}

#[test]
fn a_call_is_told_its_number_and_its_time() {
    let policy = Policy { attempt_time: Some(ms(120)), total_time: Some(ms(200)), ..plain(9) };
    let (retry, _) = with(policy);
    let mut told = Vec::new();
    let gave_up = retry.call_by(
        |_: &()| ErrorClass::Transient,
        |attempt| {
            told.push((attempt.number, attempt.time.unwrap()));
            Err::<(), _>(())
        },
    );
    assert!(gave_up.is_err());
    assert_eq!(told, [(1, ms(120)), (2, ms(120)), (3, ms(50))], "never more than is left");
}

#[test]
fn calls_to_one_place_share_its_breaker_and_its_budget() {
    let (retry, time) = with(plain(3).guarded());
    assert!(retry.call(after(&[TRANSIENT; 3])).is_err());
    let gave_up = retry.clone().call(after(&[TRANSIENT; 3])).unwrap_err();
    assert_eq!(gave_up.attempts, 2, "the fifth failure in a row opened it");
    assert!(matches!(&gave_up.why, Why::Held(not_now) if not_now.why == Held::Breaker));
    let not_tried = retry.call(after(&[])).unwrap_err();
    assert_eq!((not_tried.attempts, not_tried.last.clone()), (0, None));
    assert_eq!(not_tried.class(), ErrorClass::Snooze { after: Duration::from_secs(5) });
    assert!(not_tried.to_string().contains("too many calls failed"), "{not_tried}");
    time.pass(Duration::from_secs(5));
    assert_eq!(retry.call(after(&[])), Ok(1));

    let (retry, _) = with(Policy { breaker: None, ..plain(100).guarded() });
    let gave_up = retry.call(after(&[TRANSIENT; 99])).unwrap_err();
    assert!(matches!(&gave_up.why, Why::Held(not_now) if not_now.why == Held::Budget), "{gave_up:?}");
    assert!((31..60).contains(&gave_up.attempts), "{}", gave_up.attempts);
    assert!(matches!(gave_up.class(), ErrorClass::Throttled { .. }));
}

#[test]
fn a_closure_has_the_repeats_as_a_method() {
    let (retry, _) = with(plain(3));
    assert_eq!(after(&[TRANSIENT]).retry(&retry), Ok(2));
}

#[test]
fn what_is_left_of_a_call_settles_a_job() {
    let (retry, _) = with(plain(2));
    let failure = JobFailure::from(retry.call(after(&[PERMANENT])).unwrap_err());
    assert_eq!(failure, JobFailure::permanent("failed for good at attempt 1: Permanent"));
}

#[tokio::test]
async fn tasks_are_tried_again_too() {
    let (retry, time) = with(plain(3));
    let mut work = after(&[TRANSIENT]);
    assert_eq!((|| ready(work())).retry_async(&retry).await, Ok(2));
    assert_eq!(time.pauses(), [ms(50)]);
}

#[tokio::test]
async fn a_task_that_takes_too_long_is_cut_and_may_have_been_done() {
    let (retry, time) = with(Policy { attempt_time: Some(ms(80)), ..plain(2) });
    let hang = || std::future::pending::<Result<(), Failure>>();
    let gave_up = retry.call_async(hang).await.unwrap_err();
    assert_eq!(gave_up, GaveUp { why: Why::Ambiguous, attempts: 1, last: None });
    assert_eq!(time.now(), ms(80));
    let gave_up = retry.clone().harmless().call_async(hang).await.unwrap_err();
    assert_eq!((gave_up.why.clone(), gave_up.attempts), (Why::Attempts, 2));
    assert_eq!(gave_up.to_string(), "failed 2 times: no answer in time");
    let found = retry.call_async_looking(|_| hang(), || ready(Ok(Some(())))).await;
    assert_eq!(found, Ok(()));
}

#[tokio::test(start_paused = true)]
async fn the_real_clock_follows_a_paused_one() {
    let retry = retry(plain(3), &Pace::real(1));
    let began = tokio::time::Instant::now();
    let mut work = after(&[TRANSIENT, TRANSIENT]);
    assert_eq!(retry.call_async(|| ready(work())).await, Ok(3));
    assert!(began.elapsed() >= ms(150));
    let slow = Policy { attempt_time: Some(ms(80)), ..plain(1) };
    let slow = super::retry(slow, &Pace::real(1));
    let late = || async {
        tokio::time::sleep(ms(500)).await;
        Ok::<_, Failure>(())
    };
    assert_eq!(slow.call_async(late).await.unwrap_err().why, Why::Ambiguous);
}
