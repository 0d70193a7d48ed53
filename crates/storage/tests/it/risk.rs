//! Limits and halts in the accept transaction: whatever runs beside it, none is passed.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use plimsoll_core_domain::broker::ReplaceOrder;
use plimsoll_core_domain::order::{
    Environment, NewOrder, OrderClass, OrderRequest, OrderStatus, OrderType, Side, TimeInForce,
};
use plimsoll_core_domain::risk::{HaltCause, HaltLevel, RiskLimits, RiskRefusal, RiskRule};
use plimsoll_core_domain::{AccountId, OrderId, StoreError};
use plimsoll_reliability::submit::{OrderEvent, SubmitStore};
use plimsoll_storage::platform::orders::{AcceptOrder, Accepted, NewReplacement, ReplaceWish};
use plimsoll_storage::platform::risk::{LossLook, NewHalt, Worth};

use crate::world::{World, accept, add_user, at, execution, market, report, seen};

fn limits(world: &World, change: impl FnOnce(&mut RiskLimits)) {
    let mut limits = RiskLimits::default();
    change(&mut limits);
    world.db.run_blocking(|tx| tx.set_risk_limits(world.user, &limits, at(1))).unwrap();
}

fn limit_order(side: Side, qty: i64, price: &str) -> NewOrder {
    OrderRequest {
        symbol: "SPY".into(),
        side: Some(side),
        order_type: Some(OrderType::Limit),
        limit_price: Some(price.parse().unwrap()),
        time_in_force: Some(TimeInForce::Day),
        qty: Some(qty.into()),
        ..OrderRequest::default()
    }
    .validate()
    .unwrap()
}

fn new_halt(level: HaltLevel) -> NewHalt<'static> {
    NewHalt { level, cause: HaltCause::Manual, reason: "a test", by: None, now: at(5) }
}

fn halt(world: &World, level: HaltLevel) {
    world.halt(&new_halt(level));
}

fn worth(equity: i64, last: i64) -> Worth {
    Worth { equity: equity.into(), last_equity: last.into(), moved: 0.into(), certain: true }
}

fn refusal(accepted: Accepted) -> RiskRefusal {
    match accepted {
        Accepted::Risk(refusal) => refusal,
        other => panic!("{other:?}"),
    }
}

/// Units held, at a price.
fn holding(world: &World, qty: i64, price: &str) {
    let buy = world.sent(market("SPY", Side::Buy, 10));
    let filled = seen(world, buy, OrderStatus::Filled, 2, qty);
    world.apply(&report(filled, vec![execution(qty, qty, price)]), 2);
}

fn status(world: &World, id: OrderId) -> String {
    let rows = world.test.rows(&format!("SELECT status FROM orders WHERE id = '{id}'"));
    rows[0]["status"].as_str().unwrap().to_owned()
}

#[test]
fn a_refusal_leaves_an_audit_entry_and_a_free_key() {
    let world = World::new();
    limits(&world, |limits| limits.max_order_notional = Some("1000".parse().unwrap()));
    let dear = accept(world.user, "k", limit_order(Side::Buy, 11, "100"));
    let refused = refusal(world.accept(&dear).unwrap());
    assert_eq!(
        (refused.rule, &*refused.limit, &*refused.actual),
        (RiskRule::MaxOrderNotional, "1000", "1100")
    );
    for table in ["orders", "jobs", "stream_event", "idempotency_keys"] {
        assert_eq!(world.count(table), 0, "{table}");
    }
    let rows = world.test.rows("SELECT action, outcome, detail FROM audit_log WHERE detail LIKE '%rule%'");
    assert_eq!(rows.len(), 1);
    assert_eq!(
        (rows[0]["action"].as_str(), rows[0]["outcome"].as_str()),
        (Some("order.create"), Some("denied"))
    );
    let detail: serde_json::Value = serde_json::from_str(rows[0]["detail"].as_str().unwrap()).unwrap();
    assert_eq!(
        (&detail["rule"], &detail["limit"], &detail["actual"], &detail["qty"]),
        (&"max_order_notional".into(), &"1000".into(), &"1100".into(), &"11".into())
    );
    let cheaper = accept(world.user, "k", limit_order(Side::Buy, 10, "100"));
    assert!(matches!(world.accept(&cheaper).unwrap(), Accepted::New { .. }), "the key is free again");
    let report = world.db.read_blocking(|tx| tx.verify_audit()).unwrap();
    assert_eq!(report.first_bad, None);
}

