//! Live delivery: order, holes, sweeps, taps, filters, ticks.

use std::sync::atomic::Ordering;
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use chrono::DateTime;
use plimsoll_core_domain::stream::{EventKind, StreamId};
use plimsoll_core_domain::{Symbol, UserId};
use plimsoll_realtime::{CloseCode, Cursor, HubSettings, Next, SweepReport, Sweeper, Tick, TickKind};
use uuid::Uuid;

use crate::harness::*;

#[test]
fn hello_comes_first_and_says_where_the_streams_stand() {
    let t = harness();
    t.commit(MINE);
    t.commit(MINE);
    let session = t.open();
    t.emit(MINE);
    let said = texts(&session);
    let hello = &said[0];
    assert_eq!(hello["type"], "hello");
    assert_eq!(hello["protocol"], 1);
    assert_eq!(hello["ping_interval"], 30);
    assert_eq!(hello["session"], session.name());
    assert_eq!(hello["streams"]["user:7"]["head"], 2);
    assert_eq!(hello["streams"]["broadcast"]["head"], 0);
    let cursor = Cursor::decode(hello["cursor"].as_str().unwrap()).unwrap();
    assert_eq!((cursor.user, cursor.user_at.offset, cursor.broadcast_at.offset), (USER, 2, 0));
    assert_eq!(brief_text(&said[1]), "user:7#3");
}

#[test]
fn an_events_id_covers_both_streams() {
    let t = harness();
    let session = t.open();
    for stream in [MINE, ALL, MINE, MINE, ALL] {
        t.emit(stream);
    }
    let seen: Vec<_> = texts(&session)[1..]
        .iter()
        .map(|event| Cursor::decode(event["id"].as_str().unwrap()).unwrap())
        .map(|cursor| (cursor.user_at.offset, cursor.broadcast_at.offset))
        .collect();
    assert_eq!(seen, [(1, 0), (1, 1), (2, 1), (3, 1), (3, 2)]);
}

#[test]
fn users_hear_their_own_stream_and_the_broadcast_only() {
    let t = harness();
    let session = t.open();
    t.emit(StreamId::User(UserId(8)));
    t.emit(ALL);
    t.emit(MINE);
    assert_eq!(brief(&session), ["hello", "broadcast#1", "user:7#1"]);
}

#[test]
fn events_that_overtake_wait_for_those_before_them() {
    let t = harness();
    let session = t.open();
    let events = [t.commit(MINE), t.commit(MINE), t.commit(MINE), t.commit(MINE)];
    let reads = t.log.reads.load(Ordering::Relaxed);
    for n in [3, 1, 0, 0, 2, 1] {
        t.hub.publish(&events[n]);
    }
    assert_eq!(brief(&session), ["hello", "user:7#1", "user:7#2", "user:7#3", "user:7#4"]);
    assert_eq!(t.log.reads.load(Ordering::Relaxed), reads, "publishing never reads");
}

#[test]
fn a_hole_that_stays_is_read_from_the_log() {
    let t = harness();
    let session = t.open();
    let _never_published = t.commit(MINE);
    t.emit(MINE);
    let start = Instant::now();
    t.hub.repair(start).unwrap();
    t.hub.repair(start + Duration::from_millis(199)).unwrap();
    assert_eq!(brief(&session), ["hello"]);
    t.hub.repair(start + Duration::from_millis(200)).unwrap();
    assert_eq!(brief(&session), ["user:7#1", "user:7#2"]);
}

#[test]
fn a_sweep_finds_what_other_instances_wrote() {
    let t = harness();
    let session = t.open();
    for _ in 0..1_200 {
        t.commit(MINE);
    }
    assert_eq!(t.hub.sweep().unwrap(), SweepReport { streams: 2, behind: 1 });
    assert_eq!(closed(&session), Some(CloseCode::TooSlow), "1,200 at once are more than the queue takes");

    let session = t.open();
    t.commit(MINE);
    t.commit(ALL);
    assert_eq!(
        t.hub.wake(&[MINE, StreamId::User(UserId(99))]).unwrap(),
        SweepReport { streams: 1, behind: 1 }
    );
    assert_eq!(brief(&session), ["hello", "user:7#1201"]);
    t.hub.sweep().unwrap();
    assert_eq!(brief(&session), ["broadcast#1"]);
}

