//! Orders that count as not sent and are at the broker after all.

use serde_json::json;

use super::desk::{Desk, resting};
use super::world::{Setup, World, until};

/// An order that was sent twice without a clear answer and never found: it counts as not sent.
async fn given_up(world: &World, ann: &Desk, key: &str, canceled: bool) -> (String, String) {
    let url = world.url(0);
    let fails = json!({"id": "lost", "match": {"method": "POST", "path": "/orders"}, "action": "drop"});
    world.broker.fault(fails).await;
    let (id, client_id) = ann.place(&url, key, &resting()).await;
    if canceled {
        world.becomes(&id, &["unknown"]).await;
        let path = format!("/orders/{id}");
        let asked =
            ann.insist_on(&[&url], reqwest::Method::DELETE, &path, &format!("{key}-cancel"), None).await;
        assert_eq!(asked.status, 202, "{asked:?}");
    }
    world.becomes(&id, &["not_sent"]).await;
    assert_eq!(world.broker.sends(&client_id).await, (2, 0), "two tries and no more");
    world.broker.heal().await;
    (id, client_id)
}

async fn appears(world: &World, ann: &Desk, client_id: &str, qty: &str) {
    let mut body = resting();
    body["qty"] = qty.into();
    body["client_order_id"] = client_id.into();
    world.broker.place_as(ann, &body).await;
}

/// It comes alive, told by the stream or found by the watch, and its user is told.
#[tokio::test(flavor = "multi_thread")]
async fn an_order_that_appears_late_comes_alive_and_is_told() {
    let (mut world, ann) = World::with_one(Setup::default()).await;
    world.watch(&ann, &[0]).await;
    for (n, heard) in [true, false].into_iter().enumerate() {
        let (id, client_id) = given_up(&world, &ann, &format!("late-{n}"), false).await;
        let watch = format!("jobs WHERE kind = 'watch_order' AND dedup_key = '{id}' AND state = 'ready'");
        assert_eq!(world.database.count(&watch), 1);
        if !heard {
            world.broker.fault(json!({"id": "mute", "action": "stream_drop"})).await;
        }
        appears(&world, &ann, &client_id, "1").await;
        world.becomes(&id, &["new"]).await;
        until("the user is told", async || world.watchers[0].count("system_alert") == n + 1).await;
        until("the watch has ended", async || world.database.count(&watch) == 0).await;
        assert!(world.instances[0].log().contains("counted as not sent is at the broker"));
        if !heard {
            assert_eq!(world.causes(&id).last().map(String::as_str), Some("revived"));
        }
        world.broker.heal().await;
    }
    world.finish().await;
}

/// A wish to cancel it still stands.
#[tokio::test(flavor = "multi_thread")]
async fn an_order_that_was_to_be_canceled_and_appears_late_is_canceled() {
    let (mut world, ann) = World::with_one(Setup::default()).await;
    world.watch(&ann, &[0]).await;
    let (id, client_id) = given_up(&world, &ann, "unwanted", true).await;
    appears(&world, &ann, &client_id, "1").await;
    world.becomes(&id, &["canceled"]).await;
    assert_eq!(world.watchers[0].count("system_alert"), 1);
    world.finish().await;
}

/// Another order under its id is no revival.
#[tokio::test(flavor = "multi_thread")]
async fn another_order_that_appears_late_is_a_conflict() {
    let (mut world, ann) = World::with_one(Setup::default()).await;
    world.watch(&ann, &[0]).await;
    let (id, client_id) = given_up(&world, &ann, "other", false).await;
    appears(&world, &ann, &client_id, "3").await;
    world.becomes(&id, &["conflict"]).await;
    until("the user is told", async || world.watchers[0].count("system_alert") == 1).await;
    world.finish().await;
}
