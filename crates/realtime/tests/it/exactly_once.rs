//! Whatever the order of commits, publishing, connecting, resuming, pruning and reading: a client hears every event
//! after its cursor once and in order, or is told to take a snapshot.

use std::collections::HashMap;
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use plimsoll_core_domain::stream::{StreamEvent, StreamId};
use plimsoll_realtime::{Cursor, HubSession, HubSettings, LogReader};
use proptest::prelude::*;

use crate::harness::*;

#[derive(Clone, Debug)]
enum Step {
    Commit(StreamId),
    /// Publishes one of the committed events that are not published yet.
    Publish(prop::sample::Index),
    /// Another instance wrote it: it is never published here.
    Withhold(prop::sample::Index),
    Read(usize),
    Reconnect,
    ResumeLive,
    Sweep,
    Repair,
    Prune(StreamId, i64),
}

fn step() -> impl Strategy<Value = Step> {
    let stream = prop_oneof![3 => Just(MINE), 1 => Just(ALL)];
    prop_oneof![
        8 => stream.clone().prop_map(Step::Commit),
        8 => any::<prop::sample::Index>().prop_map(Step::Publish),
        1 => any::<prop::sample::Index>().prop_map(Step::Withhold),
        4 => (0..12usize).prop_map(Step::Read),
        3 => Just(Step::Reconnect),
        1 => Just(Step::ResumeLive),
        1 => Just(Step::Sweep),
        1 => Just(Step::Repair),
        1 => (stream, 1..4i64).prop_map(|(stream, n)| Step::Prune(stream, n)),
    ]
}

/// What a client knows: the next offset it must hear of each stream.
struct Client {
    session: HubSession,
    /// `None` after `snapshot_required`, until the snapshot is taken.
    next: HashMap<String, Option<i64>>,
    cursor: String,
}

impl Client {
    fn read(&mut self, most: usize, t: &Harness) {
        for _ in 0..most {
            let plimsoll_realtime::Next::Text(text) = self.session.next(Instant::now()) else { return };
            let text: serde_json::Value = serde_json::from_slice(&text).unwrap();
            let stream = text["stream"].as_str().unwrap_or_default().to_owned();
            match text["type"].as_str().unwrap() {
                // A client that has no cursor yet takes hello's; the others keep what they saw.
                "hello" if self.cursor.is_empty() => {
                    self.cursor = text["cursor"].as_str().unwrap().to_owned();
                    for (stream, head) in text["streams"].as_object().unwrap() {
                        self.next.insert(stream.clone(), Some(head["head"].as_i64().unwrap() + 1));
                    }
                }
                "hello" => {}
                "recovered" => {
                    let from = text["from"].as_i64().unwrap();
                    if let Some(Some(next)) = self.next.insert(stream, Some(from)) {
                        assert_eq!(from, next, "recovery begins after the cursor");
                    }
                }
                "snapshot_required" => {
                    self.next.insert(stream, None);
                }
                _ => {
                    let offset = text["offset"].as_i64().unwrap();
                    let snapshot = head(t, stream.parse().unwrap());
                    let next = self.next.insert(stream, Some(offset + 1)).unwrap();
                    match next {
                        Some(next) => assert_eq!(offset, next, "once, and in order"),
                        None => assert!(offset <= snapshot, "after a snapshot nothing is missing"),
                    }
                    self.cursor = text["id"].as_str().unwrap().to_owned();
                    self.check_cursor();
                }
            }
        }
    }

    /// The id says exactly what was heard, but for streams that wait for a snapshot.
    fn check_cursor(&self) {
        let cursor = Cursor::decode(&self.cursor).unwrap();
        for (stream, at) in [(MINE, cursor.user_at), (ALL, cursor.broadcast_at)] {
            if let Some(next) = self.next[&stream.to_string()] {
                assert_eq!(at.offset + 1, next);
            }
        }
    }
}

fn head(t: &Harness, stream: StreamId) -> i64 {
    t.log.inner.heads(&[stream]).unwrap()[0].1.head
}

fn run(steps: Vec<Step>, interruptions: Vec<Step>, recent_events: usize) {
    let t = Arc::new(harness_with(HubSettings { recent_events, resume_events: 8, ..HubSettings::default() }));
    let unpublished = Arc::new(Mutex::new(Vec::<StreamEvent>::new()));
    let write = |t: &Harness, unpublished: &Mutex<Vec<StreamEvent>>, step: &Step| {
        let take = |index: &prop::sample::Index| {
            let mut waiting = unpublished.lock().unwrap();
            if waiting.is_empty() {
                return None;
            }
            let place = index.index(waiting.len());
            Some(waiting.remove(place))
        };
        match step {
            Step::Commit(stream) => {
                let event = t.commit(*stream);
                unpublished.lock().unwrap().push(event);
            }
            Step::Publish(index) => take(index).iter().for_each(|event| t.hub.publish(event)),
            Step::Withhold(index) => drop(take(index)),
            _ => {}
        }
    };

    // The same steps also happen in the middle of the hub's reads of the log.
    let waiting = Mutex::new(interruptions);
    let (hub, log, pool) = (t.hub.clone(), t.log.clone(), unpublished.clone());
    *t.log.interrupt.lock().unwrap() = Some(Arc::new(move || {
        let step = waiting.lock().unwrap().pop();
        if let Some(step) = step {
            write(&Harness { hub: hub.clone(), log: log.clone() }, &pool, &step);
        }
    }));

    let mut client = Client { session: t.open(), next: HashMap::new(), cursor: String::new() };
    client.read(1, &t);
    let mut now = Instant::now();
    for step in &steps {
        match step {
            Step::Read(most) => client.read(*most, &t),
            Step::Reconnect => client.session = t.resume(&client.cursor),
            Step::ResumeLive => client.session.resume(&client.cursor).unwrap(),
            Step::Sweep => drop(t.hub.sweep().unwrap()),
            Step::Repair => {
                now += Duration::from_millis(150);
                t.hub.repair(now).unwrap();
            }
            Step::Prune(stream, keep) => t.log.inner.prune(*stream, head(&t, *stream) - keep),
            _ => write(&t, &unpublished, step),
        }
    }
    // From here on nothing is written any more.
    *t.log.interrupt.lock().unwrap() = None;
    for event in unpublished.lock().unwrap().drain(..) {
        t.hub.publish(&event);
    }
    t.hub.sweep().unwrap();
    client.read(usize::MAX, &t);
    for stream in [MINE, ALL] {
        if let Some(next) = client.next[&stream.to_string()] {
            assert_eq!(next, head(&t, stream) + 1, "everything of {stream} arrived");
        }
    }
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 1_500, ..ProptestConfig::default() })]

    #[test]
    fn every_event_once_and_in_order_or_a_snapshot(
        steps in prop::collection::vec(step(), 0..60),
        interruptions in prop::collection::vec(step(), 0..20),
        recent_events in 0..6usize,
    ) {
        run(steps, interruptions, recent_events);
    }
}
