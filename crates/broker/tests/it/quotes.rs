//! Market data: the last trade, from a service beside the Trading API.

use plimsoll_core_domain::broker::{Broker, BrokerError, LastTrade};
use serde_json::json;
use wiremock::matchers::{header, path, query_param};
use wiremock::{Mock, MockServer, ResponseTemplate};

use super::support::{KEY, adapter, config};

async fn answering(route: &str, symbol: &str, answer: ResponseTemplate) -> MockServer {
    let server = MockServer::start().await;
    Mock::given(path(route))
        .and(query_param("symbols", symbol))
        .and(header("apca-api-key-id", KEY))
        .respond_with(answer)
        .mount(&server)
        .await;
    server
}

async fn last(server: &MockServer, symbol: &str) -> Result<LastTrade, BrokerError> {
    let broker = adapter(config(&server.uri()));
    broker.quotes().unwrap().last_trade(&symbol.parse().unwrap()).await
}

fn raw(body: &str) -> ResponseTemplate {
    ResponseTemplate::new(200).set_body_raw(body.to_owned(), "application/json")
}

#[tokio::test]
async fn shares_and_pairs_have_routes_of_their_own() {
    let body = r#"{"trades":{"AAPL":{"c":["@"],"i":52983525029461,"p":150.2575,"s":100,"t":"2026-11-03T15:31:00.123456789Z","x":"V","z":"C"}}}"#;
    let server = answering("/v2/stocks/trades/latest", "AAPL", raw(body)).await;
    let trade = last(&server, "AAPL").await.unwrap();
    assert_eq!(trade.price, "150.2575".parse().unwrap(), "by its digits");
    assert_eq!(trade.at.to_rfc3339(), "2026-11-03T15:31:00.123456+00:00");
    let body = r#"{"trades":{"BTC/USD":{"i":1,"p":67432.1234567891,"s":0.01,"t":"2026-11-03T15:31:00Z","tks":"B"}}}"#;
    let server = answering("/v1beta3/crypto/us/latest/trades", "BTC/USD", raw(body)).await;
    assert_eq!(last(&server, "BTC/USD").await.unwrap().price, "67432.123456789".parse().unwrap());
}

#[tokio::test]
async fn what_is_no_price_is_none() {
    let route = "/v2/stocks/trades/latest";
    let server = answering(route, "AAPL", raw(r#"{"trades":{}}"#)).await;
    assert_eq!(last(&server, "AAPL").await, Err(BrokerError::NotFound));
    for body in [
        r#"{"trades":{"AAPL":{"p":0,"t":"2026-11-03T15:31:00Z"}}}"#,
        r#"{"trades":{"AAPL":{"p":-1,"t":"2026-11-03T15:31:00Z"}}}"#,
        r#"{"trades":{"AAPL":{"p":1}}}"#,
        r#"{"trades":{"AAPL":{"t":"2026-11-03T15:31:00Z"}}}"#,
        r#"{"trades":7}"#,
        "<html>",
    ] {
        let server = answering(route, "AAPL", raw(body)).await;
        assert!(last(&server, "AAPL").await.is_err(), "{body}");
    }
}

/// Whoever may trade may still lack market data: that says nothing about the keys, nor about the Trading API's limits.
#[tokio::test]
async fn refusals_of_market_data_stay_with_them() {
    let route = "/v2/stocks/trades/latest";
    for status in [401, 403] {
        let answer = ResponseTemplate::new(status).set_body_json(json!({ "message": "forbidden." }));
        let error = last(&answering(route, "AAPL", answer).await, "AAPL").await.unwrap_err();
        assert!(matches!(error, BrokerError::Refused { status: 403, .. }), "{error}");
    }
    let server = answering(route, "AAPL", ResponseTemplate::new(429)).await;
    let clock = json!({
        "timestamp": "2026-11-03T15:31:00Z", "is_open": true,
        "next_open": "2026-11-04T14:30:00Z", "next_close": "2026-11-03T21:00:00Z",
    });
    Mock::given(path("/v2/clock"))
        .respond_with(ResponseTemplate::new(200).set_body_json(clock))
        .mount(&server)
        .await;
    let broker = adapter(config(&server.uri()));
    let throttled = broker.quotes().unwrap().last_trade(&"AAPL".parse().unwrap()).await;
    assert!(matches!(throttled, Err(BrokerError::Throttled { .. })), "{throttled:?}");
    assert!(broker.clock().await.is_ok(), "the Trading API's budget is another one");
}
