//! Outgoing hooks: what is dispatched, under which ids, and what becomes of it.

use std::collections::BTreeSet;

use chrono::TimeDelta;
use plimsoll_auth::ports::{SessionStore, VaultStore};
use plimsoll_auth::vault::{Alert, Audience};
use plimsoll_core_domain::order::Side;
use plimsoll_core_domain::outbound::{EventFilter, delivery_id};
use plimsoll_core_domain::stream::EventKind;
use plimsoll_core_domain::{StoreError, StoreErrorKind, UserId};
use plimsoll_crypto::{OsRandom, WebhookSecret};
use plimsoll_reliability::retry::Policy;
use plimsoll_storage::platform::outbound::{
    AttemptNote, Created, DeliveryState, DisabledFor, Dispatched, EVENTS_AT_ONCE, HookChange, HookState,
    MAX_HOOKS, NewHook, OutboundHook, PENDING_OF_HOOK, PENDING_OF_USER, Rotated,
};
use serde_json::Value;
use uuid::Uuid;

use crate::world::{World, add_user, at, market};

fn new_hook(n: u128, events: &[EventKind]) -> NewHook {
    NewHook {
        id: Uuid::from_u128(n),
        name: format!("hook {n}"),
        url: "https://hooks.example/x".to_owned(),
        events: EventFilter::new(events.to_vec()),
        secret: WebhookSecret::generate(&mut OsRandom),
    }
}

fn create(world: &World, user: UserId, new: &NewHook) -> Created {
    let made = world.db.run_blocking(|tx| tx.create_outbound_hook(user, new, at(0)));
    made.unwrap_or_else(|why: StoreError| panic!("{why}"))
}

fn hook(world: &World, n: u128, events: &[EventKind]) -> OutboundHook {
    match create(world, world.user, &new_hook(n, events)) {
        Created::Done(hook) => hook,
        other => panic!("{other:?}"),
    }
}

/// One event in the user's stream.
fn alert(world: &World, user: UserId, message: &str) {
    let alert = Alert { message: message.to_owned(), severity: "info" };
    let told = world.db.run_blocking(|tx| tx.alert(Audience::User(user), &alert, at(1)));
    told.unwrap_or_else(|why: StoreError| panic!("{why}"));
}

/// So many events in the user's stream.
fn many_alerts(world: &World, events: usize) {
    let user = world.user;
    world.test.execute(&format!(
        "WITH moved AS (UPDATE stream_head SET head = head + {events} WHERE stream_id = {user} RETURNING epoch, head) \
         INSERT INTO stream_event (stream_id, off, epoch, kind, payload, at) \
         SELECT {user}, m.head - n, m.epoch, 'system_alert', '{{}}', now() FROM moved m, generate_series(0, {events} - 1) n"
    ));
}

/// Dispatches until nothing is left; answers the messages made.
fn dispatch(world: &World) -> usize {
    let (mut behind, mut messages) = ((UserId(0), Uuid::nil()), 0);
    while let Some(done) = dispatch_one(world, behind) {
        messages += done.messages;
        if !done.more {
            behind = (done.user, done.hook);
        }
    }
    messages
}

fn dispatch_one(world: &World, behind: (UserId, Uuid)) -> Option<Dispatched> {
    let done = world.db.run_blocking(|tx| tx.dispatch_outbound(behind, &Policy::WEBHOOK, at(2)));
    done.unwrap_or_else(|why: StoreError| panic!("{why}"))
}

fn deliveries(world: &World) -> Vec<Value> {
    world.test.rows(
        "SELECT id, hook_id, event, off, body, state, user_id FROM outbound_deliveries ORDER BY off, hook_id",
    )
}

