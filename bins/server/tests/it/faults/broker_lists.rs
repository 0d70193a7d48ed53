//! Lists of the broker that end in the middle, and orders that stay on their way.

use reqwest::Method;
use serde_json::json;

use super::desk::resting;
use super::world::{Setup, World, until};

/// Row 28. The third page of the list of open orders is not told, and an order of ours is on none of the others: the
/// comparison is partial, and nothing is concluded from that.
#[tokio::test(flavor = "multi_thread")]
async fn row_28_a_list_fails_on_its_third_page() {
    let (world, ann) = World::with_one(Setup::default()).await;
    let url = world.url(0);
    for n in 0..1_000 {
        let mut elsewhere = resting();
        elsewhere["client_order_id"] = format!("web-{n}").into();
        world.broker.place_as(&ann, &elsewhere).await;
    }
    // It is on the third page, and on no other.
    let ours = ann.insist(&[&url], "ours", &resting()).await.text_of("id");
    world.becomes(&ours, &["new"]).await;
    let rules = json!([
        {
            "id": "third", "match": {"method": "GET", "path": "/orders"},
            "skip": 2, "action": "status_before", "status": 500,
        },
        {"action": "lookup_404", "match": {"client_order_id": "plm-*"}},
    ]);
    world.broker.sim(Method::PUT, "faults", rules).await;
    let compared = world.compare(&ann).await;
    assert_eq!(compared.status, "partial", "{:?}", compared.error);
    assert!(world.broker.hits("third").await >= 1);
    assert_eq!(world.status(&ours), "new");
    assert_eq!(world.database.count("discrepancies WHERE class = 'needs_human'"), 0);
    world.broker.heal().await;
    assert_eq!(world.compare(&ann).await.status, "ok");
    assert_eq!(world.database.count("orders WHERE source_kind = 'external'"), 1_000);
    assert_eq!(world.open_discrepancies(), 0);
    world.finish().await;
}

/// Row 29. An order stays on its way for longer than `STALE_ORDER_AGE`: it is looked for, flagged, and told once. It is
/// never canceled.
#[tokio::test(flavor = "multi_thread")]
async fn row_29_an_order_stays_on_its_way() {
    let setup = Setup::default().setting("STALE_ORDER_AGE", "10s");
    let (mut world, ann) = World::with_one(setup).await;
    world.watch(&ann, &[0]).await;
    let url = world.url(0);
    let rules = json!([
        {"match": {"method": "POST", "path": "/orders"}, "action": "accept_then_drop", "times": 1},
        {"match": {"path": "/orders:by_client_order_id"}, "action": "status_before", "status": 500},
        {"action": "hide_from_list"},
        {"action": "stream_drop"},
    ]);
    world.broker.sim(Method::PUT, "faults", rules).await;
    let (id, _) = ann.place(&url, "stuck", &resting()).await;
    world.becomes(&id, &["unknown"]).await;
    let flagged = format!(
        "discrepancies WHERE order_id = '{id}' AND kind = 'stale' AND action = 'flag' AND resolved_at IS NULL"
    );
    until("it is flagged", async || {
        world.compare(&ann).await;
        world.database.count(&flagged) == 1
    })
    .await;
    world.compare(&ann).await;
    assert_eq!(world.database.count(&flagged), 1, "it is one difference");
    until("its user is told", async || world.watchers[0].count("system_alert") == 1).await;
    assert_eq!(world.status(&id), "unknown", "it is not canceled");
    let stale = world.database.pool().read_blocking(|tx| tx.stale_orders(ann.user())).unwrap();
    assert_eq!(stale.len(), 1);
    world.broker.heal().await;
    world.compare(&ann).await;
    world.becomes(&id, &["new"]).await;
    assert_eq!(world.compare(&ann).await.status, "ok");
    assert_eq!((world.open_discrepancies(), world.watchers[0].count("system_alert")), (0, 1));
    world.finish().await;
}
