//! Webhooks from a running server to a real receiver.

mod receiver;

use std::collections::BTreeSet;
use std::time::{Duration, Instant};

use plimsoll_storage::testing::RawConnection;
use reqwest::{Method, StatusCode};
use serde_json::{Value, json};

use self::receiver::{Receiver, data, python};
use crate::demo::{Client, Demo};

/// How long something may take on a busy machine.
const WITHIN: Duration = Duration::from_secs(60);

async fn post(client: &Client, path: &str, body: Value) -> (StatusCode, Value) {
    let (status, answer, _) = client.send(Method::POST, path, None, Some(body.to_string())).await.unwrap();
    (status, answer)
}

/// The trader, whose account trades, with a factor proven a moment ago.
async fn proven(demo: &Demo) -> Client {
    demo.login("trader").await;
    demo.stepped_up("trader").await
}

/// A new webhook; its path on the API, and its secret.
async fn hook(client: &Client, url: &str, events: Value) -> (String, String) {
    let (status, made) = post(client, "/webhooks/outbound", json!({ "url": url, "events": events })).await;
    assert_eq!(status, StatusCode::CREATED, "{made}");
    let path = format!("/webhooks/outbound/{}", made["id"].as_str().unwrap());
    (path, made["secret"].as_str().unwrap().to_owned())
}

async fn buy(client: &Client, key: &str) {
    let order = json!({"symbol": "SPY", "side": "buy", "type": "market", "time_in_force": "day", "qty": "1"});
    let (status, answer) = client.order(key, &order).await;
    assert!(status.is_success(), "{status} {answer}");
}

