//! The same promise with real threads: many writers, clients that come and go, a sweeper.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use plimsoll_core_domain::stream::StreamId;
use plimsoll_realtime::{HubSettings, Next, OpenRequest, Sweeper};

use crate::harness::*;

const WRITERS: usize = 3;
const EVENTS_EACH: usize = 2_000;

#[test]
fn racing_writers_and_reconnecting_clients_lose_and_repeat_nothing() {
    let settings = HubSettings {
        hole_patience: Duration::from_millis(2),
        resume_events: 100_000,
        queue_messages: 100_000,
        queue_bytes: 1 << 30,
        ..HubSettings::default()
    };
    let t = Arc::new(harness_with(settings));
    let _sweeper = Sweeper::start(t.hub.clone(), Duration::from_millis(1), Duration::from_millis(5)).unwrap();
    let done = AtomicBool::new(false);
    let total = (WRITERS * EVENTS_EACH) as i64;
    std::thread::scope(|scope| {
        let clients: Vec<_> = (0..3)
            .map(|client| {
                scope.spawn({
                    let (t, done) = (&t, &done);
                    move || listen(t, done, client, total)
                })
            })
            .collect();
        let writers: Vec<_> = (0..WRITERS)
            .map(|writer| {
                let t = &t;
                scope.spawn(move || {
                    for n in 0..EVENTS_EACH {
                        let event = t.commit(if n % 3 == 0 { ALL } else { MINE });
                        if (n + writer) % 17 == 0 {
                            std::thread::yield_now(); // the other writers overtake
                        }
                        if n % 101 != 0 {
                            t.hub.publish(&event); // else: as if another instance had written it
                        }
                    }
                })
            })
            .collect();
        writers.into_iter().for_each(|writer| writer.join().unwrap());
        done.store(true, Ordering::Release);
        clients.into_iter().for_each(|client| client.join().unwrap());
    });
}

/// Reads until everything is there, reconnecting every few hundred messages.
fn listen(t: &Harness, done: &AtomicBool, client: usize, total: i64) {
    let mut seen = [0i64; 2];
    let mut cursor = plimsoll_realtime::Cursor {
        user: USER,
        user_at: plimsoll_realtime::Position::UNBORN,
        broadcast_at: plimsoll_realtime::Position::UNBORN,
    }
    .encode();
    let give_up = Instant::now() + Duration::from_secs(60);
    while seen.iter().sum::<i64>() < total {
        assert!(Instant::now() < give_up, "client {client} stands at {seen:?} of {total}, done: {done:?}");
        let session = t.hub.open(OpenRequest::new(USER, "login").resuming(&cursor)).unwrap();
        let mut left = 200 + 37 * client;
        while left > 0 && seen.iter().sum::<i64>() < total && Instant::now() < give_up {
            match session.next(Instant::now()) {
                Next::Text(text) => {
                    let text: serde_json::Value = serde_json::from_slice(&text).unwrap();
                    if let Some(offset) = text["offset"].as_i64() {
                        left -= 1;
                        let stream: StreamId = text["stream"].as_str().unwrap().parse().unwrap();
                        let slot = usize::from(stream == ALL);
                        seen[slot] += 1;
                        assert_eq!(offset, seen[slot], "{stream}");
                        cursor = text["id"].as_str().unwrap().to_owned();
                    } else {
                        assert_ne!(text["type"], "snapshot_required");
                    }
                }
                Next::Close(code) => panic!("closed: {code:?}"),
                Next::Idle(_) => std::thread::yield_now(),
            }
        }
    }
}
