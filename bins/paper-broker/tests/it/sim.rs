//! The handles for tools.

use chrono::{DateTime, Utc};
use reqwest::Method;
use serde_json::{Value, json};

use crate::support::{Account, Bench, eventually, market, resting, text};

fn time(clock: &Value) -> DateTime<Utc> {
    text(&clock["time"]).parse().unwrap()
}

#[tokio::test(flavor = "multi_thread")]
async fn the_ledger_shows_all_accounts() {
    let bench = Bench::start().await;
    let mut order = market("AAPL", "buy", 3);
    order["client_order_id"] = json!("mine");
    let order = bench.filled(order).await;
    let made = bench
        .post("/_sim/accounts", json!({ "api_key": "PKMINE", "api_secret": "s3cret", "cash": "500.25" }))
        .await;
    assert_eq!(made.status, 201, "{}", made.body);
    let other = Account::new(&bench.url, serde_json::from_value(made.body.clone()).unwrap());
    assert_eq!(other.get("/v2/account").await["cash"], "500.25");
    other.order(resting("IBM", 1)).await;

    let orders = bench.get("/_sim/orders").await;
    assert_eq!(
        (&orders[0]["account"], &orders[1]["account"]),
        (&json!(bench.login.account_id), &made.body["account_id"])
    );
    let mut row = orders[0].clone();
    row.as_object_mut().unwrap().remove("account");
    assert_eq!(row, order, "Alpaca's order object plus the account");
    let one = bench.get(&format!("/_sim/orders?account={}", text(&made.body["account_id"]))).await;
    assert_eq!(one.as_array().unwrap().len(), 1);
    let fills = bench.get("/_sim/fills").await;
    let expected = [
        "account",
        "at",
        "client_order_id",
        "cum_qty",
        "execution_id",
        "order_id",
        "price",
        "qty",
        "side",
        "symbol",
    ];
    assert_eq!(fills[0].as_object().unwrap().keys().collect::<Vec<_>>(), expected);
    assert_eq!((&fills[0]["client_order_id"], &fills[0]["cum_qty"]), (&json!("mine"), &json!("3")));

    assert_eq!(bench.post("/_sim/accounts", json!({ "api_key": "PKMINE" })).await.status, 409);
    assert_eq!(bench.post("/_sim/accounts", json!({ "api_key": "with space" })).await.status, 422);
    assert_eq!(bench.post("/_sim/accounts", json!({ "cash": -1 })).await.status, 422);
    assert_eq!(bench.post("/_sim/accounts", json!({ "money": 1 })).await.status, 400);
}

/// A revoked key opens nothing; another one of the same account still does.
#[tokio::test(flavor = "multi_thread")]
async fn keys_of_an_account_come_and_go() {
    let bench = Bench::start().await;
    let account = json!(bench.login.account_id);
    let made = bench.post("/_sim/keys", json!({ "account_id": account, "api_key": "PKSECOND" })).await;
    assert_eq!((made.status, &made.body["account_id"]), (201, &account), "{}", made.body);
    let second = Account::new(&bench.url, serde_json::from_value(made.body).unwrap());
    assert_eq!(second.get("/v2/account").await["id"], bench.get("/v2/account").await["id"]);
    assert_eq!(bench.get("/_sim/streams").await, json!([]));

    assert_eq!(bench.delete("/_sim/keys/PKSECOND").await.status, 204);
    assert_eq!(bench.delete("/_sim/keys/PKSECOND").await.status, 404);
    assert_eq!(second.send(Method::GET, "/v2/account", None).await.status, 401);
    bench.get("/v2/account").await;

    let nobody = json!({ "account_id": uuid::Uuid::nil() });
    assert_eq!(bench.post("/_sim/keys", nobody).await.status, 404);
    let taken = json!({ "account_id": account, "api_key": bench.login.api_key });
    assert_eq!(bench.post("/_sim/keys", taken).await.status, 409);
    assert_eq!(bench.post("/_sim/keys", json!({})).await.status, 400);
}

