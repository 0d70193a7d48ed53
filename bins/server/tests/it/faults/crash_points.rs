//! Each crash point of the submit protocol, with a real process killed there; the broker's request log says what was done.
//! The same for cancels and replacements.

use std::sync::Arc;
use std::time::Duration;

use reqwest::Method;
use serde_json::json;

use super::desk::{Desk, market, resting};
use super::trap::{Deed, Moment, Trap, Wanted};
use super::world::{Setup, World, until};

/// Kills the first server at a COMMIT: the one of the transaction in which a pool's statement with this text runs, its
/// `number`th time.
fn at_commit(world: &World, pool: &'static str, text: &str, number: u64, moment: Moment) -> Arc<Trap> {
    let (pid, proxy) = (world.instances[0].pid(), &world.instances[0].proxy);
    let inside =
        proxy.set(Wanted::text(text).of(pool).from(number), Moment::Before, Deed::Run(Arc::new(|| {})));
    proxy.set(Wanted::text("COMMIT").of(pool).after(&inside), moment, Deed::Kill(pid))
}

/// The trap must have killed the server; it is started again.
async fn killed(world: &mut World, trap: &Trap) {
    until("the trap acts", async || trap.acted() > 0).await;
    world.instances[0].wait();
    world.instances[0].proxy.heal();
    world.instances[0].restart().await;
}

/// Places an order whose answer does not come.
async fn unanswered(ann: &Desk, url: &str, key: &str) {
    let body = Some(market("buy").to_string());
    let answer = ann.send(url, Method::POST, "/orders?wait_ms=0", Some(key), body).await;
    assert!(answer.is_err(), "the process died: {answer:?}");
}

/// Its retry with the same key.
async fn again(ann: &Desk, url: &str, key: &str) -> super::desk::Answer {
    ann.insist_on(&[url], Method::POST, "/orders?wait_ms=0", key, Some(market("buy").to_string())).await
}