#[test]
fn limits_cost_one_statement_more_and_only_where_there_are_any() {
    let world = World::new();
    let round_trips = |key: &str| {
        let order = accept(world.user, key, limit_order(Side::Buy, 1, "1"));
        let counter = world.db.count_queries();
        assert!(matches!(world.accept(&order).unwrap(), Accepted::New { .. }));
        counter.sent()
    };
    round_trips("warm");
    limits(&world, |limits| limits.max_daily_loss = Some("1".parse().unwrap()));
    assert_eq!(round_trips("loss-alone"), 4);
    limits(&world, |limits| limits.max_open_orders = Some(100));
    round_trips("warm-again");
    assert_eq!(round_trips("counted"), 5);
}

#[test]
fn what_is_open_and_held_is_seen() {
    let world = World::new();
    holding(&world, 10, "100");
    let other = world.sent(market("QQQ", Side::Buy, 5));
    let waiting = accept(world.user, "w", limit_order(Side::Buy, 4, "90"));
    assert!(matches!(world.accept(&waiting).unwrap(), Accepted::New { .. }));
    world.test.execute(&format!("UPDATE orders SET status = 'unknown' WHERE id = '{}'", waiting.id));
    limits(&world, |limits| {
        limits.max_position_notional = Some("1460".parse().unwrap());
        limits.max_open_orders = Some(4);
    });
    // 10 held at 100 and 4 wanted at 90, whose fate is unknown.
    let buy = |key: &str, qty, price| {
        world.accept(&accept(world.user, key, limit_order(Side::Buy, qty, price))).unwrap()
    };
    let refused = refusal(buy("a", 1, "101"));
    assert_eq!((refused.rule, &*refused.actual), (RiskRule::MaxPositionNotional, "1461"));
    assert!(matches!(buy("b", 1, "100"), Accepted::New { .. }));
    // What makes it smaller is no matter of value.
    let sell = accept(world.user, "s", market("SPY", Side::Sell, 10));
    assert!(matches!(world.accept(&sell).unwrap(), Accepted::New { .. }));
    let refused = refusal(buy("c", 1, "0.01"));
    assert_eq!((refused.rule, &*refused.actual), (RiskRule::MaxOpenOrders, "5"));
    world
        .test
        .execute(&format!("UPDATE orders SET status = 'canceled', closed_at = now() WHERE id = '{other}'"));
    let refused = refusal(buy("d", 1, "0.01"));
    assert_eq!((refused.rule, &*refused.actual), (RiskRule::MaxPositionNotional, "1460.01"));
}

#[test]
fn a_market_order_is_worth_its_reference_price_or_a_fill_of_the_last_minute() {
    let world = World::new();
    limits(&world, |limits| limits.max_order_notional = Some("1000".parse().unwrap()));
    let order = |key: &str, reference: Option<&str>| AcceptOrder {
        reference_price: reference.map(|price| price.parse().unwrap()),
        ..accept(world.user, key, market("SPY", Side::Buy, 10))
    };
    let unknown = refusal(world.accept(&order("a", None)).unwrap());
    assert!(unknown.actual.starts_with("unknown"), "{unknown:?}");
    assert!(matches!(world.accept(&order("b", Some("100"))).unwrap(), Accepted::New { .. }));
    assert_eq!(refusal(world.accept(&order("c", Some("100.5"))).unwrap()).actual, "1005");
    limits(&world, |_| {});
    holding(&world, 1, "200");
    limits(&world, |limits| limits.max_order_notional = Some("1000".parse().unwrap()));
    assert_eq!(refusal(world.accept(&order("d", None)).unwrap()).actual, "2000");
    world.test.execute("UPDATE fills SET executed_at = executed_at - interval '2 minutes'");
    let old = refusal(world.accept(&order("e", None)).unwrap());
    assert!(old.actual.starts_with("unknown"), "a price of that age says nothing: {old:?}");
}