#[test]
fn a_hook_gets_what_happens_after_it_was_made_and_nothing_of_others() {
    let world = World::new();
    let (other, _) = add_user(&world.db, "other@example.com");
    alert(&world, world.user, "before");
    let made = hook(&world, 1, &[]);
    assert!(dispatch_one(&world, (UserId(0), Uuid::nil())).is_none(), "nothing has happened");
    alert(&world, other, "of another");
    assert_eq!(dispatch(&world), 0);
    world.sent(market("SPY", Side::Buy, 10));
    alert(&world, world.user, "after");
    let messages = dispatch(&world);
    assert!(messages >= 2, "{messages}");
    let rows = deliveries(&world);
    assert_eq!(rows.len(), messages);
    let offsets: Vec<i64> = rows.iter().map(|row| row["off"].as_i64().unwrap()).collect();
    assert!(offsets.windows(2).all(|two| two[1] == two[0] + 1), "dense: {offsets:?}");
    assert_eq!(rows[0]["event"], "order_created");
    for row in &rows {
        let body: Value = serde_json::from_str(row["body"].as_str().unwrap()).unwrap();
        assert_eq!((&body["type"], &body["offset"]), (&row["event"], &row["off"]));
        assert_eq!(body["stream"], format!("user:{}", world.user).as_str());
        assert!(!row["body"].as_str().unwrap().contains("of another"));
    }
    let epoch = world.test.rows(&format!("SELECT epoch FROM stream_head WHERE stream_id = {}", world.user));
    let epoch: Uuid = epoch[0]["epoch"].as_str().unwrap().parse().unwrap();
    assert_eq!(rows[0]["id"], delivery_id(made.id, epoch, offsets[0]).to_string().as_str());
    assert_eq!(
        world.count("jobs WHERE kind = 'send_webhook' AND state = 'ready' AND max_attempts = 8"),
        messages as i64
    );
    assert_eq!(dispatch(&world), 0, "once");
}

/// A place that was set back (a restored row) makes the same messages, and so none twice.
#[test]
fn the_same_events_make_the_same_messages() {
    let world = World::new();
    hook(&world, 1, &[]);
    for n in 0..5 {
        alert(&world, world.user, &format!("news {n}"));
    }
    assert_eq!(dispatch(&world), 5);
    let before = deliveries(&world);
    world.test.execute("UPDATE outbound_hooks SET off = 0");
    dispatch(&world);
    assert_eq!(deliveries(&world), before);
    assert_eq!(world.count("jobs WHERE kind = 'send_webhook'"), 5);
    world.test.execute("DELETE FROM outbound_deliveries");
    world.test.execute("UPDATE outbound_hooks SET off = 0");
    dispatch(&world);
    let ids = |rows: &[Value]| rows.iter().map(|row| row["id"].clone()).collect::<Vec<_>>();
    assert_eq!(ids(&deliveries(&world)), ids(&before));
    assert_eq!(world.count("jobs WHERE kind = 'send_webhook'"), 5, "they wait already");
}

#[test]
fn only_the_kinds_that_were_asked_for_are_posted() {
    let world = World::new();
    hook(&world, 1, &[EventKind::OrderCreated]);
    hook(&world, 2, &[EventKind::SystemAlert]);
    hook(&world, 3, &[EventKind::PnlUpdated]);
    world.sent(market("SPY", Side::Buy, 10));
    alert(&world, world.user, "news");
    assert_eq!(dispatch(&world), 2);
    let rows = deliveries(&world);
    let pairs: BTreeSet<_> =
        rows.iter().map(|row| (row["hook_id"].to_string(), row["event"].as_str().unwrap())).collect();
    let id = |n: u128| format!("\"{}\"", Uuid::from_u128(n));
    assert_eq!(pairs, BTreeSet::from([(id(1), "order_created"), (id(2), "system_alert")]));
    // the place moves past what is not wanted
    assert_eq!(
        world.count(&format!(
            "outbound_hooks h JOIN stream_head s ON s.stream_id = h.user_id AND s.head = h.off WHERE h.user_id = {}",
            world.user
        )),
        3
    );
}

