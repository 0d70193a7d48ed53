use proptest::prelude::*;

use super::*;

fn utc(text: &str) -> DateTime<Utc> {
    text.parse().unwrap()
}

fn seconds(count: i64) -> TimeDelta {
    TimeDelta::seconds(count)
}

#[test]
fn it_starts_inside_a_session() {
    let within = utc("2026-11-24T15:12:13.123456Z");
    assert_eq!(ReplayClock::start(within, Decimal::ONE).unwrap().now(within), within);
    let holiday = utc("2026-11-26T15:00:00Z");
    assert_eq!(ReplayClock::start(holiday, Decimal::ONE).unwrap().now(holiday), utc("2026-11-27T14:30:00Z"));
    let night = utc("2026-11-24T05:00:00Z");
    assert_eq!(ReplayClock::start(night, Decimal::ONE).unwrap().now(night), utc("2026-11-24T14:30:00Z"));
}

#[test]
fn it_jumps_from_a_close_to_the_next_opening() {
    let start = utc("2026-11-25T20:59:00Z");
    let mut clock = ReplayClock::start(start, Decimal::from(60)).unwrap();
    assert_eq!(clock.now(start + TimeDelta::milliseconds(999)), utc("2026-11-25T20:59:59.940Z"));
    // Thanksgiving is skipped, the half day after it counts 3.5 hours.
    assert_eq!(clock.now(start + seconds(1)), utc("2026-11-27T14:30:00Z"));
    assert_eq!(clock.now(start + seconds(1 + 210)), utc("2026-11-30T14:30:00Z"));
}

#[test]
fn it_never_goes_back() {
    let start = utc("2026-11-24T15:00:00Z");
    let mut clock = ReplayClock::start(start, Decimal::ONE).unwrap();
    let later = clock.now(start + seconds(100));
    assert_eq!(clock.now(start + seconds(10)), later, "the real clock was set back");
    let asked = start + seconds(1);
    assert_eq!(clock.set_time(asked, start + seconds(100)), Err(ClockError::Back { now: later, asked }));
    // A restart from the state at start goes on where time would be, and not before what the store has seen.
    let state = clock.state().clone();
    let mut again = ReplayClock::restore(state.clone(), start, start + seconds(100)).unwrap();
    assert_eq!(again.now(start + seconds(100)), later);
    let floor = start + seconds(500);
    let mut again = ReplayClock::restore(state, floor, start + seconds(100)).unwrap();
    assert_eq!(again.now(start + seconds(100)), floor);
    assert_eq!(again.now(start + seconds(101)), floor + seconds(1));
}

#[test]
fn speed_and_session_can_be_set() {
    let start = utc("2026-11-24T15:00:00Z");
    let mut clock = ReplayClock::start(start, Decimal::ONE).unwrap();
    clock.set_speed(Decimal::ZERO, start + seconds(5)).unwrap();
    assert_eq!(clock.now(start + seconds(500)), start + seconds(5));
    assert_eq!(clock.set_speed(Decimal::from(-1), start), Err(ClockError::Speed(Decimal::from(-1))));
    assert!(clock.set_speed(Decimal::from(MAX_SPEED + 1), start).is_err());

    let real = start + seconds(500);
    clock.set_session(Session::After, real);
    assert_eq!(clock.now(real), utc("2026-11-24T21:00:00Z"));
    clock.set_speed(Decimal::from(3_600), real).unwrap();
    assert_eq!(clock.now(real + seconds(6)), utc("2026-11-25T03:00:00Z"), "round the clock now");
    clock.set_session(Session::Regular, real + seconds(6));
    assert_eq!(clock.now(real + seconds(6)), utc("2026-11-25T14:30:00Z"));
    clock.set_time(utc("2026-11-25T15:30:00Z"), real + seconds(6)).unwrap();
    assert_eq!(clock.now(real + seconds(7)), utc("2026-11-25T16:30:00Z"));
    clock.set_time(utc("2026-11-26T15:00:00Z"), real + seconds(7)).unwrap();
    assert_eq!(clock.state().hours, Hours::RoundTheClock, "a holiday was asked for");
}

proptest! {
    #[test]
    fn time_rises_over_any_run(
        speed in 0u32..=MAX_SPEED,
        steps in prop::collection::vec((0i64..100_000_000, 0u8..6), 1..60),
    ) {
        let mut real = utc("2026-11-24T12:00:00Z");
        let mut clock = ReplayClock::start(real, Decimal::from(speed)).unwrap();
        let mut last = clock.now(real);
        prop_assert_eq!(calendar::session_of(last), Session::Regular);
        for (micros, what) in steps {
            real += TimeDelta::microseconds(micros);
            match what {
                0 => clock.set_speed(Decimal::from(micros % i64::from(MAX_SPEED)), real).unwrap(),
                1 => clock = ReplayClock::restore(clock.state().clone(), last, real).unwrap(),
                2 => real -= TimeDelta::microseconds(micros / 2),
                3 => clock.set_session(Session::Regular, real),
                _ => {}
            }
            let now = clock.now(real);
            prop_assert!(now >= last);
            prop_assert_eq!(calendar::session_of(now), Session::Regular);
            last = now;
        }
    }
}
