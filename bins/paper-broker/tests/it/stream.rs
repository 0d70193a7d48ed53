//! The order stream.

use futures_util::{SinkExt, StreamExt};
use plimsoll_paper_broker::{Connections, Frames};
use serde_json::{Value, json};
use tokio_tungstenite::connect_async;
use tokio_tungstenite::tungstenite::Message;
use tokio_tungstenite::tungstenite::client::IntoClientRequest;

use crate::support::{Bench, Stream, fixture, market, resting, text};

#[tokio::test(flavor = "multi_thread")]
async fn handshakes_go_as_documented() {
    let bench = Bench::start().await;
    for case in fixture("stream_handshake").as_array().unwrap() {
        let mut stream = Stream::connect(&bench.url).await;
        for step in case["messages"].as_array().unwrap() {
            let mut message = step["message"].clone();
            if step["from"] == "server" {
                assert_eq!(stream.next().await, Some(message));
                continue;
            }
            if case["case"] == "authorized" && message["action"] == "authenticate" {
                message["data"] =
                    json!({ "key_id": bench.login.api_key, "secret_key": bench.login.api_secret });
            }
            stream.say(message).await;
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn the_other_form_of_authentication_and_unknown_streams() {
    let bench = Bench::start().await;
    let mut stream = Stream::connect(&bench.url).await;
    let message = json!({ "action": "auth", "key": bench.login.api_key, "secret": bench.login.api_secret });
    // as a client that sends binary frames
    stream.socket.send(Message::binary(message.to_string())).await.unwrap();
    assert_eq!(stream.next().await.unwrap()["data"], json!({ "status": "authorized", "action": "auth" }));
    stream.say(json!({ "action": "listen", "data": { "streams": ["weather", "trade_updates"] } })).await;
    assert_eq!(stream.next().await.unwrap()["data"], json!({ "streams": ["trade_updates"] }));
    stream.say(json!("nonsense")).await;
    stream.socket.send(Message::Ping("are you there".into())).await.unwrap();
    let pong = stream.socket.next().await.unwrap().unwrap();
    assert_eq!(pong, Message::Pong("are you there".into()));
    // an empty list unsubscribes
    stream.say(json!({ "action": "listen", "data": { "streams": [] } })).await;
    assert_eq!(stream.next().await.unwrap()["data"], json!({ "streams": [] }));
    bench.filled(market("AAPL", "buy", 1)).await;
    stream.silent().await;
}

fn keys(value: &Value) -> Vec<&String> {
    value.as_object().unwrap().keys().collect()
}

#[tokio::test(flavor = "multi_thread")]
async fn events_come_in_order_with_their_members() {
    let bench = Bench::start().await;
    let mut stream = bench.stream().await;
    let order = bench.order(market("AAPL", "buy", 10)).await;
    let sample = fixture("stream_new_partial_fill");
    let mut executions = Vec::new();
    for (name, sample_at, status) in
        [("pending_new", 0, "pending_new"), ("new", 1, "new"), ("fill", 3, "filled")]
    {
        let (event, data) = stream.event().await;
        assert_eq!(event, name);
        assert_eq!(keys(&data), keys(&sample[sample_at]["data"]), "{name}");
        assert_eq!(keys(&data["order"]), keys(&sample[sample_at]["data"]["order"]), "{name}");
        assert_eq!((&data["order"]["id"], &data["order"]["status"]), (&order["id"], &json!(status)));
        assert_eq!(data["order"]["legs"], Value::Null);
        executions.push(data["execution_id"].clone());
        if name == "fill" {
            assert_eq!(
                (&data["qty"], &data["price"], &data["position_qty"]),
                (&json!("10"), &json!("100"), &json!("10"))
            );
        }
    }
    assert_eq!(executions[0], Value::Null);
    assert_ne!(executions[1], executions[2]);
    let ledger = bench.get("/_sim/fills").await;
    assert_eq!(ledger[0]["execution_id"], executions[2], "the ledger names the same execution");

    let order = bench.order(resting("AAPL", 1)).await;
    assert_eq!(stream.events(2).await, ["pending_new", "new"]);
    bench.delete(&format!("/v2/orders/{}", text(&order["id"]))).await;
    let mut names = stream.events(1).await;
    if names == ["pending_cancel"] {
        names = stream.events(1).await;
    }
    assert_eq!(names, ["canceled"]);
}

#[tokio::test(flavor = "multi_thread")]
async fn accounts_see_their_own_events_only() {
    let bench = Bench::start().await;
    let other = bench.post("/_sim/accounts", json!({ "cash": 5000 })).await;
    let other = crate::support::Account::new(&bench.url, serde_json::from_value(other.body).unwrap());
    let (mut mine, mut theirs) = (bench.stream().await, other.stream().await);
    bench.filled(market("AAPL", "buy", 1)).await;
    assert_eq!(mine.events(3).await, ["pending_new", "new", "fill"]);
    theirs.silent().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn the_newest_connection_pushes_the_older_out() {
    let bench = Bench::start().await;
    let mut old = bench.stream().await;
    let mut new = bench.stream().await;
    assert_eq!(old.next().await, None);
    bench.filled(market("AAPL", "buy", 1)).await;
    assert_eq!(new.events(3).await, ["pending_new", "new", "fill"]);
}

#[tokio::test(flavor = "multi_thread")]
async fn several_connections_and_text_frames_are_settings() {
    let bench = Bench::with(|config| {
        config.stream.connections = Connections::Several;
        config.stream.frames = Frames::Text;
    })
    .await;
    let mut sockets = Vec::new();
    for _ in 0..2 {
        let mut stream = Stream::connect(&bench.url).await;
        let data = json!({ "key_id": bench.login.api_key, "secret_key": bench.login.api_secret });
        stream.say(json!({ "action": "authenticate", "data": data })).await;
        assert!(stream.socket.next().await.unwrap().unwrap().is_text());
        stream.say(json!({ "action": "listen", "data": { "streams": ["trade_updates"] } })).await;
        assert!(stream.socket.next().await.unwrap().unwrap().is_text());
        sockets.push(stream);
    }
    bench.filled(market("AAPL", "buy", 1)).await;
    for stream in &mut sockets {
        let message = stream.socket.next().await.unwrap().unwrap().into_text().unwrap();
        assert!(message.contains("pending_new"), "{message}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn other_codecs_and_plain_requests_are_refused() {
    let bench = Bench::start().await;
    let mut request =
        format!("{}/stream", bench.url.replacen("http", "ws", 1)).into_client_request().unwrap();
    request.headers_mut().insert("content-type", "application/msgpack".parse().unwrap());
    let error = connect_async(request).await.unwrap_err();
    assert!(error.to_string().contains("415"), "{error}");
    assert_eq!(bench.send(reqwest::Method::GET, "/stream", None).await.status, 400);
}