#[tokio::test(flavor = "multi_thread")]
async fn crash_before_the_order_is_committed() {
    let (mut world, ann) = World::with_one(Setup::default()).await;
    let url = world.url(0);
    let trap = at_commit(&world, "http", "INSERT INTO orders", 1, Moment::Before);
    unanswered(&ann, &url, "key").await;
    killed(&mut world, &trap).await;
    assert_eq!((world.database.count("orders"), world.broker.orders().await.len()), (0, 0), "nothing exists");
    let answer = again(&ann, &url, "key").await;
    assert!(!answer.replayed, "it is the first one: {answer:?}");
    world.becomes(&answer.text_of("id"), &["filled"]).await;
    assert_eq!(world.broker.orders().await.len(), 1);
    world.finish().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn crash_after_the_commit_and_before_the_reply() {
    let (mut world, ann) = World::with_one(Setup::default()).await;
    let url = world.url(0);
    for (key, moment) in [("unheard", Moment::Executed), ("heard", Moment::Answered)] {
        world.trades(&ann, 0).await;
        let trap = at_commit(&world, "http", "INSERT INTO orders", 1, moment);
        let body = Some(market("buy").to_string());
        let answer = ann.send(&url, Method::POST, "/orders?wait_ms=0", Some(key), body).await;
        killed(&mut world, &trap).await;
        let retry = again(&ann, &url, key).await;
        assert_eq!((retry.status, retry.replayed), (202, true), "{retry:?}");
        if let Ok(answer) = answer {
            // the kill came a moment after the reply
            assert_eq!(answer.text, retry.text);
        }
        world.becomes(&retry.text_of("id"), &["filled"]).await;
        assert_eq!(world.broker.sends(&retry.text_of("client_order_id")).await.1, 1);
    }
    assert_eq!(world.broker.orders().await.len(), 2);
    world.finish().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn crash_after_submitting_is_committed_and_before_it_is_sent() {
    let (mut world, ann) = World::with_one(Setup::default()).await;
    let url = world.url(0);
    let trap = at_commit(&world, "jobs", "UPDATE orders", 1, Moment::Executed);
    let (id, client_id) = ann.place(&url, "key", &market("buy")).await;
    killed(&mut world, &trap).await;
    world.becomes(&id, &["filled"]).await;
    let calls = world.broker.calls_about(&client_id).await;
    assert_eq!(calls.first().map(String::as_str), Some("GET 404"), "it was looked for first: {calls:?}");
    assert_eq!(world.broker.sends(&client_id).await, (1, 1), "{calls:?}");
    world.finish().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn crash_while_it_is_sent_and_after_the_broker_took_it() {
    let (mut world, ann) = World::with_one(Setup::default()).await;
    let url = world.url(0);
    let held = json!({"id": "held", "match": {"method": "POST", "path": "/orders"}, "action": "delay_after", "ms": 400, "times": 1});
    world.broker.fault(held).await;
    world.broker.fault(json!({"id": "mute", "action": "stream_drop"})).await;
    let (id, client_id) = ann.place(&url, "key", &market("buy")).await;
    until("the broker took it", async || world.broker.orders().await.len() == 1).await;
    world.instances[0].kill();
    world.instances[0].restart().await;
    world.becomes(&id, &["filled"]).await;
    assert_eq!(world.broker.sends(&client_id).await.0, 1, "it was adopted");
    world.finish().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn crash_after_the_answer_and_before_it_is_on_record() {
    let (mut world, ann) = World::with_one(Setup::default()).await;
    let url = world.url(0);
    for (n, moment) in [Moment::Before, Moment::Executed].into_iter().enumerate() {
        world.trades(&ann, 0).await;
        // without the stream, so that nothing but the answer changes the order
        world.broker.fault(json!({"id": "mute", "action": "stream_drop"})).await;
        let trap = at_commit(&world, "jobs", "UPDATE orders", 2, moment);
        let (id, client_id) = ann.place(&url, &format!("key-{n}"), &market("buy")).await;
        killed(&mut world, &trap).await;
        world.becomes(&id, &["filled"]).await;
        assert_eq!(world.broker.sends(&client_id).await, (1, 1), "it was adopted");
        world.broker.heal().await;
    }
    world.finish().await;
}

/// The first worker's request is on its way while the worker is frozen; the second one does not find the order and sends
/// it; then the first request arrives, and the broker refuses it.
#[tokio::test(flavor = "multi_thread")]
async fn crash_frozen_on_the_way_while_another_worker_sends() {
    let (mut world, ann) = World::with_one(Setup::default()).await;
    world.serve("two").await;
    world.trades(&ann, 1).await;
    let ms = u64::try_from(world.time(Duration::from_secs(200)).as_millis()).unwrap();
    let held = json!({"id": "held", "match": {"method": "POST", "path": "/orders"}, "action": "delay", "ms": ms, "times": 1});
    world.broker.fault(held).await;
    let (id, client_id) = ann.place(&world.url(1), "key", &market("buy")).await;
    until("the request is on its way", async || world.broker.hits("held").await == 1).await;
    world.instances[0].freeze();
    world.becomes(&id, &["filled"]).await;
    let refused = async || {
        let calls = world.broker.calls_about(&client_id).await;
        calls.iter().any(|call| call == "POST 422")
    };
    until("the first request is refused", refused).await;
    world.instances[0].thaw();
    assert_eq!(world.broker.sends(&client_id).await, (2, 1));
    world.finish().await;
}

/// The database comes back without its last minutes, as after a failover to a copy that lagged behind: the client's retry
/// has the same id, which the broker knows.
#[tokio::test(flavor = "multi_thread")]
async fn crash_the_database_loses_the_commit() {
    let (mut world, ann) = World::with_one(Setup::default().own_server(&[])).await;
    let url = world.url(0);
    ann.insist(&[&url], "before", &market("buy")).await;
    world.quiesce().await;
    world.instances[0].kill();
    world.database.cluster().crash();
    world.database.cluster().keep_copy();
    world.database.cluster().recover();
    world.instances[0].restart().await;
    world.trades(&ann, 0).await;
    let lost = ann.insist(&[&url], "lost", &market("buy")).await;
    world.becomes(&lost.text_of("id"), &["filled"]).await;

    world.instances[0].kill();
    world.database.cluster().crash();
    world.database.cluster().return_to_copy();
    world.database.cluster().recover();
    // the promise went with the commit
    ann.forget("lost");
    world.instances[0].restart().await;
    world.trades(&ann, 0).await;
    let found = ann.insist(&[&url], "lost", &market("buy")).await;
    assert_eq!(
        found.text_of("client_order_id"),
        lost.text_of("client_order_id"),
        "the id follows from the key"
    );
    world.becomes(&found.text_of("id"), &["filled"]).await;
    let orders = world.broker.orders().await;
    assert_eq!(orders.len(), 2, "there is no second order for the key");
    world.finish().await;
}

/// A cancel that was asked, or was about to be: it is asked again.
#[tokio::test(flavor = "multi_thread")]
async fn crash_around_a_cancel() {
    let (mut world, ann) = World::with_one(Setup::default()).await;
    let url = world.url(0);
    for (n, (text, moment)) in [
        // before anything is asked, and when the answer is about to be on record
        ("FOR NO KEY UPDATE", Moment::Executed),
        ("UPDATE orders", Moment::Before),
        ("UPDATE orders", Moment::Executed),
    ]
    .into_iter()
    .enumerate()
    {
        world.trades(&ann, 0).await;
        let answer = ann.insist(&[&url], &format!("rests-{n}"), &resting()).await;
        let id = answer.text_of("id");
        world.becomes(&id, &["new"]).await;
        world.quiesce().await;
        world.broker.fault(json!({"id": "mute", "action": "stream_drop"})).await;
        let trap = at_commit(&world, "jobs", text, 1, moment);
        let path = format!("/orders/{id}");
        // the process may die before its reply has left
        let (key, urls) = (format!("cancel-{n}"), [url.as_str()]);
        let asked = ann.insist_on(&urls, Method::DELETE, &path, &key, None);
        let (asked, ()) = tokio::join!(asked, killed(&mut world, &trap));
        assert!(matches!(asked.status, 200 | 202), "{asked:?}");
        world.broker.heal().await;
        world.becomes(&id, &["canceled"]).await;
    }
    world.finish().await;
}

/// A replacement that was about to be sent, on its way, taken, or about to be on record: there is one.
#[tokio::test(flavor = "multi_thread")]
async fn crash_around_a_replacement() {
    let (mut world, ann) = World::with_one(Setup::default()).await;
    let url = world.url(0);
    let moments = [(1, Moment::Executed), (2, Moment::Before), (2, Moment::Executed)];
    for (n, (number, moment)) in moments.into_iter().enumerate() {
        world.trades(&ann, 0).await;
        let answer = ann.insist(&[&url], &format!("rests-{n}"), &resting()).await;
        let old = answer.text_of("id");
        world.becomes(&old, &["new"]).await;
        world.quiesce().await;
        world.broker.fault(json!({"id": "mute", "action": "stream_drop"})).await;
        let trap = at_commit(&world, "jobs", "UPDATE orders", number, moment);
        let (path, change) =
            (format!("/orders/{old}?wait_ms=0"), Some(json!({"limit_price": "51"}).to_string()));
        let (key, urls) = (format!("change-{n}"), [url.as_str()]);
        let asked = ann.insist_on(&urls, Method::PATCH, &path, &key, change);
        let (asked, ()) = tokio::join!(asked, killed(&mut world, &trap));
        assert_eq!(asked.status, 202, "{asked:?}");
        let (new, client_id) = (asked.text_of("id"), asked.text_of("client_order_id"));
        world.becomes(&new, &["new"]).await;
        let calls = world.broker.calls_about(&client_id).await;
        assert_eq!(world.broker.sends(&client_id).await, (1, 1), "{calls:?}");
        world.broker.heal().await;
        world.becomes(&old, &["replaced"]).await;
    }
    world.finish().await;
}
