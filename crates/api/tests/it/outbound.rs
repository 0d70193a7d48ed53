//! Outgoing webhooks over HTTP.

use std::io::{Read, Write};
use std::net::TcpListener;
use std::sync::mpsc;

use plimsoll_auth::Role;
use plimsoll_auth::api_tokens::Scope;
use plimsoll_crypto::WebhookSecret;
use reqwest::{Method, StatusCode};
use serde_json::{Value, json};

use crate::api_tokens::stepped_up;
use crate::world::{Client, Reply, World};

const PATH: &str = "/webhooks/outbound";

async fn create(client: &Client, body: Value) -> Reply {
    client.post(PATH, &body).await
}

async fn patch(client: &Client, id: &str, body: Value) -> Reply {
    client.send(Method::PATCH, &format!("{PATH}/{id}"), Some(&body)).await
}

fn id(reply: &Reply) -> String {
    reply.body["id"].as_str().unwrap_or_else(|| panic!("{}", reply.text)).to_owned()
}

/// A receiver of one message, and its answer; the port, and what it was sent.
fn receiver(answer: &'static str) -> (u16, mpsc::Receiver<String>) {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let port = listener.local_addr().unwrap().port();
    let (sends, got) = mpsc::channel();
    std::thread::spawn(move || {
        let (mut stream, _) = listener.accept().unwrap();
        let (mut request, mut buffer) = (Vec::new(), [0; 4096]);
        while !request.ends_with(b"}") {
            let read = stream.read(&mut buffer).unwrap();
            assert!(read > 0, "a whole message");
            request.extend_from_slice(&buffer[..read]);
        }
        stream.write_all(answer.as_bytes()).unwrap();
        sends.send(String::from_utf8(request).unwrap()).unwrap();
    });
    (port, got)
}

/// WHK-4: a secret is shown once, when it is made and when it is replaced; nowhere else, in no list and no entry.
#[tokio::test]
async fn a_secret_is_shown_once() {
    let world = World::start().await;
    let ann = world.user("ann@example.com", Role::User);
    let client = stepped_up(&world, "ann@example.com").await;
    let made =
        create(&client, json!({ "url": "https://hooks.example/a?b=c", "events": ["order_filled"] })).await;
    assert_eq!(made.status, StatusCode::CREATED, "{}", made.text);
    let secret = made.body["secret"].as_str().unwrap().to_owned();
    assert!(WebhookSecret::parse(&secret).is_ok());
    assert_eq!((&made.body["description"], &made.body["enabled"]), (&json!("hooks.example"), &json!(true)));
    assert_eq!(made.body["events"], json!(["order_filled"]));
    assert_eq!(made.body["previous_secret_until"], Value::Null);
    let path = format!("{PATH}/{}", id(&made));

    let rotated = client.post(&format!("{path}/rotate"), &json!({})).await;
    assert_eq!(rotated.status, StatusCode::OK, "{}", rotated.text);
    let second = rotated.body["secret"].as_str().unwrap().to_owned();
    assert!(WebhookSecret::parse(&second).is_ok() && second != secret);
    assert!(rotated.body["previous_secret_until"].is_string());

    let reader = world.api_token(ann, &[Scope::Read]);
    for asked in [&path, &format!("{path}/deliveries"), &PATH.to_owned(), &"/audit".to_owned()] {
        let reply = reader.get(asked).await;
        assert_eq!(reply.status, StatusCode::OK, "{asked} {}", reply.text);
        for secret in [&secret, &second] {
            assert!(!reply.text.contains(&secret["whsec_".len()..]), "{asked}");
        }
        assert!(!reply.text.contains("b=c") || !asked.contains("audit"), "the log names the host alone");
    }
    let actions =
        world.rows("SELECT action FROM audit_log WHERE action LIKE 'webhook.%' ORDER BY at, action");
    assert_eq!(
        actions.iter().map(|row| row["action"].as_str().unwrap()).collect::<Vec<_>>(),
        ["webhook.create", "webhook.rotate"]
    );
}

