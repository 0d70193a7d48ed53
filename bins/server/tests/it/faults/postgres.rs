//! Faults of PostgreSQL while the server runs: sessions ended, locks held, deadlocks, notifications that do not come.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::time::Duration;

use plimsoll_core_domain::UserId;
use reqwest::Method;

use super::desk::{Desk, market, resting};
use super::instance::pause;
use super::trap::{Deed, Moment, Wanted};
use super::world::{Setup, World, real_time, until};

/// Work on a connection of its own, again and again until it is dropped.
struct Again {
    over: Arc<AtomicBool>,
    turns: Arc<AtomicUsize>,
    thread: Option<std::thread::JoinHandle<()>>,
}

impl Again {
    fn start(
        world: &World,
        every: Duration,
        mut turn: impl FnMut(&mut plimsoll_storage::testing::RawConnection) + Send + 'static,
    ) -> Self {
        let (over, turns) = (Arc::new(AtomicBool::new(false)), Arc::new(AtomicUsize::new(0)));
        let mut connection = world.database.raw();
        let (stop, count) = (Arc::clone(&over), Arc::clone(&turns));
        let thread = std::thread::spawn(move || {
            while !stop.load(Ordering::Acquire) {
                turn(&mut connection);
                count.fetch_add(1, Ordering::AcqRel);
                std::thread::sleep(every);
            }
        });
        Self { over, turns, thread: Some(thread) }
    }

    fn turns(&self) -> usize {
        self.turns.load(Ordering::Acquire)
    }
}

impl Drop for Again {
    fn drop(&mut self) {
        self.over.store(true, Ordering::Release);
        if let Some(thread) = self.thread.take() {
            // a panic there was printed
            drop(thread.join());
        }
    }
}

/// Clients of these traders place orders until the world has seen enough; answers how many there were.
async fn load(desks: &[Desk], url: &str, name: &str, orders: usize) -> usize {
    let next = Arc::new(AtomicUsize::new(0));
    let mut clients = tokio::task::JoinSet::new();
    for desk in desks.iter().cycle().take(4) {
        let (desk, url, name, next) = (desk.clone(), url.to_owned(), name.to_owned(), Arc::clone(&next));
        clients.spawn(async move {
            loop {
                let number = next.fetch_add(1, Ordering::AcqRel);
                if number >= orders {
                    return;
                }
                let path = if number.is_multiple_of(2) { "/orders?wait_ms=0" } else { "/orders?wait_ms=200" };
                let body = Some(market("buy").to_string());
                desk.insist_on(&[&url], Method::POST, path, &format!("{name}-{number}"), body).await;
            }
        });
    }
    while let Some(client) = clients.join_next().await {
        client.unwrap();
    }
    orders
}

/// Row 11. Sessions of the server are ended at random, twenty a second: a request is told to come again at worst, and
/// nothing is written by halves.
#[tokio::test(flavor = "multi_thread")]
async fn row_11_sessions_are_ended_in_the_middle() {
    let (mut world, ann) = World::with_one(Setup::default()).await;
    let bob = world.trader("bob").await;
    world.trades(&bob, 0).await;
    world.watch(&bob, &[0]).await;
    let ending = Again::start(&world, Duration::from_millis(50), |connection| {
        connection
            .execute(
                "SELECT pg_terminate_backend(pid) FROM (SELECT pid FROM pg_stat_activity \
                 WHERE application_name ~ '^plimsoll-(http|jobs|control)' AND datname = current_database() \
                 AND pid <> pg_backend_pid() ORDER BY state = 'idle', random() LIMIT 1) q",
            )
            .unwrap();
    });
    let orders = load(&[ann, bob], &world.url(0), "ended", if real_time() { 600 } else { 80 }).await;
    assert!(ending.turns() > 10);
    drop(ending);
    assert_eq!(world.database.count("orders"), i64::try_from(orders).unwrap());
    world.finish().await;
}

/// Row 15. The table of orders is locked: orders are told to come again while it is, and everything else goes on.
#[tokio::test(flavor = "multi_thread")]
async fn row_15_the_orders_are_locked() {
    let (mut world, ann) = World::with_one(Setup::default()).await;
    let bob = world.trader("bob").await;
    world.trades(&bob, 0).await;
    let url = world.url(0);
    let mut psql = world.database.raw();
    psql.execute("BEGIN; LOCK TABLE orders IN ACCESS EXCLUSIVE MODE").unwrap();
    let mut tries = tokio::task::JoinSet::new();
    for desk in [ann.clone(), bob.clone()] {
        let url = url.clone();
        tries.spawn(async move { desk.order(&url, "locked", &market("buy")).await.unwrap() });
    }
    for path in ["/auth/me", "/health/live", "/health/ready", "/positions", "/fills"] {
        let answer = ann.send(&url, Method::GET, path, None, None).await.unwrap();
        assert_eq!(answer.status, 200, "{path}: {answer:?}");
    }
    // the lock is let go only when they all have been answered
    while let Some(answer) = tries.join_next().await {
        let answer = answer.unwrap();
        assert_eq!((answer.status, answer.retry_after.is_some()), (503, true), "{answer:?}");
    }
    assert_eq!(world.instances[0].probe("ready").await, Some(200));
    psql.execute("COMMIT").unwrap();
    for desk in [ann, bob] {
        desk.insist(&[&url], "locked", &market("buy")).await;
    }
    assert_eq!(world.database.count("orders"), 2);
    world.finish().await;
}