#[test]
fn paused_and_disabled_hooks_and_users_get_nothing() {
    let world = World::new();
    let user = world.user;
    let made = hook(&world, 1, &[]);
    let change = |state| {
        let change = HookChange { state: Some(state), ..HookChange::default() };
        let changed = world.db.run_blocking(|tx| tx.change_outbound_hook(user, made.id, &change, at(3)));
        changed.unwrap_or_else(|why: StoreError| panic!("{why}")).unwrap()
    };
    let (before, after) = change(HookState::Paused);
    assert_eq!((before.state, after.state), (HookState::Active, HookState::Paused));
    alert(&world, user, "while it was paused");
    assert_eq!(dispatch(&world), 0);
    change(HookState::Active);
    assert_eq!(dispatch(&world), 0, "what happened meanwhile is not sent later");
    alert(&world, user, "now");
    assert_eq!(dispatch(&world), 1);

    let disabled = world
        .db
        .run_blocking(|tx| tx.disable_outbound_hook(user, made.id, DisabledFor::Failing, at(4)))
        .unwrap_or_else(|why: StoreError| panic!("{why}"))
        .unwrap();
    assert_eq!((disabled.state, disabled.state_reason.as_deref()), (HookState::Disabled, Some("failing")));
    let again = world.db.run_blocking(|tx| tx.disable_outbound_hook(user, made.id, DisabledFor::Gone, at(5)));
    assert_eq!(again.unwrap_or_else(|why: StoreError| panic!("{why}")), None, "once");
    alert(&world, user, "while it was disabled");
    assert_eq!(dispatch(&world), 0);
    let renamed = HookChange { name: Some("other".to_owned()), ..HookChange::default() };
    let (_, renamed) = world
        .db
        .run_blocking(|tx| tx.change_outbound_hook(user, made.id, &renamed, at(6)))
        .unwrap_or_else(|why: StoreError| panic!("{why}"))
        .unwrap();
    assert_eq!((renamed.state, renamed.state_reason.as_deref()), (HookState::Disabled, Some("failing")));
    let (_, active) = change(HookState::Active);
    assert_eq!((active.state_reason, active.failing_since, active.failures), (None, None, 0));

    world.test.execute(&format!("UPDATE users SET state = 'disabled' WHERE id = {user}"));
    alert(&world, user, "while the user was disabled");
    assert_eq!(dispatch(&world), 0);
}

/// Whatever is missing from the stream is told of, and what is left follows.
#[test]
fn gaps_are_told_of() {
    let world = World::new();
    hook(&world, 1, &[EventKind::OrderFilled]);
    let user = world.user;
    let off = world.test.rows("SELECT off FROM outbound_hooks")[0]["off"].as_i64().unwrap();
    for n in 0..4 {
        alert(&world, user, &format!("news {n}"));
    }
    world.test.execute(&format!("DELETE FROM stream_event WHERE stream_id = {user} AND off <= {}", off + 2));
    assert_eq!(dispatch(&world), 1);
    let body = |rows: &[Value]| -> Value {
        serde_json::from_str(rows.last().unwrap()["body"].as_str().unwrap()).unwrap()
    };
    let gap = body(&deliveries(&world));
    assert_eq!((&gap["type"], &gap["data"]["reason"]), (&"snapshot_required".into(), &"too_old".into()));
    assert_eq!((gap["data"]["from"].as_i64(), gap["data"]["to"].as_i64()), (Some(off + 1), Some(off + 2)));

    alert(&world, user, "gone at once");
    world.test.execute(&format!("DELETE FROM stream_event WHERE stream_id = {user}"));
    assert_eq!(dispatch(&world), 1, "all of it is missing");
    assert_eq!(body(&deliveries(&world))["data"]["from"].as_i64(), Some(off + 5));

    world.test.execute(&format!(
        "UPDATE stream_head SET epoch = '00000000-0000-0000-0000-0000000000ff', head = 3 WHERE stream_id = {user}"
    ));
    assert_eq!(dispatch(&world), 1);
    let epoch = world.test.rows("SELECT body FROM outbound_deliveries WHERE off = 3");
    let epoch = body(&epoch);
    assert_eq!(epoch["data"]["reason"], "epoch_changed");
    assert_eq!(epoch["epoch"], "00000000-0000-0000-0000-0000000000ff");
    assert_eq!(dispatch(&world), 0);
}

