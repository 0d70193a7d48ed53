//! Accepting an order: all or nothing, once per key, in four round trips.

use std::sync::Arc;

use plimsoll_core_domain::order::Side;
use plimsoll_core_domain::{StoreError, StoreErrorKind};
use plimsoll_reliability::idempotency::{Fingerprint, StoredReply};
use plimsoll_storage::platform::orders::{AcceptKey, Accepted, InternalKey, KeyState, RequestKey};

use crate::world::{World, accept, add_user, market, request_key};

fn is_new(accepted: &Accepted) -> bool {
    matches!(accepted, Accepted::New { .. })
}

#[test]
fn everything_is_written_in_one_transaction_of_four_round_trips() {
    let world = World::new();
    // Once before, so that the statements are prepared: what is counted is what every later order costs.
    assert!(is_new(&world.accept(&accept(world.user, "warm", market("SPY", Side::Buy, 1))).unwrap()));
    let counter = world.db.count_queries();
    let taken = world.accept(&accept(world.user, "one", market("SPY", Side::Buy, 10))).unwrap();
    assert_eq!(counter.sent(), 4, "BEGIN, read, write, COMMIT");
    let Accepted::New { order, reply } = taken else { panic!("not new") };
    assert_eq!(reply.status, 202);
    let body: serde_json::Value = serde_json::from_slice(&reply.body).unwrap();
    assert_eq!(body["status"], "pending_submit");
    assert_eq!(body["id"], order.id.to_string());
    for (table, rows) in [
        (format!("orders WHERE id = '{}'", order.id), 1),
        (format!("order_history WHERE order_id = '{}'", order.id), 1),
        (format!("jobs WHERE dedup_key = '{}'", order.client_order_id.as_str()), 1),
        ("stream_event".into(), 2),
        (format!("audit_log WHERE chain = {}", world.user), 2),
        ("idempotency_keys WHERE status = 202 AND provisional".into(), 2),
    ] {
        assert_eq!(world.count(&table), rows, "{table}");
    }
    let read = world.db.read_blocking(|tx| tx.order(world.account, order.id)).unwrap().unwrap();
    assert_eq!(read, *order, "what is read back equals what was accepted");
}

#[test]
fn a_key_is_used_once_and_replays_byte_for_byte() {
    let world = World::new();
    let first = accept(world.user, "k", market("SPY", Side::Buy, 1));
    assert!(is_new(&world.accept(&first).unwrap()));
    let again = accept(world.user, "k", market("SPY", Side::Buy, 1));
    let state = |accepted| match accepted {
        Accepted::Key(state) => state,
        other => panic!("{other:?}"),
    };
    assert_eq!(state(world.accept(&again).unwrap()), KeyState::InFlight);
    let reply = StoredReply { status: 201, body: b"{\"a\": 1}".to_vec() };
    let key = || request_key("k").key;
    let finish =
        |reply: &StoredReply| world.db.read_blocking(|tx| tx.finish_key(world.user, &key(), reply)).unwrap();
    assert!(finish(&reply));
    assert!(!finish(&StoredReply { status: 500, body: Vec::new() }), "a final reply stays");
    assert_eq!(state(world.accept(&again).unwrap()), KeyState::Replay(reply));
    let other = plimsoll_storage::platform::orders::AcceptOrder {
        key: AcceptKey::Request(RequestKey {
            fingerprint: Fingerprint::of("POST", "/orders", b"\"other\"").unwrap(),
            ..request_key("k")
        }),
        ..again
    };
    assert_eq!(state(world.accept(&other).unwrap()), KeyState::Reused);
    assert_eq!(world.count("orders"), 1);
    assert_eq!(world.count("jobs"), 1);
}