/// The limit of a sell is the least that it trades at: while nothing else is known, what it opens may be worth anything.
#[test]
fn an_opening_short_needs_a_price_of_the_brokers() {
    let world = World::new();
    let short = |key: &str, reference: Option<&str>| AcceptOrder {
        reference_price: reference.map(|price| price.parse().unwrap()),
        ..accept(world.user, key, limit_order(Side::Sell, 5, "1"))
    };
    let open = short("open", None);
    assert!(matches!(world.accept(&open).unwrap(), Accepted::New { .. }), "without a limit");
    limits(&world, |limits| limits.max_order_notional = Some("1000".parse().unwrap()));
    assert!(refusal(world.accept(&short("a", None)).unwrap()).actual.starts_with("unknown"));
    assert_eq!(refusal(world.accept(&short("a", Some("201"))).unwrap()).actual, "1005");
    limits(&world, |limits| limits.max_position_notional = Some("1000".parse().unwrap()));
    // The open one counts at what is known now, not at its limit.
    assert_eq!(refusal(world.accept(&short("b", Some("101"))).unwrap()).actual, "1010");
    assert!(matches!(world.accept(&short("b", Some("100"))).unwrap(), Accepted::New { .. }));
}

/// Until its fills are booked, what a canceled order bought or sold is in no position, and counts all the same.
#[test]
fn unbooked_fills_of_a_final_order_count() {
    let world = World::new();
    holding(&world, 10, "100");
    let [bought, sold] = [Side::Buy, Side::Sell].map(|side| world.sent(market("SPY", side, 9)));
    let end = |id: OrderId| {
        world.test.execute(&format!(
            "UPDATE orders SET status = 'canceled', closed_at = '{}', broker_filled_qty = 9 WHERE id = '{id}'",
            at(1).to_rfc3339()
        ));
    };
    end(bought);
    end(sold);
    let close = |key: &str, qty| AcceptOrder {
        closes: true,
        ..accept(world.user, key, market("SPY", Side::Sell, qty))
    };
    let Accepted::TooMuch { closable } = world.accept(&close("a", 2)).unwrap() else {
        panic!("closed twice")
    };
    assert_eq!(closable, 1.into());
    limits(&world, |limits| {
        limits.max_position_notional = Some("2000".parse().unwrap());
        limits.max_open_orders = Some(1);
    });
    let buy = |key: &str, qty| accept(world.user, key, limit_order(Side::Buy, qty, "100"));
    assert_eq!(refusal(world.accept(&buy("b", 2)).unwrap()).actual, "2100");
    assert!(matches!(world.accept(&buy("c", 1)).unwrap(), Accepted::New { .. }), "final ones are not open");
}

#[test]
fn legs_to_come_are_counted_with_their_entry() {
    let world = World::new();
    limits(&world, |limits| limits.max_open_orders = Some(7));
    let bracket = NewOrder { class: OrderClass::Bracket, ..limit_order(Side::Buy, 1, "1") };
    for key in ["a", "b"] {
        assert!(matches!(
            world.accept(&accept(world.user, key, bracket.clone())).unwrap(),
            Accepted::New { .. }
        ));
    }
    let third = refusal(world.accept(&accept(world.user, "c", bracket)).unwrap());
    assert_eq!((third.rule, &*third.actual), (RiskRule::MaxOpenOrders, "9"));
    let single = accept(world.user, "d", limit_order(Side::Buy, 1, "1"));
    assert!(matches!(world.accept(&single).unwrap(), Accepted::New { .. }));
}

/// Several exits together never sell more than is held; of those that wait to be sent, the eldest go first.
#[test]
fn exits_under_a_halt_do_not_add_up_to_an_entry() {
    let world = World::new();
    holding(&world, 10, "100");
    let exit = |key: &str| accept(world.user, key, market("SPY", Side::Sell, 10));
    let (first, second) = (exit("a"), exit("b"));
    for order in [&first, &second] {
        assert!(matches!(world.accept(order).unwrap(), Accepted::New { .. }));
    }
    halt(&world, HaltLevel::BlockEntries);
    assert_eq!(refusal(world.accept(&exit("c")).unwrap()).rule, RiskRule::UserHalt);
    let forbidden = |id| {
        let locked = world.db.run_blocking(|tx| SubmitStore::lock_order(tx, id)).unwrap().unwrap();
        locked.forbidden
    };
    assert_eq!(forbidden(first.id), None);
    assert!(forbidden(second.id).unwrap().contains("user_halt: block_entries"));
}

