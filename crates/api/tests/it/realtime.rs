//! What leads to a WebSocket and what is heard there: tickets, cursors of snapshots, what programs and administrators publish.

use chrono::TimeDelta;
use plimsoll_auth::Role;
use plimsoll_auth::api_tokens::Scope;
use reqwest::StatusCode;
use serde_json::{Value, json};

use crate::world::{Client, Reply, Socket, World};

async fn ticket(client: &Client) -> String {
    let reply = client.post("/ws/ticket", &json!({})).await;
    assert_eq!(reply.status, StatusCode::OK, "{}", reply.text);
    reply.body["ticket"].as_str().unwrap().to_owned()
}

fn at(ticket: &str) -> String {
    format!("/ws?ticket={ticket}")
}

/// Opens a socket and reads its `hello`.
async fn hear(world: &World, client: &Client, query: &str) -> Socket {
    let bearer = format!("Bearer {}", client.token());
    let mut socket = world.socket(&format!("/ws{query}"), &[("authorization", &bearer)]).await.unwrap();
    assert_eq!(socket.next().await["type"], "hello");
    socket
}

/// The messages up to one of this type.
async fn until(socket: &mut Socket, kind: &str) -> Value {
    loop {
        let message = socket.next().await;
        if message["type"] == kind {
            return message;
        }
    }
}

fn head(world: &World, stream: i64) -> i64 {
    let rows = world.rows(&format!("SELECT head FROM stream_head WHERE stream_id = {stream}"));
    rows[0]["head"].as_i64().unwrap()
}

/// WSS-2: a ticket opens one socket, within its time, while its session lives; and the socket ends with the session.
#[tokio::test]
async fn a_ticket_opens_one_socket_of_its_session() {
    let world = World::start().await;
    let user = world.user("ann@example.com", Role::User);
    let session = world.login("ann@example.com").await;
    let first = ticket(&session).await;
    let stored = world.rows("SELECT encode(ticket_digest, 'hex') AS digest FROM ws_tickets");
    assert_eq!(stored.len(), 1);
    assert!(!stored[0]["digest"].as_str().unwrap().contains(&first));

    let evil = [("origin", "https://evil.example")];
    assert_eq!(world.socket(&at(&first), &evil).await.err(), Some(403), "and it is not used up by that");
    let mut socket = world.socket(&at(&first), &[]).await.unwrap();
    let hello = socket.next().await;
    assert_eq!(hello["type"], "hello");
    assert!(hello["streams"][format!("user:{user}")].is_object(), "{hello}");
    assert_eq!(world.socket(&at(&first), &[]).await.err(), Some(401), "used");
    assert!(world.rows("SELECT 1 AS one FROM ws_tickets").is_empty());

    for wrong in ["x", "", session.token()] {
        assert_eq!(world.socket(&at(wrong), &[]).await.err(), Some(401), "{wrong}");
    }
    let late = ticket(&session).await;
    world.clock.advance(TimeDelta::seconds(30));
    assert_eq!(world.socket(&at(&late), &[]).await.err(), Some(401), "late");
    assert_eq!(world.socket(&format!("/ws/1?ticket={}", ticket(&session).await), &[]).await.err(), None);
    let other = world.user("bob@example.com", Role::User);
    let foreign = format!("/ws/{other}?ticket={}", ticket(&session).await);
    assert_eq!(world.socket(&foreign, &[]).await.err(), Some(403), "another user's stream");

    let unused = ticket(&session).await;
    assert_eq!(session.post("/auth/logout", &json!({})).await.status, StatusCode::NO_CONTENT);
    assert_eq!(socket.closed().await, 4401);
    assert_eq!(world.socket(&at(&unused), &[]).await.err(), Some(401), "its session has ended");
}

/// WSS-2: tickets that wait are counted; used and late ones make room.
#[tokio::test]
async fn tickets_that_wait_are_counted() {
    let world = World::start().await;
    let user = world.user("ann@example.com", Role::User);
    let session = world.login("ann@example.com").await;
    ticket(&session).await;
    world.test.execute(&format!(
        "INSERT INTO ws_tickets SELECT sha256(n::text::bytea), t.user_id, t.session_id, t.created_at, t.expires_at \
         FROM ws_tickets t, generate_series(1, 98) n WHERE t.user_id = {user}"
    ));
    let last = ticket(&session).await;
    let refused = session.post("/ws/ticket", &json!({})).await;
    assert_eq!((refused.status.as_u16(), refused.code()), (429, "rate_limited"), "{}", refused.text);
    assert!(refused.headers.contains_key("retry-after"));
    world.socket(&at(&last), &[]).await.unwrap();
    ticket(&session).await;
    world.clock.advance(TimeDelta::seconds(30));
    ticket(&session).await;
}

