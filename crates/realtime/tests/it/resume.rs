//! Coming back: what is recovered, and what asks for a snapshot.

use std::sync::atomic::Ordering;

use plimsoll_core_domain::stream::StreamId;
use plimsoll_core_domain::{StoreErrorKind, UserId};
use plimsoll_realtime::{Cursor, OpenError, OpenRequest, Position};
use uuid::Uuid;

use crate::harness::*;

fn cursor(user_at: (u128, i64), broadcast_at: (u128, i64)) -> String {
    let at = |(epoch, offset)| Position { epoch: Uuid::from_u128(epoch), offset };
    Cursor { user: USER, user_at: at(user_at), broadcast_at: at(broadcast_at) }.encode()
}

#[test]
fn what_was_missed_comes_between_recovered_and_live() {
    let t = harness();
    for stream in [MINE, MINE, MINE, ALL, MINE, ALL] {
        t.commit(stream);
    }
    let session = t.resume(&cursor((1, 2), (1, 1)));
    t.emit(MINE);
    t.emit(ALL);
    assert_eq!(
        brief(&session),
        [
            "hello",
            "recovered user:7 3..=4",
            "recovered broadcast 2..=2",
            "user:7#3",
            "user:7#4",
            "broadcast#2",
            "user:7#5",
            "broadcast#3",
        ]
    );
}

#[test]
fn nothing_missed_is_said_too() {
    let t = harness();
    t.commit(MINE);
    let session = t.resume(&cursor((1, 1), (1, 0)));
    assert_eq!(brief(&session), ["hello", "recovered user:7 2..=1", "recovered broadcast 1..=0"]);
}

#[test]
fn cursors_that_lead_nowhere_ask_for_a_snapshot_and_live_goes_on() {
    let cases = [
        ((9, 2), "epoch_changed"),
        ((1, 1_006), "epoch_changed"), // beyond the head
        ((9, 5_000), "epoch_changed"),
        ((1, 4), "too_many"), // 1,001 missed
        ((0, 0), "too_many"), // from the beginning, whatever the epoch
        ((1, 7), "too_old"),  // pruned up to 8
    ];
    let t = harness();
    (0..1_005).for_each(|_| drop(t.commit(MINE)));
    t.log.inner.prune(MINE, 8);
    for (seen, (user_at, reason)) in (0..).zip(cases) {
        let session = t.resume(&cursor(user_at, (1, seen)));
        assert_eq!(
            brief(&session),
            [
                "hello".into(),
                format!("snapshot_required user:7 {reason}"),
                format!("recovered broadcast {}..={seen}", seen + 1)
            ],
            "{user_at:?}"
        );
        t.hub.publish(&t.commit(ALL));
        assert_eq!(brief(&session).len(), 1, "live");
    }
}

#[test]
fn exactly_a_thousand_are_sent_and_history_does_not_count_as_queued() {
    let t = harness();
    (0..1_005).for_each(|_| drop(t.commit(MINE)));
    let session = t.resume(&cursor((1, 5), (1, 0)));
    for _ in 0..900 {
        t.emit(MINE);
    }
    let said = brief(&session);
    assert_eq!(said[1], "recovered user:7 6..=1005");
    let offsets = (6..=1_905).map(|offset| format!("user:7#{offset}"));
    assert!(said[3..].iter().eq(offsets.collect::<Vec<_>>().iter()));
}

#[test]
fn a_cursor_from_before_the_first_event_recovers_all() {
    let t = harness();
    t.commit(MINE);
    let session = t.resume(&cursor((0, 0), (0, 0)));
    assert_eq!(brief(&session)[1..], ["recovered user:7 1..=1", "recovered broadcast 1..=0", "user:7#1"]);
}

#[test]
fn undecodable_and_foreign_cursors_are_refused_and_live_goes_on() {
    let t = harness();
    let foreign =
        Cursor { user: UserId(8), user_at: Position::UNBORN, broadcast_at: Position::UNBORN }.encode();
    for bad in ["", "nonsense", &foreign] {
        let session = t.resume(bad);
        session.resume(bad).unwrap();
        let offset = t.emit(MINE).offset;
        assert_eq!(
            brief(&session),
            ["hello", "error invalid_cursor", "error invalid_cursor", &format!("user:7#{offset}")]
        );
    }
}