#[test]
fn orders_of_the_last_minute_are_counted() {
    let world = World::new();
    limits(&world, |limits| limits.max_orders_per_minute = Some(2));
    let order = |key: &str, second| AcceptOrder {
        now: at(second),
        ..accept(world.user, key, market("SPY", Side::Buy, 1))
    };
    assert!(matches!(world.accept(&order("a", 10)).unwrap(), Accepted::New { .. }));
    assert!(matches!(world.accept(&order("b", 50)).unwrap(), Accepted::New { .. }));
    let refused = refusal(world.accept(&order("c", 69)).unwrap());
    assert_eq!((refused.rule, &*refused.limit, &*refused.actual), (RiskRule::MaxOrdersPerMinute, "2", "3"));
    assert!(matches!(world.accept(&order("d", 70)).unwrap(), Accepted::New { .. }));
    assert!(matches!(world.accept(&order("e", 71)).unwrap(), Accepted::Risk(_)));
}

/// Whatever runs in parallel: as many orders as each limit allows are accepted, and not one more.
#[test]
fn no_sequence_of_parallel_orders_passes_a_limit() {
    type Case = (fn(&mut RiskLimits), i64, RiskRule);
    let cases: [Case; 3] = [
        (|limits| limits.max_open_orders = Some(7), 7, RiskRule::MaxOpenOrders),
        (|limits| limits.max_orders_per_minute = Some(5), 5, RiskRule::MaxOrdersPerMinute),
        (
            |limits| limits.max_position_notional = Some("650".parse().unwrap()),
            6,
            RiskRule::MaxPositionNotional,
        ),
    ];
    for (set, most, rule) in cases {
        let world = Arc::new(World::new());
        limits(&world, set);
        let threads: Vec<_> = (0..6)
            .map(|thread| {
                let world = Arc::clone(&world);
                std::thread::spawn(move || {
                    let mut new = 0;
                    for n in 0..4 {
                        let key = format!("{thread}-{n}");
                        match world
                            .accept(&accept(world.user, &key, limit_order(Side::Buy, 1, "100")))
                            .unwrap()
                        {
                            Accepted::New { .. } => new += 1,
                            other => assert_eq!(refusal(other).rule, rule),
                        }
                    }
                    new
                })
            })
            .collect();
        let new: i64 = threads.into_iter().map(|thread| thread.join().unwrap()).sum();
        assert_eq!((new, world.count("orders")), (most, most), "{rule:?}");
    }
}

/// After a halt was committed nothing more is accepted, however many requests run at that moment.
#[test]
fn nothing_is_accepted_after_a_halt() {
    for everybody in [false, true] {
        let world = Arc::new(World::new());
        let stop = Arc::new(AtomicBool::new(false));
        let threads: Vec<_> = (0..4)
            .map(|thread| {
                let (world, stop) = (Arc::clone(&world), Arc::clone(&stop));
                std::thread::spawn(move || {
                    let (mut n, mut refused) = (0, 0);
                    while refused < 5 && !stop.load(Ordering::Relaxed) {
                        n += 1;
                        match world.accept(&accept(
                            world.user,
                            &format!("{thread}-{n}"),
                            market("SPY", Side::Buy, 1),
                        )) {
                            Ok(Accepted::New { .. }) => {}
                            Ok(Accepted::Risk(_)) => refused += 1,
                            Ok(other) => panic!("{other:?}"),
                            Err(error) => panic!("{error}"),
                        }
                    }
                })
            })
            .collect();
        while world.count("orders") < 20 {
            std::thread::yield_now();
        }
        let halted = match everybody {
            true => world.halt_everybody(&new_halt(HaltLevel::ReduceOnly)),
            false => world.halt(&new_halt(HaltLevel::ReduceOnly)),
        };
        let there = world.count("orders");
        assert_eq!(halted.level, HaltLevel::ReduceOnly);
        for thread in threads {
            thread.join().unwrap();
        }
        stop.store(true, Ordering::Relaxed);
        assert_eq!(world.count("orders"), there, "everybody: {everybody}");
        assert_eq!(world.count("jobs WHERE kind = 'enforce_halt'"), 1, "what is open is looked at");
    }
}

