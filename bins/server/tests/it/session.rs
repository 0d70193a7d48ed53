//! The main job, as a newcomer would do it: log in, watch, buy, and see the fill, the position and the profit.

use std::time::Duration;

use reqwest::{Method, StatusCode};
use rust_decimal::Decimal;
use serde_json::{Value, json};

use crate::demo::{Client, Demo, next};

fn dec(value: &Value) -> Decimal {
    value.as_str().unwrap_or_else(|| panic!("{value} is no string")).parse().unwrap()
}

fn buy(qty: &str) -> Value {
    json!({"symbol": "SPY", "side": "buy", "type": "market", "time_in_force": "day", "qty": qty})
}

#[tokio::test]
async fn a_signal_becomes_a_fill_and_everything_is_told() {
    let mut demo = Demo::start(&[]).await;
    let trader = demo.login("trader").await;
    let (mut socket, hello) = trader.socket(None).await;
    let cursor = hello["cursor"].as_str().unwrap().to_owned();

    let (status, order) = trader.order("first", &buy("10")).await;
    assert!(status == StatusCode::CREATED || status == StatusCode::ACCEPTED, "{status} {order}");
    let id = order["id"].as_str().unwrap();

    // What must come, in this order; price ticks and updates may stand between.
    let mut wanted = vec![
        "order_created",
        "trade_executed",
        "order_filled",
        "position_updated",
        "pnl_updated",
        "account_updated",
    ];
    let (mut seen, mut offsets) = (Vec::new(), Vec::new());
    while !wanted.is_empty() {
        let event = next(&mut socket).await;
        seen.push(event["type"].as_str().unwrap().to_owned());
        if let Some(offset) = event["offset"].as_i64() {
            offsets.push(offset);
            if event["type"] == wanted[0] {
                wanted.remove(0);
            }
            if event["type"] == "order_filled" {
                assert_eq!(event["data"]["id"], id);
                assert_eq!(event["data"]["filled_qty"], "10");
            }
        }
    }
    assert!(offsets.windows(2).all(|pair| pair[1] == pair[0] + 1), "offsets are dense: {offsets:?} {seen:?}");

    let (_, whole) = trader.get(&format!("/orders/{id}")).await;
    assert_eq!(whole["status"], "filled");
    let fills = whole["fills"].as_array().unwrap();
    let filled: Decimal = fills.iter().map(|fill| dec(&fill["qty"])).sum();
    assert_eq!(filled, Decimal::from(10));
    assert_eq!(whole["history"][0]["to"], "pending_submit");

    let (status, position) = trader.get("/positions/SPY").await;
    assert_eq!(status, StatusCode::OK);
    assert_eq!((position["qty"].as_str(), position["side"].as_str()), (Some("10"), Some("long")));
    let (status, pnl) = trader.get("/pnl").await;
    assert_eq!(status, StatusCode::OK);
    assert_eq!(pnl["by_symbol"][0]["symbol"], "SPY");
    dec(&pnl["unrealized"]);
    for path in ["/fills", "/orders", "/account", "/portfolio/history?period=1D&timeframe=1Min", "/auth/me"] {
        assert_eq!(trader.get(path).await.0, StatusCode::OK, "{path}");
    }

    // The broker's own books say the same.
    let ledger = demo.ledger("fills").await;
    let at_broker: Decimal = ledger.iter().map(|fill| dec(&fill["qty"])).sum();
    assert_eq!(at_broker, Decimal::from(10));

    resumes(&trader, &cursor, offsets.len()).await;
    close_and_replay(&trader).await;

    // The end: sockets are told, the process leaves with 0, and nothing of it stays.
    demo.child.signal(nix::sys::signal::Signal::SIGTERM);
    let mut types = Vec::new();
    loop {
        let message = next(&mut socket).await;
        types.push(message["type"].as_str().unwrap().to_owned());
        if message["type"] == "close" {
            assert_eq!(message["code"], 1001);
            break;
        }
    }
    assert!(types.contains(&"server_closing".to_owned()), "{types:?}");
    assert_eq!(demo.child.wait(Duration::from_secs(25)).code(), Some(0));
}

/// A client that comes back with its cursor gets what it missed, each event once.
async fn resumes(trader: &Client, cursor: &str, missed: usize) {
    let (mut socket, _) = trader.socket(Some(cursor)).await;
    let recovered = next(&mut socket).await;
    assert_eq!(recovered["type"], "recovered", "{recovered}");
    let mut offsets = Vec::new();
    while offsets.len() < missed {
        let event = next(&mut socket).await;
        offsets.extend(event["offset"].as_i64());
    }
    assert!(offsets.windows(2).all(|pair| pair[1] == pair[0] + 1), "{offsets:?}");
}