#[test]
fn the_sweeper_thread_does_both() {
    let t = harness_with(HubSettings { hole_patience: Duration::from_millis(20), ..HubSettings::default() });
    let session = t.open();
    let sweeper = Sweeper::start(t.hub.clone(), Duration::from_millis(5), Duration::from_millis(40)).unwrap();
    t.commit(MINE);
    t.emit(MINE);
    t.commit(ALL);
    let mut said = Vec::new();
    let give_up = Instant::now() + Duration::from_secs(10);
    while said.len() < 4 && Instant::now() < give_up {
        said.extend(brief(&session));
        std::thread::sleep(Duration::from_millis(2));
    }
    said.sort();
    assert_eq!(said, ["broadcast#1", "hello", "user:7#1", "user:7#2"]);
    drop(sweeper);
    t.commit(MINE);
    std::thread::sleep(Duration::from_millis(100));
    assert!(brief(&session).is_empty(), "a dropped sweeper has ended");
}

#[test]
fn another_epoch_or_a_head_that_went_back_closes_with_4409() {
    for (epoch, head) in [(2, 5), (2, 3), (1, 3)] {
        let t = harness();
        let session = t.open();
        (0..5).for_each(|_| drop(t.emit(MINE)));
        t.log.inner.restore(Uuid::from_u128(epoch), head);
        t.hub.sweep().unwrap();
        assert_eq!(closed(&session), Some(CloseCode::StateInvalidated), "epoch {epoch}, head {head}");
        assert_eq!(CloseCode::StateInvalidated.number(), 4409);

        let next = t.open();
        t.emit(MINE);
        assert_eq!(brief(&next), ["hello".into(), format!("user:7#{}", head + 1)]);
    }
}

#[test]
fn an_event_of_another_epoch_is_believed_only_when_the_log_agrees() {
    let t = harness();
    let session = t.open();
    let stale = plimsoll_core_domain::stream::StreamEvent { epoch: Uuid::from_u128(9), ..t.emit(MINE) };
    t.hub.publish(&stale);
    t.hub.repair(Instant::now()).unwrap();
    t.emit(MINE);
    assert_eq!(brief(&session), ["hello", "user:7#1", "user:7#2"]);

    t.log.inner.restore(Uuid::from_u128(2), 2);
    t.emit(MINE);
    t.hub.repair(Instant::now()).unwrap();
    assert_eq!(closed(&session), Some(CloseCode::StateInvalidated));
}

#[test]
fn events_pruned_before_delivery_ask_for_a_snapshot_and_delivery_goes_on() {
    let t = harness();
    let session = t.open();
    for _ in 0..5 {
        t.commit(MINE);
    }
    t.log.inner.prune(MINE, 3);
    t.hub.sweep().unwrap();
    assert_eq!(brief(&session), ["hello", "snapshot_required user:7 too_old", "user:7#4", "user:7#5"]);

    t.commit(MINE);
    t.log.inner.prune(MINE, 6);
    t.hub.sweep().unwrap();
    t.emit(MINE);
    assert_eq!(brief(&session), ["snapshot_required user:7 too_old", "user:7#7"]);
}

#[test]
fn taps_hear_local_events_and_those_of_watched_streams() {
    let t = harness();
    let heard = Arc::new(Mutex::new(Vec::new()));
    let sink = heard.clone();
    t.hub.tap(Arc::new(move |event| sink.lock().unwrap().push((event.stream, event.offset))));
    let take = || std::mem::take(&mut *heard.lock().unwrap());

    t.emit(MINE);
    assert_eq!(take(), [(MINE, 1)], "without any session");

    let watch = t.hub.watch(MINE);
    let (second, third) = (t.commit(MINE), t.commit(MINE));
    t.hub.publish(&third);
    assert_eq!(take(), [(MINE, 3)], "a wake-up does not wait for order");
    t.hub.publish(&second);
    assert_eq!(take(), [(MINE, 2)]);
    t.hub.publish(&third);
    assert_eq!(take(), []);
    t.commit(MINE);
    t.hub.sweep().unwrap();
    assert_eq!(take(), [(MINE, 4)], "another instance's");

    drop(watch);
    let start = Instant::now();
    t.hub.repair(start).unwrap();
    t.hub.repair(start + Duration::from_secs(60)).unwrap();
    t.commit(MINE);
    assert_eq!(t.hub.sweep().unwrap().streams, 0, "nobody listens any more");
    assert_eq!(take(), []);
}

