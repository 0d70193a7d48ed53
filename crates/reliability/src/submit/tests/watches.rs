use plimsoll_core_domain::broker::{BrokerError, BrokerStatus};

use super::*;
use crate::submit::CancelPayload;
use crate::testing::Answer;

/// Processes work until the order counts as not sent.
fn given_up(world: &World, order: &Order) {
    let runner = world.process(1, Faults::default());
    for _ in 0..200 {
        while runner.run_due(10).unwrap() > 0 {}
        if world.store.order(order.id).status == OrderStatus::NotSent {
            return;
        }
        world.store.advance(secs(1));
    }
    panic!("it is {}", world.store.order(order.id).status);
}

/// An order that was sent twice without a clear answer and was never found.
fn missing() -> (World, Order) {
    let world = World::new();
    let order = world.accept(OrderType::Limit);
    world.broker.answer_sends([Answer::Broken, Answer::Broken]);
    given_up(&world, &order);
    (world, order)
}

fn watch(world: &World) -> JobState {
    world.store.jobs().into_iter().find(|row| row.job.kind == WATCH_ORDER).expect("a watch").state
}

#[test]
fn what_may_have_left_is_looked_for_during_a_week() {
    let (world, order) = missing();
    let (looks, began) = (world.broker.count("look"), world.store.now());
    world.watch_on();
    assert_eq!(world.store.order(order.id).status, OrderStatus::NotSent);
    assert_eq!((world.broker.count("submit"), watch(&world)), (2, JobState::Done));
    let looks = world.broker.count("look") - looks;
    assert!((20..60).contains(&looks), "{looks} looks: often at first, then twice a day");
    let took = world.store.now() - began;
    assert!(took > TimeDelta::days(6) && took <= TimeDelta::days(7), "{took}");
}

#[test]
fn an_order_that_was_never_sent_is_not_looked_for() {
    let world = World::new();
    let order = world.accept(OrderType::Market);
    world.store.advance(secs(60));
    world.watch_on();
    assert_eq!(world.store.order(order.id).status, OrderStatus::NotSent);
    assert_eq!((world.broker.calls().len(), world.store.jobs().len()), (0, 1));
}

#[test]
fn an_order_that_appears_late_comes_alive() {
    for days in [0, 1, 6] {
        let (world, order) = missing();
        world.store.advance(secs(days * 86_400));
        world.broker.put(FakeBroker::taken("b-7", "plm-1", &order.terms, world.store.now()));
        world.watch_on();
        let after = world.store.order(order.id);
        assert_eq!((after.status, after.closed_at), (OrderStatus::New, None), "after {days} days");
        assert_eq!(world.store.history(order.id).last(), Some(&"revived"));
        assert_eq!((watch(&world), world.broker.count("submit")), (JobState::Done, 2));
    }
}

#[test]
fn another_order_that_appears_late_under_its_id_is_for_a_human() {
    let (world, order) = missing();
    let mut other = FakeBroker::taken("b-7", "plm-1", &order.terms, world.store.now());
    other.qty = Some(Decimal::ONE);
    world.broker.put(other);
    world.watch_on();
    assert_eq!(world.store.order(order.id).status, OrderStatus::Conflict);
    assert_eq!(watch(&world), JobState::Dead);
}

#[test]
fn an_order_that_was_to_be_canceled_is_canceled_when_it_comes_alive() {
    let world = World::new();
    let order = world.accept(OrderType::Limit);
    world.broker.answer_sends([Answer::Broken, Answer::Broken]);
    world.process(1, Faults::default()).run_due(1).unwrap();
    world.enqueue(&CancelPayload::job(&order)).unwrap();
    given_up(&world, &order);
    world.store.advance(secs(3 * 86_400));
    while world.process(1, Faults::default()).run_due(10).unwrap() > 0 {}
    world.broker.put(FakeBroker::taken("b-7", "plm-1", &order.terms, world.store.now()));
    world.watch_on();
    assert_eq!(
        world.store.history(order.id).iter().rev().take(2).copied().collect::<Vec<_>>(),
        ["cancel_asked", "revived"]
    );
    assert_eq!(world.broker.orders()[0].status, BrokerStatus::Known(OrderStatus::Canceled));
}

#[test]
fn an_outage_does_not_end_the_watch() {
    let (world, order) = missing();
    let away = Answer::Error(BrokerError::Unreachable("connection refused".into()));
    world.broker.answer_looks(std::iter::repeat_n(away, 50));
    world.store.advance(secs(8 * 86_400));
    let runner = world.process(1, Faults::default());
    while runner.run_due(10).unwrap() > 0 {}
    assert_eq!(watch(&world), JobState::Ready, "the week is over, and no clear word came");
    world.broker.put(FakeBroker::taken("b-7", "plm-1", &order.terms, world.store.now()));
    world.watch_on();
    assert_eq!(world.store.order(order.id).status, OrderStatus::New);
}

#[test]
fn a_watch_without_any_clear_word_is_for_a_human_in_the_end() {
    let (world, order) = missing();
    let away = Answer::Error(BrokerError::Unreachable("connection refused".into()));
    world.broker.answer_looks(std::iter::repeat_n(away, 50));
    world.store.advance(secs(14 * 86_400 - 3_600));
    world.process(1, Faults::default()).run_due(10).unwrap();
    assert_eq!(watch(&world), JobState::Ready);
    world.store.advance(secs(3_600));
    world.process(1, Faults::default()).run_due(10).unwrap();
    assert_eq!((watch(&world), world.store.order(order.id).status), (JobState::Dead, OrderStatus::NotSent));
}

#[test]
fn a_crash_at_any_step_of_a_revival_is_mended_by_the_next_look() {
    for step in 1..=9 {
        let (world, order) = missing();
        world.store.advance(secs(3_600));
        world.broker.put(FakeBroker::taken("b-7", "plm-1", &order.terms, world.store.now()));
        let _ = world.process(1, Faults::dying_at(step)).run_due(1);
        world.watch_on();
        assert_eq!(world.store.order(order.id).status, OrderStatus::New, "step {step}");
        let revived = world.store.history(order.id).iter().filter(|cause| **cause == "revived").count();
        assert_eq!((revived, watch(&world)), (1, JobState::Done), "step {step}");
    }
}

#[test]
fn an_order_that_waits_for_the_rate_limit_ends_at_its_deadline() {
    let world = World::new();
    let order = world.accept(OrderType::Market);
    world.broker.answer_sends([Answer::Error(BrokerError::Throttled { retry_after: secs(600) })]);
    given_up(&world, &order);
    assert_eq!(world.store.now(), order.submit.deadline, "not later");
    assert_eq!(world.broker.calls(), ["submit plm-1"], "nothing was asked of the broker meanwhile");
}