#[tokio::test(flavor = "multi_thread")]
async fn the_clock_jumps_forward_and_expires_day_orders() {
    let bench = Bench::start().await;
    let day = bench.order(resting("AAPL", 1)).await;
    let mut order = resting("AAPL", 1);
    order["time_in_force"] = json!("gtc");
    let kept = bench.order(order).await;
    let before = bench.get("/_sim/clock").await;
    assert_eq!(
        (&before["session"], &before["is_open"], &before["speed"]),
        (&json!("regular"), &json!(true), &json!("1"))
    );

    let after =
        bench.send(Method::PUT, "/_sim/clock", Some(&json!({ "session": "after", "speed": 0 }))).await;
    assert_eq!(
        (after.status, &after.body["session"], &after.body["is_open"]),
        (200, &json!("after"), &json!(false))
    );
    assert!(time(&after.body) > time(&before));
    let clock = bench.get("/v2/clock").await;
    assert_eq!(clock["is_open"], false);
    assert_eq!(
        text(&clock["timestamp"]).parse::<DateTime<Utc>>().unwrap(),
        time(&after.body),
        "it stands still"
    );
    bench.order_in(&day, "expired").await;
    assert_eq!(bench.get(&format!("/v2/orders/{}", text(&kept["id"]))).await["status"], "new");

    let back = bench.send(Method::PUT, "/_sim/clock", Some(&json!({ "time": before["time"] }))).await;
    assert_eq!(back.status, 422, "{}", back.body);
    for wrong in [json!({ "speed": -1 }), json!({ "speed": 1e9 })] {
        assert_eq!(bench.send(Method::PUT, "/_sim/clock", Some(&wrong)).await.status, 422);
    }
    assert_eq!(bench.send(Method::PUT, "/_sim/clock", Some(&json!({ "sped": 1 }))).await.status, 400);
    let open =
        bench.send(Method::PUT, "/_sim/clock", Some(&json!({ "session": "regular", "speed": "60" }))).await;
    assert_eq!((&open.body["is_open"], &open.body["speed"]), (&json!(true), &json!("60")));
    let start = time(&open.body);
    eventually(|| async {
        let now = time(&bench.get("/_sim/clock").await);
        if (now - start).num_seconds() >= 10 { Ok(()) } else { Err(format!("{start} {now}")) }
    })
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn the_request_log_says_what_was_called() {
    let bench = Bench::start().await;
    let mut order = resting("AAPL", 1);
    order["client_order_id"] = json!("logged");
    let order = bench.order(order).await;
    bench.get("/v2/orders:by_client_order_id?client_order_id=logged").await;
    bench.get(&format!("/v2/orders/{}", text(&order["id"]))).await;
    let log = bench.get("/_sim/requests").await;
    let rows = log.as_array().unwrap();
    assert_eq!(rows.len(), 3);
    assert_eq!(
        (&rows[0]["method"], &rows[0]["path"], &rows[0]["status"]),
        (&json!("POST"), &json!("/v2/orders"), &json!(200))
    );
    assert_eq!(
        (&rows[0]["client_order_id"], &rows[1]["client_order_id"]),
        (&json!("logged"), &json!("logged"))
    );
    assert_eq!(rows[0]["account"], json!(bench.login.account_id));
    assert!(rows.windows(2).all(|pair| pair[0]["seq"].as_u64() < pair[1]["seq"].as_u64()));
    let secret = &bench.login.api_secret;
    assert!(!log.to_string().contains(secret.as_str()), "no secret in the log");
    let later = bench.get(&format!("/_sim/requests?after={}", rows[1]["seq"])).await;
    assert_eq!(later.as_array().unwrap().len(), 1);
}

#[tokio::test(flavor = "multi_thread")]
async fn web_pages_get_nothing() {
    let bench = Bench::start().await;
    let request =
        bench.http.get(format!("{}/_sim/orders", bench.url)).header("Origin", "https://example.com");
    assert_eq!(request.send().await.unwrap().status().as_u16(), 404);
    assert_eq!(bench.send(Method::GET, "/_sim/other", None).await.status, 404);
}

#[tokio::test(flavor = "multi_thread")]
async fn fault_rules_are_kept_listed_and_cleared() {
    let bench = Bench::start().await;
    let first = bench.fault(json!({ "action": "delay", "ms": 1 })).await;
    bench.get("/v2/clock").await;
    assert_eq!(bench.hits(&first).await, 1);
    let rules = json!([{ "id": "a", "action": "drop", "match": { "path": "/none" } }, { "action": "garbage", "times": 0 }]);
    let replaced = bench.send(Method::PUT, "/_sim/faults", Some(&rules)).await;
    assert_eq!((replaced.status, replaced.body.as_array().unwrap().len()), (200, 2));
    assert_eq!(bench.delete("/_sim/faults/a").await.status, 204);
    assert_eq!(bench.delete("/_sim/faults/a").await.status, 404);
    bench.get("/v2/clock").await;
    assert_eq!(bench.post("/_sim/faults", json!({ "action": "drop", "tims": 1 })).await.status, 400);
    assert_eq!(bench.delete("/_sim/faults").await.status, 204);
    assert_eq!(bench.get("/_sim/faults").await, json!([]));
}
