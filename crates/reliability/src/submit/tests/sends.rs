use std::sync::Arc;

use plimsoll_core_domain::broker::{Broker, BrokerError, BrokerOrder};

use super::*;
use crate::submit::Brokers;
use crate::testing::Answer;

fn run(world: &World) -> usize {
    world.process(1, Faults::default()).run_due(10).unwrap()
}

#[test]
fn an_order_goes_out_once_and_is_live() {
    let world = World::new();
    let order = world.accept(OrderType::Market);
    assert_eq!(run(&world), 1);
    assert_eq!(world.broker.calls(), ["submit plm-1"]);
    let after = world.store.order(order.id);
    assert_eq!((after.status, after.submit.attempts), (OrderStatus::New, 1));
    assert_eq!(after.broker_order_id.unwrap().as_str(), "b-1");
    assert_eq!(world.store.history(order.id), ["submitting", "taken"]);
    assert_eq!(world.job_state(), JobState::Done);
    // the same job again, as after a replay of a dead letter
    world.enqueue(&SubmitPayload::job(&order)).unwrap();
    run(&world);
    assert_eq!(world.broker.calls().len(), 1);
}

#[test]
fn an_order_that_waited_too_long_is_never_sent() {
    for (order_type, seconds, sent) in [
        (OrderType::Market, 59, 1),
        (OrderType::Market, 60, 0),
        (OrderType::Limit, 299, 1),
        (OrderType::Limit, 300, 0),
    ] {
        let world = World::new();
        let order = world.accept(order_type);
        world.store.advance(secs(seconds));
        run(&world);
        assert_eq!(world.broker.calls().len(), sent, "{order_type} {seconds}");
        let after = world.store.order(order.id);
        assert_eq!(after.status == OrderStatus::NotSent, sent == 0);
        assert_eq!(world.job_state(), JobState::Done);
    }
}

#[test]
fn a_lost_answer_leaves_the_order_unknown_until_it_is_found() {
    for answer in [Answer::Lost, Answer::Late(secs(2))] {
        let world = World::new();
        let order = world.accept(OrderType::Market);
        world.broker.answer_sends([answer.clone()]);
        run(&world);
        assert_eq!(world.store.order(order.id).status, OrderStatus::Unknown);
        assert_eq!(run(&world), 0, "not before its time");
        world.settle_down();
        assert_eq!(world.store.order(order.id).status, OrderStatus::New, "{answer:?}");
        assert_eq!((world.broker.count("submit"), world.broker.orders().len()), (1, 1));
        assert_eq!(world.store.history(order.id), ["submitting", "unclear", "found"]);
    }
}

#[test]
fn no_answer_in_time_is_no_answer() {
    let world = World::new();
    let order = world.accept(OrderType::Market);
    world.broker.answer_sends([Answer::Never]);
    run(&world);
    let after = world.store.order(order.id);
    assert_eq!(after.status, OrderStatus::Unknown);
    assert_eq!(after.status_reason.as_deref(), Some("no answer from the broker in time"));
}

#[test]
fn what_did_not_arrive_is_sent_once_more_after_a_look_that_counts() {
    let world = World::new();
    let order = world.accept(OrderType::Market);
    let start = world.store.now();
    world.broker.answer_sends([Answer::Broken]);
    world.settle_down();
    assert_eq!(
        world.broker.calls(),
        ["submit plm-1", "look plm-1", "look plm-1", "look plm-1", "look plm-1", "submit plm-1"],
        "at 1, 3 and 7 s a miss means nothing, at 15 s it does"
    );
    assert_eq!(world.store.now() - start, TimeDelta::seconds(15));
    let after = world.store.order(order.id);
    assert_eq!((after.status, after.submit.attempts), (OrderStatus::New, 2));
    assert_eq!(world.broker.orders().len(), 1);
}

