use super::super::class::ErrorClass;
use super::super::dependency::Held;
use super::super::time::TestTime;
use super::*;

struct Failure(ErrorClass);

impl Classify for Failure {
    fn class(&self) -> ErrorClass {
        self.0
    }
}

fn place(time: &TestTime) -> Arc<Shared<&'static str>> {
    let policy = Policy { attempt_time: Some(Duration::from_secs(5)), ..Policy::BROKER_QUERY };
    Arc::new(Shared::new("the broker", &policy, Arc::new(time.clone())))
}

fn fail(party: &Party<&'static str>, times: usize) {
    for _ in 0..times {
        party.first().unwrap().ended(&Err::<(), _>(Failure(ErrorClass::Transient)));
    }
}

#[test]
fn one_party_s_failures_stop_that_party_and_nobody_else() {
    let time = TestTime::default();
    let place = place(&time);
    let (bad, good) = (place.party("a"), place.party("b"));
    fail(&bad, 5);
    let not_now = bad.first().unwrap_err();
    assert_eq!((&*not_now.name, not_now.why), ("the broker for a", Held::Breaker));
    assert_eq!(place.check(&"a"), Err(not_now));
    assert_eq!(place.check(&"b"), Ok(()));
    good.first().unwrap().answered();
    // However long it goes on, and whoever asks for how it is.
    for _ in 0..20 {
        time.pass(Duration::from_secs(60));
        fail(&bad, 1);
        assert!(bad.first().is_err());
        good.first().unwrap().answered();
    }
}

#[test]
fn failures_of_two_parties_are_the_place_s() {
    let time = TestTime::default();
    let place = place(&time);
    let (one, two, three) = (place.party("a"), place.party("b"), place.party("c"));
    fail(&one, 3);
    fail(&two, 3);
    fail(&one, 1);
    assert_eq!(place.check(&"c"), Ok(()), "four of them count: all after the first party's");
    fail(&two, 1);
    assert_eq!(&*three.first().unwrap_err().name, "the broker");
    time.pass(Duration::from_secs(5));
    three.first().unwrap().answered();
    assert_eq!(place.check(&"a"), Ok(()), "neither was called often enough to be given rest by itself");
}

#[test]
fn a_party_that_was_answered_since_is_no_second_one() {
    let time = TestTime::default();
    let place = place(&time);
    let (bad, good) = (place.party("a"), place.party("b"));
    fail(&good, 1);
    good.first().unwrap().answered();
    fail(&bad, 4);
    assert_eq!(place.check(&"b"), Ok(()));
    fail(&good, 1);
    time.pass(Duration::from_secs(31));
    fail(&bad, 1);
    assert!(bad.first().is_err());
    assert_eq!(place.check(&"b"), Ok(()), "its failure is long past");
}

#[test]
fn the_only_party_is_the_place() {
    let time = TestTime::default();
    let place = place(&time);
    let gone = place.party("gone");
    let (party, same) = (place.party("a"), place.party("a"));
    drop(gone);
    drop(same);
    fail(&party, 5);
    assert!(party.first().is_err());
    assert_eq!(&*place.party("b").first().unwrap_err().name, "the broker");
    time.pass(Duration::from_secs(5));
    fail(&party, 1);
    time.pass(Duration::from_secs(5));
    assert!(party.first().is_err(), "a failed try doubles the rest");
    time.pass(Duration::from_secs(5));
    party.first().unwrap().answered();
    party.first().unwrap().answered();
}

#[test]
fn what_is_put_off_by_the_place_says_nothing_about_the_party() {
    let time = TestTime::default();
    let place = place(&time);
    let (one, two) = (place.party("a"), place.party("b"));
    for _ in 0..3 {
        fail(&one, 1);
        fail(&two, 1);
    }
    let three = place.party("c");
    for _ in 0..20 {
        assert_eq!(&*three.first().unwrap_err().name, "the broker");
    }
    time.pass(Duration::from_secs(5));
    three.first().unwrap().answered();
    assert_eq!(place.check(&"c"), Ok(()));
}

#[test]
fn a_call_that_is_dropped_counts_only_when_it_took_its_time() {
    let time = TestTime::default();
    let place = place(&time);
    let party = place.party("a");
    for _ in 0..20 {
        drop(party.first().unwrap());
        party.first().unwrap().unused();
        let throttled = ErrorClass::Throttled { after: Duration::ZERO };
        party.first().unwrap().ended(&Err::<(), _>(Failure(throttled)));
    }
    assert_eq!(place.check(&"a"), Ok(()));
    for _ in 0..5 {
        let pass = party.first().unwrap();
        time.pass(Duration::from_secs(5));
        drop(pass);
    }
    assert!(place.check(&"a").is_err());
}

#[test]
fn parties_share_the_budget_of_repeats() {
    let time = TestTime::default();
    let place = place(&time);
    let _party = place.party("a");
    let repeats = (0..1_000).take_while(|_| place.repeat().is_ok()).count();
    assert_eq!(repeats, 30);
    assert_eq!(place.repeat().unwrap_err().why, Held::Budget);
}
