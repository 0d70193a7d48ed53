use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use plimsoll_core_domain::broker::{Broker, BrokerError};

use super::*;
use crate::submit::Brokers;
use crate::testing::Answer;

/// Allows no repeat but every third.
struct Spent {
    broker: FakeBroker,
    asked: Arc<AtomicUsize>,
}

impl Brokers for Spent {
    fn of_account(&self, account: AccountId) -> Result<Arc<dyn Broker>, Duration> {
        self.broker.of_account(account)
    }

    fn may_repeat(&self, _: AccountId) -> Result<(), Duration> {
        if self.asked.fetch_add(1, Ordering::SeqCst) == 2 { Ok(()) } else { Err(secs(7)) }
    }
}

#[test]
fn an_order_is_sent_again_only_when_a_repeat_is_left_and_loses_no_attempt_meanwhile() {
    let world = World::new();
    let order = world.accept(OrderType::Limit);
    world.broker.answer_sends([Answer::Error(BrokerError::Unreachable("down".into()))]);
    let asked = Arc::new(AtomicUsize::new(0));
    let brokers = Spent { broker: world.broker.clone(), asked: Arc::clone(&asked) };
    let runner = JobRunner::new(
        world.store.clone(),
        crate::submit::BROKER_QUEUE,
        Uuid::from_u128(1),
        runtime(),
        timings(),
        Arc::new(Jitter::MIN),
    )
    .handle(SUBMIT_ORDER, timings().broker_query(), SubmitOrderJob::new(Arc::new(brokers)));
    runner.run_due(1).unwrap();
    assert_eq!(asked.load(Ordering::SeqCst), 0, "a first try needs none");
    world.store.advance(secs(1));
    for _ in 0..2 {
        runner.run_due(1).unwrap();
        let row = &world.store.jobs()[0];
        assert_eq!((row.run_at - world.store.now(), row.job.attempt), (TimeDelta::seconds(7), 0));
        assert_eq!((world.broker.count("submit"), world.store.order(order.id).submit.attempts), (1, 1));
        world.store.advance(secs(7));
    }
    runner.run_due(1).unwrap();
    assert_eq!((world.broker.count("submit"), world.store.order(order.id).status), (2, OrderStatus::New));
}
