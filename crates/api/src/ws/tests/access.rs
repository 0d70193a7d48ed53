//! Who may connect, and for how long.

use std::sync::atomic::Ordering;
use std::time::Duration;

use futures_util::SinkExt;
use plimsoll_realtime::{CloseCode, HubSettings};

use super::harness::*;
use crate::ws::WsSettings;

fn fast() -> WsSettings {
    WsSettings {
        auth_timeout: Duration::from_millis(200),
        reauthorise_every: Duration::from_millis(50),
        reauthorise_retry: Duration::from_millis(10),
        ..WsSettings::default()
    }
}

#[actix_web::test]
async fn a_bearer_header_opens_the_own_stream_and_hello_comes_first() {
    let server = serve();
    server.emit("{}");
    for path in ["/ws", "/ws/7"] {
        let mut client = server.connect(path, "trader").await;
        let hello = client.hello().await;
        assert_eq!(hello["protocol"], 1);
        assert_eq!(hello["ping_interval"], 30);
        assert!(hello["streams"]["user:7"]["head"].as_i64() > Some(0));
        assert_eq!(hello["streams"]["broadcast"]["head"], 0);
        server.emit(r#"{"qty":"1.5"}"#);
        let event = client.text().await;
        assert_eq!((&event["type"], &event["data"]["qty"]), (&"order_updated".into(), &"1.5".into()));
    }
}

#[actix_web::test]
async fn a_first_message_opens_the_stream_too() {
    let server = serve();
    let mut client = server.connect_guest("/ws").await;
    client.send(r#"{"type":"auth","token":"trader"}"#).await;
    client.hello().await;
    server.emit("{}");
    assert_eq!(client.brief().await, "order_updated#1");
    client.send(r#"{"type":"auth","token":"trader"}"#).await;
    assert_eq!(client.brief().await, "error already_authenticated");
}

#[actix_web::test]
async fn before_authentication_nothing_else_is_obeyed() {
    let server = serve();
    let mut client = server.connect_guest("/ws").await;
    for text in [r#"{"type":"ping"}"#, r#"{"type":"subscribe"}"#] {
        client.send(text).await;
        assert_eq!(client.brief().await, "error unauthenticated");
    }
    client.send("nonsense").await;
    assert_eq!(client.brief().await, "error malformed");
    server.emit("{}");
    client.send(r#"{"type":"auth","token":"trader"}"#).await;
    let hello = client.hello().await;
    assert_eq!(hello["streams"]["user:7"]["head"], 1, "and nothing was sent before");
}

#[actix_web::test]
async fn guests_who_fail_are_closed_with_the_reason() {
    let server = serve_with(fast(), HubSettings::default());
    let auth = |token: &str| format!(r#"{{"type":"auth","token":"{token}"}}"#);
    for (path, token, code) in [("/ws", "wrong", 4401), ("/ws", "disabled", 4403), ("/ws/7", "other", 4403)] {
        let mut client = server.connect_guest(path).await;
        client.send(&auth(token)).await;
        assert_eq!(client.closed().await, code, "{token}");
    }
    let mut silent = server.connect_guest("/ws").await;
    assert_eq!(silent.closed().await, 4401, "not in time");

    server.tokens.down.store(true, Ordering::Relaxed);
    let mut client = server.connect_guest("/ws").await;
    client.send(&auth("trader")).await;
    assert_eq!(client.closed().await, 4500);
    server.connections(0).await;
}

#[actix_web::test]
async fn who_may_not_connect_is_told_before_the_upgrade() {
    let settings =
        WsSettings { allowed_origins: vec!["https://trade.example.com".into()], ..WsSettings::default() };
    let server = serve_with(settings, HubSettings::default());
    let bearer = |token: &str| format!("Bearer {token}");
    let cases = [
        ("/ws", "authorization", bearer("wrong"), 401),
        ("/ws", "authorization", "Basic YTpi".into(), 401),
        ("/ws", "authorization", bearer("disabled"), 403),
        ("/ws/7", "authorization", bearer("other"), 403),
        ("/ws", "origin", "https://evil.example".into(), 403),
        ("/ws", "origin", "null".into(), 403),
        ("/ws", "sec-websocket-version", "8".into(), 426),
        ("/ws?cursor=a&cursor=b", "authorization", bearer("trader"), 400),
    ];
    for (path, header, value, status) in cases {
        let answered = server.refused(server.request(path, &[(header, &value)])).await;
        assert_eq!(answered, status, "{path} {value}");
    }
    server.tokens.down.store(true, Ordering::Relaxed);
    let request = server.request("/ws", &[("authorization", &bearer("trader"))]);
    assert_eq!(server.refused(request).await, 503);
    server.connections(0).await;

    server.tokens.down.store(false, Ordering::Relaxed);
    let origin = [("origin", "https://trade.example.com"), ("authorization", "Bearer trader")];
    server.try_connect(server.request("/ws", &origin)).await.unwrap().hello().await;
}

#[actix_web::test]
async fn a_plain_request_is_told_what_is_wanted() {
    use actix_web::{App, test};
    let server = serve();
    let app = test::init_service(App::new().configure(crate::ws::configure(server.sockets.clone()))).await;
    let answer = test::call_service(&app, test::TestRequest::get().uri("/ws").to_request()).await;
    assert_eq!(answer.status(), 400);
    assert_eq!(answer.headers().get("content-type").unwrap(), "application/problem+json");
    let problem: serde_json::Value = test::read_body_json(answer).await;
    assert_eq!(problem["type"], "/problems/malformed");
}

#[actix_web::test]
async fn an_administrator_hears_anybody() {
    let server = serve();
    let mut client = server.connect("/ws/7", "admin").await;
    client.hello().await;
    server.emit("{}");
    assert_eq!(client.text().await["stream"], "user:7");
    let mut own = server.connect("/ws", "admin").await;
    assert_eq!(own.hello().await["streams"]["user:1"]["head"], 0);
}

#[actix_web::test]
async fn a_login_that_ends_takes_its_sockets_along() {
    let server = serve();
    let mut client = server.connect("/ws", "trader").await;
    client.hello().await;
    assert_eq!(server.sockets.hub().close_login("login-7", CloseCode::Unauthenticated), 1);
    assert_eq!(client.closed().await, 4401);
    server.connections(0).await;
    assert_eq!(server.sockets.hub().session_count(), 0);
}

#[actix_web::test]
async fn a_login_is_looked_at_again_and_again() {
    let server = serve_with(fast(), HubSettings::default());
    let mut client = server.connect("/ws", "trader").await;
    client.hello().await;
    tokio::time::sleep(Duration::from_millis(200)).await;
    assert!(server.tokens.looks.load(Ordering::Relaxed) >= 2);
    server.tokens.ended.lock().unwrap().insert("login-7".into());
    assert_eq!(client.closed().await, 4401);

    let mut late = server.connect("/ws", "trader").await;
    assert_eq!(late.closed().await, 4401, "it ended between authentication and opening");
}

#[actix_web::test]
async fn a_store_that_is_away_for_a_moment_ends_nothing_but_for_long_it_does() {
    let server = serve_with(fast(), HubSettings::default());
    let mut client = server.connect("/ws", "trader").await;
    client.hello().await;
    server.tokens.down.store(true, Ordering::Relaxed);
    let looks = server.tokens.looks.load(Ordering::Relaxed);
    while server.tokens.looks.load(Ordering::Relaxed) < looks + 2 {
        tokio::time::sleep(Duration::from_millis(1)).await;
    }
    client.send(r#"{"type":"ping"}"#).await;
    assert_eq!(client.brief().await, "pong", "still there after an unanswered look");
    assert_eq!(client.closed().await, 4500);
}

#[actix_web::test]
async fn a_client_that_closes_gets_its_reason_back() {
    use tokio_tungstenite::tungstenite::protocol::CloseFrame;
    let server = serve();
    let mut client = server.connect("/ws", "trader").await;
    client.hello().await;
    let frame = CloseFrame { code: 1000.into(), reason: "done".into() };
    client.0.close(Some(frame)).await.unwrap();
    assert_eq!(client.closed().await, 1000);
    server.connections(0).await;

    let mut gone = server.connect("/ws", "trader").await;
    gone.hello().await;
    gone.0.flush().await.unwrap();
    drop(gone); // without a close frame
    server.connections(0).await;
}
