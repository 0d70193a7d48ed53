//! What is said over an open socket.

use chrono::DateTime;
use futures_util::SinkExt;
use plimsoll_core_domain::Symbol;
use plimsoll_core_domain::stream::EventKind;
use plimsoll_realtime::{Tick, TickKind};
use tokio_tungstenite::tungstenite::Message;
use tokio_tungstenite::tungstenite::protocol::frame::Frame;
use tokio_tungstenite::tungstenite::protocol::frame::coding::{Data, OpCode};

use super::harness::*;

#[actix_web::test]
async fn a_cursor_brings_what_was_missed() {
    let server = serve();
    let mut client = server.connect("/ws", "trader").await;
    client.hello().await;
    server.emit("{}");
    let cursor = client.text().await["id"].as_str().unwrap().to_owned();
    drop(client);
    server.emit("{}");
    server.emit("{}");

    let mut client = server.connect(&format!("/ws?cursor={cursor}"), "trader").await;
    client.hello().await;
    let recovered = client.text().await;
    assert_eq!((&recovered["type"], &recovered["stream"]), (&"recovered".into(), &"user:7".into()));
    assert_eq!((&recovered["from"], &recovered["to"]), (&2.into(), &3.into()));
    assert_eq!(client.brief().await, "recovered");
    assert_eq!(client.brief().await, "order_updated#2");
    assert_eq!(client.brief().await, "order_updated#3");
    server.emit("{}");
    assert_eq!(client.brief().await, "order_updated#4");

    let mut late = server.connect_guest(&format!("/ws?cursor={cursor}")).await;
    late.send(r#"{"type":"auth","token":"trader"}"#).await;
    late.hello().await;
    assert_eq!(late.brief().await, "recovered", "also after a first message");

    let mut asks = server.connect("/ws", "trader").await;
    asks.hello().await;
    asks.send(&format!(r#"{{"type":"resume","cursor":"{cursor}"}}"#)).await;
    for expected in ["recovered", "recovered", "order_updated#2", "order_updated#3", "order_updated#4"] {
        assert_eq!(asks.brief().await, expected);
    }
}

#[actix_web::test]
async fn a_useless_cursor_is_said_to_be_one_and_live_goes_on() {
    let server = serve();
    let mut other = server.connect("/ws", "other").await;
    let foreign = other.hello().await["cursor"].as_str().unwrap().to_owned();
    for cursor in ["nonsense", &foreign] {
        let mut client = server.connect(&format!("/ws?cursor={cursor}"), "trader").await;
        client.hello().await;
        assert_eq!(client.brief().await, "error invalid_cursor");
        client.send(&format!(r#"{{"type":"resume","cursor":"{cursor}"}}"#)).await;
        assert_eq!(client.brief().await, "error invalid_cursor");
        server.emit("{}");
        assert!(client.brief().await.starts_with("order_updated#"));
    }
}

#[actix_web::test]
async fn subscriptions_narrow_what_is_sent() {
    let server = serve();
    let mut client = server.connect("/ws", "trader").await;
    client.hello().await;
    client.send(r#"{"type":"subscribe","events":["order_filled"]}"#).await;
    client.send(r#"{"type":"ping"}"#).await;
    assert_eq!(client.brief().await, "pong");
    server.emit("{}");
    let filled = server.log.append(MINE, EventKind::OrderFilled, "{}", DateTime::UNIX_EPOCH);
    server.sockets.hub().publish(&filled);
    assert_eq!(client.brief().await, "order_filled#2");
    client.send(r#"{"type":"unsubscribe","events":["order_filled"]}"#).await;
    client.send(r#"{"type":"subscribe"}"#).await;
    client.send(r#"{"type":"ping"}"#).await;
    assert_eq!(client.brief().await, "pong");
    server.emit("{}");
    assert_eq!(client.brief().await, "order_updated#3");
}

#[actix_web::test]
async fn price_ticks_arrive_without_a_place_in_history() {
    let server = serve();
    let mut client = server.connect("/ws", "trader").await;
    client.hello().await;
    for price in ["1", "2"] {
        server.sockets.hub().tick(&Tick {
            user: TRADER,
            kind: TickKind::Position,
            symbol: Some(Symbol::new("SPY").unwrap()),
            data: format!(r#"{{"last_price":"{price}"}}"#).into(),
            at: DateTime::UNIX_EPOCH,
        });
    }
    let mut last = client.text().await;
    if last["data"]["last_price"] == "1" {
        last = client.text().await; // the first had gone out already
    }
    assert_eq!(last["data"]["last_price"], "2");
    assert!(last.get("id").is_none() && last.get("offset").is_none());
}

#[actix_web::test]
async fn sixteen_misunderstandings_in_a_row_close_the_socket() {
    let server = serve();
    let mut client = server.connect("/ws", "trader").await;
    client.hello().await;
    for bad in ["nonsense", r#"{"type":"dance"}"#, r#"{"type":"subscribe","events":["x"]}"#] {
        client.send(bad).await;
        assert!(client.brief().await.starts_with("error "), "{bad}");
    }
    for round in 0..2 {
        client.send(r#"{"type":"ping"}"#).await; // understood: the count begins anew
        assert_eq!(client.brief().await, "pong");
        for _ in 0..15 {
            client.send("nonsense").await;
            assert_eq!(client.brief().await, "error malformed", "{round}");
        }
    }
    client.send("nonsense").await;
    assert_eq!(client.closed().await, 4400);

    let mut guest = server.connect_guest("/ws").await;
    for _ in 0..16 {
        guest.send("nonsense").await;
    }
    assert_eq!(guest.closed().await, 4400);
}

#[actix_web::test]
async fn what_is_no_text_or_too_long_closes_the_socket() {
    let part = |text: &str, op, is_final| {
        Message::Frame(Frame::message(text.to_owned(), OpCode::Data(op), is_final))
    };
    let half = "x".repeat(40_000);
    let cases: Vec<(&str, Vec<Message>, u16)> = vec![
        ("binary", vec![Message::binary(b"{}".to_vec())], 1003),
        ("65,537 bytes", vec![Message::text("x".repeat(65_537))], 1009),
        ("two fragments", vec![part(&half, Data::Text, false), part(&half, Data::Continue, true)], 1009),
        (
            "no UTF-8",
            vec![Message::Frame(Frame::message(vec![0xff, 0xfe], OpCode::Data(Data::Text), true))],
            1007,
        ),
    ];
    let server = serve();
    for (what, messages, code) in cases {
        for authenticated in [true, false] {
            let mut client = match authenticated {
                true => server.connect("/ws", "trader").await,
                false => server.connect_guest("/ws").await,
            };
            for message in messages.clone() {
                client.0.send(message).await.unwrap();
            }
            assert_eq!(client.closed().await, code, "{what}");
        }
    }
    let mut client = server.connect("/ws", "trader").await;
    client.hello().await;
    client.send(&"x".repeat(65_536)).await;
    assert_eq!(client.brief().await, "error malformed", "64 KiB are read");
    client.0.send(part(r#"{"type":"#, Data::Text, false)).await.unwrap();
    client.0.send(part(r#""ping"}"#, Data::Continue, true)).await.unwrap();
    assert_eq!(client.brief().await, "pong", "fragments are put together");
}
