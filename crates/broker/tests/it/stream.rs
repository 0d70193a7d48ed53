//! The order stream against a small server.

use std::future::Future;
use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::Duration;

use futures_util::{SinkExt, StreamExt};
use plimsoll_broker::{Alpaca, AlpacaConfig};
use plimsoll_core_domain::broker::{Broker, BrokerError, BrokerStatus};
use plimsoll_core_domain::order::OrderStatus;
use rust_decimal::Decimal;
use serde_json::{Value, json};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};
use tokio_tungstenite::tungstenite::Message;
use tokio_tungstenite::{WebSocketStream, accept_async};

use super::support::{self, KEY, Recorder, SECRET, Seen, adapter, config};

type Socket = WebSocketStream<TcpStream>;

/// Starts a server that hands each connection, with its number from 1, to `serve`.
async fn server<F>(serve: impl Fn(u32, TcpStream) -> F + Send + 'static) -> (AlpacaConfig, Arc<AtomicU32>)
where
    F: Future<Output = ()> + Send + 'static,
{
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let mut config = config(&format!("http://{}", listener.local_addr().unwrap()));
    config.timings.reconnect_base = Duration::from_millis(20);
    config.timings.reconnect_cap = Duration::from_millis(100);
    let connections = Arc::new(AtomicU32::new(0));
    let counted = Arc::clone(&connections);
    tokio::spawn(async move {
        while let Ok((socket, _)) = listener.accept().await {
            let number = counted.fetch_add(1, Ordering::SeqCst) + 1;
            tokio::spawn(serve(number, socket));
        }
    });
    (config, connections)
}

fn text(value: &Value) -> Message {
    Message::text(value.to_string())
}

fn binary(value: &Value) -> Message {
    Message::binary(value.to_string().into_bytes())
}

async fn hear(socket: &mut Socket) -> Value {
    loop {
        match socket.next().await.unwrap().unwrap() {
            Message::Text(text) => return serde_json::from_str(&text).unwrap(),
            Message::Ping(_) | Message::Pong(_) => {}
            other => panic!("{other:?}"),
        }
    }
}

fn authorized(status: &str) -> Value {
    json!({"stream": "authorization", "data": {"status": status, "action": "authenticate"}})
}

fn listening() -> Value {
    json!({"stream": "listening", "data": {"streams": ["trade_updates"]}})
}

/// The whole handshake of the contract's example, in binary frames.
async fn welcome(socket: TcpStream) -> Socket {
    let mut socket = accept_async(socket).await.unwrap();
    let wanted = json!({"action": "authenticate", "data": {"key_id": KEY, "secret_key": SECRET}});
    assert_eq!(hear(&mut socket).await, wanted);
    socket.send(binary(&authorized("authorized"))).await.unwrap();
    assert_eq!(hear(&mut socket).await, json!({"action": "listen", "data": {"streams": ["trade_updates"]}}));
    socket.send(binary(&listening())).await.unwrap();
    socket
}

fn messages(name: &str) -> Vec<Value> {
    support::json(name).as_array().unwrap().clone()
}

async fn stay(mut socket: Socket) {
    while let Some(Ok(_)) = socket.next().await {}
}

/// Follows until the sink has seen enough.
async fn follow_until(broker: &Alpaca, sink: &Recorder, enough: impl Fn(&Recorder) -> bool) {
    tokio::select! {
        error = broker.follow(sink) => panic!("the stream ended: {error}"),
        () = async { while !enough(sink) { tokio::time::sleep(Duration::from_millis(5)).await } } => {}
        () = tokio::time::sleep(Duration::from_secs(10)) => panic!("saw only {:?}", sink.seen()),
    }
}

fn is_connected(seen: &Seen) -> bool {
    *seen == Seen::Connected
}

fn is_off(seen: &Seen) -> bool {
    matches!(seen, Seen::Disconnected(..))
}

fn is_update(seen: &Seen) -> bool {
    matches!(seen, Seen::Update(_))
}

#[tokio::test]
async fn every_example_message_is_handed_over_in_order() {
    for name in [
        "stream_bracket_take_profit_fills",
        "stream_cancel",
        "stream_cancel_rejected_then_fill",
        "stream_fill_before_post_answer_and_out_of_order",
        "stream_new_partial_fill",
        "stream_rejected_expired",
        "stream_replace",
        "stream_replayed_duplicates",
    ] {
        let examples = messages(name);
        let (config, _) = server(move |_, socket| async move {
            let mut socket = welcome(socket).await;
            for (index, message) in messages(name).iter().enumerate() {
                // Text or binary: both are read.
                let frame = if index % 2 == 0 { binary(message) } else { text(message) };
                socket.send(frame).await.unwrap();
            }
            stay(socket).await;
        })
        .await;
        let sink = Recorder::default();
        follow_until(&adapter(config), &sink, |sink| sink.count(is_update) == examples.len()).await;
        assert_eq!(sink.seen()[0], Seen::Connected, "{name}");
        for (update, example) in sink.updates().iter().zip(&examples) {
            let data = &example["data"];
            assert_eq!(update.event, data["event"], "{name}");
            assert_eq!(update.event_id.as_deref(), data["execution_id"].as_str(), "{name}");
            assert_eq!(update.order.id.as_str(), data["order"]["id"], "{name}");
            assert_eq!(update.order.filled_qty.to_string(), data["order"]["filled_qty"].as_str().unwrap());
            assert!(
                matches!(update.order.status, BrokerStatus::Known(_)),
                "{name}: {:?}",
                update.order.status
            );
            assert_eq!(update.reason.as_deref(), data["reason"].as_str(), "{name}");
            let fill = update.fill.map(|(qty, price)| (qty.to_string(), price.to_string()));
            let wanted = matches!(update.event.as_str(), "fill" | "partial_fill").then(|| {
                let text = |field: &str| data[field].as_str().unwrap().to_owned();
                (text("qty"), text("price"))
            });
            assert_eq!(fill, wanted, "{name}");
        }
    }
}

#[tokio::test]
async fn repeats_are_passed_through() {
    let (config, _) = server(|_, socket| async move {
        let mut socket = welcome(socket).await;
        let messages = messages("stream_replayed_duplicates");
        for message in &messages {
            socket.send(binary(message)).await.unwrap();
        }
        stay(socket).await;
    })
    .await;
    let wanted = messages("stream_replayed_duplicates").len();
    let sink = Recorder::default();
    follow_until(&adapter(config), &sink, |sink| sink.count(is_update) == wanted).await;
    let mut ids: Vec<_> = sink.updates().into_iter().filter_map(|update| update.event_id).collect();
    let all = ids.len();
    ids.sort();
    ids.dedup();
    assert!(ids.len() < all, "the example has repeats");
}

#[tokio::test]
async fn updates_wait_for_the_catch_up_even_beyond_the_buffer() {
    let (mut config, _) = server(|_, socket| async move {
        let mut socket = accept_async(socket).await.unwrap();
        hear(&mut socket).await;
        socket.send(text(&authorized("authorized"))).await.unwrap();
        hear(&mut socket).await;
        let message = &messages("stream_new_partial_fill")[0];
        let numbered = |number: u32| {
            let mut message = message.clone();
            message["data"]["execution_id"] = number.to_string().into();
            binary(&message)
        };
        // One before the acknowledgement, many after it.
        socket.send(numbered(0)).await.unwrap();
        socket.send(text(&listening())).await.unwrap();
        for number in 1..50 {
            socket.send(numbered(number)).await.unwrap();
        }
        stay(socket).await;
    })
    .await;
    config.stream_buffer = 4;
    let sink = Recorder { catch_up: Duration::from_millis(200), ..Recorder::default() };
    follow_until(&adapter(config), &sink, |sink| sink.count(is_update) == 50).await;
    assert_eq!(sink.seen()[0], Seen::Connected);
    assert_eq!(sink.count(is_off), 0);
    let ids: Vec<_> = sink.updates().into_iter().filter_map(|update| update.event_id).collect();
    assert_eq!(ids, (0..50).map(|number: u32| number.to_string()).collect::<Vec<_>>());
}

#[tokio::test]
async fn what_is_not_understood_is_passed_over() {
    let (config, _) = server(|_, socket| async move {
        let mut socket = welcome(socket).await;
        for junk in [
            json!({"stream": "trade_updates", "data": null}),
            json!({"stream": "trade_updates", "data": {"event": "new", "order": {"id": 7}}}),
            json!({"stream": "weather", "data": {"rain": 0.5}}),
            json!([1, 2]),
        ] {
            socket.send(binary(&junk)).await.unwrap();
        }
        socket.send(Message::binary(vec![0x82, 0xff, 0x00])).await.unwrap();
        let mut odd = messages("stream_new_partial_fill")[0].clone();
        odd["data"]["event"] = "moon_landing".into();
        odd["data"]["order"]["status"] = "landed".into();
        odd["data"]["execution_id"] = Value::Null;
        socket.send(binary(&odd)).await.unwrap();
        stay(socket).await;
    })
    .await;
    let sink = Recorder::default();
    follow_until(&adapter(config), &sink, |sink| sink.count(is_update) == 1).await;
    let update = sink.updates().remove(0);
    assert_eq!((update.event.as_str(), update.event_id), ("moon_landing", None));
    assert_eq!(update.order.status, BrokerStatus::Other("landed".to_owned()));
}

#[tokio::test]
async fn every_connection_asks_for_a_catch_up() {
    let (config, connections) = server(|number, socket| async move {
        let mut socket = welcome(socket).await;
        let message = &messages("stream_new_partial_fill")[0];
        socket.send(binary(message)).await.unwrap();
        match number {
            1 => drop(socket),
            2 => socket.close(None).await.unwrap(),
            _ => stay(socket).await,
        }
    })
    .await;
    let cap = config.timings.reconnect_cap;
    let sink = Recorder::default();
    follow_until(&adapter(config), &sink, |sink| sink.count(is_update) == 3).await;
    assert_eq!(connections.load(Ordering::SeqCst), 3);
    let seen = sink.seen();
    let kinds: Vec<_> = seen.iter().map(|seen| (is_connected(seen), is_off(seen))).collect();
    let (on, off, update) = ((true, false), (false, true), (false, false));
    assert_eq!(kinds, [on, update, off, on, update, off, on, update]);
    for seen in seen {
        if let Seen::Disconnected(reason, retry_in) = seen {
            assert!(!reason.is_empty() && retry_in <= cap, "{reason} {retry_in:?}");
        }
    }
}

#[tokio::test]
async fn refused_keys_end_it() {
    for action in ["authenticate", "listen"] {
        let (config, connections) = server(move |_, socket| async move {
            let mut socket = accept_async(socket).await.unwrap();
            hear(&mut socket).await;
            if action == "listen" {
                socket.send(text(&authorized("authorized"))).await.unwrap();
                hear(&mut socket).await;
            }
            socket.send(text(&authorized("unauthorized"))).await.unwrap();
            stay(socket).await;
        })
        .await;
        let sink = Recorder::default();
        let broker = adapter(config);
        let ended = tokio::time::timeout(Duration::from_secs(5), broker.follow(&sink)).await.unwrap();
        assert!(matches!(ended, BrokerError::Unauthorized(_)), "{action}: {ended}");
        assert_eq!((connections.load(Ordering::SeqCst), sink.seen().len()), (1, 0), "{action}");
    }
}

/// Answers the upgrade request with a plain HTTP answer.
async fn answer_http(mut socket: TcpStream, head: &str) {
    let mut buffer = [0u8; 4096];
    let _ = socket.read(&mut buffer).await;
    let answer = format!("HTTP/1.1 {head}\r\ncontent-length: 0\r\nconnection: close\r\n\r\n");
    let _ = socket.write_all(answer.as_bytes()).await;
}

#[tokio::test]
async fn a_refused_upgrade_for_the_keys_ends_it() {
    for head in ["401 Unauthorized", "403 Forbidden"] {
        let (config, connections) = server(move |_, socket| answer_http(socket, head)).await;
        let sink = Recorder::default();
        let broker = adapter(config);
        let ended = tokio::time::timeout(Duration::from_secs(5), broker.follow(&sink)).await.unwrap();
        assert!(matches!(ended, BrokerError::Unauthorized(_)), "{head}: {ended}");
        assert_eq!(connections.load(Ordering::SeqCst), 1, "{head}");
    }
}

#[tokio::test]
async fn too_many_connections_are_backed_off_from() {
    let (config, _) = server(|number, socket| async move {
        match number {
            1..=3 => answer_http(socket, "429 Too Many Requests").await,
            4 => answer_http(socket, "429 Too Many Requests\r\nretry-after: 1").await,
            _ => stay(welcome(socket).await).await,
        }
    })
    .await;
    let sink = Recorder::default();
    follow_until(&adapter(config), &sink, |sink| sink.count(is_connected) == 1).await;
    let delays: Vec<Duration> = sink
        .seen()
        .into_iter()
        .filter_map(|seen| match seen {
            Seen::Disconnected(reason, delay) => {
                assert!(reason.contains("429"), "{reason}");
                Some(delay)
            }
            _ => None,
        })
        .collect();
    let [first, second, third, stated] = delays.as_slice() else { panic!("{delays:?}") };
    let within = |delay: &Duration, full: u64| {
        let full = Duration::from_millis(full);
        assert!(*delay >= full / 2 && *delay <= full, "{delays:?}");
    };
    within(first, 20);
    within(second, 40);
    within(third, 80);
    assert_eq!(*stated, Duration::from_secs(1), "what the server states is the least");
}

#[tokio::test]
async fn a_server_that_does_not_finish_the_handshake_is_left() {
    let (mut config, _) = server(|number, socket| async move {
        match number {
            // Silence before, and after, the upgrade; no answer to `listen`; another stream only.
            1 => tokio::time::sleep(Duration::from_secs(60)).await,
            2 => stay(accept_async(socket).await.unwrap()).await,
            3 => {
                let mut socket = accept_async(socket).await.unwrap();
                socket.send(text(&authorized("authorized"))).await.unwrap();
                stay(socket).await;
            }
            4 => {
                let mut socket = accept_async(socket).await.unwrap();
                socket.send(text(&authorized("authorized"))).await.unwrap();
                let none = json!({"stream": "listening", "data": {"streams": []}});
                socket.send(text(&none)).await.unwrap();
                stay(socket).await;
            }
            5 => answer_http(socket, "502 Bad Gateway").await,
            _ => stay(welcome(socket).await).await,
        }
    })
    .await;
    config.timings.stream_handshake = Duration::from_millis(150);
    let sink = Recorder::default();
    follow_until(&adapter(config), &sink, |sink| sink.count(is_connected) == 1).await;
    assert_eq!(sink.count(is_off), 5);
}

#[tokio::test]
async fn nobody_listening_is_tried_again() {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let mut config = config(&format!("http://{}", listener.local_addr().unwrap()));
    drop(listener);
    config.timings.reconnect_base = Duration::from_millis(5);
    let sink = Recorder::default();
    follow_until(&adapter(config), &sink, |sink| sink.count(is_off) == 3).await;
    assert_eq!(sink.count(is_connected), 0);
}

#[tokio::test]
async fn a_silent_peer_is_taken_for_dead_and_an_answering_one_is_not() {
    let (mut config, connections) = server(|number, socket| async move {
        let mut socket = welcome(socket).await;
        if number == 1 {
            // Reads, hence answers pings, for a while; then nothing more.
            let _ = tokio::time::timeout(Duration::from_millis(1500), async {
                while let Some(Ok(_)) = socket.next().await {}
            })
            .await;
            tokio::time::sleep(Duration::from_secs(60)).await;
        }
        stay(socket).await;
    })
    .await;
    config.timings.ping_interval = Duration::from_millis(100);
    config.timings.dead_peer = Duration::from_secs(1);
    let started = std::time::Instant::now();
    let sink = Recorder::default();
    follow_until(&adapter(config), &sink, |sink| sink.count(is_connected) == 2).await;
    assert!(started.elapsed() >= Duration::from_millis(1500), "{:?}", sink.seen());
    assert_eq!(connections.load(Ordering::SeqCst), 2);
    let dead = |seen: &Seen| matches!(seen, Seen::Disconnected(why, _) if why.contains("no sign of life"));
    assert_eq!(sink.count(dead), 1, "{:?}", sink.seen());
}

#[tokio::test]
async fn the_fold_of_a_stream_is_what_the_order_says() {
    let (config, _) = server(|_, socket| async move {
        let mut socket = welcome(socket).await;
        for message in messages("stream_new_partial_fill") {
            socket.send(binary(&message)).await.unwrap();
        }
        stay(socket).await;
    })
    .await;
    let wanted = messages("stream_new_partial_fill").len();
    let sink = Recorder::default();
    follow_until(&adapter(config), &sink, |sink| sink.count(is_update) == wanted).await;
    let updates = sink.updates();
    let sum: Decimal = updates.iter().filter_map(|update| update.fill).map(|(qty, _)| qty.get()).sum();
    let last = &updates.last().unwrap().order;
    assert_eq!((sum, &last.status), (last.filled_qty, &BrokerStatus::Known(OrderStatus::Filled)));
}