#[test]
fn what_never_arrives_ends_as_not_sent_after_five_misses_and_a_list() {
    let world = World::new();
    let order = world.accept(OrderType::Limit);
    world.broker.answer_sends([Answer::Broken, Answer::Broken]);
    world.settle_down();
    let after = world.store.order(order.id);
    assert_eq!(after.status, OrderStatus::NotSent);
    assert_eq!(after.status_reason.as_deref(), Some("it never reached the broker"));
    assert_eq!(after.submit.probes, 4, "the fifth miss is the one that ends it");
    assert!(world.store.now() - after.submit.started_at.unwrap() >= TimeDelta::seconds(60));
    assert_eq!((world.broker.count("submit"), world.broker.count("list")), (2, 1));
    assert_eq!(world.broker.calls().last().map(String::as_str), Some("list"));
}

#[test]
fn what_waits_when_real_money_is_forbidden_is_not_sent() {
    let mut doubts = 0;
    for first in
        [vec![], vec![Answer::Error(BrokerError::Unreachable("away".to_owned()))], vec![Answer::Broken]]
    {
        let world = World::new();
        let order = world.accept(OrderType::Limit);
        let sent = first.len();
        world.broker.answer_sends(first);
        if sent == 1 {
            world.process(99, Faults::default()).run_due(1).unwrap();
        }
        world.store.forbid(true);
        world.settle_down();
        let after = world.store.order(order.id);
        assert_eq!(after.status, OrderStatus::NotSent);
        let (reason, looks) = (after.status_reason.unwrap(), world.broker.count("look"));
        // one that may have arrived is looked for as long as any other
        let in_doubt = sent == 1 && looks > 1;
        assert!(reason.contains(if in_doubt { "never reached" } else { "forbidden" }), "{reason}");
        assert!(!in_doubt || looks >= 5, "{looks}");
        doubts += usize::from(in_doubt);
        assert_eq!((world.broker.count("submit"), world.broker.orders().len()), (sent, 0));
    }
    assert_eq!(doubts, 1);
    // what is slow to be shown is found, not given up
    let world = World::new();
    let order = world.accept(OrderType::Limit);
    world.broker.answer_sends([Answer::Late(secs(30))]);
    world.process(99, Faults::default()).run_due(1).unwrap();
    world.store.forbid(true);
    world.settle_down();
    assert_eq!(world.store.order(order.id).status, OrderStatus::New);
    assert_eq!(world.broker.count("submit"), 1);
    // what has reached the broker is known there
    let world = World::new();
    let order = world.accept(OrderType::Limit);
    world.broker.answer_sends([Answer::Lost]);
    world.process(99, Faults::default()).run_due(1).unwrap();
    world.store.forbid(true);
    world.settle_down();
    assert_eq!(world.store.order(order.id).status, OrderStatus::New);
}

#[test]
fn an_order_in_the_list_alone_is_found_there() {
    let world = World::new();
    let order = world.accept(OrderType::Limit);
    world.broker.answer_sends([Answer::Lost]);
    world.broker.answer_looks(std::iter::repeat_n(Answer::Error(BrokerError::NotFound), 4));
    // sent again at 15 s and refused as a duplicate; then not shown by its id for a long time
    world.broker.answer_looks(std::iter::repeat_n(Answer::Error(BrokerError::NotFound), 9));
    world.settle_down();
    assert_eq!(world.store.order(order.id).status, OrderStatus::New);
    assert_eq!((world.broker.count("list"), world.broker.orders().len()), (1, 1));
}

#[test]
fn a_late_appearance_revives_an_order_that_counted_as_not_sent() {
    let world = World::new();
    let order = world.accept(OrderType::Market);
    world.broker.answer_sends([Answer::Late(secs(3_600)), Answer::Broken]);
    world.settle_down();
    assert_eq!(world.store.order(order.id).status, OrderStatus::NotSent);
    world.watch_on();
    assert_eq!(world.store.order(order.id).status, OrderStatus::New);
    assert_eq!(world.store.history(order.id).last(), Some(&"revived"));
}