#[test]
fn a_request_that_died_before_its_reply_is_answered_from_its_order() {
    let world = World::new();
    let first = accept(world.user, "k", market("SPY", Side::Buy, 1));
    assert!(is_new(&world.accept(&first).unwrap()));
    world.test.execute("UPDATE idempotency_keys SET in_flight_until = now() - interval '1 second'");
    let again = accept(world.user, "k", market("SPY", Side::Buy, 1));
    let Accepted::Key(state) = world.accept(&again).unwrap() else { panic!() };
    assert_eq!(state, KeyState::Unanswered(Some(first.id)));
}

#[test]
fn refusals_and_rollbacks_keep_nothing() {
    let world = World::new();
    let accepted = accept(world.user, "k", market("SPY", Side::Buy, 1));
    let rolled_back: Result<(), StoreError> = world.db.run_blocking(|tx| {
        assert!(is_new(&tx.accept_order(&accepted, &*world.keys)?));
        Err(StoreError::new(StoreErrorKind::Other, "no"))
    });
    assert!(rolled_back.is_err());
    world.test.execute("UPDATE accounts SET state = 'disabled'");
    assert!(matches!(world.accept(&accepted).unwrap(), Accepted::AccountDisabled));
    for table in [
        "orders",
        "jobs",
        "stream_event",
        "idempotency_keys",
        &format!("audit_log WHERE chain = {}", world.user),
    ] {
        assert_eq!(world.count(table), 0, "{table}");
    }
    world.test.execute("UPDATE accounts SET state = 'active'");
    assert!(is_new(&world.accept(&accepted).unwrap()), "the key is free again");
}

#[test]
fn an_expired_key_that_meets_its_order_is_a_duplicate() {
    let world = World::new();
    assert!(is_new(&world.accept(&accept(world.user, "k", market("SPY", Side::Buy, 1))).unwrap()));
    world.test.execute("DELETE FROM idempotency_keys");
    let again = || world.accept(&accept(world.user, "k", market("SPY", Side::Buy, 1))).unwrap_err();
    let error = again();
    assert_eq!(error.kind(), StoreErrorKind::Duplicate, "while it waits to be sent: {error}");
    world.test.execute("DELETE FROM jobs");
    let error = again();
    assert_eq!(error.kind(), StoreErrorKind::Duplicate, "long after it was sent: {error}");
    assert_eq!(world.count("orders"), 1);
}

#[test]
fn any_other_row_that_is_there_already_is_no_duplicate_of_the_callers() {
    let world = World::new();
    world.test.execute(&format!(
        "INSERT INTO stream_event (stream_id, off, epoch, kind, payload, at) \
         SELECT stream_id, head + 1, epoch, 'order.created', '{{}}', now() FROM stream_head WHERE stream_id = {}",
        world.user
    ));
    let error = world.accept(&accept(world.user, "k", market("SPY", Side::Buy, 1))).unwrap_err();
    assert_eq!(error.kind(), StoreErrorKind::Other, "{error}");
    assert_eq!(world.count("orders"), 0);
}

#[test]
fn a_key_is_looked_up_without_claiming_it() {
    let world = World::new();
    let first = accept(world.user, "k", market("SPY", Side::Buy, 1));
    let RequestKey { key, fingerprint, .. } = request_key("k");
    let look =
        |print: &Fingerprint| world.db.read_blocking(|tx| tx.key_state(world.user, &key, print)).unwrap();
    assert_eq!(look(&fingerprint), None);
    assert_eq!(world.count("idempotency_keys"), 0);
    assert!(is_new(&world.accept(&first).unwrap()));
    assert_eq!(look(&fingerprint), Some(KeyState::InFlight));
    assert_eq!(look(&Fingerprint::of("POST", "/orders", b"1").unwrap()), Some(KeyState::Reused));
}

