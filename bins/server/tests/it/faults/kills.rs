//! `kill -9` at the moments that matter between an order's acceptance and its end, and again and again under load.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::time::Duration;

use serde_json::json;

use super::desk::{Desk, market};
use super::instance::pause;
use super::trap::{Deed, Moment, Wanted};
use super::world::{PATIENCE, Setup, World, real_time, until};

/// A trap whose process must have died of it: perhaps before the client had its answer, which then comes from the next one.
async fn dies(world: &mut World, trap: &super::trap::Trap) {
    until("the trap acts", async || trap.acted() > 0).await;
    world.instances[0].wait();
    world.instances[0].proxy.heal();
    world.instances[0].restart().await;
}

/// Places an order without waiting for the broker, and answers its id and client order id.
async fn place(desk: &Desk, url: &str, key: &str) -> (String, String) {
    let body = Some(market("buy").to_string());
    let answer = desk.insist_on(&[url], reqwest::Method::POST, "/orders?wait_ms=0", key, body).await;
    (answer.text_of("id"), answer.text_of("client_order_id"))
}

/// As [`place`], beside what else happens.
fn placing(desk: &Desk, url: &str, key: &str) -> tokio::task::JoinHandle<(String, String)> {
    let (desk, url, key) = (desk.clone(), url.to_owned(), key.to_owned());
    tokio::spawn(async move { place(&desk, &url, &key).await })
}

/// Row 2. The broker has the request and answers nobody: it is found there afterwards. Held for less and for more than the
/// time after which "not found" counts.
#[tokio::test(flavor = "multi_thread")]
async fn row_02_killed_while_the_broker_holds_the_order() {
    let (mut world, ann) = World::with_one(Setup::default()).await;
    let url = world.url(0);
    let settle = Duration::from_secs(10);
    for (key, held) in [("short", settle / 20), ("long", settle * 5 / 2)] {
        let ms = u64::try_from(world.time(held).as_millis()).unwrap();
        let rule = json!({"id": key, "match": {"method": "POST", "path": "/orders"}, "action": "delay", "ms": ms, "times": 1});
        world.broker.fault(rule).await;
        let (id, client_id) = place(&ann, &url, key).await;
        until("the broker has the request", async || world.broker.hits(key).await == 1).await;
        world.instances[0].kill();
        world.instances[0].restart().await;
        world.becomes(&id, &["filled"]).await;
        let calls = world.broker.calls_about(&client_id).await;
        let accepted = calls.iter().filter(|call| *call == "POST 200").count();
        assert_eq!(accepted, 1, "{calls:?}");
    }
    world.finish().await;
}

/// Row 3. The broker has said yes and nobody heard it: the order is found there, one way or another, and none is sent.
#[tokio::test(flavor = "multi_thread")]
async fn row_03_killed_right_after_the_brokers_yes() {
    let (mut world, ann) = World::with_one(Setup::default()).await;
    let (url, pid) = (world.url(0), world.instances[0].pid());
    // the first change of the order says that it is being sent, the second what the broker said
    let wanted = Wanted::text("UPDATE orders").of("jobs").from(2);
    let trap = world.instances[0].proxy.set(wanted, Moment::Before, Deed::Kill(pid));
    let placing = placing(&ann, &url, "yes");
    dies(&mut world, &trap).await;
    let (id, client_id) = placing.await.unwrap();
    world.becomes(&id, &["filled"]).await;
    let calls = world.broker.calls_about(&client_id).await;
    let sent: Vec<&String> = calls.iter().filter(|call| call.starts_with("POST")).collect();
    assert_eq!(sent, ["POST 200"], "{calls:?}");
    world.finish().await;
}