#[test]
fn what_was_accepted_and_not_sent_does_not_go_out_under_a_halt() {
    let world = World::new();
    holding(&world, 10, "100");
    let entry = accept(world.user, "in", market("SPY", Side::Buy, 1));
    let exit = accept(world.user, "out", market("SPY", Side::Sell, 10));
    for order in [&entry, &exit] {
        assert!(matches!(world.accept(order).unwrap(), Accepted::New { .. }));
    }
    let forbidden = |id| {
        let locked = world.db.run_blocking(|tx| SubmitStore::lock_order(tx, id)).unwrap().unwrap();
        locked.forbidden
    };
    assert_eq!(forbidden(entry.id), None);
    halt(&world, HaltLevel::ReduceOnly);
    let why = forbidden(entry.id).unwrap();
    assert!(why.contains("user_halt: reduce_only"), "{why}");
    assert_eq!(forbidden(exit.id), None, "what makes the position smaller goes out");
    world.db.run_blocking(|tx| tx.resume_user(world.user, at(6))).unwrap();
    assert_eq!(forbidden(entry.id), None);
    world.halt_everybody(&new_halt(HaltLevel::BlockEntries));
    assert!(forbidden(entry.id).unwrap().contains("global_halt: block_entries"));
}

#[test]
fn a_replacement_that_is_no_larger_goes_out_at_the_lowest_level() {
    let world = World::new();
    let order = accept(world.user, "k", limit_order(Side::Buy, 10, "100"));
    assert!(matches!(world.accept(&order).unwrap(), Accepted::New { .. }));
    world.test.execute(&format!(
        "UPDATE orders SET status = 'new', broker_order_id = 'b-1' WHERE id = '{}'",
        order.id
    ));
    halt(&world, HaltLevel::BlockEntries);
    let new = NewReplacement {
        id: accept(world.user, "unused", market("SPY", Side::Buy, 1)).id,
        client_order_id: "replacement".parse().unwrap(),
        deadline: at(60),
    };
    let id = new.id;
    let change = ReplaceOrder { limit_price: Some("90".parse().unwrap()), ..ReplaceOrder::default() };
    let wish = world
        .db
        .run_blocking(|tx| tx.wish_replace(world.account, order.id, &change, new.clone(), &|_| None, at(6)));
    assert!(matches!(wish.unwrap(), ReplaceWish::Asked(_)));
    let forbidden =
        || world.db.run_blocking(|tx| SubmitStore::lock_order(tx, id)).unwrap().unwrap().forbidden;
    assert_eq!(forbidden(), None);
    halt(&world, HaltLevel::ReduceOnly);
    assert!(forbidden().unwrap().contains("reduce_only"));
}

/// Whoever is about to send has committed that before the halt, or sees it.
#[test]
fn a_halt_waits_for_what_is_being_sent() {
    let world = Arc::new(World::new());
    let order = accept(world.user, "k", market("SPY", Side::Buy, 1));
    assert!(matches!(world.accept(&order).unwrap(), Accepted::New { .. }));
    let halting = world
        .db
        .run_blocking(|tx| {
            let locked = SubmitStore::lock_order(tx, order.id)?.unwrap();
            assert_eq!(locked.forbidden, None);
            let halting = {
                let world = Arc::clone(&world);
                std::thread::spawn(move || halt(&world, HaltLevel::BlockEntries))
            };
            let waits = "pg_stat_activity WHERE datname = current_database() AND wait_event_type = 'Lock'";
            while world.count(waits) == 0 {
                std::thread::yield_now();
            }
            let mut sent = locked.order.clone();
            sent.move_to(OrderStatus::Submitting, None, at(4)).unwrap();
            tx.save_order(&locked.order, &sent, &OrderEvent::Submitting, at(4))?;
            Ok::<_, StoreError>(halting)
        })
        .unwrap();
    halting.join().unwrap();
    assert_eq!(status(&world, order.id), "submitting");
}

#[test]
fn a_halt_goes_up_and_ends_by_hand_only() {
    let world = World::new();
    let state = || world.db.read_blocking(|tx| tx.halt_state(Some(world.user))).unwrap();
    assert_eq!(state().user, None);
    halt(&world, HaltLevel::ReduceOnly);
    halt(&world, HaltLevel::BlockEntries);
    assert_eq!(state().user.unwrap().level, HaltLevel::ReduceOnly, "a lower level loosens nothing");
    halt(&world, HaltLevel::Flatten);
    assert_eq!(state().user.unwrap().level, HaltLevel::Flatten);
    assert_eq!(world.events(), ["system_alert"; 2], "each is told of once");
    let ended = world.db.run_blocking(|tx| tx.resume_user(world.user, at(6))).unwrap();
    assert_eq!(ended.unwrap().level, HaltLevel::Flatten);
    assert_eq!(state().user, None);
    assert_eq!(world.db.run_blocking(|tx| tx.resume_user(world.user, at(7))).unwrap(), None);
    assert_eq!(world.events().len(), 3);
    assert!(matches!(
        world.accept(&accept(world.user, "k", market("SPY", Side::Buy, 1))).unwrap(),
        Accepted::New { .. }
    ));
    // One for everybody is not ended by a user's end.
    world.halt_everybody(&new_halt(HaltLevel::BlockEntries));
    halt(&world, HaltLevel::BlockEntries);
    world.db.run_blocking(|tx| tx.resume_user(world.user, at(8))).unwrap();
    let refused = refusal(world.accept(&accept(world.user, "l", market("SPY", Side::Buy, 1))).unwrap());
    assert_eq!((refused.rule, &*refused.limit), (RiskRule::GlobalHalt, "block_entries"));
    world.db.run_blocking(|tx| tx.resume_everybody(at(9))).unwrap();
    world.carry(None);
    assert_eq!(state(), plimsoll_storage::platform::risk::HaltState::default());
    assert_eq!(world.count("stream_event WHERE stream_id = 0"), 2, "everybody was told");
}

