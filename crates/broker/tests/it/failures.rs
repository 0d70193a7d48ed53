//! What becomes of a call when the answer is not a success.

use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::Duration;

use plimsoll_broker::{
    Alpaca, AlpacaConfig, ConfigError, CredentialError, CredentialSource, Credentials, StaticCredentials,
    install_crypto_provider,
};
use plimsoll_core_domain::broker::{
    BoxFuture, Broker, BrokerError, BrokerOrder, OrderListQuery, ReplaceOrder,
};
use plimsoll_core_domain::order::Environment;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpListener;
use wiremock::matchers::{any, method};
use wiremock::{Mock, MockServer, ResponseTemplate};

use super::support::{KEY, SECRET, adapter, client_id, config, fixture, json, order_id, request, submit};

async fn answering(answer: ResponseTemplate) -> (MockServer, Alpaca) {
    let server = MockServer::start().await;
    Mock::given(any()).respond_with(answer).mount(&server).await;
    let mut config = config(&server.uri());
    config.timings.request = Duration::from_millis(300);
    let broker = adapter(config);
    (server, broker)
}

async fn post(broker: &Alpaca) -> Result<BrokerOrder, BrokerError> {
    broker.submit(&submit(request(), "c-1")).await
}

/// Submit, replace and cancel, and a look-up.
async fn writes_and_read(broker: &Alpaca) -> ([BrokerError; 3], BrokerError) {
    let id = order_id("o-1");
    let writes = [
        post(broker).await.unwrap_err(),
        broker.replace(&id, &ReplaceOrder::default()).await.unwrap_err(),
        broker.cancel(&id).await.unwrap_err(),
    ];
    (writes, broker.order_by_client_id(&client_id("c-1")).await.unwrap_err())
}

fn template(example: &serde_json::Value) -> ResponseTemplate {
    let status = u16::try_from(example["http"].as_u64().unwrap()).unwrap();
    let mut answer = ResponseTemplate::new(status);
    for (name, value) in example["headers"].as_object().into_iter().flatten() {
        answer = answer.insert_header(name.as_str(), value.as_str().unwrap());
    }
    match example["body_text"].as_str() {
        Some(html) => answer.set_body_raw(html, "text/html"),
        None => answer.set_body_json(&example["body"]),
    }
}

#[tokio::test]
async fn every_example_error_has_its_class() {
    for example in json("errors").as_array().unwrap() {
        let name = example["name"].as_str().unwrap();
        let (server, broker) = answering(template(example)).await;
        let error = post(&broker).await.unwrap_err();
        let wanted = match name {
            "wrong_key" | "wrong_key_other_form" => matches!(error, BrokerError::Unauthorized(_)),
            "order_not_found" | "position_not_found" => error == BrokerError::NotFound,
            "duplicate_client_order_id" => error == BrokerError::DuplicateClientOrderId,
            "rate_limit" => matches!(error, BrokerError::Throttled { .. }),
            "server_error_order_fate_unknown" | "gateway_timeout_html_order_fate_unknown" => {
                error.is_ambiguous()
            }
            _ => {
                let status = u16::try_from(example["http"].as_u64().unwrap()).unwrap();
                let (code, message) = (example["body"]["code"].as_i64(), example["body"]["message"].as_str());
                error == BrokerError::Refused { status, code, message: message.unwrap().to_owned() }
            }
        };
        assert!(wanted, "{name}: {error:?}");
        assert_eq!(server.received_requests().await.unwrap().len(), 1, "{name}: it was sent again");
    }
}

#[tokio::test]
async fn gateway_pages_leave_writes_open_and_reads_undone() {
    for status in [500, 502, 503, 504] {
        let page = ResponseTemplate::new(status)
            .set_body_raw("<html><body>Bad Gateway</body></html>", "text/html")
            .insert_header("X-Request-ID", "req-77");
        let (server, broker) = answering(page).await;
        let (writes, read) = writes_and_read(&broker).await;
        for error in writes {
            assert!(matches!(&error, BrokerError::Ambiguous(why) if why.contains("req-77")), "{error}");
        }
        assert!(matches!(read, BrokerError::Unreachable(_)), "{read}");
        assert_eq!(server.received_requests().await.unwrap().len(), 4, "one request a call");
    }
}

