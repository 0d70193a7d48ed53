//! Refusals with their exact status, code and text.

use plimsoll_paper_broker::Login;
use reqwest::Method;
use serde_json::{Value, json};

use crate::support::{Account, Bench, fixture, market, resting, text};

fn sample(name: &str) -> (u16, Value) {
    let all = fixture("errors");
    let row =
        all.as_array().unwrap().iter().find(|row| row["name"] == name).unwrap_or_else(|| panic!("{name}"));
    (u16::try_from(row["http"].as_u64().unwrap()).unwrap(), row["body"].clone())
}

fn limit(price: &str) -> Value {
    json!({ "symbol": "AAPL", "qty": "1", "side": "buy", "type": "limit", "time_in_force": "day", "limit_price": price })
}

fn merged(mut body: Value, changes: Value) -> Value {
    body.as_object_mut().unwrap().extend(changes.as_object().unwrap().clone());
    body
}

#[tokio::test(flavor = "multi_thread")]
async fn refused_orders() {
    let bench = Bench::start().await;
    bench.order(merged(resting("AAPL", 1), json!({ "client_order_id": "taken" }))).await;
    for (name, body) in [
        ("duplicate_client_order_id", merged(limit("50"), json!({ "client_order_id": "taken" }))),
        ("market_order_with_price", merged(market("AAPL", "buy", 1), json!({ "limit_price": "1" }))),
        ("extended_hours_not_limit", merged(market("AAPL", "buy", 1), json!({ "extended_hours": true }))),
        ("sub_penny", limit("290.123")),
        ("unknown_symbol", market("AAPL.US", "buy", 1)),
        (
            "fractional_not_day",
            merged(market("AAPL", "buy", 1), json!({ "qty": "0.5", "time_in_force": "gtc" })),
        ),
    ] {
        let (status, expected) = sample(name);
        // at a fixed price any well-formed symbol trades
        let body = if name == "unknown_symbol" { merged(body, json!({ "symbol": "aapl.us" })) } else { body };
        let expected = if name == "unknown_symbol" {
            merged(expected, json!({ "message": "asset \"aapl.us\" not found" }))
        } else {
            expected
        };
        let reply = bench.post("/v2/orders", body).await;
        assert_eq!((reply.status, &reply.body), (status, &expected), "{name}");
    }
    let reply = bench.post("/v2/orders", market("AAPL", "buy", 1_000_000)).await;
    assert_eq!(reply.status, 403);
    let (_, expected) = sample("insufficient_buying_power");
    assert_eq!(reply.body["message"], expected["message"]);
    let members = |body: &Value| body.as_object().unwrap().keys().cloned().collect::<Vec<_>>();
    assert_eq!(members(&reply.body), members(&expected));
    // nothing of a refused order remains
    assert_eq!(bench.get("/v2/orders?status=all").await.as_array().unwrap().len(), 1);
}