#[test]
fn accounts_that_come_later_have_the_limits_and_halts_of_before() {
    let world = World::new();
    limits(&world, |limits| limits.max_open_orders = Some(3));
    halt(&world, HaltLevel::CancelOpen);
    world.halt_everybody(&new_halt(HaltLevel::ReduceOnly));
    world.test.execute("UPDATE accounts SET state = 'inactive'");
    let live = world.db.run_blocking(|tx| tx.insert_account(world.user, Environment::Live, at(7))).unwrap();
    let (_, stranger) = add_user(&world.db, "second@example.com");
    let of = |account: AccountId| {
        world.test.rows(&format!(
            "SELECT halt_user, halt_global, risk_limits ->> 'max_open_orders' AS most FROM accounts WHERE id = {account}"
        ))[0]
            .clone()
    };
    assert_eq!(of(live)["halt_user"], "cancel_open");
    assert_eq!(
        (of(live)["halt_global"].as_str(), of(live)["most"].as_str()),
        (Some("reduce_only"), Some("3"))
    );
    assert!(of(stranger)["halt_user"].is_null());
    assert_eq!(of(stranger)["halt_global"], "reduce_only");
    let state = world.db.read_blocking(|tx| tx.halt_state(Some(world.user))).unwrap();
    assert_eq!(state.user.unwrap().level, HaltLevel::CancelOpen);
}

#[test]
fn a_replacement_is_held_against_limits_and_halts() {
    let world = World::new();
    let order = accept(world.user, "k", limit_order(Side::Buy, 10, "100"));
    assert!(matches!(world.accept(&order).unwrap(), Accepted::New { .. }));
    world.test.execute(&format!(
        "UPDATE orders SET status = 'new', broker_order_id = 'b-1' WHERE id = '{}'",
        order.id
    ));
    let mut n = 0;
    let mut replace = |qty: Option<&str>, price: Option<&str>| {
        n += 1;
        let new = NewReplacement {
            id: accept(world.user, "unused", market("SPY", Side::Buy, 1)).id,
            client_order_id: format!("replacement-{n}").parse().unwrap(),
            deadline: at(60),
        };
        let change = ReplaceOrder {
            qty: qty.map(|qty| qty.parse().unwrap()),
            limit_price: price.map(|price| price.parse().unwrap()),
            ..ReplaceOrder::default()
        };
        // Taken back each time, so that the next change finds the order as it was.
        let mut wish = None;
        let back: Result<(), StoreError> = world.db.run_blocking(|tx| {
            wish = Some(tx.wish_replace(world.account, order.id, &change, new, &|_| None, at(3))?);
            Err(StoreError::new(plimsoll_core_domain::StoreErrorKind::Other, "back"))
        });
        assert!(back.is_err());
        match wish.unwrap() {
            ReplaceWish::Asked(_) => None,
            ReplaceWish::Risk(refusal) => Some((refusal.rule, refusal.actual)),
            other => panic!("{other:?}"),
        }
    };
    limits(&world, |limits| limits.max_position_notional = Some("1100".parse().unwrap()));
    assert_eq!(replace(None, Some("110")), None, "the old order is not counted beside the new one");
    assert_eq!(replace(Some("12"), None), Some((RiskRule::MaxPositionNotional, "1200".into())));
    limits(&world, |_| {});
    halt(&world, HaltLevel::BlockEntries);
    assert_eq!(replace(None, Some("90")), None);
    assert_eq!(replace(Some("9"), None), None);
    assert_eq!(replace(Some("11"), None).unwrap().0, RiskRule::UserHalt);
    halt(&world, HaltLevel::ReduceOnly);
    assert_eq!(replace(None, Some("90")).unwrap().0, RiskRule::UserHalt);
}

