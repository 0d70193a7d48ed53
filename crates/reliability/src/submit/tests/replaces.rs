use plimsoll_core_domain::broker::{BrokerError, BrokerStatus, ReplaceOrder};
use plimsoll_core_domain::order::Trail;
use plimsoll_core_domain::{BrokerOrderId, Price, Quantity};

use super::*;
use crate::submit::ReplacePayload;
use crate::testing::Answer;

/// A live order at the broker, and its replacement accepted here.
fn world() -> (World, Order) {
    let world = World::new();
    let old = world.order(OrderType::Limit, 1);
    world.broker.put(FakeBroker::taken("b-1", "plm-1", &old.terms, world.store.now()));
    let new = Order { replaces: Some(old.id), ..world.order(OrderType::Limit, 2) };
    world.store.put_order(new.clone());
    let change =
        ReplaceOrder { limit_price: Some(Price::new(Decimal::new(499, 0)).unwrap()), ..Default::default() };
    let payload = ReplacePayload::new(&new, BrokerOrderId::new("b-1").unwrap(), &change);
    world.enqueue(&payload.job(&new)).unwrap();
    (world, new)
}

/// Orders at the broker that replace `b-1`.
fn replacements(world: &World) -> usize {
    world.broker.orders().iter().filter(|order| order.replaces.is_some()).count()
}

#[test]
fn a_replacement_goes_out_once_under_its_own_id() {
    let (world, new) = world();
    world.settle_down();
    assert_eq!(world.broker.calls(), ["order b-1", "replace b-1"]);
    let (after, seen) = (world.store.order(new.id), world.broker.orders());
    assert_eq!((after.status, after.broker_order_id.unwrap().as_str()), (OrderStatus::New, "b-2"));
    assert_eq!(seen[1].client_order_id, "plm-2");
    assert_eq!(seen[1].limit_price, Some(Decimal::new(499, 0)));
    assert_eq!(seen[0].status, BrokerStatus::Known(OrderStatus::Replaced));
}

#[test]
fn a_lost_answer_is_found_by_the_replacements_id() {
    let (world, new) = world();
    world.broker.answer_sends([Answer::Lost]);
    world.settle_down();
    assert_eq!(world.broker.calls(), ["order b-1", "replace b-1", "look plm-2"]);
    assert_eq!(world.store.order(new.id).status, OrderStatus::New);
    assert_eq!(replacements(&world), 1);
}

#[test]
fn an_order_that_filled_first_is_not_replaced() {
    let (world, new) = world();
    let mut filled = world.broker.orders()[0].clone();
    filled.status = BrokerStatus::Known(OrderStatus::Filled);
    world.broker.put(filled);
    world.settle_down();
    assert_eq!(world.store.order(new.id).status, OrderStatus::Rejected);
    assert_eq!(world.store.history(new.id), ["submitting", "rejected"]);
}

#[test]
fn a_crash_at_any_step_makes_at_most_one_replacement() {
    let answers = [
        Answer::Proper,
        Answer::Lost,
        Answer::Broken,
        Answer::Error(BrokerError::Throttled { retry_after: secs(3) }),
    ];
    for (n, answer) in answers.into_iter().enumerate() {
        for step in 1..=22 {
            let (world, new) = world();
            world.broker.answer_sends([answer.clone()]);
            let _ = world.process(1, Faults::dying_at(step)).run_due(1);
            world.settle_down();
            let (at_broker, status) = (replacements(&world), world.store.order(new.id).status);
            let agree = matches!((at_broker, status), (1, OrderStatus::New) | (0, OrderStatus::NotSent));
            assert!(agree, "answer {n}, step {step}: {at_broker} {status} {:?}", world.broker.calls());
            // only a call that came to nothing, after a crash, leaves no try
            assert!(at_broker == 1 || answer == Answer::Broken, "answer {n}, step {step}");
        }
    }
}

/// As [`world`], with a total of ten, and `filled` of the old order filled at the broker.
fn partly(filled: u32) -> (World, Order) {
    let (world, new) = world();
    fill(&world, filled);
    let total = new.terms.qty();
    let payload = ReplacePayload::new(&new, BrokerOrderId::new("b-1").unwrap(), &ReplaceOrder::default());
    world.store.clear_jobs();
    world.enqueue(&payload.total(total).job(&new)).unwrap();
    (world, new)
}

fn fill(world: &World, filled: u32) {
    let mut old = world.broker.orders()[0].clone();
    old.filled_qty = filled.into();
    world.broker.put(old);
}

