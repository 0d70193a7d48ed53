use plimsoll_core_domain::BrokerOrderId;
use plimsoll_core_domain::broker::{BrokerError, BrokerOrder, BrokerStatus};

use super::*;
use crate::submit::CancelPayload;
use crate::testing::Answer;

/// An order that is live here and at the broker, with a cancel asked for.
fn live() -> (World, Order) {
    let world = World::new();
    let mut order = world.order(OrderType::Limit, 1);
    let seen = FakeBroker::taken("b-1", "plm-1", &order.terms, world.store.now());
    order.status = OrderStatus::Submitting;
    order.observe(&seen, world.store.now()).unwrap();
    world.broker.put(seen);
    world.store.put_order(order.clone());
    world.enqueue(&CancelPayload::job(&order)).unwrap();
    (world, order)
}

#[test]
fn a_live_order_is_asked_to_be_canceled_once() {
    let (world, order) = live();
    assert_eq!(world.enqueue(&CancelPayload::job(&order)), None, "one open wish per order");
    world.settle_down();
    assert_eq!(world.broker.calls(), ["cancel b-1"]);
    assert_eq!(world.store.order(order.id).status, OrderStatus::PendingCancel, "the stream brings the rest");
    assert_eq!(world.store.history(order.id), ["cancel_asked"]);
}

#[test]
fn an_order_that_was_never_sent_is_canceled_here() {
    let world = World::new();
    let order = world.accept(OrderType::Market);
    world.enqueue(&CancelPayload::job(&order)).unwrap();
    world.settle_down();
    assert_eq!(world.store.order(order.id).status, OrderStatus::Canceled, "the cancel goes first");
    assert!(world.broker.calls().is_empty());
    assert!(world.store.jobs().iter().all(|row| row.state == JobState::Done));
}

#[test]
fn an_order_that_was_put_off_is_withdrawn_and_stays_revivable() {
    let world = World::new();
    let order = world.accept(OrderType::Limit);
    world.broker.answer_sends([Answer::Error(BrokerError::Throttled { retry_after: secs(30) })]);
    world.process(1, Faults::default()).run_due(1).unwrap();
    world.enqueue(&CancelPayload::job(&order)).unwrap();
    world.watch_on();
    assert_eq!(world.store.order(order.id).status, OrderStatus::NotSent);
    assert_eq!((world.broker.count("submit"), world.broker.count("cancel")), (1, 0));
    assert!(world.store.jobs().iter().all(|row| row.state == JobState::Done), "the watch has an end");
}

#[test]
fn a_cancel_waits_until_the_orders_fate_is_known() {
    let world = World::new();
    let order = world.accept(OrderType::Limit);
    world.broker.answer_sends([Answer::Lost]);
    world.broker.answer_looks([Answer::Broken, Answer::Broken]);
    world.process(1, Faults::default()).run_due(1).unwrap();
    world.enqueue(&CancelPayload::job(&order)).unwrap();
    world.settle_down();
    assert_eq!(world.store.order(order.id).status, OrderStatus::PendingCancel);
    let calls = world.broker.calls();
    assert_eq!(calls.last().map(String::as_str), Some("cancel b-1"), "{calls:?}");
}

#[test]
fn a_cancel_that_meets_a_fill_takes_the_fill() {
    let (world, order) = live();
    let filled = world.broker.orders()[0].clone();
    world.broker.put(BrokerOrder {
        status: BrokerStatus::Known(OrderStatus::Filled),
        filled_qty: Decimal::TEN,
        updated_at: world.store.now() + TimeDelta::seconds(1),
        ..filled
    });
    world.settle_down();
    assert_eq!(world.broker.calls(), ["cancel b-1", "order b-1"]);
    let after = world.store.order(order.id);
    assert_eq!(after.unbooked_qty(), Decimal::TEN, "the fill is to be fetched");
    assert_eq!(after.broker.unwrap().status, OrderStatus::Filled);
    assert_eq!(world.job_state(), JobState::Done);
}