/// Many events go in several transactions, and several threads make each message once.
#[test]
fn many_dispatchers_make_each_message_once() {
    let world = World::new();
    for n in 1..=4 {
        hook(&world, n, &[]);
    }
    let events = EVENTS_AT_ONCE + 40;
    many_alerts(&world, events);
    std::thread::scope(|scope| {
        for _ in 0..4 {
            scope.spawn(|| dispatch(&world));
        }
    });
    dispatch(&world);
    assert_eq!(world.count("outbound_deliveries"), 4 * events as i64);
    assert_eq!(world.count("jobs WHERE kind = 'send_webhook'"), 4 * events as i64);
}

/// WHK-4: secrets are sealed for their row, column and user; the one before signs for a day, and never a third.
#[test]
fn secrets_are_sealed_and_the_old_one_signs_for_a_day() {
    let world = World::new();
    let user = world.user;
    let (first, second, third) = (new_hook(1, &[]), new_hook(2, &[]).secret, new_hook(3, &[]).secret);
    create(&world, user, &first);
    let secrets = |now| {
        let found = world.db.run_blocking(|tx| tx.outbound_secrets(user, first.id, now));
        found.unwrap_or_else(|why: StoreError| panic!("{why}")).unwrap()
    };
    assert_eq!(secrets(at(0)), Some(vec![first.secret.clone()]));
    let rotate = |secret: &WebhookSecret, now| {
        let done = world.db.run_blocking(|tx| tx.rotate_outbound_secret(user, first.id, secret, now));
        done.unwrap_or_else(|why: StoreError| panic!("{why}"))
    };
    let Rotated::Done(hook) = rotate(&second, at(10)) else { panic!("rotated") };
    assert_eq!(hook.old_secret_until, Some(at(10) + TimeDelta::hours(24)));
    assert_eq!(secrets(at(20)), Some(vec![second.clone(), first.secret.clone()]));
    assert_eq!(secrets(at(10 + 86_400)), Some(vec![second.clone()]));
    rotate(&third, at(30));
    assert_eq!(secrets(at(40)), Some(vec![third.clone(), second.clone()]));
    let other =
        world.db.run_blocking(|tx| tx.rotate_outbound_secret(UserId(99_999), first.id, &second, at(1)));
    assert_eq!(other.unwrap_or_else(|why: StoreError| panic!("{why}")), Rotated::NotFound);

    let plain = world
        .test
        .rows("SELECT encode(secret, 'hex') AS s, encode(old_secret, 'hex') AS o FROM outbound_hooks");
    for secret in [&first.secret, &second, &third] {
        let hex: String = secret.expose().iter().map(|byte| format!("{byte:02x}")).collect();
        assert!(!plain[0].to_string().contains(&hex));
    }
    // one that stands in another column, or at another hook, opens nothing
    world.test.execute("UPDATE outbound_hooks SET old_secret = secret");
    assert_eq!(secrets(at(40)), Some(vec![third.clone()]));
    world.test.execute("UPDATE outbound_hooks SET secret = '\\x0102'");
    assert_eq!(secrets(at(40)), None);
    assert!(matches!(rotate(&second, at(50)), Rotated::Done(_)), "its owner can replace it");
    assert_eq!(secrets(at(60)), Some(vec![second.clone()]));
    world.test.execute("DELETE FROM user_keys");
    assert_eq!(secrets(at(60)), None);
    let told = |second| {
        let told = world.db.run_blocking(|tx| tx.outbound_secret_unreadable(user, first.id, at(second)));
        told.unwrap_or_else(|why: StoreError| panic!("{why}"))
    };
    assert!(told(60) && !told(61), "on record once");
    assert_eq!(world.count("audit_log WHERE action = 'secret.unreadable'"), 1);
}

