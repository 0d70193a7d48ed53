//! Failures of reconciliation that are known from elsewhere, about fills: each happens once, and does no harm.

use serde_json::{Value, json};

use super::desk::{market, resting};
use super::world::{Setup, World, until};

/// Ids, sources and prices of all fills.
fn fills(world: &World) -> Vec<Value> {
    world.database.rows("SELECT id::text AS id, source, qty::text AS qty FROM fills ORDER BY cum_qty")
}

fn shares(side: &str, qty: &str) -> Value {
    let mut order = market(side);
    order["qty"] = qty.into();
    order
}

#[tokio::test(flavor = "multi_thread")]
async fn fills_that_are_told_again_after_a_restart_are_booked_once() {
    let (mut world, ann) = World::with_one(Setup::default()).await;
    let id = ann.insist(&[&world.url(0)], "one", &market("buy")).await.text_of("id");
    world.becomes(&id, &["filled"]).await;
    let before = fills(&world);
    world.broker.fault(json!({"action": "stream_duplicate"})).await;
    for _ in 0..2 {
        world.instances[0].kill();
        world.instances[0].restart().await;
        world.trades(&ann, 0).await;
        assert_eq!(world.compare(&ann).await.found, vec![]);
    }
    assert_eq!(fills(&world), before);
    assert_eq!(world.database.count("positions WHERE qty = 1"), 1);
    world.finish().await;
}

/// The broker's book lacks the fills for a while: they are inferred, under ids that a restart does not change, and make room
/// for the real ones, which come while others are inferred.
#[tokio::test(flavor = "multi_thread")]
async fn an_inferred_fill_has_a_stable_id_and_races_the_real_one_only_once() {
    let (mut world, ann) = World::with_one(Setup::default()).await;
    let hidden = json!([{"id": "book", "action": "hide_from_book"}, {"id": "mute", "action": "stream_drop"}]);
    world.broker.sim(reqwest::Method::PUT, "faults", hidden).await;
    let id = ann.insist(&[&world.url(0)], "one", &shares("buy", "7")).await.text_of("id");
    until("it is filled at the broker", async || world.broker.fills().await.len() == 1).await;
    world.compare(&ann).await;
    until("its fill is inferred", async || {
        world.database.count("fills WHERE source = 'inferred'") == 1
            || world.compare(&ann).await.found.is_empty()
    })
    .await;
    world.becomes(&id, &["filled"]).await;
    let inferred = fills(&world);
    assert_eq!(inferred[0]["source"], "inferred");
    world.instances[0].kill();
    world.instances[0].restart().await;
    world.trades(&ann, 0).await;
    world.compare(&ann).await;
    assert_eq!(fills(&world), inferred, "the same fill has the same id");
    world.broker.heal().await;
    for _ in 0..2 {
        world.compare(&ann).await;
    }
    let real = fills(&world);
    assert_eq!((real.len(), &real[0]["id"]), (1, &inferred[0]["id"]));
    assert_eq!(real[0]["source"], "rest");
    assert_eq!(world.database.count("positions WHERE qty = 7"), 1);
    world.finish().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn partial_fills_count_once_in_their_order_and_once_in_the_position() {
    let setup = Setup::default().broker(&["--partial-fill-rate", "0.8"]);
    let (world, ann) = World::with_one(setup).await;
    let half = json!({"match": {"event": "partial_fill"}, "action": "stream_drop"});
    world.broker.fault(half).await;
    let id = ann.insist(&[&world.url(0)], "many", &shares("buy", "30")).await.text_of("id");
    until("it is filled at the broker", async || {
        world.broker.orders().await.iter().any(|order| order["status"] == "filled")
    })
    .await;
    world.compare(&ann).await;
    world.becomes(&id, &["filled"]).await;
    assert_eq!(world.compare(&ann).await.found, vec![]);
    assert_eq!(world.database.count("positions WHERE qty = 30"), 1);
    world.finish().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn fractions_add_up_to_the_last_digit() {
    let (world, ann) = World::with_one(Setup::default()).await;
    world.broker.fault(json!({"action": "stream_drop"})).await;
    let url = world.url(0);
    for (key, side, qty) in
        [("a", "buy", "1.123456789"), ("b", "buy", "0.100000001"), ("c", "sell", "1.023456789")]
    {
        ann.place(&url, key, &shares(side, qty)).await;
        until("it is filled at the broker and on record", async || {
            world.compare(&ann).await;
            world.database.count("orders WHERE closed_at IS NULL") == 0
        })
        .await;
    }
    assert_eq!(world.compare(&ann).await.found, vec![]);
    assert_eq!(world.database.count("positions WHERE qty = 0.200000001"), 1);
    world.finish().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn what_happened_in_a_gap_of_the_stream_is_found_when_it_is_back() {
    let (world, ann) = World::with_one(Setup::default()).await;
    let rules = json!([
        {"id": "cut", "match": {"event": "new"}, "action": "stream_cut", "times": 1},
        {"id": "away", "match": {"path": "/stream"}, "action": "status_before", "status": 503},
    ]);
    world.broker.sim(reqwest::Method::PUT, "faults", rules).await;
    let url = world.url(0);
    ann.insist(&[&url], "before", &resting()).await;
    until("the stream is away", async || world.broker.hits("away").await > 0).await;
    let id = ann.insist(&[&url], "gap", &market("buy")).await.text_of("id");
    until("it is filled at the broker", async || world.broker.fills().await.len() == 1).await;
    world.broker.heal().await;
    world.becomes(&id, &["filled"]).await;
    until("the stream is back", async || {
        world.database.count("reconciliation_runs WHERE trigger = 'reconnect' AND status = 'ok'") >= 1
    })
    .await;
    world.finish().await;
}

/// The connection lives, its pings are answered, and nothing is told: nobody reconnects, and nobody asks.
#[tokio::test(flavor = "multi_thread")]
async fn a_stream_that_lives_and_tells_nothing_is_found_out() {
    let setup = Setup::default().setting("RECONCILE_INTERVAL", "40s");
    let (world, ann) = World::with_one(setup).await;
    let silence = json!({"id": "silence", "match": {"event": "fill"}, "action": "stream_silence"});
    world.broker.fault(silence).await;
    let id = ann.insist(&[&world.url(0)], "silent", &market("buy")).await.text_of("id");
    world.becomes(&id, &["filled"]).await;
    assert_eq!(world.database.count("fills WHERE source = 'stream'"), 0);
    world.finish().await;
}