#[test]
fn the_daily_loss_halts_and_counts_anew_after_it_was_lifted() {
    let world = World::new();
    let look = |equity: i64, last: i64| {
        world.db.run_blocking(|tx| tx.look_at_loss(world.account, worth(equity, last), at(5))).unwrap()
    };
    assert_eq!(look(0, 10_000), LossLook::Within, "without a limit");
    limits(&world, |limits| {
        limits.max_daily_loss = Some("100".parse().unwrap());
        limits.daily_loss_action = HaltLevel::ReduceOnly;
    });
    assert_eq!(look(9_901, 10_000), LossLook::Within);
    let LossLook::Halts { reached, halt } = look(9_900, 10_000) else { panic!("not halted") };
    assert_eq!((&*reached.limit, &*reached.actual), ("100", "100"));
    assert_eq!((halt.level, halt.cause), (HaltLevel::ReduceOnly, HaltCause::DailyLoss));
    assert_eq!(look(9_800, 10_000), LossLook::Halted, "told of once");
    let rows = world.test.rows("SELECT detail FROM audit_log WHERE action = 'risk.halt'");
    assert_eq!(rows.len(), 1);
    let detail: serde_json::Value = serde_json::from_str(rows[0]["detail"].as_str().unwrap()).unwrap();
    assert_eq!(
        (&detail["rule"], &detail["limit"], &detail["actual"]),
        (&"max_daily_loss".into(), &"100".into(), &"100".into())
    );
    let buy = |key: &str| world.accept(&accept(world.user, key, market("SPY", Side::Buy, 1))).unwrap();
    assert_eq!(refusal(buy("a")).rule, RiskRule::UserHalt);
    world.db.run_blocking(|tx| tx.resume_user(world.user, at(6))).unwrap();
    assert_eq!(look(9_800, 10_000), LossLook::Within, "lifted at a loss of 200");
    assert!(matches!(buy("b"), Accepted::New { .. }));
    assert_eq!(look(9_701, 10_000), LossLook::Within);
    assert!(matches!(look(9_700, 10_000), LossLook::Halts { .. }));
    world.db.run_blocking(|tx| tx.resume_user(world.user, at(7))).unwrap();
    assert_eq!(look(9_700, 10_000), LossLook::Within);
    assert!(matches!(look(9_600, 9_700), LossLook::Halts { .. }), "the next session has the whole limit");
}

#[test]
fn a_loss_is_forgiven_by_whoever_lifts_its_own_halt_and_only_as_far_as_it_was_seen() {
    let world = World::new();
    let look = |equity: i64| {
        world.db.run_blocking(|tx| tx.look_at_loss(world.account, worth(equity, 10_000), at(5))).unwrap()
    };
    let resume = || world.db.run_blocking(|tx| tx.resume_user(world.user, at(6))).unwrap();
    let limited = || limits(&world, |limits| limits.max_daily_loss = Some("100".parse().unwrap()));
    // Another halt is lifted, and long before there is a limit.
    halt(&world, HaltLevel::BlockEntries);
    resume();
    limited();
    assert!(matches!(look(9_500), LossLook::Halts { .. }), "nothing was kept for a loss that comes later");
    resume();
    // It fell on between the last look and the lifting, or after that.
    assert!(matches!(look(9_390), LossLook::Halts { .. }), "500 are forgiven, and no more");
    resume();
    assert_eq!(look(9_380), LossLook::Within);
    // One who halts by hand has not lifted the loss.
    halt(&world, HaltLevel::Flatten);
    assert_eq!(look(9_280), LossLook::Halted);
    resume();
    assert!(matches!(look(9_280), LossLook::Halts { .. }));
}

#[test]
fn a_loss_that_is_not_certain_halts_nothing() {
    let world = World::new();
    limits(&world, |limits| limits.max_daily_loss = Some("100".parse().unwrap()));
    let look =
        |worth: Worth| world.db.run_blocking(|tx| tx.look_at_loss(world.account, worth, at(5))).unwrap();
    let taken_out = worth(9_000, 10_000);
    assert_eq!(look(Worth { certain: false, ..taken_out }), LossLook::Uncertain);
    assert_eq!(look(Worth { moved: (-1_000).into(), ..taken_out }), LossLook::Within);
    let hidden = Worth { moved: 2_000.into(), ..worth(11_000, 10_000) };
    let LossLook::Halts { reached, .. } = look(hidden) else { panic!("a deposit hides the loss") };
    assert_eq!(reached.actual, "1000");
}