#[test]
fn a_user_has_a_limited_number_of_hooks() {
    let world = World::new();
    let (other, _) = add_user(&world.db, "other@example.com");
    for n in 1..=MAX_HOOKS as u128 {
        assert!(matches!(create(&world, world.user, &new_hook(n, &[])), Created::Done(_)));
    }
    assert_eq!(create(&world, world.user, &new_hook(99, &[])), Created::TooMany);
    assert!(matches!(create(&world, other, &new_hook(100, &[])), Created::Done(_)));
    let found = |user, n| {
        let found = world.db.read_blocking(|tx| tx.outbound_hook(user, Uuid::from_u128(n)));
        found.unwrap_or_else(|why: StoreError| panic!("{why}"))
    };
    assert!(found(other, 100).is_some() && found(world.user, 100).is_none());
    let deleted = world.db.run_blocking(|tx| tx.delete_outbound_hook(world.user, Uuid::from_u128(100)));
    assert_eq!(deleted.unwrap_or_else(|why: StoreError| panic!("{why}")), None);
    assert!(found(other, 100).is_some());
}

#[test]
fn attempts_are_logged_and_old_deliveries_go() {
    let world = World::new();
    let user = world.user;
    let made = hook(&world, 1, &[]);
    for n in 0..3 {
        alert(&world, user, &format!("news {n}"));
    }
    dispatch(&world);
    let ids: Vec<Uuid> =
        deliveries(&world).iter().map(|row| row["id"].as_str().unwrap().parse().unwrap()).collect();
    let note = |id: Uuid, error, state, second| {
        let note =
            AttemptNote { status: Some(503), error, response: Some("busy".to_owned()), duration_ms: 12 };
        let noted = world.db.run_blocking(|tx| tx.note_delivery_attempt(user, id, &note, state, at(second)));
        noted.unwrap_or_else(|why: StoreError| panic!("{why}"));
    };
    for second in 0..12 {
        note(ids[0], Some("status"), DeliveryState::Pending, second);
    }
    note(ids[0], None, DeliveryState::Delivered, 12);
    note(ids[1], Some("status"), DeliveryState::Failed, 12);
    let list = |state, after, limit| {
        let listed = world.db.read_blocking(|tx| tx.deliveries_of_hook(user, made.id, state, after, limit));
        listed.unwrap_or_else(|why: StoreError| panic!("{why}"))
    };
    let all = list(None, None, 10);
    assert_eq!(all.len(), 3);
    let page = list(None, None, 2);
    let rest = list(None, page.last().map(|last| (last.created_at, last.id)), 10);
    assert_eq!([page, rest].concat(), all);
    let delivered = list(Some(DeliveryState::Delivered), None, 10).pop().unwrap();
    assert_eq!((delivered.id, delivered.attempts, delivered.finished_at), (ids[0], 13, Some(at(12))));
    let log = delivered.log.as_array().unwrap();
    assert_eq!((log.len(), &log[9]["error"]), (10, &Value::Null));
    assert_eq!(log[8]["at"], "2026-05-28T20:26:51.000000Z");

    let failing = |second| {
        let failing = world.db.run_blocking(|tx| tx.outbound_hook_failed(user, made.id, at(second)));
        failing.unwrap_or_else(|why: StoreError| panic!("{why}")).unwrap()
    };
    failing(20);
    assert_eq!((failing(30).since, failing(40).failures), (at(20), 3));
    world
        .db
        .run_blocking(|tx| tx.outbound_hook_recovered(user, made.id))
        .unwrap_or_else(|why: StoreError| panic!("{why}"));
    assert_eq!((failing(50).since, failing(50).failures), (at(50), 2));

    let prune = |now| {
        let (day, days) = (TimeDelta::days(1), TimeDelta::days(3));
        let gone = world.db.run_blocking(|tx| tx.prune_deliveries(day, days, 10, now));
        gone.unwrap_or_else(|why: StoreError| panic!("{why}"))
    };
    assert_eq!(prune(at(12 + 86_399)), 0);
    assert_eq!(prune(at(12 + 86_400)), 1, "the delivered one");
    assert_eq!(prune(at(12 + 3 * 86_400)), 1, "the failed one");
    assert_eq!(prune(at(9_999_999)), 0, "what waits stays");
    assert_eq!(world.count("outbound_deliveries"), 1);
}

