use proptest::prelude::*;

use super::*;

const fn secs(n: u64) -> Duration {
    Duration::from_secs(n)
}

fn usual() -> Breaker {
    Breaker::new(BreakerSettings::USUAL)
}

fn call(breaker: &Breaker, outcome: Outcome, at: Duration) -> Change {
    breaker.record(breaker.admit(at).unwrap(), outcome, at)
}

fn opened() -> Breaker {
    let breaker = usual();
    for n in 1..5 {
        assert_eq!(call(&breaker, Outcome::Failed, secs(0)), Change::None, "{n}");
    }
    assert_eq!(call(&breaker, Outcome::Failed, secs(0)), Change::Opened { pause: secs(5) });
    breaker
}

#[test]
fn five_failures_in_a_row_open_it_for_five_seconds() {
    let breaker = opened();
    assert_eq!(breaker.admit(secs(2)), Err(secs(3)));
    assert_eq!(breaker.check(secs(5)), Ok(()));
}

#[test]
fn an_answer_between_failures_breaks_the_row() {
    let breaker = usual();
    for outcome in [Outcome::Failed, Outcome::Failed, Outcome::Answered, Outcome::Failed, Outcome::Failed] {
        assert_eq!(call(&breaker, outcome, secs(0)), Change::None);
    }
    assert_eq!(call(&breaker, Outcome::Nothing, secs(0)), Change::None, "says nothing either way");
    assert_eq!(call(&breaker, Outcome::Failed, secs(0)), Change::None);
    assert_eq!(call(&breaker, Outcome::Failed, secs(0)), Change::None);
    assert_ne!(call(&breaker, Outcome::Failed, secs(0)), Change::None);
}

#[test]
fn half_of_twenty_in_thirty_seconds_open_it() {
    let breaker = usual();
    for n in 0..19 {
        let outcome = if n % 2 == 0 { Outcome::Answered } else { Outcome::Failed };
        assert_eq!(call(&breaker, outcome, secs(n)), Change::None, "{n}");
    }
    assert_eq!(call(&breaker, Outcome::Failed, secs(19)), Change::Opened { pause: secs(5) });
}

#[test]
fn what_is_older_than_the_window_does_not_count() {
    let breaker = usual();
    for n in 0..19 {
        let outcome = if n % 2 == 0 { Outcome::Answered } else { Outcome::Failed };
        call(&breaker, outcome, secs(0));
    }
    assert_eq!(call(&breaker, Outcome::Failed, secs(31)), Change::None, "alone in its window");
}

#[test]
fn one_probe_decides_and_failed_ones_double_the_pause_up_to_the_longest() {
    let breaker = opened();
    let (mut now, mut pauses) = (secs(5), Vec::new());
    for _ in 0..5 {
        let ticket = breaker.admit(now).unwrap();
        assert_eq!(breaker.admit(now), Err(secs(1)), "one at a time");
        let Change::Opened { pause } = breaker.record(ticket, Outcome::Failed, now) else { panic!() };
        pauses.push(pause.as_secs());
        now += pause;
    }
    assert_eq!(pauses, [10, 20, 40, 60, 60]);
    assert_eq!(call(&breaker, Outcome::Answered, now), Change::Closed);
    for _ in 0..4 {
        assert_eq!(call(&breaker, Outcome::Failed, now), Change::None, "it counts afresh");
    }
    assert_eq!(call(&breaker, Outcome::Failed, now), Change::Opened { pause: secs(5) }, "and pauses afresh");
}

#[test]
fn a_probe_that_says_nothing_leaves_the_place_to_the_next() {
    let breaker = opened();
    assert_eq!(call(&breaker, Outcome::Nothing, secs(5)), Change::None);
    assert_eq!(call(&breaker, Outcome::Answered, secs(5)), Change::Closed);
}

#[test]
fn calls_from_before_it_opened_change_nothing() {
    let breaker = usual();
    let early = breaker.admit(secs(0)).unwrap();
    for _ in 0..5 {
        call(&breaker, Outcome::Failed, secs(0));
    }
    assert_eq!(breaker.record(early, Outcome::Answered, secs(1)), Change::None);
    assert_eq!(breaker.admit(secs(1)), Err(secs(4)), "still open");
    let probe = breaker.admit(secs(5)).unwrap();
    assert_eq!(breaker.record(early, Outcome::Failed, secs(6)), Change::None);
    assert_eq!(breaker.record(probe, Outcome::Answered, secs(6)), Change::Closed);
}

proptest! {
    #[test]
    fn it_is_never_shut_for_longer_than_the_longest_pause(
        steps in proptest::collection::vec((0..3u8, 0..20_000u64), 1..300),
    ) {
        let (breaker, mut now) = (usual(), Duration::ZERO);
        for (kind, ms) in steps {
            now += Duration::from_millis(ms);
            match breaker.admit(now) {
                Ok(ticket) => {
                    let outcome = [Outcome::Answered, Outcome::Failed, Outcome::Nothing][usize::from(kind)];
                    breaker.record(ticket, outcome, now);
                }
                Err(after) => {
                    prop_assert!(after <= BreakerSettings::USUAL.open_longest);
                    prop_assert_eq!(breaker.check(now + after), Ok(()));
                }
            }
        }
    }
}