#[test]
fn throttled_means_no_call_before_the_time_and_a_look_before_the_next_try() {
    let world = World::new();
    let order = world.accept(OrderType::Limit);
    world.broker.answer_sends([Answer::Error(BrokerError::Throttled { retry_after: secs(30) })]);
    run(&world);
    assert_eq!(world.store.order(order.id).status, OrderStatus::PendingSubmit);
    world.store.advance(secs(29));
    assert_eq!(run(&world), 0);
    world.store.advance(secs(1));
    run(&world);
    assert_eq!(world.broker.calls(), ["submit plm-1", "look plm-1", "submit plm-1"]);
    assert_eq!(world.store.order(order.id).status, OrderStatus::New);
}

#[test]
fn a_broker_that_is_away_gets_nothing_after_the_deadline() {
    let world = World::new();
    let order = world.accept(OrderType::Market);
    let away = || Answer::Error(BrokerError::Unreachable("connection refused".into()));
    world.broker.answer_sends(std::iter::repeat_n(away(), 1_000));
    world.broker.answer_looks(std::iter::repeat_n(away(), 1_000));
    world.settle_down();
    let after = world.store.order(order.id);
    assert_eq!(after.status, OrderStatus::NotSent);
    assert_eq!(world.store.now(), order.submit.deadline, "and its owner knows at the deadline");
    assert!(world.broker.calls().len() < 20);
    assert!(world.broker.orders().is_empty());
}

#[test]
fn a_refusal_is_final() {
    let world = World::new();
    let order = world.accept(OrderType::Market);
    let refused =
        BrokerError::Refused { status: 403, code: Some(40_310_000), message: "insufficient".into() };
    world.broker.answer_sends([Answer::Error(refused)]);
    world.settle_down();
    let after = world.store.order(order.id);
    assert_eq!((after.status, after.status_reason.as_deref()), (OrderStatus::Rejected, Some("insufficient")));
    assert_eq!(world.broker.calls().len(), 1);
    assert_eq!(world.store.history(order.id), ["submitting", "rejected"]);
}

#[test]
fn a_taken_client_id_is_adopted_when_the_orders_agree() {
    let world = World::new();
    let order = world.accept(OrderType::Market);
    world.broker.put(FakeBroker::taken("b-7", "plm-1", &order.terms, world.store.now()));
    run(&world);
    let after = world.store.order(order.id);
    assert_eq!((after.status, after.broker_order_id.unwrap().as_str()), (OrderStatus::New, "b-7"));
    assert_eq!(world.broker.calls(), ["submit plm-1", "look plm-1"]);
}

#[test]
fn a_taken_client_id_with_another_order_is_a_conflict_for_a_human() {
    let world = World::new();
    let order = world.accept(OrderType::Market);
    let other = FakeBroker::taken("b-7", "plm-1", &order.terms, world.store.now());
    world.broker.put(BrokerOrder { side: Some(Side::Sell), ..other });
    world.settle_down();
    let after = world.store.order(order.id);
    assert_eq!(after.status, OrderStatus::Conflict);
    assert_eq!(after.broker_order_id, None, "it is not ours");
    assert_eq!(world.job_state(), JobState::Dead);
    assert_eq!(world.store.history(order.id), ["submitting", "conflict"]);
}

#[test]
fn a_broker_without_memory_gets_nothing_twice_and_a_human_is_asked() {
    let world = World::without_dedupe();
    let order = world.accept(OrderType::Limit);
    world.broker.answer_sends([Answer::Broken]);
    world.settle_down();
    assert_eq!(world.broker.count("submit"), 1);
    assert_eq!(world.store.order(order.id).status, OrderStatus::Unknown);
    assert_eq!(world.job_state(), JobState::Dead);

    let world = World::without_dedupe();
    let order = world.accept(OrderType::Limit);
    world.broker.answer_sends([Answer::Late(secs(100))]);
    world.settle_down();
    assert_eq!(world.store.order(order.id).status, OrderStatus::New);
    assert_eq!((world.broker.count("submit"), world.broker.orders().len()), (1, 1));
}