/// A hook that wants an event of another release is passed over; those behind it are not.
#[test]
fn a_hook_that_does_not_read_is_in_nobodys_way() {
    let world = World::new();
    let (bad, good) = (hook(&world, 1, &[EventKind::SystemAlert]), hook(&world, 2, &[]));
    alert(&world, world.user, "news");
    world
        .test
        .execute(&format!("UPDATE outbound_hooks SET events = '{{order_lost}}' WHERE id = '{}'", bad.id));
    let start = (UserId(0), Uuid::nil());
    let failed: Result<_, StoreError> =
        world.db.run_blocking(|tx| tx.dispatch_outbound(start, &Policy::WEBHOOK, at(2)));
    assert_eq!(failed.unwrap_err().kind(), StoreErrorKind::Inconsistent);
    let lagging = |behind| -> Option<(UserId, Uuid)> {
        let found: Result<_, StoreError> = world.db.read_blocking(|tx| tx.lagging_outbound_hook(behind));
        found.unwrap()
    };
    assert_eq!(lagging(start), Some((world.user, bad.id)));
    let done = dispatch_one(&world, (world.user, bad.id)).unwrap();
    assert_eq!((done.hook, done.messages), (good.id, 1));
    assert_eq!(lagging((world.user, bad.id)), None);
}

/// A receiver that takes nothing, or too slowly, holds a bounded number of rows; the rest waits in the stream, and nothing
/// of it is lost. Neither another hook nor another user has to wait for it.
#[test]
fn what_waits_is_bounded_and_not_lost() {
    let world = World::new();
    let user = world.user;
    let slow = hook(&world, 1, &[]);
    let events = PENDING_OF_HOOK + 100;
    many_alerts(&world, events);
    assert_eq!(dispatch(&world), PENDING_OF_HOOK);
    assert_eq!(dispatch(&world), 0, "no room");
    assert_eq!(world.count("jobs WHERE kind = 'send_webhook'"), PENDING_OF_HOOK as i64);
    let other = hook(&world, 2, &[]);
    alert(&world, user, "for both");
    let start = (UserId(0), Uuid::nil());
    let passed = dispatch_one(&world, start).unwrap();
    assert_eq!((passed.hook, passed.messages, passed.more), (slow.id, 0, false));
    let taken = dispatch_one(&world, (user, slow.id)).unwrap();
    assert_eq!((taken.hook, taken.messages), (other.id, 1));

    world.test.execute(
        "UPDATE outbound_deliveries SET state = 'delivered', finished_at = now() WHERE id IN \
         (SELECT id FROM outbound_deliveries ORDER BY off LIMIT 30)",
    );
    assert_eq!(dispatch(&world), 30, "as many as there is room for");
    world.test.execute(
        "UPDATE outbound_deliveries SET state = 'failed', finished_at = now() WHERE state = 'pending'",
    );
    assert_eq!(dispatch(&world), 71);
    let of = |hook: &OutboundHook| {
        world
            .count(&format!("(SELECT DISTINCT off FROM outbound_deliveries WHERE hook_id = '{}') o", hook.id))
    };
    assert_eq!((of(&slow), of(&other)), (events as i64 + 1, 1), "each once");

    // All hooks of a user have a bound as well.
    world.test.execute(&format!(
        "INSERT INTO outbound_deliveries (user_id, id, hook_id, event, body, state, created_at) \
         SELECT {user}, gen_random_uuid(), '{}', 'system_alert', '{{}}', 'pending', now() \
         FROM generate_series(1, {PENDING_OF_USER})",
        slow.id
    ));
    let (stranger, _) = add_user(&world.db, "other@example.com");
    create(&world, stranger, &new_hook(3, &[]));
    alert(&world, user, "no room for any hook of this user");
    alert(&world, stranger, "of another");
    assert_eq!(dispatch(&world), 1);
    assert_eq!(world.count(&format!("outbound_deliveries WHERE user_id = {stranger}")), 1);
}

