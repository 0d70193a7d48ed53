//! Carrying a halt out: what is taken back, canceled and closed, and what is left alone.

use plimsoll_core_domain::order::{OrderStatus, Side};
use plimsoll_core_domain::risk::{HaltCause, HaltLevel};
use plimsoll_core_domain::{OrderId, StoreError};
use plimsoll_storage::platform::orders::{AcceptKey, AcceptOrder, Accepted};
use plimsoll_storage::platform::risk::{Close, Enforced, NewHalt};

use crate::world::{World, accept, at, execution, market, report, seen};

fn halt(world: &World, level: HaltLevel) {
    let new = NewHalt { level, cause: HaltCause::Manual, reason: "a test", by: None, now: at(5) };
    world.halt(&new);
}

fn step(world: &World) -> (Enforced, Vec<OrderId>) {
    world.db.run_blocking(|tx| tx.enforce_halt(world.account, at(10))).unwrap()
}

fn take(world: &World, key: &str, side: Side, qty: i64) -> OrderId {
    let order = accept(world.user, key, market("SPY", side, qty));
    assert!(matches!(world.accept(&order).unwrap(), Accepted::New { .. }), "{key}");
    order.id
}

fn status(world: &World, id: OrderId) -> String {
    let rows = world.test.rows(&format!("SELECT status FROM orders WHERE id = '{id}'"));
    rows[0]["status"].as_str().unwrap().to_owned()
}

/// Ten units held.
fn holding(world: &World) -> OrderId {
    let buy = world.sent(market("SPY", Side::Buy, 10));
    let filled = seen(world, buy, OrderStatus::Filled, 2, 10);
    world.apply(&report(filled, vec![execution(10, 10, "100")]), 2);
    buy
}

fn accept_close(world: &World, close: &Close) -> OrderId {
    let order = AcceptOrder {
        key: AcceptKey::Internal(close.key.clone()),
        closes: true,
        source: Close::source(),
        ..accept(world.user, "-", close.terms.clone())
    };
    match world.accept(&order).unwrap() {
        Accepted::New { order, .. } => order.id,
        other => panic!("{other:?}"),
    }
}

/// Jobs that came with a restore are held; a cancel and a halt that are wished for after it are carried out all the same.
#[test]
fn a_wish_is_not_lost_on_a_job_that_is_held() {
    let world = World::new();
    let order = world.sent(market("SPY", Side::Buy, 1));
    world
        .test
        .execute(&format!("UPDATE orders SET status = 'new', broker_order_id = 'b-1' WHERE id = '{order}'"));
    let cancel = || world.db.run_blocking(|tx| tx.wish_cancel(world.account, order, at(6))).unwrap();
    let jobs = |state: &str| {
        world.count(&format!("jobs WHERE kind IN ('cancel_order', 'enforce_halt') AND state = '{state}'"))
    };
    cancel();
    halt(&world, HaltLevel::ReduceOnly);
    assert_eq!(jobs("ready"), 2);
    world.test.execute("UPDATE jobs SET state = 'held' WHERE state = 'ready'");
    cancel();
    halt(&world, HaltLevel::CancelOpen);
    assert_eq!((jobs("ready"), jobs("held")), (2, 0));
    // what is under way stays so
    world.test.execute(
        "UPDATE jobs SET state = 'leased', lease_until = now() + interval '1 h' WHERE state = 'ready'",
    );
    cancel();
    assert_eq!(jobs("leased"), 2);
}

#[test]
fn entries_that_were_not_sent_are_taken_back_and_exits_are_not() {
    let world = World::new();
    holding(&world);
    let (entry, exit) = (take(&world, "in", Side::Buy, 1), take(&world, "out", Side::Sell, 5));
    let sent = world.sent(market("QQQ", Side::Buy, 1));
    assert_eq!(step(&world), (Enforced::Done, vec![]), "nothing is halted");
    halt(&world, HaltLevel::ReduceOnly);
    assert_eq!(step(&world), (Enforced::Done, vec![entry]));
    assert_eq!((&*status(&world, entry), &*status(&world, exit)), ("not_sent", "pending_submit"));
    assert_eq!(status(&world, sent), "submitting", "what is under way goes on");
    let reason = world.test.rows(&format!("SELECT status_reason AS r FROM orders WHERE id = '{entry}'"));
    assert!(reason[0]["r"].as_str().unwrap().contains("user_halt: reduce_only"), "{reason:?}");
    assert_eq!(step(&world), (Enforced::Done, vec![]), "once");
}