#[tokio::test]
async fn garbage_in_a_success_is_an_answer_that_does_not_read() {
    for body in ["", "<html>", "{\"id\":", "[]", "{}", "null", "{\"id\": \"x\", \"status\": \"new\"}"] {
        let (_server, broker) =
            answering(ResponseTemplate::new(200).set_body_raw(body, "application/json")).await;
        let error = post(&broker).await.unwrap_err();
        assert!(error.is_ambiguous(), "{body}: {error}");
        let error = broker.order(&order_id("o-1")).await.unwrap_err();
        assert!(matches!(error, BrokerError::Unreadable(_)), "{body}: {error}");
        // A cancel needs nothing but the status.
        assert_eq!(broker.cancel(&order_id("o-1")).await, Ok(()));
    }
}

#[tokio::test]
async fn a_time_out_leaves_writes_open() {
    let late = ResponseTemplate::new(200)
        .set_body_raw(fixture("order_pending_new"), "application/json")
        .set_delay(Duration::from_secs(60));
    let (server, broker) = answering(late).await;
    assert!(post(&broker).await.unwrap_err().is_ambiguous());
    assert!(broker.cancel(&order_id("o-1")).await.unwrap_err().is_ambiguous());
    assert!(matches!(broker.order(&order_id("o-1")).await, Err(BrokerError::Unreachable(_))));
    assert_eq!(server.received_requests().await.unwrap().len(), 3);
}

#[tokio::test]
async fn without_a_connection_nothing_was_sent() {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let url = format!("http://{}", listener.local_addr().unwrap());
    drop(listener);
    let (writes, read) = writes_and_read(&adapter(config(&url))).await;
    for error in writes.into_iter().chain([read]) {
        assert!(matches!(error, BrokerError::Unreachable(_)), "{error}");
    }
}

/// Reads a request, sends `answer`, and cuts the connection. Counts the requests.
async fn cutting(answer: &'static [u8]) -> (String, Arc<AtomicU32>) {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let url = format!("http://{}", listener.local_addr().unwrap());
    let count = Arc::new(AtomicU32::new(0));
    let counted = Arc::clone(&count);
    tokio::spawn(async move {
        while let Ok((mut socket, _)) = listener.accept().await {
            let mut buffer = [0u8; 8192];
            if socket.read(&mut buffer).await.unwrap_or(0) > 0 {
                counted.fetch_add(1, Ordering::SeqCst);
                let _ = socket.write_all(answer).await;
            }
        }
    });
    (url, count)
}

#[tokio::test]
async fn a_cut_connection_leaves_writes_open_and_is_not_tried_again() {
    for answer in [
        &b""[..],
        b"HTTP/1.1 200 OK\r\ncontent-length: 500\r\n\r\n{\"id\":",
        b"HTTP/1.1 422 Unprocessable\r\ncontent-length: 500\r\n\r\n{\"code\":",
        b"not http at all\r\n\r\n",
    ] {
        let (url, count) = cutting(answer).await;
        let broker = adapter(config(&url));
        let (writes, read) = writes_and_read(&broker).await;
        for error in writes {
            assert!(error.is_ambiguous(), "{answer:?}: {error}");
        }
        assert!(matches!(read, BrokerError::Unreachable(_)), "{read}");
        assert_eq!(count.load(Ordering::SeqCst), 4, "one request a call");
    }
}

#[tokio::test]
async fn redirects_are_not_followed() {
    let elsewhere = MockServer::start().await;
    let (_server, broker) = answering(
        ResponseTemplate::new(307).insert_header("location", format!("{}/v2/orders", elsewhere.uri())),
    )
    .await;
    assert!(post(&broker).await.unwrap_err().is_ambiguous());
    assert!(matches!(broker.account().await, Err(BrokerError::Unreachable(_))));
    assert!(elsewhere.received_requests().await.unwrap().is_empty(), "the keys went to another host");
}

#[tokio::test]
async fn endless_answers_are_cut() {
    let server = MockServer::start().await;
    Mock::given(any())
        .respond_with(ResponseTemplate::new(200).set_body_raw(vec![b' '; 2000], "application/json"))
        .mount(&server)
        .await;
    let mut config = config(&server.uri());
    config.max_body_bytes = 1000;
    let error = post(&adapter(config)).await.unwrap_err();
    assert!(matches!(&error, BrokerError::Ambiguous(why) if why.contains("1000 bytes")), "{error}");
}