#[test]
fn a_cursor_ahead_of_this_instance_catches_it_up_first() {
    let t = harness();
    let _other_client = t.open();
    (0..3).for_each(|_| drop(t.commit(MINE))); // by another instance, which also sent them
    let session = t.resume(&cursor((1, 3), (1, 0)));
    assert_eq!(brief(&session), ["hello", "recovered user:7 4..=3", "recovered broadcast 1..=0"]);
    t.emit(MINE);
    assert_eq!(brief(&session), ["user:7#4"]);
}

#[test]
fn recent_events_come_from_memory_older_ones_from_the_log() {
    let t = harness();
    let _keeps_it_active = t.open();
    (0..200).for_each(|_| drop(t.emit(MINE)));
    let reads = || t.log.reads.load(Ordering::Relaxed);
    let before = reads();
    assert_eq!(brief(&t.resume(&cursor((1, 72), (1, 0)))).len(), 3 + 128);
    assert_eq!(reads(), before);
    assert_eq!(brief(&t.resume(&cursor((1, 71), (1, 0)))).len(), 3 + 129);
    assert_eq!(reads(), before + 1);
}

#[test]
fn resuming_a_live_session_takes_back_what_is_still_queued() {
    let t = harness();
    (0..2).for_each(|_| drop(t.commit(MINE)));
    let session = t.open();
    t.emit(MINE);
    t.emit(ALL);
    session.resume(&cursor((1, 1), (1, 0))).unwrap();
    t.emit(MINE);
    assert_eq!(
        brief(&session),
        [
            "hello",
            "recovered user:7 2..=3",
            "recovered broadcast 1..=1",
            "user:7#2",
            "user:7#3",
            "broadcast#1",
            "user:7#4"
        ]
    );
    // What was sent since `hello` comes again in its place.
    session.resume(&cursor((1, 3), (1, 1))).unwrap();
    assert_eq!(brief(&session), ["recovered user:7 4..=4", "recovered broadcast 2..=1", "user:7#4"]);
}

#[test]
fn a_filter_holds_for_history_too() {
    let t = harness();
    t.commit(MINE);
    let session = t.open();
    session.unsubscribe(None);
    session.resume(&cursor((1, 0), (1, 0))).unwrap();
    assert_eq!(brief(&session), ["hello", "recovered user:7 1..=1", "recovered broadcast 1..=0"]);
}

#[test]
fn a_log_that_fails_opens_nothing_and_leaves_nothing_behind() {
    let t = harness();
    t.commit(MINE);
    t.log.broken.store(true, Ordering::Relaxed);
    let refused = t.hub.open(OpenRequest::new(USER, "login"));
    assert!(matches!(refused, Err(OpenError::Store(error)) if error.kind() == StoreErrorKind::Unavailable));
    assert_eq!(t.hub.session_count(), 0);
    assert!(t.hub.sweep().is_err());

    t.log.broken.store(false, Ordering::Relaxed);
    let session = t.open();
    t.log.broken.store(true, Ordering::Relaxed);
    assert!(session.resume(&cursor((1, 0), (1, 0))).is_err());
    assert!(t.hub.open(OpenRequest::new(USER, "login").resuming(cursor((1, 0), (1, 0)))).is_err());
    assert_eq!(t.hub.session_count(), 1);
}

#[test]
fn events_that_come_while_history_is_read_follow_it() {
    let t = harness();
    (0..3).for_each(|_| drop(t.commit(MINE)));
    let (hub, log) = (t.hub.clone(), t.log.clone());
    *t.log.interrupt.lock().unwrap() = Some(std::sync::Arc::new(move || {
        let event = log.inner.append(
            StreamId::User(USER),
            plimsoll_core_domain::stream::EventKind::OrderUpdated,
            "{}",
            chrono::DateTime::UNIX_EPOCH,
        );
        hub.publish(&event);
    }));
    let session = t.resume(&cursor((1, 1), (1, 0)));
    let said = brief(&session);
    let head = 3 + 2 * t.log.reads.load(Ordering::Relaxed) as i64;
    assert!(said[1].starts_with("recovered user:7 2..="), "{said:?}");
    let offsets: Vec<_> = (2..=head).map(|offset| format!("user:7#{offset}")).collect();
    assert_eq!(said[3..], offsets);
}