/// Asks until the answer is as it should be.
async fn until(client: &Client, path: &str, good: impl Fn(&Value) -> bool) -> Value {
    let deadline = Instant::now() + WITHIN;
    loop {
        let (status, answer) = client.get(path).await;
        if status == StatusCode::OK && good(&answer) {
            return answer;
        }
        assert!(Instant::now() < deadline, "{path}: {status} {answer}");
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
}

/// WHK-4, WHK-6: over https, with the specification's own package at the other end: signed, verified, in two ways while a
/// secret is replaced, and nothing lost between an order and its fill.
#[tokio::test]
async fn a_real_receiver_verifies_what_is_posted() {
    let Some(python) = python() else { return };
    let mut receiver = Receiver::start(&python, true);
    let ca = data("smtp/ca.pem");
    let demo =
        Demo::start(&[("WEBHOOK_ALLOW_NETS", "127.0.0.1,::1"), ("WEBHOOK_CA_PATH", ca.to_str().unwrap())])
            .await;
    let client = proven(&demo).await;
    let url = format!("https://localhost:{}/ok", receiver.port);
    let (path, secret) = hook(&client, &url, json!([])).await;
    receiver.knows(&secret);

    let (status, tested) = post(&client, &format!("{path}/test"), json!({})).await;
    assert_eq!((status, &tested["ok"], &tested["status"]), (StatusCode::OK, &json!(true), &json!(200)));
    assert_eq!(tested["response"], "{\"received\": true}");
    let message = receiver.next();
    assert_eq!((&message["verified"], &message["body"]["type"]), (&json!([0]), &json!("webhook_test")));
    assert_eq!(message["id"], tested["message_id"]);
    assert_eq!(message["content_type"], "application/json");
    assert!(message["agent"].as_str().unwrap().starts_with("plimsoll-webhooks/"));

    buy(&client, "webhooks-1").await;
    let log = until(&client, &format!("{path}/deliveries?limit=500"), |log| {
        let rows = log["items"].as_array().unwrap();
        let has = |event: &str| rows.iter().any(|row| row["event"] == event);
        has("order_filled") && has("pnl_updated") && rows.iter().all(|row| row["state"] == "delivered")
    })
    .await;
    let rows = log["items"].as_array().unwrap();
    let (test, rows) = rows.split_last().unwrap();
    assert_eq!((&test["event"], &test["attempts"]), (&json!("webhook_test"), &json!(1)));
    let mut offsets: Vec<i64> = rows.iter().map(|row| row["offset"].as_i64().unwrap()).collect();
    offsets.sort_unstable();
    assert!(offsets.windows(2).all(|two| two[1] == two[0] + 1), "each once: {offsets:?}");
    assert!(rows.iter().any(|row| row["event"] == "order_created"));
    // They come in any order, and what happened meanwhile may stand between them.
    let mut missing: BTreeSet<&str> = rows.iter().map(|row| row["message_id"].as_str().unwrap()).collect();
    while !missing.is_empty() {
        let message = receiver.next();
        assert_eq!(message["verified"], json!([0]), "{message}");
        missing.remove(message["id"].as_str().unwrap());
    }

    let (status, rotated) = post(&client, &format!("{path}/rotate"), json!({})).await;
    assert_eq!(status, StatusCode::OK, "{rotated}");
    receiver.knows(rotated["secret"].as_str().unwrap());
    post(&client, &format!("{path}/test"), json!({})).await;
    let message = loop {
        let message = receiver.next();
        if message["body"]["type"] == "webhook_test" {
            break message;
        }
    };
    assert_eq!(message["verified"], json!([0, 1]), "by the old secret and by the new one");

    // A certificate that nobody vouches for is none; and addresses that were not allowed are not reached.
    let inner = demo.logins["paper_broker"]["url"].as_str().unwrap().replace("127.0.0.1", "127.0.0.2");
    let (status, refused) = post(&client, "/webhooks/outbound", json!({ "url": inner })).await;
    assert_eq!(
        (status, &refused["errors"][0]["code"]),
        (StatusCode::UNPROCESSABLE_ENTITY, &json!("address_refused"))
    );
}

/// Failures are repeated under the same id, given up after the last attempt as dead letters, and a receiver that wants
/// nothing any more ends it; so does one that has failed for days. The owner is told by event and mail.
#[tokio::test]
async fn failures_are_repeated_and_end() {
    let Some(python) = python() else { return };
    let receiver = Receiver::start(&python, false);
    let demo = Demo::start(&[("WEBHOOK_ALLOW_NETS", "127.0.0.1"), ("TIME_SCALE", "0.02")]).await;
    let client = proven(&demo).await;
    let url = |path: &str| format!("http://127.0.0.1:{}{path}", receiver.port);
    let mut database = RawConnection::open(demo.logins["database"]["url"].as_str().unwrap()).unwrap();

    let (flaky, _) = hook(&client, &url("/flaky"), json!(["order_created"])).await;
    let (busy, _) = hook(&client, &url("/busy"), json!(["order_created"])).await;
    let (dead, _) = hook(&client, &url("/fail"), json!(["order_created"])).await;
    let (gone, _) = hook(&client, &url("/gone"), json!(["order_created", "system_alert"])).await;
    buy(&client, "webhooks-2").await;

    for (path, least) in [(&flaky, 3), (&busy, 2)] {
        let path = format!("{path}/deliveries");
        let log = until(&client, &path, |log| log["items"][0]["state"] == "delivered").await;
        let delivery = &log["items"][0];
        assert_eq!(log["items"].as_array().unwrap().len(), 1, "one message");
        assert!(delivery["attempts"].as_i64().unwrap() >= least, "{delivery}");
        assert_eq!(delivery["log"].as_array().unwrap().last().unwrap()["status"], 200);
    }
    let hook = until(&client, &gone, |hook| hook["state"] == "disabled").await;
    assert_eq!(hook["state_reason"], "gone");
    let log = until(&client, &format!("{dead}/deliveries?state=failed"), |log| {
        !log["items"].as_array().unwrap().is_empty()
    })
    .await;
    let delivery = &log["items"][0];
    assert_eq!((&delivery["attempts"], &delivery["finished_at"].is_string()), (&json!(8), &true));
    assert_eq!((&delivery["status"], &delivery["error"]), (&json!(500), &json!("status")));
    let rows = until_row(&mut database, "SELECT payload, last_error FROM jobs WHERE state = 'dead'").await;
    assert_eq!(rows.len(), 1, "{rows:?}");
    assert_eq!(rows[0]["payload"]["delivery"], delivery["id"]);
    assert!(rows[0]["last_error"].as_str().unwrap().contains("answered 500"), "{rows:?}");
    let ids: Vec<Value> = (0..2).map(|_| receiver.next_at("/fail")["id"].clone()).collect();
    assert_eq!(ids[0], ids[1], "every attempt has the same id");
    assert_eq!(ids[0], delivery["message_id"]);

    let failing = until(&client, &dead, |hook| hook["failures"] == 8).await;
    assert!(failing["failing_since"].is_string());
    database
        .execute("UPDATE outbound_hooks SET failing_since = now() - interval '3 days', failures = 9 WHERE failures = 8")
        .unwrap();
    buy(&client, "webhooks-3").await;
    let hook = until(&client, &dead, |hook| hook["state"] == "disabled").await;
    assert_eq!(hook["state_reason"], "failing");
    let told = database
        .rows(
            "SELECT (SELECT count(*) FROM mail_outbox WHERE kind = 'webhook_disabled') AS mails, \
             (SELECT count(*) FROM stream_event WHERE kind = 'system_alert' AND payload LIKE '%webhook%disabled%') AS alerts, \
             (SELECT count(*) FROM audit_log WHERE action = 'webhook.disable') AS entries",
        )
        .unwrap();
    assert_eq!(told[0], json!({ "mails": 2, "alerts": 2, "entries": 2 }));

    // It begins anew when its owner says so.
    let (status, active, _) = client
        .send(Method::PATCH, &dead, None, Some(json!({"enabled": true, "url": url("/ok")}).to_string()))
        .await
        .unwrap();
    assert_eq!((status, &active["failures"]), (StatusCode::OK, &json!(0)), "{active}");
    buy(&client, "webhooks-4").await;
    let message = receiver.next_at("/ok");
    assert_eq!(message["body"]["type"], "order_created");
}

async fn until_row(database: &mut RawConnection, query: &str) -> Vec<Value> {
    let deadline = Instant::now() + WITHIN;
    loop {
        let rows = database.rows(query).unwrap();
        if !rows.is_empty() {
            return rows;
        }
        assert!(Instant::now() < deadline, "{query}");
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
}

/// A server that is killed while messages wait posts them after its restart, each under the id that it had.
#[tokio::test]
async fn nothing_is_lost_when_the_server_is_killed() {
    let Some(python) = python() else { return };
    let receiver = Receiver::start(&python, false);
    let mut demo = Demo::start(&[("WEBHOOK_ALLOW_NETS", "127.0.0.1"), ("TIME_SCALE", "0.1")]).await;
    let client = proven(&demo).await;
    let (path, _) =
        hook(&client, &format!("http://127.0.0.1:{}/flaky", receiver.port), json!(["order_created"])).await;
    for n in 0..5 {
        buy(&client, &format!("webhooks-killed-{n}")).await;
    }
    receiver.next();
    demo.child.kill();
    demo.restart().await;
    let client = proven(&demo).await;
    let log = until(&client, &format!("{path}/deliveries"), |log| {
        let rows = log["items"].as_array().unwrap();
        rows.len() == 5 && rows.iter().all(|row| row["state"] == "delivered")
    })
    .await;
    let mut ids: Vec<String> =
        log["items"].as_array().unwrap().iter().map(|row| row["message_id"].to_string()).collect();
    ids.sort_unstable();
    ids.dedup();
    assert_eq!(ids.len(), 5);
    let (mut seen, mut delivered) = (BTreeSet::new(), 0);
    while delivered < 5 {
        let message = receiver.next_at("/flaky");
        seen.insert(message["id"].to_string());
        delivered += i32::from(message["attempt"] == 3);
    }
    assert_eq!(seen.into_iter().collect::<Vec<_>>(), ids, "no message but these");
}