#[test]
fn a_stream_stays_in_memory_for_a_while_after_its_last_session() {
    let t = harness();
    let session = t.open();
    t.emit(MINE);
    let cursor = last_id(&texts(&session));
    drop(session);
    let start = Instant::now();
    t.hub.repair(start).unwrap();
    t.emit(MINE);
    let reads = t.log.reads.load(Ordering::Relaxed);
    let session = t.resume(&cursor);
    assert_eq!(brief(&session)[3..], ["user:7#2"]);
    assert_eq!(t.log.reads.load(Ordering::Relaxed), reads, "from memory");
    drop(session);
    t.hub.repair(start + Duration::from_secs(61)).unwrap();
    assert_eq!(t.hub.sweep().unwrap().streams, 2, "the clock of silence began anew");
    t.hub.repair(start + Duration::from_secs(122)).unwrap();
    assert_eq!(t.hub.sweep().unwrap().streams, 0);
}

#[test]
fn filters_pass_only_what_is_wanted_and_the_cursor_moves_on_all_the_same() {
    let t = harness();
    let session = t.open();
    session.subscribe(Some(&[EventKind::OrderFilled]));
    for kind in [EventKind::OrderCreated, EventKind::TradeExecuted, EventKind::OrderFilled] {
        t.hub.publish(&t.commit_as(MINE, kind));
    }
    let said = texts(&session);
    assert_eq!(said.iter().map(brief_text).collect::<Vec<_>>(), ["hello", "user:7#3"]);
    assert_eq!(Cursor::decode(&last_id(&said)).unwrap().user_at.offset, 3);
    session.unsubscribe(None);
    t.hub.publish(&t.commit_as(MINE, EventKind::OrderFilled));
    assert!(brief(&session).is_empty());
}

fn tick(kind: TickKind, data: &str) -> Tick {
    let symbol = Some(Symbol::new("SPY").unwrap());
    Tick { user: USER, kind, symbol, data: data.into(), at: DateTime::UNIX_EPOCH }
}

#[test]
fn ticks_come_after_events_without_id_or_offset_and_the_latest_wins() {
    let t = harness();
    t.hub.tick(&tick(TickKind::Position, "0"));
    let session = t.open();
    t.hub.tick(&tick(TickKind::Position, "1"));
    t.hub.tick(&tick(TickKind::Position, "2"));
    t.hub.tick(&Tick { user: UserId(8), ..tick(TickKind::Position, "3") });
    t.emit(MINE);
    let said = texts(&session);
    assert_eq!(said.iter().map(brief_text).collect::<Vec<_>>(), ["hello", "user:7#1", "position_updated"]);
    assert_eq!(said[2]["data"], 2);
    assert!(said[2].get("id").is_none());

    let now = Instant::now();
    t.hub.tick(&tick(TickKind::Position, "4"));
    let Next::Idle(Some(due)) = session.next(now) else { panic!("the tick waits for its turn") };
    assert!(due > now && due <= now + Duration::from_millis(250));
    assert!(matches!(session.next(due), Next::Text(_)));
}

#[test]
fn a_durable_event_replaces_ticks_that_are_older_than_it() {
    let t = harness();
    let session = t.open();
    t.hub.tick(&tick(TickKind::Position, "1"));
    t.hub.tick(&tick(TickKind::Pnl, "2"));
    t.hub.publish(&t.commit_as(MINE, EventKind::PositionUpdated));
    assert_eq!(brief(&session), ["hello", "user:7#1", "pnl_updated"]);
    session.unsubscribe(Some(&[EventKind::PnlUpdated]));
    t.hub.tick(&tick(TickKind::Pnl, "3"));
    assert_eq!(session.next(Instant::now() + Duration::from_secs(1)), Next::Idle(None));
}