#[test]
fn unclear_answers_are_answered_by_asking_again() {
    let (world, order) = live();
    let throttled = Answer::Error(BrokerError::Throttled { retry_after: secs(3) });
    world.broker.answer_sends([Answer::Broken, Answer::Never, throttled, Answer::Lost]);
    world.settle_down();
    assert_eq!(world.broker.count("cancel"), 5);
    assert_eq!(
        world.store.order(order.id).status,
        OrderStatus::Canceled,
        "refused the fifth time: it is canceled"
    );
}

#[test]
fn an_outage_of_the_broker_uses_no_cancel_up() {
    let (world, order) = live();
    let began = world.store.now();
    let away = Answer::Error(BrokerError::Unreachable("connection refused".into()));
    world.broker.answer_sends(std::iter::repeat_n(away, 200));
    world.broker.answer_sends(std::iter::repeat_n(Answer::Broken, 200));
    let throttled = Answer::Error(BrokerError::Throttled { retry_after: secs(7) });
    world.broker.answer_sends(std::iter::repeat_n(throttled, 100));
    world.settle_down();
    assert_eq!(world.broker.count("cancel"), 501);
    assert_eq!(world.store.now() - began, TimeDelta::seconds(400 * 5 + 100 * 7));
    assert_eq!(world.store.order(order.id).status, OrderStatus::PendingCancel);
    assert_eq!((world.job_state(), world.store.jobs()[0].job.attempt), (JobState::Done, 1));
}

#[test]
fn a_cancel_that_is_put_off_ends_with_its_order() {
    let (world, order) = live();
    world.broker.answer_sends([Answer::Never]);
    let runner = world.process(1, Faults::default());
    assert_eq!(runner.run_due(1).unwrap(), 1);
    let row = &world.store.jobs()[0];
    assert_eq!((row.state, row.job.attempt), (JobState::Ready, 0), "no attempt is used up");
    assert_eq!(row.run_at - world.store.now(), TimeDelta::seconds(5));
    let mut done = world.store.order(order.id);
    done.status = OrderStatus::Filled;
    world.store.put_order(done);
    world.settle_down();
    assert_eq!(world.broker.count("cancel"), 1);
    assert_eq!(world.job_state(), JobState::Done);
}

#[test]
fn a_look_after_a_refused_cancel_survives_an_outage_too() {
    let (world, order) = live();
    let refused = BrokerError::Refused { status: 422, code: None, message: "not now".into() };
    world.broker.answer_sends(std::iter::repeat_n(Answer::Error(refused), 60));
    let at_once = Answer::Error(BrokerError::Throttled { retry_after: Duration::ZERO });
    world.broker.answer_looks(std::iter::repeat_n(Answer::Broken, 30));
    world.broker.answer_looks(std::iter::repeat_n(at_once, 29));
    let began = world.store.now();
    world.settle_down();
    assert_eq!((world.broker.count("cancel"), world.broker.count("order")), (61, 60));
    let looking = TimeDelta::milliseconds(30 * 5_000 + 29 * 250);
    assert_eq!(world.store.now() - began, looking + looking / 8, "an eighth of the wish's age later");
    assert_eq!(world.store.order(order.id).status, OrderStatus::PendingCancel, "it was open: asked again");
    assert_eq!(world.job_state(), JobState::Done);
}

#[test]
fn a_cancel_that_is_refused_now_is_asked_for_until_the_order_is_final() {
    let (world, order) = live();
    let refused = BrokerError::Refused { status: 422, code: None, message: "pending_new".into() };
    world.broker.answer_sends(std::iter::repeat_n(Answer::Error(refused), 40));
    world.settle_down();
    assert_eq!(world.broker.count("cancel"), 41);
    assert_eq!(world.store.order(order.id).status, OrderStatus::PendingCancel);
    assert_eq!(world.broker.orders()[0].status, BrokerStatus::Known(OrderStatus::Canceled));
    assert_eq!((world.job_state(), world.store.jobs()[0].job.attempt), (JobState::Done, 1));
}

