//! Idempotency keys: what was answered under one is answered again, by any process, and acts once.

use std::time::Duration;

use reqwest::Method;

use super::desk::{market, resting};
use super::trap::{Deed, Moment, Wanted};
use super::world::{Setup, World, until};

/// The same bytes after `kill -9`, from the same server and from another; any other request under the key is refused.
#[tokio::test(flavor = "multi_thread")]
async fn a_reply_outlives_the_process_byte_for_byte() {
    let (mut world, ann) = World::with_one(Setup::default()).await;
    let url = world.url(0);
    let first = ann.insist(&[&url], "once", &market("buy")).await;
    assert!(!first.replayed);
    world.instances[0].kill();
    world.instances[0].restart().await;
    world.serve("two").await;
    for url in [world.url(0), world.url(1)] {
        let again = ann.order(&url, "once", &market("buy")).await.unwrap();
        assert_eq!((again.status, &again.text, again.replayed), (first.status, &first.text, true));
        let other = ann.order(&url, "once", &market("sell")).await.unwrap();
        assert_eq!((other.status, other.text_of("code").as_str()), (422, "idempotency_key_reused"));
        let elsewhere = ann.send(&url, Method::DELETE, "/orders", Some("once"), None).await.unwrap();
        assert_eq!((elsewhere.status, elsewhere.text_of("code").as_str()), (422, "idempotency_key_reused"));
        let body = Some(market("buy").to_string());
        let without = ann.send(&url, Method::POST, "/orders", None, body).await.unwrap();
        assert_eq!((without.status, without.text_of("code").as_str()), (400, "idempotency_key_missing"));
    }
    assert_eq!(world.database.count("orders"), 1);
    world.finish().await;
}

/// While the first request has not ended, its twins are told to come again: in the same process and in another.
#[tokio::test(flavor = "multi_thread")]
async fn a_twin_of_a_running_request_is_told_to_wait() {
    let (mut world, ann) = World::with_one(Setup::default()).await;
    world.serve("two").await;
    let urls = [world.url(0), world.url(1)];
    let proxy = &world.instances[0].proxy;
    let claimed = Wanted::text("idempotency_keys").of("http");
    let claimed = proxy.set(claimed, Moment::Before, Deed::Delay(Duration::ZERO));
    let trap = proxy.set(Wanted::text("COMMIT").of("http").after(&claimed), Moment::Before, Deed::Hold);
    let (desk, url) = (ann.clone(), urls[0].clone());
    let first = tokio::spawn(async move { desk.order(&url, "slow", &market("buy")).await });
    until("the first request is about to commit", async || trap.acted() == 1).await;
    for url in &urls {
        let twin = ann.order(url, "slow", &market("buy")).await.unwrap();
        assert_eq!((twin.status, twin.text_of("code").as_str()), (409, "idempotency_in_flight"), "{twin:?}");
        assert_eq!(twin.retry_after.as_deref(), Some("1"));
    }
    trap.lift();
    // it was held for longer than the server waits for its database: answered or not, it has acted at most once
    drop(first.await);
    let urls: Vec<&str> = urls.iter().map(String::as_str).collect();
    let last = ann.insist(&urls, "slow", &market("buy")).await;
    assert!(last.status < 300, "{last:?}");
    assert_eq!(world.database.count("orders"), 1);
    world.finish().await;
}

/// Of a hundred requests under one key at once, one acts, and whoever is answered for good is answered the same.
#[tokio::test(flavor = "multi_thread")]
async fn of_a_hundred_twins_one_acts() {
    let (mut world, ann) = World::with_one(Setup::default()).await;
    world.serve("two").await;
    let urls = [world.url(0), world.url(1)];
    let twins: Vec<_> = (0..100)
        .map(|n| {
            let (desk, url) = (ann.clone(), urls[n % 2].clone());
            tokio::spawn(async move { desk.order(&url, "twins", &market("buy")).await.unwrap() })
        })
        .collect();
    let mut answers = Vec::new();
    for twin in twins {
        answers.push(twin.await.unwrap());
    }
    let (good, rest): (Vec<_>, Vec<_>) = answers.iter().partition(|answer| answer.is_final());
    assert!(!good.is_empty(), "{rest:?}");
    for answer in &good {
        assert_eq!((answer.status, &answer.text), (good[0].status, &good[0].text));
    }
    assert_eq!(good.iter().filter(|answer| !answer.replayed).count(), 1);
    for answer in &rest {
        let in_flight = answer.status == 409 && answer.text_of("code") == "idempotency_in_flight";
        assert!(in_flight || answer.status == 503, "{answer:?}");
        assert!(answer.retry_after.is_some(), "{answer:?}");
    }
    assert_eq!(world.database.count("orders"), 1);
    world.finish().await;
}

/// A database that lost an order, as one that was restored has, and a client that asks again under the same key: the broker
/// gets the same client order id, and has one order.
#[tokio::test(flavor = "multi_thread")]
async fn a_key_of_a_lost_order_has_the_same_client_order_id() {
    // at its real pace no reconciliation finds the order at the broker meanwhile
    let (world, ann) = World::with_one(Setup::default().pace(1.0)).await;
    let url = world.url(0);
    let first = ann.insist(&[&url], "lost", &resting()).await;
    let (id, client_id) = (first.text_of("id"), first.text_of("client_order_id"));
    world.becomes(&id, &["new"]).await;
    let done = format!("jobs WHERE payload ->> 'order_id' = '{id}' AND state <> 'done'");
    until("nothing is to be done for it", async || world.database.count(&done) == 0).await;
    for (table, column) in [("idempotency_keys", "order_id"), ("order_history", "order_id"), ("orders", "id")]
    {
        world.database.execute(&format!("DELETE FROM {table} WHERE {column} = '{id}'"));
    }
    world.database.execute("DELETE FROM jobs WHERE kind = 'submit_order'");
    let again = ann.insist(&[&url], "lost", &resting()).await;
    assert!(again.text_of("id") != id && !again.replayed, "{again:?}");
    assert_eq!(again.text_of("client_order_id"), client_id);
    world.becomes(&again.text_of("id"), &["new"]).await;
    let there = world.broker.orders().await;
    let count = there.iter().filter(|order| order["client_order_id"] == client_id.as_str()).count();
    assert_eq!((count, there.len()), (1, 1), "{there:?}");
}