#[tokio::test]
async fn webhooks_are_changed_listed_and_deleted() {
    let world = World::start().await;
    world.user("ann@example.com", Role::User);
    world.user("bob@example.com", Role::User);
    let (client, bob) = (stepped_up(&world, "ann@example.com").await, world.login("bob@example.com").await);
    let mut ids = Vec::new();
    for n in 0..3 {
        let made =
            create(&client, json!({ "url": "https://hooks.example/", "description": format!("hook {n}") }))
                .await;
        ids.push(id(&made));
    }
    ids.reverse();
    let page = client.get(&format!("{PATH}?limit=2")).await;
    let listed = |page: &Reply| -> Vec<String> {
        page.body["items"]
            .as_array()
            .unwrap()
            .iter()
            .map(|hook| hook["id"].as_str().unwrap().to_owned())
            .collect()
    };
    assert_eq!(listed(&page), ids[..2]);
    let cursor = page.body["next_cursor"].as_str().unwrap();
    let rest = client.get(&format!("{PATH}?limit=2&cursor={cursor}")).await;
    assert_eq!((listed(&rest), &rest.body["next_cursor"]), (ids[2..].to_vec(), &Value::Null));
    assert_eq!(client.get(&format!("{PATH}?cursor=bad")).await.code(), "invalid_cursor");
    assert_eq!(bob.get(PATH).await.body["items"], json!([]));

    let changed =
        patch(&client, &ids[0], json!({ "enabled": false, "description": "other", "events": [] })).await;
    assert_eq!(changed.status, StatusCode::OK, "{}", changed.text);
    assert_eq!((&changed.body["state"], &changed.body["description"]), (&json!("paused"), &json!("other")));
    let quiet = create(&client, json!({ "url": "https://hooks.example/", "enabled": false })).await;
    assert_eq!(
        (&quiet.body["enabled"], &quiet.body["state"]),
        (&json!(false), &json!("paused")),
        "{}",
        quiet.text
    );
    let nothing = patch(&client, &ids[0], json!({})).await;
    assert_eq!((nothing.status, &nothing.body["state"]), (StatusCode::OK, &json!("paused")));

    // What is of another user is not there.
    let path = format!("{PATH}/{}", ids[1]);
    let strange = [
        bob.get(&path).await,
        patch(&bob, &ids[1], json!({ "description": "mine" })).await,
        bob.post(&format!("{path}/rotate"), &json!({})).await,
        bob.post(&format!("{path}/test"), &json!({})).await,
        bob.get(&format!("{path}/deliveries")).await,
        bob.delete(&path).await,
        client.get(&format!("{PATH}/no-id")).await,
        client.get(&format!("{PATH}/0196a6b0-1111-7222-8333-444455556666")).await,
    ];
    for reply in strange {
        assert_eq!((reply.status, reply.code()), (StatusCode::NOT_FOUND, "not_found"), "{}", reply.text);
    }
    assert_eq!(client.delete(&path).await.status, StatusCode::NO_CONTENT);
    assert_eq!(client.delete(&path).await.status, StatusCode::NOT_FOUND);
}

/// WHK-6: whatever leads into a private network, is not encrypted, or is no address is refused before it is stored.
#[tokio::test]
async fn bad_wishes_change_nothing() {
    let world = World::start().await;
    world.user("ann@example.com", Role::User);
    let client = stepped_up(&world, "ann@example.com").await;
    let good = id(&create(&client, json!({ "url": "https://hooks.example/" })).await);
    for (url, code) in [
        ("", "invalid_url"),
        ("hooks.example", "invalid_url"),
        ("javascript:alert(1)", "invalid_url"),
        ("https://10.0.0.1/", "address_refused"),
        ("https://[::1]:8443/", "address_refused"),
        ("https://169.254.169.254/latest/meta-data/", "address_refused"),
        ("https://2852039166/", "address_refused"),
        ("https://[::ffff:192.168.0.1]/", "address_refused"),
        ("http://10.0.0.1/", "address_refused"),
        ("https://hooks.example:25/", "port_refused"),
        ("https://ann:word@hooks.example/", "credentials_in_url"),
        ("https://hooks.example/#x", "fragment_in_url"),
    ] {
        for reply in
            [create(&client, json!({ "url": url })).await, patch(&client, &good, json!({ "url": url })).await]
        {
            assert_eq!(reply.status, StatusCode::UNPROCESSABLE_ENTITY, "{url} {}", reply.text);
            let error = &reply.body["errors"][0];
            assert_eq!((&error["pointer"], &error["code"]), (&json!("/url"), &json!(code)), "{url}");
        }
    }
    for (field, value, code) in [
        ("description", json!(""), "invalid_description"),
        ("description", json!("a\u{7}b"), "invalid_description"),
        ("description", json!("x".repeat(101)), "invalid_description"),
        ("events", json!(["order_filled", "order_lost"]), "unknown_event"),
        ("events", json!(vec!["order_filled"; 13]), "too_many"),
        ("secret", json!("whsec_AAAA"), "unknown_field"),
    ] {
        let reply = create(&client, json!({ "url": "https://hooks.example/", field: value })).await;
        assert_eq!(reply.status, StatusCode::UNPROCESSABLE_ENTITY, "{}", reply.text);
        assert_eq!(reply.body["errors"][0]["code"], code, "{}", reply.text);
    }
    assert_eq!(patch(&client, &good, json!({ "state": "active" })).await.code(), "validation_failed");
    assert_eq!(create(&client, json!({})).await.code(), "validation_failed");
    assert_eq!(world.rows("SELECT id FROM outbound_hooks").len(), 1);
    let state = client.get(&format!("{PATH}/{good}/deliveries?state=lost")).await;
    assert_eq!(state.body["errors"][0]["pointer"], "?state");

    for _ in 1..20 {
        assert_eq!(
            create(&client, json!({ "url": "https://hooks.example/" })).await.status,
            StatusCode::CREATED
        );
    }
    let many = create(&client, json!({ "url": "https://hooks.example/" })).await;
    assert_eq!((many.status, many.code()), (StatusCode::CONFLICT, "too_many_webhooks"));
}