/// What programs publish reaches the owner's sockets as it came, and nobody else's; what is refused leaves nothing.
#[tokio::test]
async fn published_events_reach_their_owner() {
    let world = World::start().await;
    let ann = world.user("ann@example.com", Role::User);
    world.user("bob@example.com", Role::User);
    let (session, stranger) = (world.login("ann@example.com").await, world.login("bob@example.com").await);
    let program = world.api_token(ann, &[Scope::TradePaper]);
    let (mut hers, mut his) = (hear(&world, &session, "").await, hear(&world, &stranger, "").await);
    let progress =
        json!({"strategy": "breakout", "trial": 3, "total": 100, "best": 1.25, "params": {"n": [1, 2]}});
    let update = json!({
        "test": "exits", "status": "running",
        "arms": [{"name": "a", "trades": 4, "pnl": "12.50", "sharpe": 1.1}, {"name": "b", "trades": 0, "pnl": 0}],
    });
    let routes = [
        ("/events/optimization-progress", "optimization_progress", &progress),
        ("/events/ab-test-update", "ab_test_update", &update),
    ];
    for (offset, (path, kind, body)) in (1..).zip(routes) {
        let reply = program.post(path, body).await;
        assert_eq!(reply.status, StatusCode::CREATED, "{}", reply.text);
        assert_eq!(
            (&reply.body["stream"], &reply.body["offset"]),
            (&json!(format!("user:{ann}")), &json!(offset))
        );
        let heard = hers.next().await;
        assert_eq!((&heard["type"], &heard["data"], &heard["offset"]), (&json!(kind), body, &json!(offset)));
    }

    let word = "x".repeat(201);
    for (path, body, status) in [
        ("/events/optimization-progress", json!({"strategy": "", "trial": 1, "total": 2}), 422),
        ("/events/optimization-progress", json!({"strategy": word, "trial": 1, "total": 2}), 422),
        ("/events/optimization-progress", json!({"strategy": "s", "trial": 3, "total": 2}), 422),
        ("/events/optimization-progress", json!({"strategy": "s", "trial": -1, "total": 2}), 422),
        ("/events/optimization-progress", json!({"strategy": "s", "trial": 1, "total": 2, "x": 1}), 422),
        (
            "/events/optimization-progress",
            json!({"strategy": "s", "trial": 1, "total": 2, "params": []}),
            422,
        ),
        ("/events/optimization-progress", json!({"strategy": "s", "trial": 1}), 422),
        ("/events/optimization-progress", json!([1]), 422),
        (
            "/events/optimization-progress",
            json!({"strategy": "s", "trial": 1, "total": 2, "best": "y".repeat(17_000)}),
            413,
        ),
        ("/events/ab-test-update", json!({"test": "t", "status": "s", "arms": []}), 422),
        (
            "/events/ab-test-update",
            json!({"test": "t", "status": "s", "arms": [{"name": "a", "trades": 1}]}),
            422,
        ),
        (
            "/events/ab-test-update",
            json!({"test": "t", "status": "s", "arms": [{"name": "a", "trades": 1, "pnl": "much"}]}),
            422,
        ),
        (
            "/events/ab-test-update",
            json!({"test": "t", "status": "s", "arms": [{"name": "a", "trades": 1, "pnl": true}]}),
            422,
        ),
    ] {
        let reply = program.post(path, &body).await;
        assert_eq!(reply.status.as_u16(), status, "{body}: {}", reply.text);
    }
    let garbage =
        program.request(reqwest::Method::POST, routes[0].0, Some(("{".into(), "application/json"))).await;
    assert_eq!((garbage.status.as_u16(), garbage.code()), (400, "malformed"));
    assert_eq!(head(&world, ann.0), 2, "and nothing of it is in the stream");

    his.send(r#"{"type":"ping"}"#).await;
    assert_eq!(his.next().await["type"], "pong", "he heard nothing");
}

/// A program that publishes too fast is refused, and only that.
#[tokio::test]
async fn publishing_is_limited() {
    let world = World::start().await;
    let ann = world.user("ann@example.com", Role::User);
    let program = world.api_token(ann, &[Scope::TradePaper, Scope::Read]);
    let body = json!({"strategy": "s", "trial": 1, "total": 2});
    let mut refused: Option<Reply> = None;
    for _ in 0..2_000 {
        let reply = program.post("/events/optimization-progress", &body).await;
        if reply.status != StatusCode::CREATED {
            refused = Some(reply);
            break;
        }
    }
    let refused = refused.expect("a refusal");
    assert_eq!((refused.status.as_u16(), refused.code()), (429, "rate_limited"), "{}", refused.text);
    assert!(refused.headers.contains_key("retry-after"));
    assert_eq!(program.get("/auth/me").await.status, StatusCode::OK);
}

/// An administrator's alert is heard by everybody, now or on coming back, and is on record.
#[tokio::test]
async fn alerts_reach_everybody() {
    let world = World::start().await;
    let (ann, root) =
        (world.user("ann@example.com", Role::User), world.user("root@example.com", Role::Admin));
    let (session, admin) = (world.login("ann@example.com").await, world.login("root@example.com").await);
    let bearer = format!("Bearer {}", session.token());
    let mut socket = world.socket("/ws", &[("authorization", &bearer)]).await.unwrap();
    let cursor = socket.next().await["cursor"].as_str().unwrap().to_owned();
    let mut away = hear(&world, &session, &format!("?cursor={cursor}")).await;
    drop(socket);

    let alert = json!({"message": "Maintenance at 22:00 – about 10 minutes", "severity": "warning"});
    let sent = admin.post("/admin/alerts", &alert).await;
    assert_eq!(
        (sent.status, &sent.body["stream"]),
        (StatusCode::CREATED, &json!("broadcast")),
        "{}",
        sent.text
    );
    let heard = until(&mut away, "system_alert").await;
    assert_eq!((&heard["data"], &heard["stream"]), (&alert, &json!("broadcast")));
    let mut back = hear(&world, &session, &format!("?cursor={cursor}")).await;
    assert_eq!(until(&mut back, "system_alert").await["data"], alert);
    let entry = world.rows(
        "SELECT actor_id, outcome, detail::jsonb->>'message' AS message FROM audit_log WHERE action = 'alert.publish'",
    );
    assert_eq!((entry.len(), &entry[0]["actor_id"]), (1, &json!(root.0)));
    assert_eq!(entry[0]["message"], alert["message"]);

    for body in [
        json!({"message": "", "severity": "info"}),
        json!({"message": " ", "severity": "info"}),
        json!({"message": "x".repeat(501), "severity": "info"}),
        json!({"message": "x", "severity": "loud"}),
        json!({"message": "x"}),
        json!({"message": "x", "severity": "info", "to": 1}),
    ] {
        assert_eq!(admin.post("/admin/alerts", &body).await.status, 422, "{body}");
    }
    assert_eq!(session.post("/admin/alerts", &alert).await.status, 403);
    let user_token = world.api_token(ann, &[Scope::Admin]);
    assert_eq!(user_token.post("/admin/alerts", &alert).await.status, 403);
    assert_eq!(head(&world, 0), 1);
}

async fn place(client: &Client, key: &str, body: &Value) -> String {
    let reply = client.clone().header("idempotency-key", key).post("/orders?wait_ms=0", body).await;
    assert_eq!(reply.status.as_u16(), 202, "{}", reply.text);
    reply.body["id"].as_str().unwrap().to_owned()
}

fn cursor(reply: &Reply) -> String {
    assert_eq!(reply.status, StatusCode::OK, "{}", reply.text);
    reply.headers["plimsoll-cursor"].to_str().unwrap().to_owned()
}

/// A list carries the cursor of its own moment: whoever resumes there hears what the list does not show, and nothing else.
#[tokio::test]
async fn a_snapshot_is_followed_without_a_hole() {
    let world = World::start().await;
    let user = world.user("ann@example.com", Role::User);
    world.connect(user);
    let session = world.login("ann@example.com").await;
    let order = |class: &str| {
        let mut body = json!({"symbol": "SPY", "side": "buy", "type": "limit", "limit_price": "100",
                              "time_in_force": "day", "qty": "1"});
        if class == "bracket" {
            body["order_class"] = json!("bracket");
            body["take_profit"] = json!({"limit_price": "120"});
            body["stop_loss"] = json!({"stop_price": "90"});
        }
        body
    };
    let paths = ["/orders", "/positions"];
    for (round, class) in ["none", "simple", "bracket"].into_iter().enumerate() {
        if class != "none" {
            place(&session, &format!("seen-{round}"), &order(class)).await;
        }
        let mut cursors = Vec::new();
        for path in paths {
            cursors.push(cursor(&session.get(path).await));
        }
        assert_eq!(cursors[0], cursors[1], "nothing happened between");
        let before = head(&world, user.0);
        let next = place(&session, &format!("after-{round}"), &order("simple")).await;
        let mut socket = hear(&world, &session, &format!("?cursor={}", cursors[0])).await;
        let recovered = socket.next().await;
        assert_eq!(
            (&recovered["type"], &recovered["from"], &recovered["to"]),
            (&json!("recovered"), &json!(before + 1), &json!(before + 1)),
            "{class}: {recovered}"
        );
        let event = until(&mut socket, "order_created").await;
        assert_eq!((&event["data"]["id"], &event["offset"]), (&json!(next), &json!(before + 1)), "{class}");
        assert_ne!(cursor(&session.get("/orders").await), cursors[0]);
    }
}

/// A program that did not hear the answer publishes again under the same key: the event stands in the stream once.
#[tokio::test]
async fn an_event_under_a_key_is_published_once() {
    let world = World::start().await;
    let ann = world.user("ann@example.com", Role::User);
    let program = world.api_token(ann, &[Scope::TradePaper]).header("idempotency-key", "trial-3");
    let progress = json!({"strategy": "breakout", "trial": 3, "total": 100});
    let path = "/events/optimization-progress";
    let (first, again) = (program.post(path, &progress).await, program.post(path, &progress).await);
    assert_eq!((first.status, &first.text), (StatusCode::CREATED, &again.text));
    assert_eq!(again.headers["idempotency-replayed"], "true");
    let other = json!({"strategy": "breakout", "trial": 4, "total": 100});
    assert_eq!(program.post(path, &other).await.code(), "idempotency_key_reused");
    let events = "SELECT off FROM stream_event WHERE kind = 'optimization_progress'";
    assert_eq!(world.rows(events).len(), 1);
}