#[test]
fn a_reply_of_a_thousand_rows_and_more_is_kept() {
    let world = World::new();
    let first = accept(world.user, "k", market("SPY", Side::Buy, 1));
    assert!(is_new(&world.accept(&first).unwrap()));
    let RequestKey { key, fingerprint, .. } = request_key("k");
    let reply = StoredReply { status: 207, body: vec![b' '; 1 << 20] };
    assert!(world.db.read_blocking(|tx| tx.finish_key(world.user, &key, &reply)).unwrap());
    assert_eq!(
        world.db.read_blocking(|tx| tx.key_state(world.user, &key, &fingerprint)).unwrap(),
        Some(KeyState::Replay(reply))
    );
}

fn internal(world: &World, key: InternalKey) -> plimsoll_storage::platform::orders::AcceptOrder {
    let order = accept(world.user, "-", market("SPY", Side::Buy, 1));
    plimsoll_storage::platform::orders::AcceptOrder { key: AcceptKey::Internal(key), ..order }
}

#[test]
fn an_internal_key_makes_one_order_and_no_row_of_its_own() {
    let world = World::new();
    let job = || InternalKey::Job("flatten 1".into());
    let first = internal(&world, job());
    assert!(is_new(&world.accept(&first).unwrap()));
    assert_eq!(world.count("idempotency_keys"), 0);
    assert_eq!(world.count("jobs"), 1);
    assert_eq!(world.count(&format!("audit_log WHERE chain = {}", world.user)), 1);
    let Accepted::Twin(twin) = world.accept(&internal(&world, job())).unwrap() else { panic!("not a twin") };
    assert_eq!(twin, first.id);
    world.test.execute("UPDATE accounts SET state = 'disabled'");
    assert!(matches!(world.accept(&internal(&world, job())).unwrap(), Accepted::Twin(_)), "it has its order");
    world.test.execute("UPDATE accounts SET state = 'active'");
    // The same text from another kind of place is another order.
    assert!(is_new(&world.accept(&internal(&world, InternalKey::Signal("flatten 1".into()))).unwrap()));
    assert!(is_new(&world.accept(&accept(world.user, "flatten-1", market("SPY", Side::Buy, 1))).unwrap()));
    assert_eq!(world.count("orders"), 3);
    let report = world.db.read_blocking(|tx| tx.verify_audit()).unwrap();
    assert_eq!((report.first_bad, report.entries), (None, 3));
}

#[test]
fn parallel_twins_of_an_internal_key_make_one_order_in_transactions_that_go_on() {
    let world = Arc::new(World::new());
    let threads: Vec<_> = (0..6)
        .map(|_| {
            let world = Arc::clone(&world);
            std::thread::spawn(move || {
                let order = internal(&world, InternalKey::Signal("s-1".into()));
                let both = world.db.run_blocking(|tx| {
                    let accepted = tx.accept_order(&order, &*world.keys)?;
                    // Whatever was decided, the transaction can still be used.
                    Ok::<_, StoreError>((accepted, tx.account_of_user(world.user)?.is_some()))
                });
                match both.unwrap() {
                    (Accepted::New { order, .. }, true) => (1, order.id),
                    (Accepted::Twin(id), true) => (0, id),
                    other => panic!("{other:?}"),
                }
            })
        })
        .collect();
    let seen: Vec<_> = threads.into_iter().map(|thread| thread.join().unwrap()).collect();
    assert_eq!(seen.iter().map(|(new, _)| new).sum::<i32>(), 1);
    assert!(seen.iter().all(|(_, id)| *id == seen[0].1), "{seen:?}");
    assert_eq!(world.count("orders"), 1);
}

#[test]
fn open_orders_are_locked_oldest_first() {
    let world = World::new();
    let ids = ["a", "b", "c"].map(|key| {
        let order = accept(world.user, key, market("SPY", Side::Buy, 1));
        assert!(is_new(&world.accept(&order).unwrap()));
        order.id
    });
    world.test.execute(&format!(
        "UPDATE orders SET status = 'canceled', closed_at = now() WHERE id = '{}'",
        ids[1]
    ));
    world
        .db
        .run_blocking(|tx| {
            let open: Vec<_> = tx.lock_open_orders(world.account)?.iter().map(|order| order.id).collect();
            assert_eq!(open, [ids[0], ids[2]]);
            let waits = world.db.run_blocking(|tx| tx.lock_order(world.account, ids[2])).unwrap_err();
            assert_eq!(waits.kind(), StoreErrorKind::Contention, "{waits}");
            Ok::<_, StoreError>(())
        })
        .unwrap();
}