/// However much is posted, a hook's log has an end.
#[test]
fn a_log_is_cut_to_its_newest_rows() {
    let world = World::new();
    let user = world.user;
    let (made, other) = (hook(&world, 1, &[]), hook(&world, 2, &[]));
    let behind = (user, Uuid::nil());
    alert(&world, user, "news");
    assert!(!dispatch_one(&world, behind).unwrap().cut);
    world.test.execute(&format!("UPDATE stream_head SET head = head + 5000 WHERE stream_id = {user}"));
    assert!(dispatch_one(&world, behind).unwrap().cut, "a thousand events later");
    world.test.execute("DELETE FROM outbound_deliveries");
    for (hook, rows) in [(&made, 30), (&other, 5)] {
        world.test.execute(&format!(
            "INSERT INTO outbound_deliveries (user_id, id, hook_id, event, body, off, state, created_at) \
             SELECT {user}, gen_random_uuid(), '{}', 'system_alert', '{{}}', n, \
               CASE WHEN n = 2 THEN 'pending' ELSE 'delivered' END, '2026-01-01T00:00:00Z'::timestamptz + n * '1 s'::interval \
             FROM generate_series(1, {rows}) n",
            hook.id
        ));
    }
    let cut = |hook: &OutboundHook, limit| -> usize {
        let cut = world.db.run_blocking(|tx| tx.cut_delivery_log(user, hook.id, 10, limit));
        cut.unwrap_or_else(|why: StoreError| panic!("{why}"))
    };
    assert_eq!(cut(&made, 4), 4, "in parts");
    let offsets = || -> Vec<i64> {
        let rows = deliveries(&world);
        let own = rows.iter().filter(|row| row["hook_id"] == made.id.to_string().as_str());
        own.map(|row| row["off"].as_i64().unwrap()).collect()
    };
    assert_eq!(offsets()[..2], [2, 6], "the oldest, but for what waits");
    assert_eq!(cut(&made, 100), 15);
    assert_eq!(offsets(), [vec![2], (21..=30).collect()].concat());
    assert_eq!((cut(&made, 100), cut(&other, 100)), (0, 0));
    assert_eq!(world.count(&format!("outbound_deliveries WHERE hook_id = '{}'", other.id)), 5);
}

/// What waits for a user who is disabled is not posted.
#[test]
fn nothing_is_due_of_a_disabled_user() {
    let world = World::new();
    let user = world.user;
    hook(&world, 1, &[]);
    alert(&world, user, "news");
    dispatch(&world);
    let id: Uuid = deliveries(&world)[0]["id"].as_str().unwrap().parse().unwrap();
    let state = || {
        let due = world.db.run_blocking(|tx| tx.due_delivery(user, id, at(3)));
        due.unwrap_or_else(|why: StoreError| panic!("{why}")).unwrap().hook_state
    };
    assert_eq!(state(), HookState::Active);
    world.test.execute(&format!("UPDATE users SET state = 'disabled' WHERE id = {user}"));
    assert_eq!(state(), HookState::Paused);
}

/// Whoever locks everybody out stops what an intruder may have sent elsewhere; signing out alone does not.
#[test]
fn hooks_are_paused_with_the_doors_closed() {
    let world = World::new();
    let user = world.user;
    let (other, _) = add_user(&world.db, "other@example.com");
    let made = hook(&world, 1, &[]);
    create(&world, other, &new_hook(2, &[]));
    let close = |with_api_tokens| {
        let closed = world.db.run_blocking(|tx| tx.close_doors(user, None, with_api_tokens, at(3)));
        closed.unwrap_or_else(|why: StoreError| panic!("{why}"));
        let found = world.db.read_blocking(|tx| tx.outbound_hook(user, made.id));
        let hook = found.unwrap_or_else(|why: StoreError| panic!("{why}")).unwrap();
        (hook.state, hook.state_reason)
    };
    assert_eq!(close(false), (HookState::Active, None));
    assert_eq!(close(true), (HookState::Paused, Some("locked_out".to_owned())));
    assert_eq!(world.count("outbound_hooks WHERE state = 'active'"), 1, "another user's");
    let wakes = HookChange { state: Some(HookState::Active), ..HookChange::default() };
    let (_, active) = world
        .db
        .run_blocking(|tx| tx.change_outbound_hook(user, made.id, &wakes, at(4)))
        .unwrap_or_else(|why: StoreError| panic!("{why}"))
        .unwrap();
    assert_eq!((active.state, active.state_reason), (HookState::Active, None));
}