#[test]
fn the_size_is_what_is_left_when_it_is_sent() {
    for filled in [0, 1, 9] {
        let (world, new) = partly(filled);
        world.settle_down();
        let rest = Decimal::from(10 - filled);
        let sent = world.broker.orders().into_iter().find(|order| order.replaces.is_some()).unwrap();
        assert_eq!(sent.qty, Some(rest), "{filled} filled");
        assert_eq!(world.store.order(new.id).terms.qty().unwrap().get(), rest);
        assert_eq!(world.store.order(new.id).status, OrderStatus::New);
    }
}

#[test]
fn what_is_booked_here_counts_where_the_broker_shows_less() {
    let (world, new) = partly(3);
    let mut old = world.order(OrderType::Limit, 1);
    (old.status, old.filled_qty) = (OrderStatus::PendingReplace, Decimal::from(4));
    world.store.put_order(old);
    world.settle_down();
    assert_eq!(world.store.order(new.id).terms.qty().unwrap().get(), Decimal::from(6));
}

#[test]
fn what_has_filled_meanwhile_is_not_replaced() {
    let (world, new) = partly(10);
    world.settle_down();
    assert_eq!((world.broker.count("replace"), world.store.order(new.id).status), (0, OrderStatus::NotSent));
}

#[test]
fn fills_during_a_throttled_wait_are_taken_off() {
    let (world, new) = partly(0);
    world.broker.answer_sends([Answer::Error(BrokerError::Throttled { retry_after: secs(40) })]);
    world.process(1, Faults::default()).run_due(1).unwrap();
    fill(&world, 9);
    world.settle_down();
    let sent = world.broker.orders().into_iter().find(|order| order.replaces.is_some()).unwrap();
    assert_eq!(
        (sent.qty, world.store.order(new.id).terms.qty().unwrap().get()),
        (Some(Decimal::ONE), Decimal::ONE)
    );
}

#[test]
fn an_old_order_that_is_not_shown_puts_the_replacement_off() {
    let (world, new) = partly(0);
    let away = Answer::Error(BrokerError::Unreachable("connection refused".into()));
    world.broker.answer_looks(std::iter::repeat_n(away, 5));
    world.settle_down();
    assert_eq!((world.broker.count("order"), world.broker.count("replace")), (6, 1));
    assert_eq!(world.store.order(new.id).status, OrderStatus::New);
    // for good: it ends at its deadline, and nothing was sent
    let (world, new) = partly(0);
    world.broker.answer_looks(std::iter::repeat_n(Answer::Broken, 1_000));
    world.settle_down();
    assert_eq!(world.store.order(new.id).status, OrderStatus::NotSent);
    assert_eq!((world.broker.count("replace"), world.store.now()), (0, new.submit.deadline));
}

#[test]
fn a_replacement_that_a_look_misses_is_found_by_the_old_order_and_not_refused() {
    let (world, new) = world();
    world.broker.answer_sends([Answer::Lost]);
    // asked for by its id, it is not shown at 1, 3, 7 and 15 s
    world.broker.answer_looks([Answer::Proper]);
    world.broker.answer_looks(std::iter::repeat_n(Answer::Error(BrokerError::NotFound), 4));
    world.settle_down();
    assert_eq!(world.broker.count("replace"), 1, "{:?}", world.broker.calls());
    assert_eq!((world.store.order(new.id).status, replacements(&world)), (OrderStatus::New, 1));
}

#[test]
fn a_replacement_of_a_leg_takes_the_brokers_size() {
    let (world, new) = world();
    let leg = Order { parent_id: Some(OrderId(Uuid::from_u128(9))), ..new };
    world.store.put_order(leg.clone());
    let mut old = world.broker.orders()[0].clone();
    old.qty = Some(Decimal::from(6));
    world.broker.put(old);
    world.broker.answer_sends([Answer::Lost]);
    world.settle_down();
    let after = world.store.order(leg.id);
    assert_eq!((after.status, after.terms.qty().unwrap().get()), (OrderStatus::New, Decimal::from(6)));
}

#[test]
fn the_payload_keeps_every_field_exactly() {
    let (world, new) = world();
    let change = ReplaceOrder {
        client_order_id: None,
        qty: Some(Quantity::new(Decimal::new(12, 0)).unwrap()),
        limit_price: None,
        stop_price: Some(Price::new(Decimal::new(49_999, 2)).unwrap()),
        trail: Some(Trail::Percent(Price::new(Decimal::new(15, 1)).unwrap())),
        time_in_force: Some(TimeInForce::Gtc),
    };
    let payload = ReplacePayload::new(&new, BrokerOrderId::new("b-1").unwrap(), &change);
    let json = serde_json::to_value(&payload).unwrap();
    assert_eq!(json["stop_price"], "499.99", "a string, never a float");
    assert_eq!(json["trail_percent"], "1.5");
    assert_eq!(serde_json::from_value::<ReplacePayload>(json).unwrap(), payload);
    assert_eq!(world.store.order(new.id).status, OrderStatus::PendingSubmit);
}
