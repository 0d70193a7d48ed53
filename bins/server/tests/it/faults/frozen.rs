//! A process that stops moving while it has an order, and goes on when another one has done its work.

use std::time::Duration;

use serde_json::json;

use super::desk::market;
use super::trap::{Deed, Moment, Wanted};
use super::world::{Setup, World, until};

/// The first server has the trader's account, the second can take it over.
async fn pair() -> (World, super::desk::Desk) {
    let (mut world, ann) = World::with_one(Setup::default()).await;
    world.serve("two").await;
    world.trades(&ann, 1).await;
    world.watch(&ann, &[1]).await;
    (world, ann)
}

/// The job's later owner has finished; the first one wakes up, and what it has to say counts for nothing.
async fn wakes_up_too_late(world: &mut World, id: &str, client_id: &str) {
    world.becomes(id, &["filled"]).await;
    let job =
        format!("jobs WHERE kind = 'submit_order' AND payload ->> 'order_id' = '{id}' AND state = 'done'");
    until("the job is done by the other server", async || world.database.count(&job) == 1).await;
    let version =
        |world: &World| world.database.rows(&format!("SELECT version FROM orders WHERE id = '{id}'"));
    let before = version(world);
    world.instances[0].thaw();
    until("the frozen server drops what it has", async || {
        world.instances[0].log().contains("another worker has the job; this result was dropped")
    })
    .await;
    assert_eq!(version(world), before, "it changed nothing");
    let calls = world.broker.calls_about(client_id).await;
    assert_eq!(calls.iter().filter(|call| *call == "POST 200").count(), 1, "{calls:?}");
}

/// Row 5. Frozen right before the order is sent: it must not be sent any more when it wakes up.
#[tokio::test(flavor = "multi_thread")]
async fn row_05_frozen_before_the_order_is_sent() {
    let (mut world, ann) = pair().await;
    let (pid, proxy) = (world.instances[0].pid(), &world.instances[0].proxy);
    let marked =
        proxy.set(Wanted::text("UPDATE orders").of("jobs"), Moment::Before, Deed::Delay(Duration::ZERO));
    let trap =
        proxy.set(Wanted::text("COMMIT").of("jobs").after(&marked), Moment::Executed, Deed::Freeze(pid));
    let url = world.url(1);
    let answer = ann.insist(&[&url], "before", &market("buy")).await;
    until("the first server is frozen", async || trap.acted() == 1).await;
    world.instances[0].is_frozen();
    wakes_up_too_late(&mut world, &answer.text_of("id"), &answer.text_of("client_order_id")).await;
    world.finish().await;
}

/// Row 5. Frozen while the broker has the order: its answer is heard too late to count.
#[tokio::test(flavor = "multi_thread")]
async fn row_05_frozen_while_the_broker_answers() {
    let (mut world, ann) = pair().await;
    let rule = json!({"id": "held", "match": {"method": "POST", "path": "/orders"}, "action": "delay_after", "ms": 300, "times": 1});
    world.broker.fault(rule).await;
    let url = world.url(1);
    let body = Some(market("buy").to_string());
    let answer = ann.insist_on(&[&url], reqwest::Method::POST, "/orders?wait_ms=0", "during", body).await;
    until("the broker has the order", async || world.broker.hits("held").await == 1).await;
    world.instances[0].freeze();
    wakes_up_too_late(&mut world, &answer.text_of("id"), &answer.text_of("client_order_id")).await;
    world.finish().await;
}
