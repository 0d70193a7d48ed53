//! Two hundred clients of two servers that disconnect at random, while a server is killed, PostgreSQL crashes and a backup is
//! restored.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::{Duration, Instant};

use futures_util::StreamExt;
use plimsoll_core_domain::stream::{EventKind, NewEvent, StreamHead, StreamId};
use plimsoll_core_domain::{Clock, StoreError, SystemClock, UserId};
use plimsoll_realtime::{Cursor, Position};
use serde_json::{Value, json};
use tokio::sync::watch;
use tokio_tungstenite::connect_async;
use tokio_tungstenite::tungstenite::Message;
use tokio_tungstenite::tungstenite::client::IntoClientRequest;

use super::instance::pause;
use super::world::{PATIENCE, Setup, World};

const USERS: usize = 20;
const CLIENTS_EACH: usize = 10;

/// What a client has of a stream, in the order in which it came.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Mark {
    Event(Position),
    /// It took a snapshot, and goes on from there.
    Snapshot(Position),
}

/// Numbers that look random, and differ from client to client.
#[derive(Clone)]
struct Dice(u64);

impl Dice {
    /// Below `end`.
    fn roll(&mut self, end: u64) -> u64 {
        self.0 = self.0.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        (self.0 >> 33) % end
    }
}

/// What everybody shares.
struct Shared {
    urls: Vec<String>,
    http: reqwest::Client,
    /// The backup was restored: from here on clients may be sent to a snapshot.
    restored: AtomicBool,
    /// Nothing more is written.
    quiet: AtomicBool,
    /// Nobody writes past the servers for a while.
    held: AtomicBool,
    written: AtomicU64,
}

/// Where streams end.
type Heads = Arc<Vec<(StreamId, StreamHead)>>;

struct Client {
    shared: Arc<Shared>,
    user: UserId,
    token: String,
    dice: Dice,
    cursor: Option<String>,
    /// Of the user's stream and of the broadcast.
    marks: [Vec<Mark>; 2],
    connections: usize,
    /// Where the streams end, once nothing more is written.
    heads: watch::Receiver<Option<Heads>>,
}

impl Client {
    fn url(&mut self) -> String {
        let at = self.dice.roll(self.shared.urls.len() as u64) as usize;
        self.shared.urls[at].clone()
    }

    /// Follows until it has all that there is.
    async fn run(mut self) -> Self {
        while !self.is_complete() {
            if self.cursor.is_none() && !self.snapshot().await {
                pause(Duration::from_millis(100)).await;
                continue;
            }
            self.connection().await;
            pause(Duration::from_millis(self.dice.roll(200))).await;
        }
        self
    }

    fn is_complete(&self) -> bool {
        let heads = self.heads.borrow();
        let Some(heads) = heads.as_ref() else { return false };
        let ends = |slot: usize, stream: StreamId| {
            let (_, head) = heads.iter().find(|(of, _)| *of == stream).expect("the stream's head");
            let last = match self.marks[slot].last() {
                Some(Mark::Event(at) | Mark::Snapshot(at)) => *at,
                None => return false,
            };
            last == Position::from(*head)
        };
        ends(0, StreamId::User(self.user)) && ends(1, StreamId::Broadcast)
    }

    /// Reads over HTTP what there is, with the cursor of that moment.
    async fn snapshot(&mut self) -> bool {
        let url = format!("{}/orders", self.url());
        let Ok(answer) = self.shared.http.get(url).bearer_auth(&self.token).send().await else {
            return false;
        };
        let Some(cursor) = answer.headers().get("plimsoll-cursor").filter(|_| answer.status() == 200) else {
            return false;
        };
        let text = cursor.to_str().unwrap().to_owned();
        let at = Cursor::decode(&text).unwrap();
        self.marks[0].push(Mark::Snapshot(at.user_at));
        self.marks[1].push(Mark::Snapshot(at.broadcast_at));
        self.cursor = Some(text);
        true
    }