/// A retry is answered byte for byte; a key is not used for another body; a position is closed once.
async fn close_and_replay(trader: &Client) {
    let (first, first_body) = trader.order("second", &buy("1")).await;
    let again =
        trader.send(Method::POST, "/orders", Some("second"), Some(buy("1").to_string())).await.unwrap();
    assert_eq!((again.0, &again.1, again.2), (first, &first_body, true));
    let (status, problem) = trader.order("second", &buy("2")).await;
    assert_eq!(
        (status, problem["code"].as_str()),
        (StatusCode::UNPROCESSABLE_ENTITY, Some("idempotency_key_reused"))
    );

    let mut held = Value::Null;
    for _ in 0..100 {
        held = trader.get("/positions/SPY").await.1["qty"].clone();
        if held == "11" {
            break;
        }
        tokio::time::sleep(Duration::from_millis(100)).await;
    }
    assert_eq!(held, "11");
    let close = trader.send(Method::DELETE, "/positions/SPY", Some("close"), None).await.unwrap();
    assert!(close.0.is_success(), "{close:?}");
    for _ in 0..100 {
        held = trader.get("/positions/SPY").await.1["qty"].clone();
        if held == "0" {
            break;
        }
        tokio::time::sleep(Duration::from_millis(100)).await;
    }
    assert_eq!(held, "0");
    let replay = trader.send(Method::DELETE, "/positions/SPY", Some("close"), None).await.unwrap();
    assert_eq!((replay.0, replay.1, replay.2), (close.0, close.1, true));
}

#[tokio::test]
async fn bad_input_gets_its_problem_and_changes_nothing() {
    let demo = Demo::start(&[]).await;
    let trader = demo.login("trader").await;
    let base = buy("1");
    let with = |field: &str, value: Value| {
        let mut body = base.clone();
        body[field] = value;
        body.to_string()
    };
    let big = format!("{{\"symbol\":\"{}\"}}", "A".repeat(70_000));
    let cases: Vec<(String, u16, &str)> = vec![
        ("{".into(), 400, "malformed"),
        ("[]".into(), 422, "validation_failed"),
        (big, 413, "payload_too_large"),
        (with("colour", json!("red")), 422, "validation_failed"),
        (with("qty", json!("-1")), 422, "validation_failed"),
        (with("qty", json!("0")), 422, "validation_failed"),
        (with("qty", json!("NaN")), 422, "validation_failed"),
        (with("qty", json!("1e30")), 422, "validation_failed"),
        (with("qty", json!("0.00000000001")), 422, "validation_failed"),
        (with("symbol", json!("NOSUCH")), 422, "validation_failed"),
        (with("side", json!("hold")), 422, "validation_failed"),
        (with("limit_price", json!("1.5")), 422, "validation_failed"),
        (
            json!({"symbol":"SPY","side":"buy","type":"limit","time_in_force":"day","qty":"1","limit_price":"100.001"})
                .to_string(),
            422,
            "validation_failed",
        ),
    ];
    for (n, (body, status, code)) in cases.into_iter().enumerate() {
        let key = format!("bad-{n}");
        let answer = trader.send(Method::POST, "/orders", Some(&key), Some(body.clone())).await.unwrap();
        let shown: String = body.chars().take(120).collect();
        assert_eq!(
            (answer.0.as_u16(), answer.1["code"].as_str()),
            (status, Some(code)),
            "{shown} {answer:?}"
        );
        assert!(answer.1["request_id"].is_string(), "{answer:?}");
    }
    let missing = trader.send(Method::POST, "/orders", None, Some(base.to_string())).await.unwrap();
    assert_eq!((missing.0.as_u16(), missing.1["code"].as_str()), (400, Some("idempotency_key_missing")));
    let anonymous = Client { token: "nonsense".into(), ..trader.clone() };
    assert_eq!(anonymous.get("/orders").await.0, StatusCode::UNAUTHORIZED);
    for (path, status) in [
        ("/orders?limit=0", 422),
        ("/orders?cursor=zzz", 400),
        ("/orders?colour=red", 422),
        ("/orders/not-an-id", 404),
        ("/orders/01890000-0000-7000-8000-000000000000", 404),
        ("/positions/NOSUCH", 404),
        ("/nothing", 404),
    ] {
        let (got, body) = trader.get(path).await;
        assert_eq!(got.as_u16(), status, "{path} {body}");
        assert_eq!(body["status"], status, "{path}");
    }
    let wrong = trader.send(Method::PUT, "/orders", None, None).await.unwrap();
    assert_eq!(wrong.0.as_u16(), 405);
    let (_, orders) = trader.get("/orders").await;
    assert_eq!(orders["items"], json!([]));
    assert!(demo.ledger("orders").await.is_empty());

    let logout = trader.send(Method::POST, "/auth/logout", None, None).await.unwrap();
    assert_eq!(logout.0, StatusCode::NO_CONTENT);
    assert_eq!(trader.get("/orders").await.0, StatusCode::UNAUTHORIZED);
}