/// The test button tells what came of it, and so does the log; it is no way to flood somebody.
#[tokio::test]
async fn a_test_is_posted_at_once_and_logged() {
    let world = World::start().await;
    world.user("ann@example.com", Role::User);
    let client = stepped_up(&world, "ann@example.com").await;
    let answer = "HTTP/1.1 200 OK\r\ncontent-length: 2\r\nconnection: close\r\n\r\nok";
    let (port, got) = receiver(answer);
    let made = create(&client, json!({ "url": format!("http://127.0.0.1:{port}/") })).await;
    let secret = WebhookSecret::parse(made.body["secret"].as_str().unwrap()).unwrap();
    let path = format!("{PATH}/{}", id(&made));
    let tested = client.post(&format!("{path}/test"), &json!({})).await;
    assert_eq!(tested.status, StatusCode::OK, "{}", tested.text);
    assert_eq!((&tested.body["ok"], &tested.body["response"]), (&json!(true), &json!("ok")));
    let request = got.recv().unwrap();
    let header = |name: &str| {
        let line = request.lines().find(|line| line.starts_with(&format!("{name}: ")));
        line.unwrap_or_else(|| panic!("{name} in {request}")).split_once(": ").unwrap().1
    };
    let body = request.split_once("\r\n\r\n").unwrap().1;
    let signature = header("webhook-signature");
    assert!(secret.verify(header("webhook-id"), header("webhook-timestamp"), body.as_bytes(), signature));
    assert_eq!(header("webhook-timestamp"), world.now().timestamp().to_string());

    // Nobody is there any more.
    let failed = client.post(&format!("{path}/test"), &json!({})).await;
    assert_eq!((&failed.body["ok"], &failed.body["error"]), (&json!(false), &json!("not_connected")));
    let log = client.get(&format!("{path}/deliveries")).await;
    let states: Vec<_> =
        log.body["items"].as_array().unwrap().iter().map(|row| row["state"].as_str().unwrap()).collect();
    assert_eq!(states, ["failed", "delivered"]);
    assert_eq!(log.body["items"][1]["message_id"], tested.body["message_id"]);
    let one = client.get(&format!("{path}/deliveries?limit=1")).await;
    let next = client
        .get(&format!("{path}/deliveries?limit=1&cursor={}", one.body["next_cursor"].as_str().unwrap()))
        .await;
    assert_eq!(next.body["items"][0]["id"], log.body["items"][1]["id"]);
    assert_eq!(
        client.get(&format!("{path}/deliveries?state=delivered")).await.body["items"],
        json!([log.body["items"][1]])
    );
    let hook = client.get(&path).await;
    assert_eq!(
        (&hook.body["state"], &hook.body["failures"]),
        (&json!("active"), &json!(0)),
        "a test disables nothing"
    );

    for _ in 2..10 {
        client.post(&format!("{path}/test"), &json!({})).await;
    }
    let flood = client.post(&format!("{path}/test"), &json!({})).await;
    assert_eq!((flood.status, flood.code()), (StatusCode::TOO_MANY_REQUESTS, "rate_limited"));
    assert!(flood.headers.contains_key("retry-after"));

    world.test.execute("UPDATE outbound_hooks SET secret = '\\x00'");
    world.clock.advance(chrono::TimeDelta::minutes(2));
    let unreadable = client.post(&format!("{path}/test"), &json!({})).await;
    assert_eq!(unreadable.code(), "credential_unavailable", "{}", unreadable.text);
}