#[test]
fn every_open_order_is_canceled_but_those_from_outside() {
    let world = World::new();
    let waiting = take(&world, "w", Side::Buy, 1);
    let (live, external) = (world.sent(market("SPY", Side::Buy, 1)), world.sent(market("SPY", Side::Buy, 1)));
    world.test.execute(&format!(
        "UPDATE orders SET status = 'new', broker_order_id = 'b-' || id WHERE id IN ('{live}', '{external}')"
    ));
    world.test.execute(&format!("UPDATE orders SET source_kind = 'external' WHERE id = '{external}'"));
    halt(&world, HaltLevel::CancelOpen);
    let canceling = "jobs WHERE kind = 'cancel_order' AND state = 'ready'";
    assert_eq!(step(&world), (Enforced::Waits { open: 1, tries: 0 }, vec![waiting]));
    assert_eq!(status(&world, waiting), "canceled");
    assert_eq!(world.count(canceling), 1);
    assert_eq!(step(&world), (Enforced::Waits { open: 1, tries: 0 }, vec![]));
    assert_eq!(world.count(canceling), 1, "asked for once");
    world
        .test
        .execute(&format!("UPDATE orders SET status = 'canceled', closed_at = now() WHERE id = '{live}'"));
    assert_eq!(step(&world), (Enforced::Done, vec![]), "the other one is not the platform's");
    assert_eq!(status(&world, external), "new");
}

#[test]
fn positions_are_closed_once_everything_is_canceled_and_booked() {
    let world = World::new();
    holding(&world);
    let open = world.sent(market("SPY", Side::Sell, 3));
    world.test.execute(&format!(
        "UPDATE orders SET status = 'new', broker_order_id = 'b-{open}' WHERE id = '{open}'"
    ));
    halt(&world, HaltLevel::Flatten);
    assert_eq!(step(&world).0, Enforced::Waits { open: 1, tries: 0 });
    // Canceled with one unit filled that is not booked yet: what is held is not known.
    world.test.execute(&format!(
        "UPDATE orders SET status = 'canceled', closed_at = '{}', broker_filled_qty = 1 WHERE id = '{open}'",
        at(9)
    ));
    assert_eq!(step(&world).0, Enforced::Waits { open: 1, tries: 0 });
    world.test.execute("UPDATE orders SET broker_filled_qty = 0 WHERE status = 'canceled'");
    let Enforced::Close { closes, tries } = step(&world).0 else { panic!("no close") };
    assert_eq!((closes.len(), tries), (1, 0));
    assert_eq!((closes[0].terms.side, closes[0].terms.qty().unwrap().get()), (Side::Sell, 10.into()));
    let first = accept_close(&world, &closes[0]);
    assert_eq!(step(&world).0, Enforced::Waits { open: 1, tries: 1 }, "one at a time");
    assert_eq!(status(&world, first), "pending_submit", "and it is not canceled itself");
    // It failed: another one is tried, under another key.
    world
        .test
        .execute(&format!("UPDATE orders SET status = 'rejected', closed_at = now() WHERE id = '{first}'"));
    let Enforced::Close { closes: again, tries } = step(&world).0 else { panic!("no second close") };
    assert_eq!(tries, 1);
    assert_ne!(again[0].key, closes[0].key);
    let second = accept_close(&world, &again[0]);
    world.test.execute(&format!("UPDATE orders SET status = 'submitting' WHERE id = '{second}'"));
    let mut filled = seen(&world, second, OrderStatus::Filled, 11, 10);
    filled.side = Some(Side::Sell);
    world.apply(&report(filled, vec![execution(10, 10, "90")]), 11);
    assert_eq!(step(&world).0, Enforced::Done);
    assert_eq!(world.count("positions WHERE qty <> 0"), 0);
}

