//! A process dies at each step of the protocol, another one goes on: there is never a second order, and never one less
//! than the order's state says.

use plimsoll_core_domain::broker::BrokerError;
use proptest::prelude::*;

use super::*;
use crate::testing::{Answer, StoredJob};

/// Steps of a process that claims and sends one order: claim, T1/T2 and T3 are three each (begin, before the commit, after
/// it), a call is two (before and after the broker acted). Looking adds some.
const STEPS: u64 = 16;

fn answers() -> Vec<Answer> {
    vec![
        Answer::Proper,
        Answer::Lost,
        Answer::Broken,
        Answer::Late(secs(5)),
        Answer::Late(secs(25)),
        Answer::Error(BrokerError::Throttled { retry_after: secs(7) }),
        Answer::Error(BrokerError::Unreachable("connection refused".into())),
        Answer::Error(BrokerError::Refused { status: 422, code: None, message: "no".into() }),
    ]
}

/// What must hold when everything has come to rest.
fn check(world: &World, order: &Order, context: &str) {
    let at_broker: Vec<_> =
        world.broker.orders().into_iter().filter(|seen| seen.client_order_id == "plm-1").collect();
    assert!(at_broker.len() <= 1, "{context}: two orders at the broker: {:?}", world.broker.calls());
    let after = world.store.order(order.id);
    match after.status {
        OrderStatus::New => {
            assert_eq!(at_broker.len(), 1, "{context}");
            assert_eq!(after.broker_order_id.as_ref(), Some(&at_broker[0].id), "{context}");
        }
        OrderStatus::Rejected | OrderStatus::NotSent => {
            assert!(
                at_broker.is_empty(),
                "{context}: {} but at the broker: {:?}",
                after.status,
                world.broker.calls()
            );
        }
        status => panic!("{context}: left {status}: {:?}", world.broker.calls()),
    }
    // only the watch over an order that was given up goes on
    let given_up = after.status == OrderStatus::NotSent;
    let jobs = world.store.jobs();
    let rest = |row: &StoredJob| row.state == JobState::Done || (given_up && row.job.kind == WATCH_ORDER);
    assert!(jobs.iter().all(rest), "{context}");
    assert!(world.broker.calls().iter().filter(|call| call.starts_with("submit")).count() <= 4, "{context}");
    // before any second try there was a look
    let calls = world.broker.calls();
    for pair in calls.windows(2) {
        assert!(!(pair[0].starts_with("submit") && pair[1].starts_with("submit")), "{context}: {calls:?}");
    }
}

#[test]
fn a_crash_at_any_step_leaves_exactly_the_order_that_the_state_says() {
    for (n, answer) in answers().into_iter().enumerate() {
        for step in 1..=STEPS {
            let world = World::new();
            let order = world.accept(OrderType::Limit);
            world.broker.answer_sends([answer.clone()]);
            let _ = world.process(1, Faults::dying_at(step)).run_due(1);
            world.settle_down();
            check(&world, &order, &format!("answer {n}, died at step {step}"));
            if answer == Answer::Proper {
                assert_eq!(world.store.order(order.id).status, OrderStatus::New, "died at step {step}");
            }
        }
    }
}

#[test]
fn two_crashes_in_a_row_do_no_more_harm_than_one() {
    for (n, answer) in answers().into_iter().enumerate() {
        for (first, second) in (1..=STEPS).flat_map(|first| (1..=STEPS).map(move |second| (first, second))) {
            let world = World::new();
            let order = world.accept(OrderType::Limit);
            world.broker.answer_sends([answer.clone(), answer.clone()]);
            let _ = world.process(1, Faults::dying_at(first)).run_due(1);
            world.store.advance(secs(31));
            world.process(3, Faults::default()).reap().unwrap();
            world.store.advance(secs(2));
            let _ = world.process(2, Faults::dying_at(second)).run_due(1);
            world.settle_down();
            check(&world, &order, &format!("answer {n}, died at steps {first} and {second}"));
        }
    }
}

