//! The streams: dense whoever writes, passed on only after a commit, pruned from their oldest end.

use std::sync::{Arc, Barrier, Mutex};
use std::thread;

use chrono::{DateTime, TimeDelta, Utc};
use plimsoll_core_domain::stream::{EventKind, NewEvent, StreamEvent, StreamHead, StreamId};
use plimsoll_core_domain::{StoreError, StoreErrorKind, UserId};
use plimsoll_realtime::LogReader;
use plimsoll_storage::platform::streams::StreamLog;
use plimsoll_storage::{AfterCommit, CommitNote, Db, DbSettings, PoolKind};

use crate::world::{World, add_user, at};

#[derive(Default)]
struct Heard(Mutex<Vec<CommitNote>>);

impl AfterCommit for Heard {
    fn committed(&self, notes: Vec<CommitNote>) {
        self.0.lock().unwrap().extend(notes);
    }
}

impl Heard {
    fn events(&self) -> Vec<StreamEvent> {
        let notes = self.0.lock().unwrap();
        let event = |note: &CommitNote| match note {
            CommitNote::Stream(event) => Some(event.clone()),
            CommitNote::Wake(_) => None,
        };
        notes.iter().filter_map(event).collect()
    }
}

fn event(text: &str) -> NewEvent {
    NewEvent { kind: EventKind::SystemAlert, data: format!("{{\"n\": \"{text}\"}}").into() }
}

fn append(db: &Db, stream: StreamId, events: &[NewEvent], at: DateTime<Utc>) -> Vec<StreamEvent> {
    db.run_blocking(|tx| tx.append_events(stream, events, at)).unwrap()
}

fn offsets(log: &StreamLog, stream: StreamId) -> Vec<i64> {
    log.read(stream, 0, 10_000).unwrap().iter().map(|event| event.offset).collect()
}

#[test]
fn what_is_read_is_what_was_written_and_told_after_the_commit() {
    let world = World::new();
    let heard = Arc::new(Heard::default());
    let db = world.db.clone().with_after_commit(Arc::clone(&heard) as Arc<dyn AfterCommit>);
    let (log, stream) = (StreamLog(db.clone()), StreamId::User(world.user));
    assert!(append(&db, stream, &[], at(1)).is_empty());
    let mut written = append(&db, stream, &[event("é\u{1f600}"), event("b")], at(1));
    written.push(db.run_blocking(|tx| tx.append_event(stream, &event("c"), at(2))).unwrap());
    assert_eq!(written.iter().map(|event| event.offset).collect::<Vec<_>>(), [1, 2, 3]);
    assert_eq!(log.read(stream, 0, 10).unwrap(), written);
    assert_eq!(log.read(stream, 1, 1).unwrap(), written[1..2]);
    assert_eq!(log.read(stream, 3, 10).unwrap(), []);
    assert_eq!(heard.events(), written);
    let heads = log.heads(&[stream, StreamId::Broadcast, StreamId::User(UserId(999))]).unwrap();
    assert_eq!(heads.len(), 2, "a stream that nobody has is left out");
    assert!(heads.contains(&(stream, StreamHead { epoch: written[0].epoch, head: 3 })));
    assert!(heads.iter().any(|(id, head)| *id == StreamId::Broadcast && head.head == 0));
}

#[test]
fn a_rollback_leaves_no_offset_and_tells_nobody() {
    let world = World::new();
    let heard = Arc::new(Heard::default());
    let db = world.db.clone().with_after_commit(Arc::clone(&heard) as Arc<dyn AfterCommit>);
    let stream = StreamId::User(world.user);
    let failed: Result<(), StoreError> = db.run_blocking(|tx| {
        assert_eq!(tx.append_event(stream, &event("lost"), at(1))?.offset, 1);
        Err(StoreError::new(StoreErrorKind::Other, "no"))
    });
    assert!(failed.is_err());
    assert_eq!(heard.events(), []);
    assert_eq!(append(&db, stream, &[event("kept")], at(1))[0].offset, 1);
}

#[test]
fn a_stream_that_nobody_has_refuses_events() {
    let world = World::new();
    let refused =
        world.db.run_blocking(|tx| tx.append_event(StreamId::User(UserId(999)), &event("x"), at(1)));
    assert_eq!(refused.unwrap_err().kind(), StoreErrorKind::Inconsistent);
}

