//! Comparisons with the broker as an owner and an operator ask for them, on a whole demonstration; and their metrics.

use std::process::Output;

use plimsoll_testkit::{TestDb, free_port};
use reqwest::{Method, StatusCode};
use serde_json::{Value, json};

use crate::config::{plimsoll, stderr, stdout};
use crate::demo::{Client, Demo};

async fn post(client: &Client, path: &str) -> (StatusCode, Value) {
    let (status, body, _) = client.send(Method::POST, path, None, Some("{}".to_owned())).await.unwrap();
    (status, body)
}

/// Places an order at the broker as its own page would.
async fn place_elsewhere(demo: &Demo, client_order_id: &str) {
    let paper = &demo.logins["paper_broker"];
    let text = |name: &str| paper[name].as_str().unwrap().to_owned();
    let order = json!({
        "symbol": "SPY", "qty": "1", "side": "buy", "type": "limit", "limit_price": "1.00", "time_in_force": "gtc",
        "client_order_id": client_order_id,
    });
    let request = demo.http.post(format!("{}/v2/orders", text("url")));
    let request =
        request.header("APCA-API-KEY-ID", text("api_key")).header("APCA-API-SECRET-KEY", text("api_secret"));
    let answer = request.json(&order).send().await.unwrap();
    assert!(answer.status().is_success(), "{}", answer.text().await.unwrap());
}

#[tokio::test(flavor = "multi_thread")]
async fn an_order_placed_elsewhere_is_found_on_demand_claimed_and_measured() {
    let metrics = format!("127.0.0.1:{}", free_port());
    let demo = Demo::start(&[("METRICS_ADDR", &metrics)]).await;
    let trader = demo.login("trader").await;
    let (status, report) = post(&trader, "/reconciliation/run?wait=true").await;
    assert_eq!((status, &report["status"]), (StatusCode::OK, &json!("ok")), "{report}");

    place_elsewhere(&demo, "web-1").await;
    let mut command = demo.command();
    let output = tokio::task::spawn_blocking(move || {
        command.args(["reconcile", "--wait", "--json"]).output().unwrap()
    });
    let output = output.await.unwrap();
    assert_eq!(output.status.code(), Some(0), "{}", stderr(&output));
    let runs: Value = serde_json::from_str(stdout(&output).trim()).unwrap();
    assert_eq!((&runs[0]["status"], runs.as_array().unwrap().len()), (&json!("ok"), 1), "{runs}");
    let (_, orders) = trader.get("/orders?source=external").await;
    let id = orders["items"][0]["id"].as_str().unwrap_or_else(|| panic!("{orders} {runs}")).to_owned();
    assert_eq!(orders["items"][0]["client_order_id"], "web-1");

    let (status, claimed) = post(&trader, &format!("/orders/{id}/claim")).await;
    assert_eq!((status, &claimed["source"]["kind"]), (StatusCode::OK, &json!("api")), "{claimed}");
    let (_, status) = trader.get("/reconciliation/status").await;
    assert_eq!(status["discrepancies"], json!([]), "{status}");
    assert_eq!(status["accounts"].as_array().map(Vec::len), Some(1), "{status}");

    let text = demo.http.get(format!("http://{metrics}/metrics")).send().await.unwrap().text().await.unwrap();
    let value = |start: &str| {
        let found = text.lines().find_map(|line| line.strip_prefix(start)?.trim().parse::<f64>().ok());
        found.unwrap_or_else(|| panic!("{start}\n{text}"))
    };
    assert!(value("plimsoll_reconciliation_age_seconds ") >= 0.0);
    assert!(value("plimsoll_reconciliation_never_compared ").abs() < 0.5, "{text}");
    assert!(value("plimsoll_open_discrepancies{class=\"needs_human\"} ").abs() < 0.5, "{text}");
    let elsewhere = demo.http.get(format!("{}/metrics", demo.url)).send().await.unwrap();
    assert_eq!(elsewhere.status(), StatusCode::NOT_FOUND, "not where everybody may ask");
}

/// A database with a connected account that no server looks after.
fn alone(words: &[&str], database: &TestDb) -> Output {
    let folder = tempfile::tempdir().unwrap();
    let mut command = plimsoll(folder.path());
    command.arg("reconcile").args(words).arg("--data-dir").arg(folder.path().join("data"));
    command.env("DATABASE_URL", database.url()).env("PROFILE", "development");
    command.env("ENCRYPTION_KEY", "c2l4dGVlbiByYW5kb20gd29yZHMgb2YgYSB0ZXN0ISE=");
    command.output().unwrap()
}

#[test]
fn without_a_server_the_wish_is_kept_and_waiting_for_it_ends() {
    let database = TestDb::platform();
    let none = alone(&[], &database);
    assert_eq!(none.status.code(), Some(0), "{}", stderr(&none));
    assert!(stdout(&none).contains("no account is connected"), "{}", stdout(&none));
    let unknown = alone(&["--account", "7"], &database);
    assert_eq!(unknown.status.code(), Some(1));
    assert!(stderr(&unknown).contains("no account 7"), "{}", stderr(&unknown));
    database.execute(
        "INSERT INTO users (email, email_folded, password_hash) VALUES ('ann@example.com', 'ann@example.com', 'x')",
    );
    database
        .execute("INSERT INTO audit_head (chain, mac) SELECT id, decode(repeat('00', 32), 'hex') FROM users");
    database.execute(
        "INSERT INTO accounts (user_id, broker, environment, created_at, updated_at) \
         SELECT id, 'alpaca', 'paper', now(), now() FROM users",
    );
    database.execute(
        "INSERT INTO broker_credentials (user_id, broker, environment, key_last4, fingerprint, api_key, api_secret, \
         state, version, created_at, updated_at) \
         SELECT id, 'alpaca', 'paper', 'abcd', '0123456789abcdef', 'x', 'x', 'valid', 1, now(), now() FROM users",
    );
    let waited = alone(&["--wait", "--timeout", "1"], &database);
    assert_eq!(waited.status.code(), Some(3), "{}", stderr(&waited));
    assert!(stdout(&waited).contains("does a server run?"), "{}", stdout(&waited));
    let rows = database.rows("SELECT status FROM reconciliation_runs");
    assert_eq!(rows, [json!({ "status": "queued" })]);
    let refused = database.rows("SELECT count(*)::bigint AS n FROM jobs WHERE kind = 'reconcile'");
    assert_eq!(refused[0]["n"], 1);
    database.execute("UPDATE broker_credentials SET state = 'invalid'");
    let output = alone(&["--account", "1"], &database);
    assert_eq!(output.status.code(), Some(1), "{}", stdout(&output));
    assert!(stderr(&output).contains("refuses the key"), "{}", stderr(&output));
}