/// The first sending arrives at 16 s; by then the price is elsewhere, and the second one is refused.
#[test]
fn a_refusal_of_a_repeat_does_not_settle_the_first_sending() {
    let refused =
        || BrokerError::Refused { status: 422, code: Some(42_210_000), message: "stop price".into() };
    for first in [Answer::Late(secs(16)), Answer::Lost] {
        let world = World::new();
        let order = world.accept(OrderType::Limit);
        world.broker.answer_sends([first, Answer::Error(refused())]);
        world.broker.answer_looks(std::iter::repeat_n(Answer::Error(BrokerError::NotFound), 5));
        world.settle_down();
        assert_eq!(world.store.order(order.id).status, OrderStatus::New, "{:?}", world.broker.calls());
        assert_eq!((world.broker.count("submit"), world.broker.orders().len()), (2, 1));
    }
    // and where the first did not arrive, the broker's words are on record in the end, and a watch
    let world = World::new();
    let order = world.accept(OrderType::Limit);
    world.broker.answer_sends([Answer::Broken, Answer::Error(refused())]);
    world.settle_down();
    let after = world.store.order(order.id);
    assert_eq!(after.status, OrderStatus::NotSent);
    assert_eq!(after.status_reason.as_deref(), Some("refused when it was sent again (42210000): stop price"));
    assert_eq!((world.broker.count("submit"), world.broker.count("list")), (2, 1));
    assert!(world.store.jobs().iter().any(|row| row.job.kind == WATCH_ORDER && row.state == JobState::Ready));
}

#[test]
fn a_repeat_that_is_put_off_leaves_the_first_sending_in_doubt() {
    for second in [
        BrokerError::Throttled { retry_after: secs(50) },
        BrokerError::Unreachable("connection refused".into()),
    ] {
        // taken late: found, also after the deadline
        let world = World::new();
        let order = world.accept(OrderType::Market);
        world.broker.answer_sends([Answer::Late(secs(40)), Answer::Error(second.clone())]);
        world.settle_down();
        assert_eq!(world.store.order(order.id).status, OrderStatus::New, "{second}");
        assert_eq!(world.broker.orders().len(), 1);
        assert!(!world.store.history(order.id).contains(&"not_sent"), "{:?}", world.store.history(order.id));
        // never taken: not sent after as many misses as ever, and a list
        let world = World::new();
        let order = world.accept(OrderType::Market);
        world.broker.answer_sends([Answer::Broken]);
        world.broker.answer_sends(std::iter::repeat_n(Answer::Error(second.clone()), 50));
        world.settle_down();
        let after = world.store.order(order.id);
        assert_eq!(after.status, OrderStatus::NotSent);
        assert_eq!(after.status_reason.as_deref(), Some("it never reached the broker"), "{second}");
        assert_eq!(world.broker.calls().last().map(String::as_str), Some("list"));
        assert!(world.store.now() > order.submit.deadline);
    }
}

#[test]
fn a_put_off_repeat_is_sent_once_more_in_time() {
    let world = World::new();
    let order = world.accept(OrderType::Limit);
    let throttled = Answer::Error(BrokerError::Throttled { retry_after: secs(50) });
    world.broker.answer_sends([Answer::Broken, throttled]);
    world.settle_down();
    assert_eq!(world.store.order(order.id).status, OrderStatus::New);
    assert_eq!(world.broker.count("submit"), 3);
}

#[test]
fn a_cancel_does_not_end_an_order_whose_first_sending_is_in_doubt() {
    let world = World::new();
    let order = world.accept(OrderType::Limit);
    let throttled = Answer::Error(BrokerError::Throttled { retry_after: secs(50) });
    world.broker.answer_sends([Answer::Late(secs(30)), throttled]);
    let runner = world.process(1, Faults::default());
    while world.broker.count("submit") < 2 {
        runner.run_due(1).unwrap();
        world.store.advance(secs(1));
    }
    world.enqueue(&crate::submit::CancelPayload::job(&order)).unwrap();
    world.settle_down();
    assert_eq!(world.store.order(order.id).status, OrderStatus::PendingCancel);
    assert!(!world.store.history(order.id).contains(&"not_sent"));
}

