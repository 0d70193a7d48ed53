//! Each fault action, seen from a client.

use std::time::{Duration, Instant};

use reqwest::Method;
use serde_json::{Value, json};
use tokio_tungstenite::connect_async;

use crate::support::{Bench, market, resting, text};

fn named(id: &str) -> Value {
    let mut order = resting("AAPL", 1);
    order["client_order_id"] = json!(id);
    order
}

async fn ledger(bench: &Bench) -> Vec<String> {
    let orders = bench.get("/_sim/orders").await;
    orders.as_array().unwrap().iter().map(|order| text(&order["client_order_id"]).to_owned()).collect()
}

#[tokio::test(flavor = "multi_thread")]
async fn connections_that_close() {
    let bench = Bench::start().await;
    let posts = json!({ "method": "POST", "path": "/orders" });
    let rule = bench.fault(json!({ "action": "drop", "times": 1, "match": posts })).await;
    let body = named("lost").to_string();
    assert!(bench.try_send(Method::POST, "/v2/orders", Some(&body)).await.is_err());
    assert_eq!((ledger(&bench).await, bench.hits(&rule).await), (vec![], 1));

    bench.fault(json!({ "action": "accept_then_drop", "times": 1, "match": posts })).await;
    assert!(bench.try_send(Method::POST, "/v2/orders", Some(&body)).await.is_err());
    assert_eq!(ledger(&bench).await, ["lost"], "it was taken all the same");
    let again = bench.try_send(Method::POST, "/v2/orders", Some(&body)).await.unwrap();
    assert_eq!((again.status, &again.body["code"]), (422, &json!(40_010_001)));
    let log = bench.get("/_sim/requests").await;
    let answers: Vec<&Value> = log.as_array().unwrap().iter().map(|row| &row["status"]).collect();
    assert_eq!(answers, [&Value::Null, &Value::Null, &json!(422)]);
    assert!(
        log.as_array().unwrap().iter().all(|row| row["client_order_id"] == "lost" && row["method"] == "POST")
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn statuses_before_and_after() {
    let bench = Bench::start().await;
    for (rule, status, taken) in [
        (json!({ "action": "status_before", "status": 502 }), 502, false),
        (json!({ "action": "status_before" }), 503, false),
        (json!({ "action": "status_before", "status": 500 }), 500, false),
        (json!({ "action": "status_after" }), 504, true),
    ] {
        let mut rule = rule;
        rule["times"] = json!(1);
        bench.fault(rule).await;
        let id = format!("id-{status}");
        let reply = bench.post("/v2/orders", named(&id)).await;
        assert_eq!(reply.status, status);
        assert_eq!(reply.body.is_string(), status != 500, "gateways answer HTML: {}", reply.body);
        assert_eq!(ledger(&bench).await.contains(&id), taken, "{status}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn garbage_delay_and_rate_limit() {
    let bench = Bench::start().await;
    bench.fault(json!({ "action": "garbage", "times": 1 })).await;
    let reply = bench.post("/v2/orders", named("g")).await;
    assert_eq!((reply.status, reply.body.is_string()), (200, true));
    assert_eq!(ledger(&bench).await, ["g"]);

    for action in ["delay", "delay_after"] {
        bench.fault(json!({ "action": action, "ms": 150, "times": 1 })).await;
        let start = Instant::now();
        bench.get("/v2/clock").await;
        assert!(start.elapsed() >= Duration::from_millis(150), "{action}");
    }

    bench.fault(json!({ "action": "rate_limit", "ms": 5000, "times": 1 })).await;
    let reply = bench.post("/v2/orders", named("r")).await;
    assert_eq!((reply.status, &reply.body["code"]), (429, &json!(42_910_000)));
    assert_eq!(reply.headers["x-ratelimit-remaining"], "0");
    assert_eq!(ledger(&bench).await, ["g"]);
}

#[tokio::test(flavor = "multi_thread")]
async fn orders_that_hide() {
    let bench = Bench::start().await;
    let hidden = bench.order(named("hidden")).await;
    bench.order(named("seen")).await;
    let rule =
        bench.fault(json!({ "action": "hide_from_list", "match": { "client_order_id": "hid*" } })).await;
    let list = bench.get("/v2/orders").await;
    assert_eq!(
        list.as_array().unwrap().iter().map(|o| text(&o["client_order_id"])).collect::<Vec<_>>(),
        ["seen"]
    );
    assert_eq!(bench.hits(&rule).await, 1);
    let by_id = format!("/v2/orders/{}", text(&hidden["id"]));
    bench.get(&by_id).await;

    let rule = bench.fault(json!({ "action": "lookup_404", "match": { "client_order_id": "hidden" } })).await;
    for path in [by_id.as_str(), "/v2/orders:by_client_order_id?client_order_id=hidden"] {
        let reply = bench.send(Method::GET, path, None).await;
        assert_eq!((reply.status, text(&reply.body["message"])), (404, "order not found"), "{path}");
    }
    bench.get("/v2/orders:by_client_order_id?client_order_id=seen").await;
    assert_eq!(bench.hits(&rule).await, 2);
    assert_eq!(bench.delete(&by_id).await.status, 204, "it is a fault of look-ups only");
}

#[tokio::test(flavor = "multi_thread")]
async fn messages_that_are_lost_doubled_or_late() {
    let bench = Bench::start().await;
    let mut stream = bench.stream().await;
    for (action, event, expected) in [
        ("stream_drop", "new", vec!["pending_new", "fill"]),
        ("stream_duplicate", "fill", vec!["pending_new", "new", "fill", "fill"]),
        ("stream_reorder", "new", vec!["pending_new", "fill", "new"]),
        // held back for the next message, which never comes: sent when its time is over
        ("stream_reorder", "fill", vec!["pending_new", "new", "fill"]),
        ("stream_silence", "*", vec![]),
    ] {
        let ms = (action == "stream_reorder").then_some(300);
        let rule = json!({ "action": action, "match": { "event": event, "path": "/stream" }, "ms": ms });
        let rule = bench.fault(rule).await;
        bench.filled(market("AAPL", "buy", 1)).await;
        assert_eq!(stream.events(expected.len()).await, expected, "{action} {event}");
        stream.silent().await;
        assert!(bench.hits(&rule).await >= 1);
        bench.delete("/_sim/faults").await;
    }
    bench.fault(json!({ "action": "stream_silence", "ms": 300, "times": 1 })).await;
    bench.filled(market("AAPL", "buy", 1)).await;
    stream.silent().await;
    bench.filled(market("AAPL", "buy", 1)).await;
    assert_eq!(stream.events(3).await, ["pending_new", "new", "fill"], "the silence is over");
}

#[tokio::test(flavor = "multi_thread")]
async fn streams_that_are_cut_or_refused() {
    let bench = Bench::start().await;
    let mut stream = bench.stream().await;
    bench.fault(json!({ "action": "stream_cut", "times": 1, "match": { "event": "new" } })).await;
    bench.order(resting("AAPL", 1)).await;
    assert_eq!(stream.events(1).await, ["pending_new"]);
    assert_eq!(stream.next().await, None);

    bench
        .fault(
            json!({ "action": "status_before", "status": 429, "times": 1, "match": { "path": "/stream" } }),
        )
        .await;
    let url = format!("{}/stream", bench.url.replacen("http", "ws", 1));
    let error = connect_async(&url).await.unwrap_err();
    assert!(error.to_string().contains("429"), "{error}");
    bench.fault(json!({ "action": "drop", "times": 1, "match": { "path": "/stream" } })).await;
    assert!(connect_async(&url).await.is_err());
    bench.stream().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn an_event_before_the_answer() {
    let bench = Bench::start().await;
    let mut stream = bench.stream().await;
    bench
        .fault(json!({ "action": "delay_after", "ms": 500, "times": 1, "match": { "method": "POST" } }))
        .await;
    let client = bench.client.clone();
    let sent = tokio::spawn(async move { client.order(market("AAPL", "buy", 1)).await });
    assert_eq!(stream.events(3).await, ["pending_new", "new", "fill"]);
    assert!(!sent.is_finished());
    assert_eq!(sent.await.unwrap()["status"], "pending_new");
}