#[tokio::test]
async fn after_a_refusal_for_the_rate_nothing_is_sent_before_the_time() {
    let (server, broker) = answering(ResponseTemplate::new(429).insert_header("Retry-After", "30")).await;
    assert_eq!(post(&broker).await, Err(BrokerError::Throttled { retry_after: Duration::from_secs(30) }));
    for error in [
        post(&broker).await.map(drop),
        broker.cancel(&order_id("o-1")).await,
        broker.account().await.map(drop),
    ] {
        let Err(BrokerError::Throttled { retry_after }) = error else { panic!("{error:?}") };
        assert!(retry_after > Duration::from_secs(28) && retry_after <= Duration::from_secs(30));
    }
    assert_eq!(server.received_requests().await.unwrap().len(), 1);
    // Another account's budget is its own.
    let other = adapter(config(&server.uri()));
    let _ = post(&other).await;
    assert_eq!(server.received_requests().await.unwrap().len(), 2);
}

#[tokio::test]
async fn the_windows_end_is_reckoned_from_the_brokers_own_date() {
    let limited = ResponseTemplate::new(429)
        .insert_header("Date", "Tue, 03 Nov 2026 15:31:00 GMT")
        .insert_header("X-Ratelimit-Remaining", "0")
        // 20 s after the date.
        .insert_header("X-Ratelimit-Reset", "1793719880");
    let (_server, broker) = answering(limited).await;
    assert_eq!(post(&broker).await, Err(BrokerError::Throttled { retry_after: Duration::from_secs(21) }));
}

#[tokio::test]
async fn the_last_calls_of_a_window_are_for_cancels() {
    let server = MockServer::start().await;
    let stated = |answer: ResponseTemplate, remaining: &str| {
        answer
            .insert_header("Date", "Tue, 03 Nov 2026 15:31:00 GMT")
            .insert_header("X-Ratelimit-Limit", "200")
            .insert_header("X-Ratelimit-Remaining", remaining)
            .insert_header("X-Ratelimit-Reset", "1793719880")
    };
    Mock::given(method("GET"))
        .respond_with(stated(ResponseTemplate::new(200).set_body_raw("[]", "application/json"), "20"))
        .mount(&server)
        .await;
    Mock::given(method("DELETE")).respond_with(stated(ResponseTemplate::new(204), "0")).mount(&server).await;
    let broker = adapter(config(&server.uri()));
    let list = OrderListQuery::default();
    assert!(broker.orders(&list).await.is_ok());
    assert!(matches!(broker.orders(&list).await, Err(BrokerError::Throttled { .. })));
    assert!(matches!(post(&broker).await, Err(BrokerError::Throttled { .. })));
    assert_eq!(broker.cancel(&order_id("o-1")).await, Ok(()));
    assert!(matches!(broker.cancel(&order_id("o-1")).await, Err(BrokerError::Throttled { .. })));
    assert_eq!(server.received_requests().await.unwrap().len(), 2);
}

struct Vault(CredentialError);

impl CredentialSource for Vault {
    fn credentials(&self) -> BoxFuture<'_, Result<Credentials, CredentialError>> {
        Box::pin(async { Err(self.0.clone()) })
    }
}

#[tokio::test]
async fn without_credentials_nothing_is_sent() {
    install_crypto_provider();
    let server = MockServer::start().await;
    let with = |error| Alpaca::new(config(&server.uri()), Arc::new(Vault(error)), 1).unwrap();
    let locked = with(CredentialError::Unavailable("sealed".to_owned()));
    assert!(matches!(post(&locked).await, Err(BrokerError::Unreachable(_))));
    let broken = StaticCredentials::new("PK\n", SECRET.to_owned().into());
    let broken = Alpaca::new(config(&server.uri()), Arc::new(broken), 1).unwrap();
    assert!(matches!(post(&broken).await, Err(BrokerError::Unauthorized(_))));
    // Alpaca's own hosts take only the keys of their kind: refused before anything is sent.
    let live = AlpacaConfig::alpaca(Environment::Live);
    let keys = StaticCredentials::new(KEY, SECRET.to_owned().into());
    let live = Alpaca::new(live, Arc::new(keys), 1).unwrap();
    assert!(matches!(post(&live).await, Err(BrokerError::Unauthorized(_))));
    assert!(server.received_requests().await.unwrap().is_empty());
}

#[test]
fn known_keys_are_checked_at_the_start() {
    install_crypto_provider();
    let live = AlpacaConfig::alpaca(Environment::Live);
    let result = Alpaca::with_keys(live, KEY, SECRET.to_owned().into(), 1);
    assert!(matches!(result, Err(ConfigError::KeyEnvironment { expected: "AK", .. })));
}
