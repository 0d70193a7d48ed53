//! Answers of the broker that say nothing, or something else than what happened.

use std::time::Duration;

use serde_json::{Value, json};

use super::desk::{market, resting};
use super::world::{Setup, World, until};

/// What is done to the next `times` requests that send or change an order.
fn rule(id: &str, method: &str, path: &str, action: &str, times: u64, more: &Value) -> Value {
    let mut rule =
        json!({"id": id, "match": {"method": method, "path": path}, "action": action, "times": times});
    for (name, value) in more.as_object().into_iter().flatten() {
        rule[name] = value.clone();
    }
    rule
}

/// Rows 20 and 21. The broker takes the order, and its answer does not come or cannot be used: the order is unknown until
/// it is found, and is sent once. The order stream says nothing, so that it has to be looked for.
#[tokio::test(flavor = "multi_thread")]
async fn row_20_the_brokers_yes_is_lost() {
    let (mut world, ann) = World::with_one(Setup::default()).await;
    world.watch(&ann, &[0]).await;
    let url = world.url(0);
    let late = world.time(Duration::from_secs(30)).as_millis();
    for (n, (action, more)) in [
        ("delay_after", json!({ "ms": u64::try_from(late).unwrap() })),
        ("accept_then_drop", json!({})),
        ("status_after", json!({ "status": 500 })),
        ("status_after", json!({ "status": 502 })),
        ("garbage", json!({})),
    ]
    .into_iter()
    .enumerate()
    {
        for (body, fate) in [(resting(), "new"), (market("buy"), "filled")] {
            world.broker.fault(json!({"id": "mute", "action": "stream_drop"})).await;
            world.broker.fault(rule("lost", "POST", "/orders", action, 1, &more)).await;
            let (id, client_id) = ann.place(&url, &format!("{action}-{n}-{fate}"), &body).await;
            world.becomes(&id, &[fate]).await;
            // an answer that is held is in the log when it has left
            until("the request is in the log", async || world.broker.sends(&client_id).await.0 > 0).await;
            let calls = world.broker.calls_about(&client_id).await;
            let sent = calls.iter().filter(|call| call.starts_with("POST")).count();
            assert_eq!((sent, world.broker.hits("lost").await), (1, 1), "{action}: {calls:?}");
            assert!(calls.iter().any(|call| call == "GET 200"), "{action}: it was looked for: {calls:?}");
            let causes = world.causes(&id);
            assert!(causes.contains(&"unclear".to_owned()), "{action}: {causes:?}");
            world.broker.heal().await;
        }
    }
    world.finish().await;
}

/// The same while the order stream speaks, which may be faster than the look.
#[tokio::test(flavor = "multi_thread")]
async fn row_21_the_order_stream_tells_what_the_answer_did_not() {
    let (mut world, ann) = World::with_one(Setup::default()).await;
    world.watch(&ann, &[0]).await;
    let url = world.url(0);
    for action in ["accept_then_drop", "status_after", "garbage"] {
        world.broker.fault(rule("lost", "POST", "/orders", action, 1, &json!({}))).await;
        let answer = ann.insist(&[&url], &format!("heard-{action}"), &market("buy")).await;
        assert!(matches!(answer.status, 201 | 202), "{answer:?}");
        world.becomes(&answer.text_of("id"), &["filled"]).await;
        assert_eq!(world.broker.sends(&answer.text_of("client_order_id")).await.0, 1, "{action}");
    }
    world.finish().await;
}