/// Row 16. The pool of requests hangs: beyond its queue everybody is told to come again, and health answers.
#[tokio::test(flavor = "multi_thread")]
async fn row_16_the_pool_is_exhausted() {
    let (world, ann) = World::with_one(Setup::default()).await;
    let url = world.url(0);
    let slow = world.instances[0].proxy.set(
        Wanted::text("SELECT").of("http").times(u64::MAX),
        Moment::Before,
        Deed::Hold,
    );
    let mut calls = tokio::task::JoinSet::new();
    for _ in 0..200 {
        let (ann, url) = (ann.clone(), url.clone());
        calls.spawn(async move { ann.send(&url, Method::GET, "/orders", None, None).await });
    }
    // all but those that hold a connection are answered while the connections still hang
    let pool = 16;
    let mut turned_away = 0;
    while turned_away < 200 - pool {
        let answer = calls.join_next().await.unwrap().unwrap().unwrap();
        assert_eq!((answer.status, answer.retry_after.is_some()), (503, true), "{answer:?}");
        turned_away += 1;
    }
    assert_eq!(slow.acted(), pool as u64);
    for path in ["live", "ready"] {
        assert_eq!(world.instances[0].probe(path).await, Some(200), "{path}");
    }
    let answer = ann.order(&url, "turned-away", &market("buy")).await.unwrap();
    assert_eq!((answer.status, answer.retry_after.is_some()), (503, true), "{answer:?}");
    slow.lift();
    while let Some(answer) = calls.join_next().await {
        assert_eq!(answer.unwrap().unwrap().status, 200);
    }
    ann.insist(&[&url], "turned-away", &market("buy")).await;
    world.finish().await;
}

/// Row 17. Others lock what an order locks, the other way round, and always win: it is tried again or told to come again,
/// and nothing is written by halves.
#[tokio::test(flavor = "multi_thread")]
async fn row_17_a_storm_of_deadlocks() {
    let (world, ann) = World::with_one(Setup::default()).await;
    let UserId(user) = ann.user();
    // an order locks its account, then its stream; the server notices a deadlock for whoever has waited a second
    let writer = move |connection: &mut plimsoll_storage::testing::RawConnection| {
        let done = connection.execute(&format!(
            "SET deadlock_timeout = '30s'; SET lock_timeout = '20s'; BEGIN; \
             SELECT 1 FROM stream_head WHERE stream_id = {user} FOR UPDATE; SELECT pg_sleep(0.05); \
             SELECT 1 FROM accounts WHERE user_id = {user} FOR UPDATE; COMMIT"
        ));
        if done.is_err() {
            connection.execute("ROLLBACK").unwrap();
        }
    };
    let before = deadlocks(&world);
    let writer = Again::start(&world, Duration::from_millis(150), writer);
    let url = world.url(0);
    let (mut number, mut orders) = (0, 0);
    while deadlocks(&world) < before + 5 {
        assert!(number < 60, "no deadlocks among {orders} orders");
        orders += load(std::slice::from_ref(&ann), &url, &format!("storm-{number}"), 6).await;
        number += 1;
    }
    assert!(writer.turns() > 0);
    drop(writer);
    assert_eq!(world.database.count("orders"), i64::try_from(orders).unwrap());
    world.finish().await;
}

fn deadlocks(world: &World) -> i64 {
    let query = "SELECT deadlocks FROM pg_stat_database WHERE datname = current_database()";
    world.database.rows(query)[0]["deadlocks"].as_i64().unwrap()
}

/// Row 19. The connection for notifications is ended again and again: what another server commits is heard by sweeps.
#[tokio::test(flavor = "multi_thread")]
async fn row_19_notifications_are_lost() {
    let (mut world, ann) = World::with_one(Setup::default()).await;
    let two = world.serve("two").await;
    world.trades(&ann, two).await;
    world.watch(&ann, &[two]).await;
    let url = world.url(0);
    // every listener, before it can have heard much
    let ending = Again::start(&world, Duration::from_millis(30), |connection| {
        connection
            .execute(
                "SELECT pg_terminate_backend(pid) FROM pg_stat_activity \
                 WHERE application_name = 'plimsoll-listen' AND datname = current_database()",
            )
            .unwrap();
    });
    for n in 0..10 {
        ann.insist(&[&url], &format!("unheard-{n}"), &resting()).await;
        let head = format!("SELECT head FROM stream_head WHERE stream_id = {}", ann.user());
        let head = world.database.rows(&head)[0]["head"].as_i64().unwrap();
        let took =
            until("the client at the other server has heard", async || world.watchers[0].newest() >= head)
                .await;
        println!("heard within {took:?}");
        pause(Duration::from_millis(50)).await;
    }
    assert!(ending.turns() > 10);
    assert_eq!(world.watchers[0].connected(), 1, "the client itself was never thrown out");
    drop(ending);
    world.finish().await;
}