/// WHK-6: where events go is chosen with a factor proven a moment ago, and its owner is told by mail.
#[tokio::test]
async fn a_stolen_session_sends_nothing_away_in_silence() {
    let world = World::start().await;
    world.user("ann@example.com", Role::User);
    let (client, proven) =
        (world.login("ann@example.com").await, stepped_up(&world, "ann@example.com").await);
    let wish = json!({ "url": "https://hooks.example/a" });
    let refused = create(&client, wish.clone()).await;
    assert_eq!((refused.status, refused.code()), (StatusCode::FORBIDDEN, "step_up_required"));
    assert_eq!(refused.body["methods"], json!(["password"]));
    assert_eq!(world.rows("SELECT id FROM outbound_hooks").len(), 0);
    let mails = || world.rows("SELECT id FROM mail_outbox WHERE kind = 'webhook_added'").len();
    assert_eq!(mails(), 0);

    let hook = id(&create(&proven, wish).await);
    assert_eq!(mails(), 1);
    for wish in [json!({ "url": "https://other.example/" }), json!({ "enabled": true })] {
        let refused = patch(&client, &hook, wish).await;
        assert_eq!(refused.code(), "step_up_required", "{}", refused.text);
    }
    for wish in [json!({ "description": "mine" }), json!({ "enabled": false }), json!({ "events": [] })] {
        assert_eq!(patch(&client, &hook, wish.clone()).await.status, StatusCode::OK, "{wish}");
    }
    let same = json!({ "url": "https://hooks.example/a", "enabled": true });
    assert_eq!(patch(&proven, &hook, same).await.body["state"], "active");
    assert_eq!(mails(), 1, "nothing leads elsewhere");
    let moved = patch(&proven, &hook, json!({ "url": "https://other.example/" })).await;
    assert_eq!((moved.status, mails()), (StatusCode::OK, 2), "{}", moved.text);
}

/// A retry after a lost answer gets the same webhook and the same secret, which is kept sealed.
#[tokio::test]
async fn a_retry_under_its_key_makes_no_second_webhook() {
    let world = World::start().await;
    world.user("ann@example.com", Role::User);
    world.user("bob@example.com", Role::User);
    let client = stepped_up(&world, "ann@example.com").await;
    let keyed = client.clone().header("idempotency-key", "hook-1");
    let wish = json!({ "url": "https://hooks.example/a" });
    let first = create(&keyed, wish.clone()).await;
    assert_eq!(first.status, StatusCode::CREATED, "{}", first.text);
    assert!(!first.headers.contains_key("idempotency-replayed"));
    let again = create(&keyed, wish.clone()).await;
    assert_eq!((again.status, &again.text), (StatusCode::CREATED, &first.text), "byte for byte");
    assert_eq!(again.headers["idempotency-replayed"], "true");
    let other = create(&keyed, json!({ "url": "https://hooks.example/b" })).await;
    assert_eq!(other.code(), "idempotency_key_reused");
    let rotate = format!("{PATH}/{}/rotate", id(&first));
    assert_eq!(keyed.post(&rotate, &json!({})).await.code(), "idempotency_key_reused");
    assert_eq!(world.rows("SELECT id FROM outbound_hooks").len(), 1);
    assert_eq!(world.rows("SELECT id FROM mail_outbox WHERE kind = 'webhook_added'").len(), 1);

    // A rotation is done once as well, or the secret of the first answer would be the old one already.
    let keyed = client.clone().header("idempotency-key", "rotate-1");
    let rotated = keyed.post(&rotate, &json!({})).await;
    let again = keyed.post(&rotate, &json!({})).await;
    assert_eq!((rotated.status, &again.text), (StatusCode::OK, &rotated.text));
    let secret = first.body["secret"].as_str().unwrap();
    let kept = world.rows("SELECT encode(body, 'escape') AS body, status FROM idempotency_keys ORDER BY key");
    assert_eq!(kept.len(), 2);
    for row in &kept {
        let body = row["body"].as_str().unwrap();
        assert!(!body.contains("whsec_") && !body.contains(&secret["whsec_".len()..]), "{body}");
    }

    // What had no effect keeps nothing, and keys of users never meet.
    let refused = create(&client.clone().header("idempotency-key", "bad-1"), json!({ "url": "" })).await;
    assert_eq!(refused.status, StatusCode::UNPROCESSABLE_ENTITY);
    let malformed = create(&client.clone().header("idempotency-key", "two words"), wish.clone()).await;
    assert_eq!((malformed.status, malformed.code()), (StatusCode::BAD_REQUEST, "malformed"));
    assert_eq!(world.rows("SELECT key FROM idempotency_keys").len(), 2);
    let bob = stepped_up(&world, "bob@example.com").await.header("idempotency-key", "hook-1");
    let theirs = create(&bob, wish.clone()).await;
    assert_eq!(theirs.status, StatusCode::CREATED);
    assert_ne!(theirs.body["id"], first.body["id"]);

    // A secret that does not open is not shown, and nothing else is done instead.
    world.test.execute("UPDATE user_keys SET wrapped = '\\x00'");
    assert_eq!(keyed.post(&rotate, &json!({})).await.code(), "credential_unavailable");
    // After a day the key is free again.
    world.test.execute("UPDATE idempotency_keys SET expires_at = now() - interval '1 second'");
    let late = create(&client.header("idempotency-key", "hook-1"), json!({ "url": "" })).await;
    assert_eq!(late.status, StatusCode::UNPROCESSABLE_ENTITY);
}