#[test]
fn an_account_that_cannot_be_looked_at_takes_no_entries_at_last() {
    let world = World::new();
    let unseen =
        |halts| world.db.run_blocking(|tx| tx.loss_is_unseen(world.account, at(4), halts, at(5))).unwrap();
    limits(&world, |limits| limits.max_daily_loss = Some("100".parse().unwrap()));
    assert!(!unseen(false) && !unseen(true), "nothing is open or held");
    world.sent(market("QQQ", Side::Buy, 1));
    limits(&world, |_| {});
    assert!(!unseen(true), "without a limit");
    limits(&world, |limits| limits.max_daily_loss = Some("100".parse().unwrap()));
    let told = world.events().len();
    assert!(unseen(false));
    assert_eq!(world.events().len(), told + 1);
    let buy = |key: &str| world.accept(&accept(world.user, key, market("SPY", Side::Buy, 1))).unwrap();
    assert!(matches!(buy("a"), Accepted::New { .. }), "it is only told");
    assert!(unseen(true));
    assert_eq!(refusal(buy("b")).limit, "block_entries");
    let state = world.db.read_blocking(|tx| tx.halt_state(Some(world.user))).unwrap().user.unwrap();
    assert!(state.cause == HaltCause::DailyLoss && state.reason.contains("does not say"), "{state:?}");
    assert!(!unseen(true), "once");
    let rows = world.test.rows("SELECT detail FROM audit_log WHERE action = 'risk.halt'");
    assert!(rows.len() == 1 && rows[0]["detail"].as_str().unwrap().contains("unknown"), "{rows:?}");
}

#[test]
fn what_the_operator_halted_its_user_does_not_lift() {
    let world = World::new();
    let by_operator = |level| {
        world.db.run_blocking(|tx| tx.halt_user_by_operator(world.user, &new_halt(level))).unwrap();
        world.carry(Some(world.user));
    };
    let state = || world.db.read_blocking(|tx| tx.halt_state(Some(world.user))).unwrap();
    let resume = || world.db.run_blocking(|tx| tx.resume_user(world.user, at(6))).unwrap();
    let level = || {
        let rows = world.test.rows(&format!("SELECT halt_user FROM accounts WHERE id = {}", world.account));
        rows[0]["halt_user"].as_str().map(str::to_owned)
    };
    by_operator(HaltLevel::ReduceOnly);
    assert_eq!((resume(), level().as_deref()), (None, Some("reduce_only")));
    // The user's own goes further, and is on top of it.
    halt(&world, HaltLevel::Flatten);
    assert_eq!(level().as_deref(), Some("flatten"));
    assert_eq!(resume().unwrap().level, HaltLevel::Flatten);
    assert_eq!(level().as_deref(), Some("reduce_only"));
    halt(&world, HaltLevel::BlockEntries);
    assert_eq!(level().as_deref(), Some("reduce_only"), "a lower one loosens nothing");
    by_operator(HaltLevel::BlockEntries);
    assert_eq!(state().operator.unwrap().level, HaltLevel::ReduceOnly);
    assert_eq!(resume().unwrap().level, HaltLevel::BlockEntries);
    assert_eq!((state().user, level().as_deref()), (None, Some("reduce_only")));
    let buy = |key: &str| world.accept(&accept(world.user, key, market("SPY", Side::Buy, 1))).unwrap();
    assert_eq!(refusal(buy("a")).rule, RiskRule::UserHalt);
    // The operator lifts that, and nothing else.
    halt(&world, HaltLevel::BlockEntries);
    let ended = world.db.run_blocking(|tx| tx.resume_user_by_operator(world.user, at(7))).unwrap();
    world.carry(Some(world.user));
    assert_eq!((ended.unwrap().level, level().as_deref()), (HaltLevel::ReduceOnly, Some("block_entries")));
    assert_eq!(world.db.run_blocking(|tx| tx.resume_user_by_operator(world.user, at(8))).unwrap(), None);
    resume();
    assert_eq!(level(), None);
    assert!(matches!(buy("b"), Accepted::New { .. }));
}
