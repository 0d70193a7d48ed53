//! A broker that takes no requests for a while, or is not there.

use std::time::Duration;

use chrono::{DateTime, TimeDelta, Utc};
use serde_json::{Value, json};

use super::desk::{Desk, market, resting};
use super::world::{PATIENCE, Setup, World, until};

/// When a row of the broker's request log arrived, by the broker's clock.
fn at(row: &Value) -> DateTime<Utc> {
    row["at"].as_str().unwrap().parse().unwrap()
}

/// The rows of the broker's request log that are one account's calls about orders.
async fn order_calls(world: &World, desk: &Desk) -> Vec<Value> {
    let rows = world.broker.requests().await;
    let about = |row: &Value| {
        row["account"] == desk.account() && row["path"].as_str().unwrap().starts_with("/v2/orders")
    };
    rows.into_iter().filter(about).collect()
}

/// Row 24. The rate limit is used up until a time that the answer names: the account is silent until then, its order goes
/// out afterwards, and the other account does not notice.
#[tokio::test(flavor = "multi_thread")]
async fn row_24_a_rate_limit_with_its_end() {
    // At its real pace: the time is the broker's and is not scaled.
    let (mut world, ann) = World::with_one(Setup::default().pace(1.0)).await;
    let bob = world.trader("bob").await;
    world.trades(&bob, 0).await;
    world.watch(&ann, &[0]).await;
    let url = world.url(0);
    let limit = json!({
        "id": "limit", "match": {"method": "POST", "path": "/orders", "account": ann.account()},
        "action": "rate_limit", "ms": 8000, "times": 1,
    });
    world.broker.fault(limit).await;
    let (id, client_id) = ann.place(&url, "limited", &resting()).await;
    until("the limit is met", async || world.broker.hits("limit").await == 1).await;
    let other = bob.insist(&[&url], "other", &market("buy")).await;
    world.becomes(&other.text_of("id"), &["filled"]).await;
    assert_eq!(world.status(&id), "pending_submit", "the other account's order overtook it");
    world.becomes(&id, &["new"]).await;
    assert_eq!(world.broker.sends(&client_id).await, (2, 1));
    let calls = order_calls(&world, &ann).await;
    let limited = calls.iter().find(|row| row["status"] == 429).map(at).unwrap();
    // the answer names whole seconds
    let early: Vec<_> =
        calls.iter().filter(|row| at(row) > limited && at(row) < limited + TimeDelta::seconds(7)).collect();
    assert!(early.is_empty(), "called before its time: {early:#?}");
    world.finish().await;
}

/// Row 24. The answer names no time: nothing is called again soon, and an order whose time runs out meanwhile says so.
#[tokio::test(flavor = "multi_thread")]
async fn row_24_a_rate_limit_without_its_end() {
    let (mut world, ann) = World::with_one(Setup::default()).await;
    let bob = world.trader("bob").await;
    world.trades(&bob, 0).await;
    let url = world.url(0);
    let limit = json!({
        "id": "limit", "match": {"method": "POST", "path": "/orders", "account": ann.account()},
        "action": "status_before", "status": 429,
    });
    world.broker.fault(limit).await;
    let (id, client_id) = ann.place(&url, "limited", &market("buy")).await;
    let other = bob.insist(&[&url], "other", &market("buy")).await;
    world.becomes(&other.text_of("id"), &["filled"]).await;
    world.becomes(&id, &["not_sent"]).await;
    assert_eq!(world.broker.sends(&client_id).await, (1, 0), "no second try in its time");
    let whole = ann.get(&url, &format!("/orders/{id}")).await;
    let reason = whole["status_reason"].as_str().unwrap();
    assert!(reason.contains("time ran out"), "{reason}");
    world.finish().await;
}

/// Row 25. The broker is away with five hundred orders waiting: those whose time runs out say so and are never sent, the
/// rest goes out when it is back, and no job is given up.
#[tokio::test(flavor = "multi_thread")]
async fn row_25_the_broker_is_away_with_orders_waiting() {
    const LATE: usize = 500;
    let (mut world, ann) = World::with_one(Setup::default()).await;
    world.watch(&ann, &[0]).await;
    let url = world.url(0);
    ann.insist(&[&url], "before", &market("buy")).await;
    world.broker.leave();
    let mut clients = tokio::task::JoinSet::new();
    for client in 0..4 {
        let (ann, url) = (ann.clone(), url.clone());
        clients.spawn(async move {
            for n in (client..LATE).step_by(4) {
                ann.place(&url, &format!("late-{n}"), &market("buy")).await;
            }
        });
    }
    while let Some(client) = clients.join_next().await {
        client.unwrap();
    }
    let late = |status: &str| {
        format!(
            "orders WHERE type = 'market' AND status = '{status}' AND status_reason LIKE '%time ran out%'"
        )
    };
    let all = i64::try_from(LATE).unwrap();
    until("all of them say that their time ran out", async || world.database.count(&late("not_sent")) == all)
        .await;
    // these have time
    let mut waiting = Vec::new();
    for n in 0..20 {
        waiting.push(ann.place(&url, &format!("waits-{n}"), &resting()).await);
    }
    let dead = "jobs WHERE state = 'dead'";
    assert_eq!(world.database.count(dead), 0);
    world.broker.come();
    for (id, client_id) in &waiting {
        world.becomes(id, &["new"]).await;
        assert_eq!(world.broker.sends(client_id).await.1, 1);
    }
    let sent = world.broker.requests().await.iter().filter(|row| row["method"] == "POST").count();
    assert_eq!(sent, waiting.len(), "no order was sent after its time");
    assert_eq!(world.database.count(dead), 0);
    let last = tokio::time::timeout(PATIENCE, ann.insist(&[&url], "after", &market("buy"))).await.unwrap();
    world.becomes(&last.text_of("id"), &["filled"]).await;
    // a look at each of those that may have left: none did
    world.quiesce().await;
    assert_eq!(world.database.count(&late("not_sent")), all);
    world.finish().await;
}

/// A moment of the broker being away is no reason to lose anything.
#[tokio::test(flavor = "multi_thread")]
async fn row_25_changes_wait_for_the_broker_too() {
    let (mut world, ann) = World::with_one(Setup::default()).await;
    world.watch(&ann, &[0]).await;
    let url = world.url(0);
    let mut ids = Vec::new();
    for n in 0..2 {
        let answer = ann.insist(&[&url], &format!("rests-{n}"), &resting()).await;
        world.becomes(&answer.text_of("id"), &["new"]).await;
        ids.push(answer.text_of("id"));
    }
    world.broker.leave();
    let path = format!("/orders/{}", ids[0]);
    ann.insist_on(&[&url], reqwest::Method::DELETE, &path, "cancel", None).await;
    let (path, change) =
        (format!("/orders/{}?wait_ms=200", ids[1]), Some(json!({"limit_price": "51"}).to_string()));
    let changed = ann.insist_on(&[&url], reqwest::Method::PATCH, &path, "change", change).await;
    assert_eq!(changed.status, 202, "{changed:?}");
    assert_eq!(world.status(&ids[1]), "pending_replace");
    tokio::time::sleep(world.time(Duration::from_secs(20))).await;
    world.broker.come();
    world.becomes(&ids[0], &["canceled"]).await;
    world.becomes(&ids[1], &["replaced"]).await;
    world.becomes(&changed.text_of("id"), &["new"]).await;
    world.finish().await;
}
