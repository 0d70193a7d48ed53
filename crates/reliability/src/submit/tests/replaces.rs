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
    assert_eq!(world.broker.calls(), ["replace b-1"]);
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
    assert_eq!(world.broker.calls(), ["replace b-1", "look plm-2"]);
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
        for step in 1..=16 {
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
