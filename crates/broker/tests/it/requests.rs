//! What is sent: bodies, routes and headers.

use plimsoll_core_domain::broker::{Broker, ReplaceOrder};
use plimsoll_core_domain::order::{OrderClass, OrderRequest, OrderType, Side, TimeInForce, Trail};
use plimsoll_core_domain::{Price, Quantity};
use serde_json::{Value, json};
use wiremock::matchers::any;
use wiremock::{Mock, MockServer, Request, ResponseTemplate};

use super::support::{
    self, KEY, SECRET, adapter, client_id, config, dec, fixture, order_id, request, submit,
};

async fn accepting() -> MockServer {
    let server = MockServer::start().await;
    Mock::given(any())
        .respond_with(
            ResponseTemplate::new(200).set_body_raw(fixture("order_pending_new"), "application/json"),
        )
        .mount(&server)
        .await;
    server
}

async fn sent(request: OrderRequest) -> Value {
    let server = accepting().await;
    let broker = adapter(config(&server.uri()));
    broker.submit(&submit(request, "c-1")).await.unwrap();
    let requests = server.received_requests().await.unwrap();
    assert_eq!(requests.len(), 1);
    serde_json::from_slice(&requests[0].body).unwrap()
}

/// The example as we send it: decimals as strings, our client id, defaults left out.
fn example(index: usize) -> Value {
    fn strings(value: &mut Value) {
        match value {
            Value::Number(number) => *value = dec(&number.to_string()).normalize().to_string().into(),
            Value::Object(map) => map.values_mut().for_each(strings),
            _ => {}
        }
    }
    let mut body = support::json("requests_create_order")[index]["body"].clone();
    strings(&mut body);
    let map = body.as_object_mut().unwrap();
    map.remove("extended_hours");
    map.insert("client_order_id".to_owned(), "c-1".into());
    body
}

#[tokio::test]
async fn a_limit_order_is_the_recommended_form() {
    assert_eq!(sent(request()).await, example(0));
}

#[tokio::test]
async fn a_bracket_is_the_documented_form() {
    let bracket = OrderRequest {
        qty: Some(dec("1")),
        limit_price: Some(dec("120.1")),
        class: Some(OrderClass::Bracket),
        take_profit: Some(dec("130")),
        stop_loss: Some((Some(dec("110")), None)),
        ..request()
    };
    assert_eq!(sent(bracket).await, example(1));
}

#[tokio::test]
async fn an_oco_has_no_limit_of_its_own() {
    let oco = OrderRequest {
        side: Some(Side::Sell),
        qty: Some(dec("1")),
        time_in_force: Some(TimeInForce::Gtc),
        limit_price: None,
        class: Some(OrderClass::Oco),
        take_profit: Some(dec("130")),
        stop_loss: Some((Some(dec("110.00")), None)),
        ..request()
    };
    assert_eq!(sent(oco.clone()).await, example(2));
    assert_eq!(sent(OrderRequest { limit_price: Some(dec("130")), ..oco }).await, example(2));
}