/// The table of crash points, by what the next owner does.
#[test]
fn the_next_owner_does_what_the_table_says() {
    // claim 3, T1/T2 3, call 2, T3 3
    for (died, expected) in [
        ("after the claim", (4, vec!["submit plm-1"])),
        ("before T2 commits", (5, vec!["submit plm-1"])),
        ("after T2, before the call", (6, vec!["look plm-1", "submit plm-1"])),
        ("on the way to the broker", (7, vec!["look plm-1", "submit plm-1"])),
        ("after the broker accepted", (8, vec!["submit plm-1", "look plm-1"])),
        ("before T3 begins", (9, vec!["submit plm-1", "look plm-1"])),
        ("before T3 commits", (10, vec!["submit plm-1", "look plm-1"])),
        ("after T3 committed", (11, vec!["submit plm-1"])),
    ] {
        let (step, calls) = expected;
        let world = World::new();
        let order = world.accept(OrderType::Limit);
        let _ = world.process(1, Faults::dying_at(step)).run_due(1);
        world.settle_down();
        assert_eq!(world.broker.calls(), calls, "{died}");
        check(&world, &order, died);
    }
}

fn any_send() -> impl Strategy<Value = Answer> {
    prop_oneof![
        3 => Just(Answer::Proper),
        3 => Just(Answer::Lost),
        3 => Just(Answer::Broken),
        2 => (1..90u64).prop_map(|s| Answer::Late(secs(s))),
        1 => (1..40u64).prop_map(|s| Answer::Error(BrokerError::Throttled { retry_after: secs(s) })),
        1 => Just(Answer::Error(BrokerError::Unreachable("refused".into()))),
        1 => Just(Answer::Error(BrokerError::Refused { status: 422, code: None, message: "no".into() })),
    ]
}

fn any_look() -> impl Strategy<Value = Answer> {
    prop_oneof![
        3 => Just(Answer::Proper),
        1 => Just(Answer::Broken),
        // a broker whose index lags
        2 => Just(Answer::Error(BrokerError::NotFound)),
        1 => (1..40u64).prop_map(|s| Answer::Error(BrokerError::Throttled { retry_after: secs(s) })),
    ]
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 400, ..ProptestConfig::default() })]

    #[test]
    fn whatever_fails_there_is_at_most_one_order(
        sends in proptest::collection::vec(any_send(), 0..5),
        looks in proptest::collection::vec(any_look(), 0..12),
        deaths in proptest::collection::vec((1..40u64, 0..70u64), 0..5),
        remembers: bool,
        market: bool,
    ) {
        let world = if remembers { World::new() } else { World::without_dedupe() };
        let order = world.accept(if market { OrderType::Market } else { OrderType::Limit });
        world.broker.answer_sends(sends);
        world.broker.answer_looks(looks);
        for (n, (step, pause)) in deaths.into_iter().enumerate() {
            let mortal = world.process(n as u128 + 1, Faults::dying_at(step));
            while mortal.run_due(3).is_ok_and(|done| done > 0) {}
            world.store.advance(secs(pause));
            world.process(50, Faults::default()).reap().unwrap();
        }
        world.settle_down();
        prop_assert!(world.broker.orders().len() <= 1, "{:?}", world.broker.calls());
        let after = world.store.order(order.id);
        match after.status {
            OrderStatus::New => prop_assert_eq!(world.broker.orders().len(), 1),
            OrderStatus::Rejected => prop_assert!(world.broker.orders().is_empty(), "{:?}", world.broker.calls()),
            // a lagging index may hide an order: it comes back by its late appearance
            OrderStatus::NotSent => {}
            OrderStatus::Unknown => {
                let dead = world.job_state() == JobState::Dead;
                prop_assert!(dead, "an unknown order nobody looks after");
            }
            status => prop_assert!(false, "left {status}: {:?}", world.broker.calls()),
        }
    }
}