/// Row 4. What the broker said and the end of the job are one transaction: killed before, in and after its commit.
#[tokio::test(flavor = "multi_thread")]
async fn row_04_killed_while_the_job_is_settled() {
    let (mut world, ann) = World::with_one(Setup::default()).await;
    let url = world.url(0);
    let settles = || Wanted::text("UPDATE jobs SET state = 'done'").of("jobs");
    for (n, moment, in_commit) in [
        (1, Moment::Before, false),
        (2, Moment::Executed, false),
        (3, Moment::Before, true),
        (4, Moment::Executed, true),
        (5, Moment::Answered, true),
    ] {
        world.trades(&ann, 0).await;
        let (pid, proxy) = (world.instances[0].pid(), &world.instances[0].proxy);
        let trap = if in_commit {
            let settled = proxy.set(settles(), Moment::Before, Deed::Run(Arc::new(|| {})));
            proxy.set(Wanted::text("COMMIT").of("jobs").after(&settled), moment, Deed::Kill(pid))
        } else {
            proxy.set(settles(), moment, Deed::Kill(pid))
        };
        let placing = placing(&ann, &url, &format!("settle-{n}"));
        dies(&mut world, &trap).await;
        let (id, client_id) = placing.await.unwrap();
        world.becomes(&id, &["filled"]).await;
        let done = format!(
            "jobs WHERE kind = 'submit_order' AND state = 'done' AND payload ->> 'order_id' = '{id}'"
        );
        until("the job is done", async || world.database.count(&done) == 1).await;
        let calls = world.broker.calls_about(&client_id).await;
        assert_eq!(calls.iter().filter(|call| *call == "POST 200").count(), 1, "{calls:?}");
    }
    world.finish().await;
}

/// Row 6. Killed again and again while orders come in: every key is answered in the end, and everything adds up.
#[tokio::test(flavor = "multi_thread")]
async fn row_06_killed_again_and_again_under_load() {
    let (kills, between) = if real_time() { (40, 3_000) } else { (10, 700) };
    let (mut world, ann) = World::with_one(Setup::default()).await;
    let bob = world.trader("bob").await;
    world.trades(&bob, 0).await;
    world.watch(&ann, &[0]).await;
    let (url, over) = (world.url(0), Arc::new(AtomicBool::new(false)));
    let sent = Arc::new(AtomicUsize::new(0));
    let mut clients = tokio::task::JoinSet::new();
    for n in 0..6 {
        let (desk, url) = (if n % 2 == 0 { ann.clone() } else { bob.clone() }, url.clone());
        let (over, sent) = (Arc::clone(&over), Arc::clone(&sent));
        clients.spawn(async move {
            while !over.load(Ordering::Acquire) {
                let number = sent.fetch_add(1, Ordering::AcqRel);
                let path = if number.is_multiple_of(2) { "/orders?wait_ms=0" } else { "/orders?wait_ms=200" };
                let body = Some(market("buy").to_string());
                desk.insist_on(&[&url], reqwest::Method::POST, path, &format!("load-{number}"), body).await;
                tokio::time::sleep(Duration::from_millis(20)).await;
            }
        });
    }
    for kill in 0..kills {
        let before = sent.load(Ordering::Acquire);
        until("orders go on", async || sent.load(Ordering::Acquire) > before + 6).await;
        // another moment each time
        pause(Duration::from_millis(between / 2 + u64::from(world.instances[0].pid()) * 7919 % between))
            .await;
        world.instances[0].kill();
        println!("kill {kill} after {} orders", sent.load(Ordering::Acquire));
        world.instances[0].restart().await;
    }
    over.store(true, Ordering::Release);
    let all = tokio::time::timeout(PATIENCE, async {
        while let Some(client) = clients.join_next().await {
            client.unwrap();
        }
    });
    all.await.expect("every key is answered");
    let orders = i64::try_from(sent.load(Ordering::Acquire)).unwrap();
    assert_eq!(world.database.count("orders"), orders);
    let lost = "jobs WHERE state = 'dead'";
    world.quiesce().await;
    assert_eq!(
        world.database.count(lost),
        0,
        "{:?}",
        world.database.rows(&format!("SELECT kind, last_error FROM {lost}"))
    );
    world.finish().await;
}