#[tokio::test]
async fn every_type_sends_its_own_prices_and_nothing_unset() {
    let base = json!({"symbol": "AAPL", "side": "buy", "time_in_force": "day", "client_order_id": "c-1"});
    let with = |fields: Value| {
        let mut body = base.clone();
        body.as_object_mut().unwrap().extend(fields.as_object().unwrap().clone());
        body
    };
    let plain = OrderRequest { limit_price: None, ..request() };
    for (request, wanted) in [
        (
            OrderRequest { order_type: Some(OrderType::Market), ..plain.clone() },
            json!({"type": "market", "qty": "10"}),
        ),
        (
            OrderRequest {
                order_type: Some(OrderType::Market),
                qty: None,
                notional: Some(dec("100.50")),
                ..plain.clone()
            },
            json!({"type": "market", "notional": "100.5"}),
        ),
        (
            OrderRequest {
                order_type: Some(OrderType::Market),
                qty: Some(dec("0.000000001")),
                ..plain.clone()
            },
            json!({"type": "market", "qty": "0.000000001"}),
        ),
        (
            OrderRequest {
                order_type: Some(OrderType::StopLimit),
                limit_price: Some(dec("1.10")),
                stop_price: Some(dec("1.00")),
                ..plain.clone()
            },
            json!({"type": "stop_limit", "qty": "10", "limit_price": "1.1", "stop_price": "1"}),
        ),
        (
            OrderRequest {
                order_type: Some(OrderType::TrailingStop),
                trail_percent: Some(dec("2.5")),
                ..plain.clone()
            },
            json!({"type": "trailing_stop", "qty": "10", "trail_percent": "2.5"}),
        ),
        (
            OrderRequest {
                order_type: Some(OrderType::TrailingStop),
                trail_price: Some(dec("3")),
                ..plain.clone()
            },
            json!({"type": "trailing_stop", "qty": "10", "trail_price": "3"}),
        ),
        (
            OrderRequest { extended_hours: true, ..request() },
            json!({"type": "limit", "qty": "10", "limit_price": "150.25", "extended_hours": true}),
        ),
        (
            OrderRequest {
                class: Some(OrderClass::Oto),
                stop_loss: Some((Some(dec("140")), Some(dec("139.5")))),
                ..request()
            },
            json!({
                "type": "limit", "qty": "10", "limit_price": "150.25", "order_class": "oto",
                "stop_loss": {"stop_price": "140", "limit_price": "139.5"}
            }),
        ),
    ] {
        assert_eq!(sent(request).await, with(wanted));
    }
}

#[tokio::test]
async fn a_replacement_sends_what_changes() {
    let server = accepting().await;
    let broker = adapter(config(&server.uri()));
    let price = |text| Price::new(dec(text)).unwrap();
    let full = ReplaceOrder {
        client_order_id: Some(client_id("c-2")),
        qty: Some(Quantity::new(dec("7")).unwrap()),
        limit_price: Some(price("1.50")),
        stop_price: Some(price("1.25")),
        trail: Some(Trail::Percent(price("2"))),
        time_in_force: Some(TimeInForce::Gtc),
    };
    broker.replace(&order_id("o-1"), &full).await.unwrap();
    broker.replace(&order_id("o-1"), &ReplaceOrder::default()).await.unwrap();
    let requests = server.received_requests().await.unwrap();
    let body = |request: &Request| serde_json::from_slice::<Value>(&request.body).unwrap();
    assert_eq!((requests[0].method.as_str(), requests[0].url.path()), ("PATCH", "/v2/orders/o-1"));
    assert_eq!(
        body(&requests[0]),
        json!({
            "client_order_id": "c-2", "qty": "7", "limit_price": "1.5", "stop_price": "1.25", "trail": "2",
            "time_in_force": "gtc"
        })
    );
    assert_eq!(body(&requests[1]), json!({}));
}

#[tokio::test]
async fn a_cancel_is_satisfied_with_an_empty_answer() {
    let server = MockServer::start().await;
    Mock::given(any()).respond_with(ResponseTemplate::new(204)).mount(&server).await;
    adapter(config(&server.uri())).cancel(&order_id("o-1")).await.unwrap();
    let requests = server.received_requests().await.unwrap();
    assert_eq!((requests[0].method.as_str(), requests[0].url.path()), ("DELETE", "/v2/orders/o-1"));
    assert!(requests[0].body.is_empty());
}

#[tokio::test]
async fn headers_carry_the_keys_once() {
    let server = accepting().await;
    adapter(config(&server.uri())).submit(&submit(request(), "c-1")).await.unwrap();
    let headers = &server.received_requests().await.unwrap()[0].headers;
    assert_eq!(headers["apca-api-key-id"], KEY);
    assert_eq!(headers["apca-api-secret-key"], SECRET);
    assert_eq!(headers["content-type"], "application/json");
    assert!(!headers.contains_key("authorization"));
}

#[tokio::test]
async fn no_secret_shows_in_debug_output() {
    let broker = adapter(config("http://127.0.0.1:1"));
    let shown = format!("{broker:?} {:?}", broker.cancel(&order_id("o-1")).await);
    assert!(!shown.contains(SECRET) && !shown.contains(KEY), "{shown}");
}
