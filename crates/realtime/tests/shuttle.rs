//! The hub under shuttle: its threads take turns in orders that the scheduler picks, thousands of times, and each time every
//! client holds every event exactly once. A failure names the schedule, which `shuttle::replay` repeats.
//!
//! `cargo test -p plimsoll-realtime --features shuttle --test shuttle`
#![allow(clippy::unwrap_used, reason = "a failed unwrap is a failed test")]

use std::sync::Arc;
use std::time::{Duration, Instant};

use chrono::DateTime;
use plimsoll_core_domain::UserId;
use plimsoll_core_domain::stream::{EventKind, StreamId};
use plimsoll_realtime::{
    CloseCode, Cursor, Hub, HubSession, HubSettings, MemoryLog, Next, OpenError, OpenRequest, Position,
};
use serde_json::Value;
use shuttle::thread;
use uuid::Uuid;

const USER: UserId = UserId(7);
const MINE: StreamId = StreamId::User(USER);
const ALL: StreamId = StreamId::Broadcast;
const SCHEDULES: usize = 3_000;

#[derive(Clone)]
struct World {
    log: Arc<MemoryLog>,
    hub: Hub,
}

impl World {
    fn new() -> Self {
        let log = Arc::new(MemoryLog::new(Uuid::from_u128(1)));
        // Little memory, so that resumes read the log too.
        let settings = HubSettings {
            recent_events: 2,
            hole_patience: Duration::ZERO,
            linger: Duration::ZERO,
            ..HubSettings::default()
        };
        Self { hub: Hub::new(log.clone(), settings), log }
    }

    /// Commits an event, and publishes it unless it is to be as another instance's.
    fn emit(&self, stream: StreamId, publish: bool) {
        let event = self.log.append(stream, EventKind::OrderUpdated, "{}", DateTime::UNIX_EPOCH);
        if publish {
            self.hub.publish(&event);
        }
    }

    fn open(&self, cursor: &str) -> HubSession {
        self.hub.open(OpenRequest::new(USER, "login").resuming(cursor)).unwrap()
    }

    fn sweep(&self) {
        self.hub.repair(Instant::now()).unwrap();
        self.hub.sweep().unwrap();
    }
}

/// The cursor of a client that has seen nothing.
fn unborn() -> String {
    Cursor { user: USER, user_at: Position::UNBORN, broadcast_at: Position::UNBORN }.encode()
}

/// What a client has seen of its two streams, over all its connections.
struct Client {
    cursor: String,
    seen: [i64; 2],
}

impl Client {
    fn new() -> Self {
        Self { cursor: unborn(), seen: [0; 2] }
    }

    /// Takes what the session has now; each event must be its stream's next one.
    fn drain(&mut self, session: &HubSession) {
        while let Next::Text(text) = session.next(Instant::now()) {
            let text: Value = serde_json::from_slice(&text).unwrap();
            assert_ne!(text["type"], "snapshot_required", "nothing was lost");
            let Some(offset) = text["offset"].as_i64() else { continue };
            let stream: StreamId = text["stream"].as_str().unwrap().parse().unwrap();
            let slot = usize::from(stream == ALL);
            self.seen[slot] += 1;
            assert_eq!(offset, self.seen[slot], "{stream}");
            self.cursor = text["id"].as_str().unwrap().to_owned();
        }
    }
}

#[test]
fn racing_writers_sweeps_and_reconnects_lose_and_repeat_nothing() {
    shuttle::check_random(
        || {
            let world = World::new();
            let writers: Vec<_> = (0..2)
                .map(|writer| {
                    let world = world.clone();
                    thread::spawn(move || {
                        for n in 0..3 {
                            world.emit(if n == 1 { ALL } else { MINE }, n != writer);
                        }
                    })
                })
                .collect();
            let sweeper = {
                let world = world.clone();
                thread::spawn(move || (0..2).for_each(|_| world.sweep()))
            };
            let reader = {
                let world = world.clone();
                thread::spawn(move || {
                    let mut client = Client::new();
                    for _ in 0..2 {
                        let session = world.open(&client.cursor);
                        thread::yield_now();
                        client.drain(&session);
                    }
                    client
                })
            };
            writers.into_iter().for_each(|writer| writer.join().unwrap());
            sweeper.join().unwrap();
            let mut client = reader.join().unwrap();
            let session = world.open(&client.cursor);
            world.sweep();
            client.drain(&session);
            assert_eq!(client.seen, [4, 2]);
        },
        SCHEDULES,
    );
}