    /// One connection, which the client drops after a while if nothing else ends it.
    async fn connection(&mut self) {
        let cursor = self.cursor.clone().expect("a client with a cursor");
        let address = format!("{}/ws?cursor={cursor}", self.url().replace("http://", "ws://"));
        let mut request = address.into_client_request().unwrap();
        request.headers_mut().insert("authorization", format!("Bearer {}", self.token).parse().unwrap());
        let connecting = tokio::time::timeout(Duration::from_secs(10), connect_async(request));
        let Ok(Ok((mut socket, _))) = connecting.await else { return };
        self.connections += 1;
        let until = Instant::now() + Duration::from_millis(300 + self.dice.roll(3_000));
        while let Ok(Some(Ok(message))) = tokio::time::timeout_at(until.into(), socket.next()).await {
            let Message::Text(text) = message else { continue };
            let message: Value = serde_json::from_str(&text).unwrap();
            if message["type"] == "snapshot_required" {
                assert!(self.shared.restored.load(Ordering::Acquire), "nothing was lost yet: {message}");
                self.cursor = None;
                return;
            }
            assert_ne!(message["code"], "invalid_cursor", "{message}");
            if message.get("offset").is_some() {
                self.take(&message);
            }
            if self.is_complete() {
                return;
            }
        }
    }

    fn take(&mut self, event: &Value) {
        let id = event["id"].as_str().unwrap().to_owned();
        let at = Cursor::decode(&id).unwrap();
        let (slot, at) = if event["stream"] == "broadcast" { (1, at.broadcast_at) } else { (0, at.user_at) };
        assert_eq!(at.offset, event["offset"].as_i64().unwrap(), "{event}");
        self.marks[slot].push(Mark::Event(at));
        self.cursor = Some(id);
    }

    /// Each event once per epoch, or a snapshot between. Answers how many events and snapshots there were.
    fn check(&self) -> (usize, usize) {
        let (mut events, mut snapshots) = (0, 0);
        for marks in &self.marks {
            let mut before: Option<Position> = None;
            for mark in marks {
                match mark {
                    Mark::Event(at) => {
                        let last = before.expect("a snapshot comes first");
                        assert_eq!(*at, Position { offset: last.offset + 1, ..last }, "user {}", self.user);
                        events += 1;
                        before = Some(*at);
                    }
                    Mark::Snapshot(at) => {
                        let goes_on =
                            before.is_none_or(|last| last.epoch != at.epoch || last.offset <= at.offset);
                        assert!(goes_on, "a snapshot that goes back: {before:?}, {at:?}");
                        snapshots += 1;
                        before = Some(*at);
                    }
                }
            }
        }
        (events, snapshots)
    }
}

/// Publishes for one user, at whichever server, until it is over.
async fn publish(shared: Arc<Shared>, token: String, mut dice: Dice) {
    let body = json!({ "strategy": "s", "trial": 1, "total": 2 });
    while !shared.quiet.load(Ordering::Acquire) {
        let url = &shared.urls[dice.roll(shared.urls.len() as u64) as usize];
        let path = format!("{url}/events/optimization-progress");
        let sent = shared.http.post(path).bearer_auth(&token).json(&body).send().await;
        if sent.is_ok_and(|answer| answer.status() == 201) {
            shared.written.fetch_add(1, Ordering::AcqRel);
        }
        pause(Duration::from_millis(100 + dice.roll(300))).await;
    }
}

