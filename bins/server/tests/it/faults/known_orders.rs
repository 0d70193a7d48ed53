//! Failures of reconciliation that are known from elsewhere, about orders: each happens once, and does no harm.

use reqwest::Method;
use serde_json::{Value, json};

use super::desk::{Desk, market, resting};
use super::world::{Setup, World, until};

/// The order stream says nothing any more.
async fn mute(world: &World) {
    world.broker.fault(json!({"id": "mute", "action": "stream_drop"})).await;
}

/// A resting order that the broker has taken.
async fn rests(world: &World, desk: &Desk, key: &str) -> String {
    let id = desk.insist(&[&world.url(0)], key, &resting()).await.text_of("id");
    world.becomes(&id, &["new"]).await;
    id
}

async fn change(world: &World, desk: &Desk, id: &str, key: &str, body: Value) -> String {
    let (url, path) = (world.url(0), format!("/orders/{id}"));
    let changed = desk.insist_on(&[&url], Method::PATCH, &path, key, Some(body.to_string())).await;
    assert!(matches!(changed.status, 200 | 202), "{changed:?}");
    changed.text_of("id")
}

#[tokio::test(flavor = "multi_thread")]
async fn a_submit_that_timed_out_but_lives_is_found() {
    let (world, ann) = World::with_one(Setup::default()).await;
    let url = world.url(0);
    let rules = json!([
        {"match": {"method": "POST", "path": "/orders"}, "action": "accept_then_drop", "times": 1},
        // its own job cannot find it
        {"match": {"path": "/orders:by_client_order_id"}, "action": "lookup_404"},
        {"action": "stream_drop"},
    ]);
    world.broker.sim(Method::PUT, "faults", rules).await;
    let (id, client_id) = ann.place(&url, "lost", &resting()).await;
    world.becomes(&id, &["unknown", "new"]).await;
    assert_eq!(world.compare(&ann).await.status, "ok");
    world.becomes(&id, &["new"]).await;
    assert_eq!(world.broker.sends(&client_id).await.0, 1, "it was not sent again");
    world.finish().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_market_order_that_filled_at_once_is_found_by_its_id() {
    let (world, ann) = World::with_one(Setup::default()).await;
    mute(&world).await;
    let (id, _) = ann.place(&world.url(0), "quick", &market("buy")).await;
    until("it is filled at the broker", async || world.broker.fills().await.len() == 1).await;
    world.becomes(&id, &["accepted", "new", "filled"]).await;
    assert_eq!(world.compare(&ann).await.status, "ok");
    world.becomes(&id, &["filled"]).await;
    assert_eq!(world.database.count("positions WHERE qty = 1"), 1);
    world.finish().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_working_order_that_a_restart_finds_in_no_list_goes_on() {
    let (mut world, ann) = World::with_one(Setup::default()).await;
    let id = rests(&world, &ann, "working").await;
    world.broker.fault(json!({"action": "hide_from_list"})).await;
    world.instances[0].kill();
    world.instances[0].restart().await;
    world.trades(&ann, 0).await;
    let compared = world.compare(&ann).await;
    assert_eq!((compared.status.as_str(), compared.found), ("ok", vec![]));
    assert_eq!(world.status(&id), "new");
    world.finish().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_replacement_whose_yes_is_lost_leaves_one_live_order() {
    let (world, ann) = World::with_one(Setup::default()).await;
    let old = rests(&world, &ann, "old").await;
    mute(&world).await;
    let lost = json!({"match": {"method": "PATCH"}, "action": "accept_then_drop", "times": 1});
    world.broker.fault(lost).await;
    let new = change(&world, &ann, &old, "change", json!({"limit_price": "51"})).await;
    world.compare(&ann).await;
    world.becomes(&new, &["new"]).await;
    world.becomes(&old, &["replaced"]).await;
    let deleted = |row: &Value| row["method"] == "DELETE";
    assert!(!world.broker.requests().await.iter().any(deleted), "nothing was canceled");
    world.finish().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_fill_in_flight_during_a_replacement_is_booked_once() {
    let setup = Setup::default().broker(&["--partial-fill-rate", "0.9"]);
    let (world, ann) = World::with_one(setup).await;
    let mut body = resting();
    body["qty"] = "40".into();
    let old = ann.insist(&[&world.url(0)], "old", &body).await.text_of("id");
    world.becomes(&old, &["new"]).await;
    mute(&world).await;
    // It trades as soon as it is replaced, and goes on while its answer is on its way.
    let late = json!({"match": {"method": "PATCH"}, "action": "delay_after", "ms": 500, "times": 1});
    world.broker.fault(late).await;
    let new = change(&world, &ann, &old, "change", json!({"limit_price": "101"})).await;
    until("it is filled at the broker", async || {
        let fills = world.broker.fills().await;
        fills.last().is_some_and(|fill| fill["cum_qty"] == "40")
    })
    .await;
    world.compare(&ann).await;
    world.becomes(&new, &["filled"]).await;
    world.becomes(&old, &["replaced"]).await;
    assert_eq!(world.database.count("positions WHERE qty = 40"), 1);
    world.finish().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn an_impossible_state_is_one_difference_however_often_it_is_seen() {
    let (mut world, ann) = World::with_one(Setup::default()).await;
    world.watch(&ann, &[0]).await;
    let id = rests(&world, &ann, "here").await;
    world.tamper("UPDATE orders SET status = 'canceled', closed_at = now()");
    for _ in 0..3 {
        let compared = world.compare(&ann).await;
        assert!(compared.status == "attention" && compared.has("status", "keep_ours"), "{compared:?}");
    }
    assert_eq!(world.open_discrepancies(), 1);
    assert_eq!(world.database.count("discrepancies WHERE looks >= 3 AND blocks"), 1);
    until("the user is told", async || world.watchers[0].count("system_alert") == 1).await;
    assert_eq!(world.status(&id), "canceled", "ours stays");
    world.tamper("UPDATE orders SET status = 'new', closed_at = NULL");
    assert_eq!(world.compare(&ann).await.status, "ok");
    assert_eq!(world.open_discrepancies(), 0);
    world.finish().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn an_old_open_order_beyond_every_window_is_found_by_its_id() {
    let (world, ann) = World::with_one(Setup::default()).await;
    let id = rests(&world, &ann, "old").await;
    let clock = world.broker.sim(Method::GET, "clock", Value::Null).await;
    let now: chrono::DateTime<chrono::Utc> = clock["time"].as_str().unwrap().parse().unwrap();
    let later = json!({"time": now + chrono::TimeDelta::days(5), "session": "regular"});
    world.broker.sim(Method::PUT, "clock", later).await;
    world.broker.fault(json!({"action": "hide_from_list"})).await;
    let compared = world.compare(&ann).await;
    assert_eq!((compared.status.as_str(), compared.found), ("ok", vec![]));
    assert_eq!(world.status(&id), "new");
    world.finish().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_lost_acknowledgement_of_a_cancel_is_found() {
    let (world, ann) = World::with_one(Setup::default()).await;
    let id = rests(&world, &ann, "gone").await;
    mute(&world).await;
    let lost = json!({"match": {"method": "DELETE"}, "action": "accept_then_drop", "times": 1});
    world.broker.fault(lost).await;
    let (url, path) = (world.url(0), format!("/orders/{id}"));
    let asked = ann.insist_on(&[&url], Method::DELETE, &path, "cancel", None).await;
    assert!(matches!(asked.status, 200 | 202), "{asked:?}");
    until("it is canceled at the broker", async || {
        world.broker.orders().await.iter().any(|order| order["status"] == "canceled")
    })
    .await;
    world.compare(&ann).await;
    world.becomes(&id, &["canceled"]).await;
    world.finish().await;
}

/// Not one of the list, and its counterpart: orders placed elsewhere are taken over, and have the same id when that is done
/// again.
#[tokio::test(flavor = "multi_thread")]
async fn an_order_placed_elsewhere_has_one_id_for_ever() {
    let (world, ann) = World::with_one(Setup::default()).await;
    world.broker.place_as(&ann, &resting()).await;
    let external = "SELECT id::text AS id FROM orders WHERE source_kind = 'external'";
    assert!(world.compare(&ann).await.has("extra_order", "adopt_external"));
    let first = world.database.rows(external);
    assert_eq!(first.len(), 1);
    world.tamper("DELETE FROM order_history; DELETE FROM orders");
    assert!(world.compare(&ann).await.has("extra_order", "adopt_external"));
    assert_eq!(world.database.rows(external), first);
    assert_eq!(world.compare(&ann).await.found, vec![]);
    world.finish().await;
}