/// Rows 20 and 21 for changes: a replacement whose answer is lost is found under its own id, a cancel is asked again.
#[tokio::test(flavor = "multi_thread")]
async fn row_21_the_yes_to_a_change_is_lost() {
    let (mut world, ann) = World::with_one(Setup::default()).await;
    world.watch(&ann, &[0]).await;
    let url = world.url(0);
    for (n, action) in ["accept_then_drop", "status_after", "garbage"].into_iter().enumerate() {
        let answer = ann.insist(&[&url], &format!("old-{n}"), &resting()).await;
        let old = answer.text_of("id");
        world.becomes(&old, &["new"]).await;
        world.broker.fault(rule("change", "PATCH", "/orders/*", action, 1, &json!({}))).await;
        let change = Some(json!({"limit_price": format!("{}", 40 + n)}).to_string());
        let path = format!("/orders/{old}");
        let changed =
            ann.insist_on(&[&url], reqwest::Method::PATCH, &path, &format!("change-{n}"), change).await;
        assert!(matches!(changed.status, 200 | 202), "{changed:?}");
        let (new, client_id) = (changed.text_of("id"), changed.text_of("client_order_id"));
        world.becomes(&old, &["replaced"]).await;
        world.becomes(&new, &["new"]).await;
        let sends = world.broker.sends(&client_id).await;
        assert_eq!((sends.0, world.broker.hits("change").await), (1, 1), "{action}");

        world.broker.fault(rule("cancel", "DELETE", "/orders/*", action, 1, &json!({}))).await;
        let path = format!("/orders/{new}");
        let asked =
            ann.insist_on(&[&url], reqwest::Method::DELETE, &path, &format!("cancel-{n}"), None).await;
        assert_eq!(asked.status, 202, "{asked:?}");
        world.becomes(&new, &["canceled"]).await;
        assert_eq!(world.broker.hits("cancel").await, 1, "{action}");
    }
    world.finish().await;
}

/// Row 22. The broker fails without taking the order: after the time in which "not found" means nothing it is sent again,
/// once, under the same id.
#[tokio::test(flavor = "multi_thread")]
async fn row_22_the_broker_fails_without_taking_the_order() {
    let (mut world, ann) = World::with_one(Setup::default()).await;
    world.watch(&ann, &[0]).await;
    let url = world.url(0);
    for (key, status) in [("first", 500), ("second", 503)] {
        world
            .broker
            .fault(rule("fails", "POST", "/orders", "status_before", 1, &json!({ "status": status })))
            .await;
        let (id, client_id) = ann.place(&url, key, &market("buy")).await;
        world.becomes(&id, &["filled"]).await;
        let calls = world.broker.calls_about(&client_id).await;
        let at = |wanted: &str| calls.iter().position(|call| call == wanted).unwrap_or(usize::MAX);
        let failed = at(&format!("POST {status}"));
        assert!(failed < at("GET 404") && at("GET 404") < at("POST 200"), "{calls:?}");
        assert_eq!(world.broker.sends(&client_id).await, (2, 1), "{calls:?}");
        assert_eq!(
            world.causes(&id).iter().filter(|cause| *cause == "submitting").count(),
            2,
            "each try was on record before it"
        );
    }
    world.finish().await;
}

/// Row 23. The id is taken: the broker's order is compared. Nothing is sent again.
#[tokio::test(flavor = "multi_thread")]
async fn row_23_the_client_id_is_taken() {
    // At its real pace: somebody else has to be faster than the held request.
    let (mut world, ann) = World::with_one(Setup::default().pace(1.0)).await;
    world.watch(&ann, &[0]).await;
    let url = world.url(0);
    for (n, (qty, heard, fate)) in
        [("1", false, "new"), ("1", true, "new"), ("2", false, "conflict"), ("2", true, "conflict")]
            .into_iter()
            .enumerate()
    {
        if !heard {
            world.broker.fault(json!({"id": "mute", "action": "stream_drop"})).await;
        }
        world.broker.fault(rule("held", "POST", "/orders", "delay", 1, &json!({ "ms": 3000 }))).await;
        let (id, client_id) = ann.place(&url, &format!("taken-{n}"), &resting()).await;
        until("the broker has the request", async || world.broker.hits("held").await == 1).await;
        let mut body = resting();
        body["qty"] = qty.into();
        body["client_order_id"] = client_id.clone().into();
        world.broker.place_as(&ann, &body).await;
        world.becomes(&id, &[fate]).await;
        let refused = async || {
            let calls = world.broker.calls_about(&client_id).await;
            calls.iter().filter(|call| *call == "POST 422").count() == 1
        };
        until("the second order under the id is refused", refused).await;
        let open = format!(
            "jobs WHERE kind = 'submit_order' AND state IN ('ready', 'leased') AND payload ->> 'order_id' = '{id}'"
        );
        until("the job has ended", async || world.database.count(&open) == 0).await;
        assert_eq!(world.status(&id), fate);
        // the stranger's and the refused one
        assert_eq!(world.broker.sends(&client_id).await, (2, 1));
        world.broker.heal().await;
    }
    until("both conflicts are told", async || world.watchers[0].count("system_alert") == 2).await;
    world.finish().await;
}