/// Writes to the broadcast past the servers, as another instance would whose word does not come.
fn broadcast(shared: &Shared, world: &World) {
    if shared.held.load(Ordering::Acquire) {
        return;
    }
    let event =
        NewEvent { kind: EventKind::SystemAlert, data: r#"{"message":"m","severity":"info"}"#.into() };
    let write = |url: &str| -> Result<(), StoreError> {
        let db = plimsoll_storage::Db::open(
            url,
            plimsoll_storage::DbSettings::new(plimsoll_storage::PoolKind::Control, 1),
        )?;
        db.run_blocking(|tx| tx.append_event(StreamId::Broadcast, &event, SystemClock.now()).map(drop))
    };
    if write(world.database.url()).is_ok() {
        shared.written.fetch_add(1, Ordering::AcqRel);
    }
}

/// Lets time pass, with an alert to everybody now and then.
async fn pass(shared: &Shared, world: &World, time: Duration) {
    let until = Instant::now() + time;
    while Instant::now() < until {
        broadcast(shared, world);
        pause(Duration::from_millis(400)).await;
    }
}

/// Everybody ends with every event of the own stream and of the broadcast exactly once per epoch, or with an explicit
/// snapshot in between; and until the restore nobody needed one.
#[tokio::test(flavor = "multi_thread")]
async fn every_client_holds_every_event_once_or_was_told() {
    let limits = Setup::default().own_server(&[]).setting("WS_MAX_PER_IP", "1000");
    let mut world = limits.setting("WS_MAX_PER_USER", "40").build().await;
    let urls = {
        let (one, two) = (world.serve("one").await, world.serve("two").await);
        vec![world.url(one), world.url(two)]
    };
    let shared = Arc::new(Shared {
        urls,
        http: reqwest::Client::builder().no_proxy().timeout(Duration::from_secs(10)).build().unwrap(),
        restored: AtomicBool::new(false),
        quiet: AtomicBool::new(false),
        held: AtomicBool::new(false),
        written: AtomicU64::new(0),
    });
    let people: Vec<_> = (0..USERS).map(|n| world.person(&format!("listener-{n}"))).collect();
    let (tell, heads) = watch::channel(None);
    let (mut clients, mut writers) = (tokio::task::JoinSet::new(), tokio::task::JoinSet::new());
    for (number, (user, token)) in people.iter().enumerate() {
        writers.spawn(publish(Arc::clone(&shared), token.clone(), Dice(1_000 + number as u64)));
        for client in 0..CLIENTS_EACH {
            let client = Client {
                shared: Arc::clone(&shared),
                user: *user,
                token: token.clone(),
                dice: Dice((number * CLIENTS_EACH + client) as u64),
                cursor: None,
                marks: [Vec::new(), Vec::new()],
                connections: 0,
                heads: heads.clone(),
            };
            clients.spawn(client.run());
        }
    }

    pass(&shared, &world, Duration::from_secs(4)).await;
    world.instances[1].kill();
    pass(&shared, &world, Duration::from_secs(2)).await;
    world.instances[1].restart().await;
    pass(&shared, &world, Duration::from_secs(3)).await;

    world.database.cluster().crash();
    world.database.cluster().keep_copy();
    world.database.cluster().recover();
    pass(&shared, &world, Duration::from_secs(5)).await;

    // What a restore does: nobody is connected, the state is an older one, and its streams get another epoch.
    shared.held.store(true, Ordering::Release);
    world.instances.iter().for_each(|instance| instance.proxy.shut());
    let before = world.database.count("stream_event");
    world.database.cluster().crash();
    world.database.cluster().return_to_copy();
    world.database.cluster().recover();
    assert!(world.database.count("stream_event") < before, "the backup is older");
    world.database.execute("UPDATE stream_head SET epoch = gen_random_uuid()");
    shared.restored.store(true, Ordering::Release);
    world.instances.iter().for_each(|instance| instance.proxy.open());
    shared.held.store(false, Ordering::Release);
    pass(&shared, &world, Duration::from_secs(5)).await;

    shared.quiet.store(true, Ordering::Release);
    while let Some(writer) = writers.join_next().await {
        writer.unwrap();
    }
    let streams: Vec<StreamId> =
        people.iter().map(|(user, _)| StreamId::User(*user)).chain([StreamId::Broadcast]).collect();
    // A request that was cut off may still be on its way.
    let mut ends = Vec::new();
    for _ in 0..20 {
        pause(Duration::from_millis(500)).await;
        let now = world.heads(&streams);
        let settled = now == ends;
        ends = now;
        if settled {
            break;
        }
    }
    tell.send(Some(Arc::new(ends))).unwrap();
    let (mut events, mut snapshots, mut connections) = (0, 0, 0);
    let all = async {
        while let Some(client) = clients.join_next().await {
            let client = client.unwrap();
            let (some, told) = client.check();
            (events, snapshots, connections) =
                (events + some, snapshots + told, connections + client.connections);
        }
    };
    tokio::time::timeout(PATIENCE, all).await.expect("every client has everything in time");
    let written = shared.written.load(Ordering::Acquire);
    println!(
        "{written} events written, {events} heard over {connections} connections, {snapshots} snapshots of streams"
    );
    assert!(connections > 3 * USERS * CLIENTS_EACH, "the clients did come back");
    assert!(snapshots >= 2 * 2 * USERS * CLIENTS_EACH, "a start and a restore for each of both streams");
    world.finish().await;
}