#[tokio::test(flavor = "multi_thread")]
async fn what_is_not_there() {
    let bench = Bench::start().await;
    let id = "904837e3-3b76-47ec-b432-046db621571b";
    for (method, path, name) in [
        (Method::GET, format!("/v2/orders/{id}"), "order_not_found"),
        (Method::DELETE, format!("/v2/orders/{id}"), "order_not_found"),
        (Method::PATCH, format!("/v2/orders/{id}"), "order_not_found"),
        (Method::GET, "/v2/orders/7".into(), "order_not_found"),
        (Method::GET, "/v2/orders:by_client_order_id?client_order_id=x".into(), "order_not_found"),
        (Method::GET, "/v2/positions/AAPL".into(), "position_not_found"),
        (Method::DELETE, "/v2/positions/BTC/USD".into(), "position_not_found"),
    ] {
        let body = (method == Method::PATCH).then(|| json!({ "qty": "2" }));
        let reply = bench.send(method, &path, body.as_ref()).await;
        assert_eq!((reply.status, reply.body), sample(name), "{path}");
    }
    let reply = bench.send(Method::GET, "/v2/assets/none", None).await;
    assert_eq!((reply.status, text(&reply.body["message"])), (404, "asset not found for none"));
    for (method, path, status) in [
        (Method::GET, "/v2/options/contracts", 404),
        (Method::GET, "/v2/events/trades", 404),
        (Method::GET, "/elsewhere", 404),
        (Method::PUT, "/v2/orders", 405),
    ] {
        let reply = bench.send(method, path, None).await;
        assert_eq!(reply.status, status, "{path}");
        assert!(reply.body["message"].is_string(), "{path}: errors are JSON");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn wrong_keys() {
    let bench = Bench::start().await;
    for (key, secret) in
        [("", ""), (bench.login.api_key.as_str(), "wrong"), ("PKWRONG", bench.login.api_secret.as_str())]
    {
        let login = Login { api_key: key.into(), api_secret: secret.into(), ..bench.login.clone() };
        let reply = Account::new(&bench.url, login).send(Method::GET, "/v2/account", None).await;
        assert_eq!((reply.status, reply.body), sample("wrong_key"));
        assert!(reply.headers.contains_key("x-request-id"));
    }
    let both = bench.http.get(format!("{}/v2/account", bench.url)).bearer_auth("token");
    let both = both
        .header("APCA-API-KEY-ID", &bench.login.api_key)
        .header("APCA-API-SECRET-KEY", &bench.login.api_secret);
    assert_eq!(both.send().await.unwrap().status().as_u16(), 401);
}

#[tokio::test(flavor = "multi_thread")]
async fn malformed_requests_change_nothing() {
    let bench = Bench::start().await;
    for (body, status) in [
        ("", 400),
        ("not json", 400),
        ("[1]", 400),
        (r#"{"symbol":"AAPL"}"#, 422),
        (r#"{"symbol":"AAPL","qty":"NaN","side":"buy","type":"market","time_in_force":"day"}"#, 422),
        (r#"{"symbol":"AAPL","qty":-1,"side":"buy","type":"market","time_in_force":"day"}"#, 422),
        (r#"{"symbol":"AAPL","qty":1,"side":"buy","type":"magic","time_in_force":"day"}"#, 422),
        (r#"{"symbol":"AAPL","qty":1e40,"side":"buy","type":"market","time_in_force":"day"}"#, 422),
        (r#"{"symbol":"AAPL","qty":1,"side":"buy","type":"market","time_in_force":"day","legs":[]}"#, 422),
        (
            r#"{"symbol":"AAPL","qty":1,"side":"buy","type":"market","time_in_force":"day","order_class":"mleg"}"#,
            422,
        ),
    ] {
        let reply = bench.try_send(Method::POST, "/v2/orders", Some(body)).await.unwrap();
        assert_eq!(reply.status, status, "{body}: {}", reply.body);
        assert!(
            reply.body["code"].is_number() && reply.body["message"].is_string(),
            "{body}: {}",
            reply.body
        );
    }
    let long = format!(r#"{{"symbol":"{}"}}"#, "A".repeat(300_000));
    assert_eq!(bench.try_send(Method::POST, "/v2/orders", Some(&long)).await.unwrap().status, 413);
    for query in ["limit=0", "limit=501", "status=odd", "after=never", "nested=perhaps", "side=both"] {
        let reply = bench.send(Method::GET, &format!("/v2/orders?{query}"), None).await;
        assert_eq!(reply.status, 422, "{query}: {}", reply.body);
    }
    assert_eq!(bench.get("/_sim/orders").await, json!([]));
}

#[tokio::test(flavor = "multi_thread")]
async fn the_rate_limit_is_told_and_kept() {
    let bench = Bench::with(|config| config.rate_limit_per_minute = Some(4)).await;
    let header = |reply: &crate::support::Reply, name: &str| {
        reply.headers[name].to_str().unwrap().parse::<i64>().unwrap()
    };
    let first = bench.send(Method::GET, "/v2/clock", None).await;
    assert_eq!((header(&first, "x-ratelimit-limit"), header(&first, "x-ratelimit-remaining")), (4, 3));
    assert_eq!(header(&first, "x-ratelimit-reset") % 60, 0);
    // nine more cannot all fit, even where a minute turns in between
    let mut last = first;
    for _ in 0..9 {
        last = bench.send(Method::GET, "/v2/clock", None).await;
        if last.status == 429 {
            break;
        }
    }
    assert_eq!((last.status, &last.body), (429, &sample("rate_limit").1));
    assert_eq!(header(&last, "x-ratelimit-remaining"), 0);
    // the ledger is not the broker's and has no limit
    assert!(bench.get("/_sim/requests").await.as_array().unwrap().iter().any(|row| row["status"] == 429));
}

#[tokio::test(flavor = "multi_thread")]
async fn without_a_limit_there_are_no_limit_headers() {
    let bench = Bench::start().await;
    let reply = bench.send(Method::GET, "/v2/clock", None).await;
    assert!(!reply.headers.contains_key("x-ratelimit-limit") && reply.headers.contains_key("x-request-id"));
}