/// A live session hears what follows `hello`, also while its stream's cell is being forgotten and made again.
#[test]
fn a_session_is_never_attached_to_a_forgotten_stream() {
    shuttle::check_random(
        || {
            let world = World::new();
            drop(world.open(&unborn()));
            let collector = {
                let world = world.clone();
                thread::spawn(move || (0..3).for_each(|_| world.hub.repair(Instant::now()).unwrap()))
            };
            let session = world.hub.open(OpenRequest::new(USER, "login")).unwrap();
            let mut client = Client::new();
            world.emit(MINE, true);
            world.emit(ALL, true);
            client.drain(&session);
            assert_eq!(client.seen, [1, 1]);
            collector.join().unwrap();
            world.emit(MINE, true);
            client.drain(&session);
            assert_eq!(client.seen, [2, 1]);
        },
        SCHEDULES,
    );
}

/// A resume in the middle of a connection sends each event after its cursor once, whatever is published meanwhile.
#[test]
fn a_resume_in_the_middle_is_exact() {
    shuttle::check_random(
        || {
            let world = World::new();
            let session = Arc::new(world.open(&unborn()));
            let writer = {
                let world = world.clone();
                thread::spawn(move || (0..4).for_each(|n| world.emit(MINE, n % 2 == 0)))
            };
            let resumer = {
                let session = session.clone();
                thread::spawn(move || session.resume(&unborn()).unwrap())
            };
            writer.join().unwrap();
            resumer.join().unwrap();
            world.sweep();
            // `recovered` begins the count anew.
            let mut seen = Vec::new();
            while let Next::Text(text) = session.next(Instant::now()) {
                let text: Value = serde_json::from_slice(&text).unwrap();
                match (text["type"].as_str(), text["offset"].as_i64()) {
                    (Some("recovered"), _) => seen.clear(),
                    (_, Some(offset)) => seen.push(offset),
                    _ => {}
                }
            }
            assert_eq!(seen, [1, 2, 3, 4]);
        },
        SCHEDULES,
    );
}

/// Draining: whoever is in is told and closed, whoever is not gets no session.
#[test]
fn nobody_slips_through_a_drain() {
    shuttle::check_random(
        || {
            let world = World::new();
            let opener = {
                let world = world.clone();
                thread::spawn(move || world.hub.open(OpenRequest::new(USER, "login")))
            };
            let writer = {
                let world = world.clone();
                thread::spawn(move || world.emit(MINE, true))
            };
            world.hub.drain(10..=20);
            writer.join().unwrap();
            match opener.join().unwrap() {
                Err(error) => assert!(matches!(error, OpenError::Draining), "{error}"),
                Ok(session) => {
                    let mut last = Value::Null;
                    let code = loop {
                        match session.next(Instant::now()) {
                            Next::Text(text) => last = serde_json::from_slice(&text).unwrap(),
                            Next::Close(code) => break code,
                            Next::Idle(_) => panic!("an open session after the drain, last {last}"),
                        }
                    };
                    assert_eq!((code, &last["type"]), (CloseCode::ShuttingDown, &"server_closing".into()));
                }
            }
        },
        SCHEDULES,
    );
}

/// A restored history: whatever the order, the client is told, or what it holds is of the new epoch.
#[test]
fn a_restore_is_never_passed_over() {
    shuttle::check_random(
        || {
            let world = World::new();
            (0..3).for_each(|_| world.emit(MINE, true));
            let session = world.open(&unborn());
            let restorer = {
                let world = world.clone();
                thread::spawn(move || {
                    world.log.restore(Uuid::from_u128(2), 1);
                    world.emit(MINE, true);
                })
            };
            let sweeper = {
                let world = world.clone();
                thread::spawn(move || world.sweep())
            };
            restorer.join().unwrap();
            sweeper.join().unwrap();
            world.sweep();
            world.sweep();
            let mut told = false;
            loop {
                match session.next(Instant::now()) {
                    Next::Text(text) => {
                        let text: Value = serde_json::from_slice(&text).unwrap();
                        told |= text["type"] == "snapshot_required";
                    }
                    Next::Close(code) => break assert_eq!(code, CloseCode::StateInvalidated),
                    Next::Idle(_) => {
                        break assert!(told, "an old session goes on as if nothing had happened");
                    }
                }
            }
        },
        SCHEDULES,
    );
}
