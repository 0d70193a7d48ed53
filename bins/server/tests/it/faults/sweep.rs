//! `kill -9` at every message of `POST /orders` to the database, and connections cut at every commit.

use super::desk::{Desk, market, resting};
use super::trap::{Deed, Moment, Wanted};
use super::world::{Setup, World};

/// More messages than an order has.
const TOO_MANY: u64 = 60;

/// Row 1. A good answer has its order, whenever the process dies; the same key has one order.
async fn killed_at_every_message(moment: Moment) {
    let (mut world, ann) = World::with_one(Setup::default().pace(0.05)).await;
    world.watch(&ann, &[0]).await;
    let url = world.url(0);
    let mut number = 0;
    let mut keys = Vec::new();
    loop {
        number += 1;
        assert!(number < TOO_MANY, "the order never went through");
        let (pid, proxy) = (world.instances[0].pid(), &world.instances[0].proxy);
        let trap = proxy.set(Wanted::any().of("http").from(number), moment, Deed::Kill(pid));
        let key = format!("sweep-{number}");
        let answer = ann.order(&url, &key, &market("buy")).await;
        if trap.acted() == 0 {
            let answer = answer.unwrap();
            assert!(answer.is_final(), "{answer:?}");
            trap.lift();
            break;
        }
        keys.push(key);
        world.instances[0].wait();
        world.instances[0].proxy.heal();
        world.instances[0].restart().await;
        world.trades(&ann, 0).await;
    }
    println!("an order has {} messages to the database", number - 1);
    assert!(number > 4, "BEGIN, two statements and COMMIT are four messages");
    insist_on_all(&ann, &url, keys).await;
    assert_eq!(world.database.count("orders"), i64::try_from(number).unwrap());
    world.finish().await;
}

/// The retries, all at once: each waits until its first request counts as gone.
async fn insist_on_all(desk: &Desk, url: &str, keys: Vec<String>) {
    let mut retries = tokio::task::JoinSet::new();
    for key in keys {
        let (desk, url) = (desk.clone(), url.to_owned());
        retries.spawn(async move { desk.insist(&[&url], &key, &market("buy")).await });
    }
    while let Some(answer) = retries.join_next().await {
        answer.unwrap();
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn row_01_killed_before_each_message_of_an_order() {
    killed_at_every_message(Moment::Before).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn row_01_killed_while_each_message_of_an_order_is_answered() {
    killed_at_every_message(Moment::Executed).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn row_01_killed_after_each_message_of_an_order() {
    killed_at_every_message(Moment::Answered).await;
}

/// Row 12. The answer to COMMIT is lost: the order is found by its key, or the client is told to come again.
#[tokio::test(flavor = "multi_thread")]
async fn row_12_an_answer_to_commit_is_lost() {
    let (mut world, ann) = World::with_one(Setup::default()).await;
    world.watch(&ann, &[0]).await;
    let url = world.url(0);
    for wait in ["0", "500"] {
        let trap =
            world.instances[0].proxy.set(Wanted::text("COMMIT").of("http"), Moment::Executed, Deed::Cut);
        let (path, key) = (format!("/orders?wait_ms={wait}"), format!("lost-{wait}"));
        let body = Some(market("buy").to_string());
        let first = ann.send(&url, reqwest::Method::POST, &path, Some(&key), body.clone()).await.unwrap();
        assert!(first.is_final() || first.status == 503, "{first:?}");
        assert_eq!(trap.acted(), 1);
        ann.insist_on(&[&url], reqwest::Method::POST, &path, &key, body).await;
    }
    assert_eq!(world.database.count("orders"), 2);

    // The same for the commits of whoever sends the orders and hears of their fills, one after another.
    for number in 1..=12 {
        let wanted = Wanted::text("COMMIT").of("jobs").from(number);
        let trap = world.instances[0].proxy.set(wanted, Moment::Executed, Deed::Cut);
        let answer = ann.insist(&[&url], &format!("settled-{number}"), &market("buy")).await;
        world.becomes(&answer.text_of("id"), &["filled"]).await;
        if trap.acted() == 0 {
            trap.lift();
        }
    }
    world.finish().await;
}

/// Row 12. The final reply of an order cannot be stored: nothing is promised that a retry would not get.
#[tokio::test(flavor = "multi_thread")]
async fn row_12_a_final_reply_cannot_be_stored() {
    let (world, ann) = World::with_one(Setup::default()).await;
    let url = world.url(0);
    let stores = Wanted::text("UPDATE idempotency_keys").of("http").times(u64::MAX);
    let trap = world.instances[0].proxy.set(stores, Moment::Before, Deed::Cut);
    let first = ann.order(&url, "unstored", &resting()).await.unwrap();
    assert!(trap.acted() > 0, "nothing was stored: {first:?}");
    assert_eq!((first.status, first.retry_after.is_some()), (503, true), "{first:?}");
    trap.lift();
    let order = ann.insist(&[&url], "unstored", &resting()).await.text_of("id");
    assert_eq!(world.database.count("orders"), 1);
    // what was answered stays, whatever becomes of the order
    world.becomes(&order, &["new"]).await;
    let cancel = format!("/orders/{order}");
    ann.insist_on(&[&url], reqwest::Method::DELETE, &cancel, "cancel", None).await;
    world.becomes(&order, &["canceled"]).await;
    world.finish().await;
}
