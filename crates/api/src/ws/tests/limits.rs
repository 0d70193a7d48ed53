//! Too many, too slow, too quiet, and the end of the server.

use std::time::{Duration, Instant};

use futures_util::StreamExt;
use plimsoll_realtime::HubSettings;
use tokio_tungstenite::tungstenite::Message;

use super::harness::*;
use crate::ws::WsSettings;

#[actix_web::test]
async fn one_user_and_one_address_have_only_so_many_sockets() {
    let settings = WsSettings { max_per_user: 2, max_per_ip: 3, ..WsSettings::default() };
    let server = serve_with(settings, HubSettings::default());
    let mut first = server.connect("/ws", "trader").await;
    let mut second = server.connect("/ws", "trader").await;
    first.hello().await;
    second.hello().await;
    assert_eq!(server.connect("/ws", "trader").await.closed().await, 4429, "the user's third");
    server.connections(2).await;

    let mut other = server.connect("/ws", "other").await;
    other.hello().await;
    assert_eq!(server.connect_guest("/ws").await.closed().await, 4429, "the address's fourth");
    drop((first, other));
    server.connections(1).await;
    server.connect("/ws", "trader").await.hello().await;
}

#[actix_web::test]
async fn a_full_server_says_so_before_the_upgrade() {
    let server =
        serve_with(WsSettings { max_connections: 1, ..WsSettings::default() }, HubSettings::default());
    let mut client = server.connect("/ws", "trader").await;
    client.hello().await;
    assert_eq!(server.refused(server.request("/ws", &[])).await, 503);
}

#[actix_web::test]
async fn a_client_that_talks_too_much_is_closed() {
    let server = serve_with(
        WsSettings { max_messages_per_minute: 5, ..WsSettings::default() },
        HubSettings::default(),
    );
    let mut client = server.connect("/ws", "trader").await;
    client.hello().await;
    for _ in 0..5 {
        client.send(r#"{"type":"ping"}"#).await;
        assert_eq!(client.brief().await, "pong");
    }
    client.send(r#"{"type":"ping"}"#).await;
    assert_eq!(client.closed().await, 4429);
}

fn pinging() -> Server {
    let settings = WsSettings { pong_timeout: Duration::from_millis(150), ..WsSettings::default() };
    serve_with(settings, HubSettings { ping_interval: Duration::from_millis(200), ..HubSettings::default() })
}

#[actix_web::test]
async fn a_client_that_answers_pings_stays() {
    let server = pinging();
    let mut client = server.connect("/ws", "trader").await;
    client.hello().await;
    let mut pings = 0;
    while pings < 4 {
        match client.0.next().await.unwrap().unwrap() {
            Message::Ping(_) => pings += 1, // tungstenite answers it with the next read
            other => panic!("{other:?}"),
        }
    }
    client.send(r#"{"type":"ping"}"#).await;
    assert_eq!(client.brief().await, "pong");
}

#[actix_web::test]
async fn a_client_that_does_not_answer_pings_is_given_up() {
    let server = pinging();
    let mut client = server.connect("/ws", "trader").await;
    server.connections(0).await; // without a read there is no pong
    assert_eq!(client.closed().await, 4408);
}

#[actix_web::test]
async fn a_client_that_reads_too_slowly_is_closed_with_4008() {
    let settings = WsSettings { close_timeout: Duration::from_secs(20), ..WsSettings::default() };
    let server = serve_with(settings, HubSettings::default());
    let mut client = server.connect_narrow().await;
    client.hello().await;
    let data = format!("\"{}\"", "x".repeat(50_000));
    (0..500).for_each(|_| server.emit(&data));
    assert_eq!(client.closed().await, 4008);
    server.connections(0).await;
}

#[actix_web::test]
async fn a_client_that_never_reads_loses_its_session_and_keeps_its_place() {
    let settings = WsSettings {
        write_timeout: Duration::from_millis(300),
        close_timeout: Duration::from_millis(100),
        ..WsSettings::default()
    };
    let hub = HubSettings { queue_bytes: 1 << 30, queue_messages: 1 << 20, ..HubSettings::default() };
    let server = serve_with(settings, hub);
    let mut client = server.connect_narrow().await;
    client.hello().await;
    let data = format!("\"{}\"", "x".repeat(100_000));
    (0..200).for_each(|_| server.emit(&data));
    server.sessions(0).await;
    assert_eq!(
        server.sockets.connection_count(),
        1,
        "its place is taken as long as the system buffers for it"
    );
    drop(client);
    server.connections(0).await;
}

#[actix_web::test]
async fn the_end_of_a_login_reaches_a_client_that_does_not_read() {
    let server = serve_with(
        WsSettings { close_timeout: Duration::from_millis(100), ..WsSettings::default() },
        HubSettings { queue_bytes: 1 << 30, queue_messages: 1 << 20, ..HubSettings::default() },
    );
    let mut client = server.connect_narrow().await;
    client.hello().await;
    let data = format!("\"{}\"", "x".repeat(100_000));
    (0..200).for_each(|_| server.emit(&data));
    tokio::time::sleep(Duration::from_millis(200)).await; // the socket is full, a write waits
    let ended = Instant::now();
    server.sockets.hub().close_login("login-7", plimsoll_realtime::CloseCode::Unauthenticated);
    server.sessions(0).await;
    assert!(ended.elapsed() < Duration::from_secs(2), "{:?}", ended.elapsed());
}

#[actix_web::test]
async fn draining_says_goodbye_closes_with_1001_and_lets_the_server_end() {
    let server = serve();
    let mut client = server.connect("/ws", "trader").await;
    client.hello().await;
    let mut guest = server.connect_guest("/ws").await;
    server.connections(2).await;
    server.emit("{}");
    server.sockets.drain();
    assert_eq!(client.brief().await, "order_updated#1", "what was queued is still sent");
    let closing = client.text().await;
    assert_eq!(closing["type"], "server_closing");
    assert!((500..=5_000).contains(&closing["retry_ms"].as_u64().unwrap()));
    assert_eq!(client.closed().await, 1001);
    assert_eq!(guest.closed().await, 1001);
    assert_eq!(server.refused(server.request("/ws", &[("authorization", "Bearer trader")])).await, 503);

    let asked = Instant::now();
    drop((client, guest));
    server.handle.stop(true).await;
    assert!(asked.elapsed() < Duration::from_secs(4), "no socket holds the server up");
}