#[test]
fn a_cancel_that_is_refused_for_a_week_is_for_a_human() {
    let (world, order) = live();
    let refused = BrokerError::Refused { status: 422, code: None, message: "never".into() };
    world.broker.answer_sends(std::iter::repeat_n(Answer::Error(refused), 40_000));
    world.store.advance(timings().watch_keep);
    world.settle_down();
    assert_eq!(world.job_state(), JobState::Dead);
    assert_eq!(world.store.order(order.id).status, OrderStatus::New);
}

#[test]
fn an_order_that_is_not_shown_yet_is_canceled_when_it_is() {
    let (world, order) = live();
    let mut fresh = world.store.order(order.id);
    fresh.submit = SubmitNotes { attempts: 1, started_at: Some(world.store.now()), ..fresh.submit };
    world.store.put_order(fresh);
    world.broker.answer_sends(std::iter::repeat_n(Answer::Error(BrokerError::NotFound), 3));
    world.broker.answer_looks(std::iter::repeat_n(Answer::Error(BrokerError::NotFound), 3));
    world.settle_down();
    assert_eq!(world.broker.count("cancel"), 4);
    assert_eq!(world.store.order(order.id).status, OrderStatus::PendingCancel);
    assert_eq!(world.job_state(), JobState::Done);
}

#[test]
fn a_cancel_of_an_order_that_is_replaced_meanwhile_holds_for_its_replacement() {
    let (world, old) = live();
    let seen = FakeBroker::taken("b-2", "plm-2", &old.terms, world.store.now());
    let mut new = Order { replaces: Some(old.id), ..world.order(OrderType::Limit, 2) };
    new.status = OrderStatus::Submitting;
    new.observe(&seen, world.store.now()).unwrap();
    world.store.put_order(new.clone());
    world.broker.put(seen);
    let mut gone = world.broker.orders()[0].clone();
    gone.status = BrokerStatus::Known(OrderStatus::Replaced);
    gone.updated_at = world.store.now() + TimeDelta::seconds(1);
    world.broker.put(gone);
    // the link is known a moment later than the end of the old one
    world.process(1, Faults::default()).run_due(1).unwrap();
    world.process(1, Faults::default()).run_due(1).unwrap();
    assert_eq!(world.store.order(old.id).status, OrderStatus::Replaced);
    let mut linked = world.store.order(old.id);
    linked.replaced_by = Some(new.id);
    world.store.put_order(linked);
    world.settle_down();
    assert_eq!(world.store.order(new.id).status, OrderStatus::PendingCancel);
    assert_eq!(world.broker.calls().last().map(String::as_str), Some("cancel b-2"));
    assert!(world.store.jobs().iter().all(|row| row.state == JobState::Done));
}

#[test]
fn an_order_that_the_broker_does_not_know_is_for_a_human() {
    let (world, order) = live();
    let mut lost = world.store.order(order.id);
    lost.broker_order_id = Some(BrokerOrderId::new("b-9").unwrap());
    world.store.put_order(lost);
    world.settle_down();
    assert_eq!(world.job_state(), JobState::Dead);
}

#[test]
fn a_final_order_needs_no_call() {
    let (world, order) = live();
    let mut done = world.store.order(order.id);
    done.status = OrderStatus::Expired;
    world.store.put_order(done);
    world.settle_down();
    assert!(world.broker.calls().is_empty());
    assert_eq!(world.job_state(), JobState::Done);
}

#[test]
fn a_crash_at_any_step_of_a_cancel_is_mended_by_asking_again() {
    for step in 1..=12 {
        let (world, order) = live();
        let _ = world.process(1, Faults::dying_at(step)).run_due(1);
        world.settle_down();
        let status = world.store.order(order.id).status;
        assert!(
            matches!(status, OrderStatus::PendingCancel | OrderStatus::Canceled),
            "step {step}: {status}"
        );
        assert_eq!(
            world.broker.orders()[0].status,
            BrokerStatus::Known(OrderStatus::Canceled),
            "step {step}"
        );
        assert_eq!(world.job_state(), JobState::Done, "step {step}");
    }
}