#[test]
fn eight_writers_leave_no_hole_although_some_roll_back() {
    let world = World::new();
    let db = world.test.db_with(DbSettings::new(PoolKind::Jobs, 8));
    let (second, _) = add_user(&db, "second@example.com");
    let streams = [StreamId::Broadcast, StreamId::User(world.user), StreamId::User(second)];
    let barrier = Barrier::new(8);
    let kept: i64 = thread::scope(|scope| {
        let writers: Vec<_> = (0..8)
            .map(|writer| {
                let (db, barrier) = (&db, &barrier);
                scope.spawn(move || {
                    barrier.wait();
                    let mut kept = 0;
                    for round in 0..30 {
                        let events: Vec<_> =
                            (0..=round % 3).map(|n| event(&format!("{writer}/{round}/{n}"))).collect();
                        // several streams in one transaction, in ascending order as the lock order has it
                        let outcome = db.run_blocking(|tx| {
                            for stream in streams {
                                tx.append_events(stream, &events, at(round))?;
                            }
                            if round % 7 == 0 {
                                return Err(StoreError::new(StoreErrorKind::Other, "rolled back on purpose"));
                            }
                            Ok(events.len())
                        });
                        match outcome {
                            Ok(count) => kept += i64::try_from(count).unwrap(),
                            Err(error) => assert_eq!(error.kind(), StoreErrorKind::Other, "{error}"),
                        }
                    }
                    kept
                })
            })
            .collect();
        writers.into_iter().map(|writer| writer.join().unwrap()).sum()
    });
    let log = StreamLog(db);
    for stream in streams {
        assert_eq!(offsets(&log, stream), (1..=kept).collect::<Vec<_>>(), "{stream}");
    }
    assert!(log.heads(&streams).unwrap().iter().all(|(_, head)| head.head == kept));
}

#[test]
fn pruning_takes_the_old_and_the_surplus_and_never_tears_a_stream() {
    let world = World::new();
    let (second, _) = add_user(&world.db, "second@example.com");
    let (aged, long, skewed) = (StreamId::User(world.user), StreamId::User(second), StreamId::Broadcast);
    // The database's clock decides what is old.
    let now = world.test.rows("SELECT (extract(epoch FROM now()) * 1000000)::bigint AS micros");
    let now = DateTime::from_timestamp_micros(now[0]["micros"].as_i64().unwrap()).unwrap();
    let hours = |hours| now - TimeDelta::hours(hours);
    let some = |count| vec![event("x"); count];
    append(&world.db, aged, &some(4), hours(30));
    append(&world.db, aged, &some(2), hours(1));
    append(&world.db, long, &some(9), hours(1));
    // A writer whose clock is late: its old event stands behind a fresh one, and has to stay as long as that.
    append(&world.db, skewed, &some(1), hours(30));
    append(&world.db, skewed, &some(1), hours(1));
    append(&world.db, skewed, &some(1), hours(30));
    let log = StreamLog(world.db.clone());
    let prune = |batch| world.db.read_blocking(|tx| tx.prune_events(TimeDelta::hours(24), 5, batch)).unwrap();

    assert_eq!(prune(3), 3);
    for stream in [aged, long, skewed] {
        let left = offsets(&log, stream);
        let dense = left.windows(2).all(|pair| pair[1] == pair[0] + 1);
        assert!(dense, "{stream} is torn after a part of the work: {left:?}");
    }
    assert_eq!(prune(100), 4 + 4 + 1 - 3);
    assert_eq!(prune(100), 0);
    assert_eq!(offsets(&log, aged), [5, 6]);
    assert_eq!(offsets(&log, long), [5, 6, 7, 8, 9]);
    assert_eq!(offsets(&log, skewed), [2, 3]);
    assert_eq!(append(&world.db, aged, &some(1), now)[0].offset, 7, "offsets go on");

    // A stream may lose everything; its head stays.
    let all = world.db.read_blocking(|tx| tx.prune_events(TimeDelta::zero(), 0, 100)).unwrap();
    assert_eq!(all, 3 + 5 + 2);
    assert_eq!(log.heads(&[aged]).unwrap()[0].1.head, 7);
    assert!(offsets(&log, aged).is_empty());
}