#[test]
fn parallel_twins_make_one_order_and_parallel_orders_dense_streams() {
    let world = Arc::new(World::new());
    let (second, _) = add_user(&world.db, "second@example.com");
    let threads: Vec<_> = (0..8)
        .map(|n| {
            let world = Arc::clone(&world);
            std::thread::spawn(move || {
                let mut new = 0;
                for i in 0..25 {
                    // Half of the requests of all threads share their keys.
                    let key = if i % 2 == 0 { format!("shared-{i}") } else { format!("own-{n}-{i}") };
                    let user = if i % 5 == 0 { second } else { world.user };
                    match world.accept(&accept(user, &key, market("SPY", Side::Buy, 1))) {
                        Ok(accepted) if is_new(&accepted) => new += 1,
                        Ok(Accepted::Key(KeyState::InFlight)) => {}
                        Ok(other) => panic!("{other:?}"),
                        Err(error) => assert_eq!(error.kind(), StoreErrorKind::Contention, "{error}"),
                    }
                }
                new
            })
        })
        .collect();
    let new: i64 = threads.into_iter().map(|thread| thread.join().unwrap()).sum();
    assert_eq!(new, 8 * 12 + 13);
    assert_eq!(world.count("orders"), new);
    assert_eq!(world.count("jobs"), new);
    let dense = "(SELECT h.stream_id FROM stream_head h LEFT JOIN stream_event e USING (stream_id) GROUP BY h.stream_id, h.head \
                 HAVING count(e.off) <> h.head OR coalesce(max(e.off), 0) <> h.head) AS holes";
    assert_eq!(world.count(dense), 0);
    let report = world.db.read_blocking(|tx| tx.verify_audit()).unwrap();
    assert_eq!(report.first_bad, None);
    assert_eq!(report.entries, u64::try_from(new).unwrap());
}

#[test]
fn closes_that_run_in_parallel_never_open_the_other_side() {
    use plimsoll_core_domain::order::OrderStatus;
    use plimsoll_storage::platform::orders::AcceptOrder;
    let world = Arc::new(World::new());
    let buy = world.sent(market("SPY", Side::Buy, 10));
    let filled = crate::world::seen(&world, buy, OrderStatus::Filled, 2, 10);
    world.apply(&crate::world::report(filled, vec![crate::world::execution(10, 10, "100")]), 2);
    let threads: Vec<_> = (0..6)
        .map(|n| {
            let world = Arc::clone(&world);
            std::thread::spawn(move || {
                let qty = if n % 2 == 0 { 10 } else { 4 };
                let close = AcceptOrder {
                    closes: true,
                    ..accept(world.user, &format!("close-{n}"), market("SPY", Side::Sell, qty))
                };
                match world.accept(&close).unwrap() {
                    Accepted::New { .. } => qty,
                    Accepted::TooMuch { .. } => 0,
                    other => panic!("{other:?}"),
                }
            })
        })
        .collect();
    let closing: i64 = threads.into_iter().map(|thread| thread.join().unwrap()).sum();
    assert!(closing == 10 || closing == 8, "{closing}");
    let rest = AcceptOrder { closes: true, ..accept(world.user, "rest", market("SPY", Side::Sell, 10)) };
    assert!(matches!(world.accept(&rest).unwrap(), Accepted::TooMuch { .. }));
    assert_eq!(world.count("idempotency_keys WHERE key = 'rest'"), 0, "a refusal keeps no key");
}