#[test]
fn what_came_from_outside_stays_held() {
    let world = World::new();
    holding(&world);
    let external = holding(&world);
    world.test.execute(&format!("UPDATE orders SET source_kind = 'external' WHERE id = '{external}'"));
    world.test.execute("UPDATE positions SET outside_qty = 10");
    halt(&world, HaltLevel::Flatten);
    let Enforced::Close { closes, .. } = step(&world).0 else { panic!("no close") };
    assert_eq!(closes[0].terms.qty().unwrap().get(), 10.into(), "of twenty that are held");
    world
        .db
        .run_blocking(|tx| {
            tx.tell_stuck(world.user, &closes[0].terms.symbol, "the market is closed", at(11))?;
            tx.tell_enforced(world.account, world.user, HaltLevel::Flatten, at(12))
        })
        .unwrap();
    let told = world
        .test
        .rows("SELECT payload FROM stream_event WHERE kind = 'system_alert' ORDER BY off DESC LIMIT 2");
    assert!(told[0]["payload"].to_string().contains("left alone"), "{told:?}");
    assert!(told[0]["payload"].to_string().contains("SPY held 20"), "{told:?}");
    assert!(told[1]["payload"].to_string().contains("SPY for now: the market is closed"), "{told:?}");
}

#[test]
fn a_halt_that_goes_further_makes_its_own_job() {
    let world = World::new();
    take(&world, "k", Side::Buy, 1);
    let jobs = "jobs WHERE kind = 'enforce_halt' AND state = 'ready'";
    halt(&world, HaltLevel::BlockEntries);
    assert_eq!(world.count(jobs), 1);
    halt(&world, HaltLevel::Flatten);
    assert_eq!(world.count(jobs), 1, "the one that waits does it");
    world.test.execute("UPDATE jobs SET state = 'done', finished_at = now() WHERE kind = 'enforce_halt'");
    halt(&world, HaltLevel::Flatten);
    assert_eq!(world.count(jobs), 1, "asked again");
    world.test.execute("UPDATE jobs SET state = 'dead', finished_at = now() WHERE kind = 'enforce_halt'");
    let sweep = || world.db.run_blocking(|tx| tx.sweep_halts()).unwrap().1;
    assert_eq!((sweep(), sweep()), (1, 0), "a dead one is made up for, once");
    world.db.run_blocking(|tx| tx.resume_user(world.user, at(11))).unwrap();
    world.test.execute("DELETE FROM jobs WHERE kind = 'enforce_halt'");
    assert_eq!(sweep(), 0, "nothing is halted");
    world
        .db
        .run_blocking(|tx| tx.tell_enforced(world.account, world.user, HaltLevel::Flatten, at(12)))
        .unwrap();
    let told = world
        .test
        .rows("SELECT payload FROM stream_event WHERE kind = 'system_alert' ORDER BY off DESC LIMIT 1");
    assert!(told[0]["payload"].to_string().contains("every position closed"), "{told:?}");
    let verified: Result<_, StoreError> = world.db.read_blocking(|tx| tx.verify_audit());
    assert_eq!(verified.unwrap().first_bad, None);
}

#[test]
fn a_close_is_accepted_in_the_account_that_is_flattened_or_nowhere() {
    let world = World::new();
    holding(&world);
    // The user trades with real money now, and holds the same there.
    world.test.execute(&format!("UPDATE accounts SET state = 'inactive' WHERE id = {}", world.account));
    world.test.execute(&format!(
        "INSERT INTO accounts (user_id, broker, environment, live_enabled, created_at, updated_at) \
         VALUES ({}, 'alpaca', 'live', true, now(), now())",
        world.user
    ));
    world.test.execute(
        "INSERT INTO positions SELECT p.* FROM accounts a, \
         LATERAL jsonb_populate_record(NULL::positions, (SELECT to_jsonb(q) FROM positions q LIMIT 1) \
           || jsonb_build_object('account_id', a.id)) p WHERE a.environment = 'live'",
    );
    halt(&world, HaltLevel::Flatten);
    let jobs = world.test.rows("SELECT payload FROM jobs WHERE kind = 'enforce_halt' AND state = 'ready'");
    assert_eq!(jobs.len(), 1, "none for the account that was left: {jobs:?}");
    assert_ne!(jobs[0]["payload"]["account_id"], world.account.0);
    let (Enforced::Close { closes, .. }, _) = step(&world) else { panic!("nothing to close") };
    let order = AcceptOrder {
        account: Some(world.account),
        key: AcceptKey::Internal(closes[0].key.clone()),
        closes: true,
        source: Close::source(),
        ..accept(world.user, "-", closes[0].terms.clone())
    };
    assert!(matches!(world.accept(&order).unwrap(), Accepted::OtherAccount));
    assert_eq!(
        world.test.rows("SELECT id FROM orders WHERE source_id = 'flatten'"),
        Vec::<serde_json::Value>::new()
    );
}
