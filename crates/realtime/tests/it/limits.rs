//! Slow clients, kicks, and the end of the server.

use std::time::{Duration, Instant};

use plimsoll_core_domain::UserId;
use plimsoll_core_domain::stream::EventKind;
use plimsoll_realtime::{CloseCode, HubSettings, Next, OpenError, OpenRequest, ServerMessage, SessionInfo};

use crate::harness::*;

#[test]
fn a_thousand_messages_wait_and_one_more_closes_with_4008() {
    let t = harness();
    let slow = t.open();
    let fast = t.open();
    (0..999).for_each(|_| drop(t.emit(MINE))); // `hello` is one too
    assert_eq!(closed(&fast), None, "not too slow yet");
    let said = brief(&fast).len();
    t.emit(MINE);
    assert_eq!(closed(&slow), Some(CloseCode::TooSlow));
    assert_eq!(CloseCode::TooSlow.number(), 4008);
    assert_eq!(said + brief(&fast).len(), 1_000, "the other one goes on; its hello was read before");
}

#[test]
fn a_mebibyte_waits_and_no_more() {
    let t = harness();
    let session = t.open();
    let big = format!("\"{}\"", "x".repeat(300_000));
    for n in 0..4 {
        let event = t.log.inner.append(MINE, EventKind::SystemAlert, &big, chrono::DateTime::UNIX_EPOCH);
        t.hub.publish(&event);
        let expected = (n == 3).then_some(CloseCode::TooSlow);
        let state = if n == 3 { closed(&session) } else { None };
        assert_eq!(state, expected);
    }
}

#[test]
fn a_client_that_asks_without_reading_is_closed_too() {
    let t = harness();
    let session = t.open();
    (0..1_000).for_each(|_| session.send(&ServerMessage::Pong));
    assert_eq!(closed(&session), Some(CloseCode::TooSlow));
}

#[test]
fn what_is_read_no_longer_counts() {
    let t = harness();
    let session = t.open();
    for _ in 0..5 {
        (0..999).for_each(|_| drop(t.emit(MINE)));
        assert!(brief(&session).len() >= 999);
    }
    assert_eq!(session.next(Instant::now()), Next::Idle(None));
}

#[test]
fn sessions_are_closed_by_user_and_by_login() {
    let t = harness();
    let admin = UserId(1);
    let open = |caller: UserId, login: &str| {
        let info = SessionInfo { caller, subject: USER, login: login.into() };
        t.hub.open(OpenRequest { info, cursor: None }).unwrap()
    };
    let [watcher, phone, desk] = [open(admin, "a"), open(USER, "phone"), open(USER, "desk")];
    assert_eq!(t.hub.session_count(), 3);
    assert_eq!(t.hub.close_login("phone", CloseCode::Unauthenticated), 1);
    assert_eq!(closed(&phone), Some(CloseCode::Unauthenticated));
    assert_eq!(t.hub.close_user(USER, CloseCode::Forbidden), 2);
    assert_eq!(closed(&desk), Some(CloseCode::Forbidden), "without what was queued");
    assert_eq!(closed(&phone), Some(CloseCode::Unauthenticated), "the first code stays");
    t.emit(MINE);
    assert_eq!(brief(&watcher), ["hello", "user:7#1"], "an administrator's session is the administrator's");
    drop((watcher, phone, desk));
    assert_eq!(t.hub.session_count(), 0);
}

#[test]
fn draining_sends_the_queue_says_goodbye_and_opens_nothing() {
    let t = harness();
    let sessions: Vec<_> = (0..50).map(|_| t.open()).collect();
    t.emit(MINE);
    t.hub.drain(500..=1_500);
    t.emit(MINE);
    assert!(t.hub.is_draining());
    let mut waits = Vec::new();
    for session in &sessions {
        let said = texts(session);
        assert_eq!(said.iter().map(brief_text).collect::<Vec<_>>(), ["hello", "user:7#1", "server_closing"]);
        waits.push(said[2]["retry_ms"].as_u64().unwrap());
        assert_eq!(closed(session), Some(CloseCode::ShuttingDown));
    }
    assert!(waits.iter().all(|wait| (500..=1_500).contains(wait)), "{waits:?}");
    waits.sort_unstable();
    waits.dedup();
    assert!(waits.len() > 40, "clients do not come back together: {waits:?}");
    assert!(matches!(t.hub.open(OpenRequest::new(USER, "late")), Err(OpenError::Draining)));
}

#[tokio::test]
async fn a_waiting_session_is_woken() {
    let t = harness_with(HubSettings { queue_messages: 5, ..HubSettings::default() });
    let session = t.open();
    brief(&session);
    session.ready().await; // the one that `hello` left
    let hub = t.hub.clone();
    let event = t.commit(MINE);
    let publisher = std::thread::spawn(move || {
        std::thread::sleep(Duration::from_millis(20));
        hub.publish(&event);
    });
    tokio::time::timeout(Duration::from_secs(10), session.ready()).await.unwrap();
    publisher.join().unwrap();
    assert_eq!(brief(&session), ["user:7#1"]);

    t.hub.close_user(USER, CloseCode::Forbidden);
    tokio::time::timeout(Duration::from_secs(10), session.ready()).await.unwrap();
    assert_eq!(closed(&session), Some(CloseCode::Forbidden));
}