/// A market order that filled at once is in no list of open orders.
#[test]
fn the_last_look_sees_what_has_filled() {
    let world = World::new();
    let order = world.accept(OrderType::Market);
    world.broker.answer_sends([Answer::Lost, Answer::Error(BrokerError::Unreachable("away".into()))]);
    world.process(1, Faults::default()).run_due(1).unwrap();
    let mut filled = world.broker.orders()[0].clone();
    filled.status = plimsoll_core_domain::broker::BrokerStatus::Known(OrderStatus::Filled);
    filled.filled_qty = Decimal::TEN;
    world.broker.put(filled);
    world.broker.hide_from_looks();
    world.settle_down();
    assert!(world.broker.count("look") >= 5 && world.broker.count("list") == 1, "{:?}", world.broker.calls());
    let after = world.store.order(order.id);
    assert_eq!((after.broker.unwrap().status, after.unbooked_qty()), (OrderStatus::Filled, Decimal::TEN));
}

#[test]
fn the_last_look_begins_with_what_the_broker_had_before() {
    let world = World::new();
    let mut known = world.order(OrderType::Market, 7);
    known.submit = SubmitNotes { attempts: 1, started_at: Some(world.store.now()), ..known.submit };
    known.broker_order_id = Some(plimsoll_core_domain::BrokerOrderId::new("b-old").unwrap());
    known.status = OrderStatus::Filled;
    world.store.put_order(known);
    world.store.advance(secs(3_600));
    let order = world.accept(OrderType::Limit);
    world.broker.answer_sends([Answer::Broken, Answer::Broken]);
    world.settle_down();
    assert_eq!(world.store.order(order.id).status, OrderStatus::NotSent);
    assert_eq!(world.broker.lists(), [Some("b-old".to_owned())]);
}

#[test]
fn looks_without_an_answer_prove_nothing() {
    let world = World::new();
    let order = world.accept(OrderType::Limit);
    world.broker.answer_sends([Answer::Broken]);
    let throttled = Answer::Error(BrokerError::Throttled { retry_after: secs(20) });
    world.broker.answer_looks([Answer::Broken, throttled, Answer::Never, Answer::Broken, Answer::Broken]);
    world.settle_down();
    assert_eq!(world.broker.calls().iter().filter(|call| call.starts_with("look")).count(), 6);
    assert_eq!(world.store.order(order.id).status, OrderStatus::New);
    assert_eq!(world.broker.count("submit"), 2);
}

/// A worker is frozen between the mark and the call; another one does its work; then it thaws and sends all the same.
#[test]
fn a_frozen_workers_late_call_is_refused_as_a_duplicate() {
    let world = World::new();
    let order = world.accept(OrderType::Limit);
    let (store, broker) = (world.store.clone(), world.broker.clone());
    world.broker.meanwhile(move || {
        let second = process(&store, &broker, 2, Faults::default());
        store.advance(secs(31));
        second.reap().unwrap();
        store.advance(secs(1));
        second.run_due(1).unwrap();
    });
    let frozen = world.process(1, Faults::default());
    frozen.run_due(1).unwrap();
    assert_eq!(frozen.stats().lost, 1, "its result was thrown away");
    assert_eq!(world.broker.calls(), ["look plm-1", "submit plm-1", "submit plm-1", "look plm-1"]);
    assert_eq!(world.broker.orders().len(), 1);
    let after = world.store.order(order.id);
    assert_eq!((after.status, after.submit.attempts), (OrderStatus::New, 2));
    assert_eq!(world.job_state(), JobState::Done);
}