#[tokio::test]
async fn an_order_is_replaced_and_canceled_at_the_broker() {
    let demo = Demo::start(&[("PAPER_FIXED_PRICE", "100")]).await;
    let trader = demo.login("trader").await;
    let limit = json!({"symbol":"SPY","side":"buy","type":"limit","time_in_force":"day","qty":"5","limit_price":"50"});
    let (status, order) = trader.order("rest", &limit).await;
    assert_eq!(status, StatusCode::CREATED, "{order}");
    let id = order["id"].as_str().unwrap().to_owned();
    wait_for(&trader, &id, "new").await;
    let change = json!({"limit_price": "51"}).to_string();
    let path = format!("/orders/{id}");
    let replaced = trader.send(Method::PATCH, &path, Some("change"), Some(change)).await.unwrap();
    assert_eq!(replaced.0, StatusCode::OK, "it waits for the broker: {replaced:?}");
    let new = replaced.1["id"].as_str().unwrap().to_owned();
    assert_eq!(replaced.1["replaces"], id.as_str());
    wait_for(&trader, &id, "replaced").await;
    let whole = wait_for(&trader, &new, "new").await;
    assert_eq!(whole["limit_price"], "51");
    let path = format!("/orders/{new}");
    let canceled = trader.send(Method::DELETE, &path, Some("cancel"), None).await.unwrap();
    assert!(canceled.0.is_success(), "{canceled:?}");
    wait_for(&trader, &new, "canceled").await;
    let again = trader.send(Method::DELETE, &path, Some("cancel-2"), None).await.unwrap();
    assert_eq!((again.0.as_u16(), again.1["code"].as_str()), (409, Some("order_not_open")));

    // A refusal of the broker stays on record.
    let huge = json!({"symbol":"SPY","side":"buy","type":"limit","time_in_force":"day","qty":"5000000","limit_price":"100"});
    let (status, problem) = trader.order("huge", &huge).await;
    assert_eq!((status.as_u16(), problem["code"].as_str()), (422, Some("order_rejected")), "{problem}");
    let (_, rejected) = trader.get(&format!("/orders/{}", problem["order_id"].as_str().unwrap())).await;
    assert_eq!(rejected["status"], "rejected");
}

/// ADM-6: a disabled user's orders stay where they are unless the administrator says otherwise, and are followed either way.
#[tokio::test]
async fn a_disabled_users_orders_are_kept_or_canceled() {
    let demo = Demo::start(&[("PAPER_FIXED_PRICE", "100")]).await;
    let trader = demo.login("trader").await;
    let limit = json!({"symbol":"SPY","side":"buy","type":"limit","time_in_force":"gtc","qty":"5","limit_price":"50"});
    let (status, order) = trader.order("rest", &limit).await;
    assert_eq!(status, StatusCode::CREATED, "{order}");
    wait_for(&trader, order["id"].as_str().unwrap(), "new").await;
    let user = trader.get("/auth/me").await.1["id"].as_i64().unwrap();
    let admin = demo.stepped_up("admin").await;
    let change = async |body: Value| {
        let path = format!("/admin/users/{user}");
        admin.send(Method::PATCH, &path, None, Some(body.to_string())).await.unwrap()
    };
    let at_broker = async || demo.ledger("orders").await[0]["status"].as_str().unwrap().to_owned();

    let wrong = change(json!({"state": "active", "open_orders": "cancel"})).await;
    assert_eq!((wrong.0.as_u16(), wrong.1["errors"][0]["pointer"].as_str()), (422, Some("/open_orders")));
    assert_eq!(change(json!({"state": "disabled"})).await.0, StatusCode::OK);
    assert_eq!(trader.get("/orders").await.0, StatusCode::UNAUTHORIZED);
    tokio::time::sleep(Duration::from_secs(6)).await;
    assert_eq!(at_broker().await, "new");

    assert_eq!(change(json!({"state": "disabled", "open_orders": "cancel"})).await.0, StatusCode::OK);
    for _ in 0..200 {
        if at_broker().await == "canceled" {
            break;
        }
        tokio::time::sleep(Duration::from_millis(100)).await;
    }
    assert_eq!(at_broker().await, "canceled");
    assert_eq!(change(json!({"state": "active"})).await.0, StatusCode::OK);
    let again = demo.login("trader").await;
    let order = wait_for(&again, order["id"].as_str().unwrap(), "canceled").await;
    assert_eq!(order["filled_qty"], "0");
}

async fn wait_for(trader: &Client, id: &str, status: &str) -> Value {
    let mut order = Value::Null;
    for _ in 0..150 {
        order = trader.get(&format!("/orders/{id}")).await.1;
        if order["status"] == status {
            return order;
        }
        tokio::time::sleep(Duration::from_millis(100)).await;
    }
    panic!("not {status}: {order}");
}