#[test]
fn what_the_stream_told_first_stays() {
    let world = World::new();
    let order = world.accept(OrderType::Market);
    let store = world.store.clone();
    world.broker.answer_sends([Answer::Lost]);
    world.broker.meanwhile(move || {
        let mut live = store.order(OrderId(Uuid::from_u128(1)));
        let seen = FakeBroker::taken("b-1", "plm-1", &live.terms, store.now());
        live.observe(&seen, store.now()).unwrap();
        store.put_order(live);
    });
    run(&world);
    assert_eq!(world.store.order(order.id).status, OrderStatus::New);
    assert_eq!(world.job_state(), JobState::Done);
    assert_eq!(world.store.history(order.id), ["submitting"]);
}

#[test]
fn a_job_without_its_order_or_with_another_account_is_dead() {
    let world = World::new();
    let order = world.order(OrderType::Market, 1);
    world.enqueue(&SubmitPayload::job(&order)).unwrap();
    run(&world);
    assert_eq!(world.job_state(), JobState::Dead);

    let world = World::new();
    let order = world.order(OrderType::Market, 1);
    world.store.put_order(Order { account_id: AccountId(4), ..order.clone() });
    world.enqueue(&SubmitPayload::job(&order)).unwrap();
    run(&world);
    assert_eq!(world.job_state(), JobState::Dead);
    assert!(world.broker.calls().is_empty());
}

#[test]
fn the_account_is_found_by_the_order_when_the_job_does_not_name_it() {
    let world = World::new();
    let order = world.order(OrderType::Market, 1);
    world.store.put_order(order.clone());
    let payload = serde_json::json!({ "order_id": order.id });
    world.enqueue(&NewJob::new(crate::submit::BROKER_QUEUE, SUBMIT_ORDER, &payload)).unwrap();
    run(&world);
    assert_eq!(world.store.order(order.id).status, OrderStatus::New);
}

/// A process whose account has no broker for the next 25 s.
fn without_broker(world: &World) -> JobRunner<MemoryStore> {
    struct Nobody;
    impl Brokers for Nobody {
        fn of_account(&self, _: AccountId) -> Result<Arc<dyn Broker>, Duration> {
            Err(secs(25))
        }
    }
    JobRunner::new(
        world.store.clone(),
        crate::submit::BROKER_QUEUE,
        Uuid::from_u128(1),
        runtime(),
        timings(),
        Arc::new(Jitter::MIN),
    )
    .handle(SUBMIT_ORDER, timings().broker_query(), SubmitOrderJob::new(Arc::new(Nobody)))
}

#[test]
fn an_account_that_cannot_trade_keeps_its_orders_until_their_deadline() {
    let world = World::new();
    let order = world.accept(OrderType::Market);
    let runner = without_broker(&world);
    for pause in [25, 25, 10] {
        assert_eq!(runner.run_due(1).unwrap(), 1);
        let row = &world.store.jobs()[0];
        assert_eq!(row.run_at - world.store.now(), TimeDelta::seconds(pause));
        assert_eq!(row.job.attempt, 0, "no attempt is used up");
        world.store.advance(secs(pause.unsigned_abs()));
    }
    runner.run_due(1).unwrap();
    assert_eq!(world.store.order(order.id).status, OrderStatus::NotSent);
    assert_eq!(world.store.order(order.id).submit.attempts, 0);
}

#[test]
fn an_order_in_doubt_waits_for_its_broker_also_after_its_deadline() {
    for status in [OrderStatus::Submitting, OrderStatus::Unknown] {
        let world = World::new();
        let order = world.accept(OrderType::Market);
        let mut sent = order.clone();
        (sent.status, sent.submit.attempts) = (status, 1);
        sent.submit.started_at = Some(world.store.now());
        world.store.put_order(sent);
        world.store.advance(secs(50));
        let runner = without_broker(&world);
        for _ in 0..3 {
            assert_eq!(runner.run_due(10).unwrap(), 1, "{status}");
            assert_eq!(world.store.jobs()[0].run_at - world.store.now(), TimeDelta::seconds(25), "{status}");
            assert_eq!(runner.run_due(10).unwrap(), 0, "{status}: no hot loop");
            world.store.advance(secs(25));
        }
        assert_eq!(world.store.order(order.id).status, status);
    }
}
