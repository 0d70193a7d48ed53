//! API tokens over HTTP.

use chrono::{SecondsFormat, TimeDelta};
use plimsoll_auth::Role;
use plimsoll_auth::api_tokens::Scope;
use plimsoll_crypto::tokens::ApiToken;
use reqwest::{Method, StatusCode};
use serde_json::{Value, json};

use crate::world::{Client, PASSWORD, World};

/// A client whose factor was proven just now.
pub(crate) async fn stepped_up(world: &World, email: &str) -> Client {
    let client = world.login(email).await;
    let reply = client.post("/auth/step-up", &json!({ "password": PASSWORD })).await;
    assert_eq!(reply.status, StatusCode::OK, "{}", reply.body);
    world.client().bearer(reply.body["token"].as_str().unwrap())
}

fn wish(world: &World, days: i64) -> Value {
    let end = world.now() + TimeDelta::days(days);
    json!({ "name": "robot", "scopes": ["read"], "expires_at": end.to_rfc3339_opts(SecondsFormat::Secs, true) })
}

fn with(mut wish: Value, field: &str, value: Value) -> Value {
    wish[field] = value;
    wish
}

async fn delete(client: &Client, id: &str) -> StatusCode {
    client.send(Method::DELETE, &format!("/auth/api-tokens/{id}"), None).await.status
}

/// TOK-1, TOK-2, TOK-5: a token is made after step-up, shown once, told of by mail, listed without itself.
#[tokio::test]
async fn a_token_is_shown_once() {
    let world = World::start().await;
    world.user("ann@example.com", Role::User);
    let wanted = with(wish(&world, 30), "allowed_ips", json!(["127.0.0.0/8", "2001:db8::1"]));
    let early = world.login("ann@example.com").await.post("/auth/api-tokens", &wanted).await;
    assert_eq!((early.status, &early.body["code"]), (StatusCode::FORBIDDEN, &json!("step_up_required")));
    assert!(world.rows("SELECT id FROM api_tokens").is_empty());

    let client = stepped_up(&world, "ann@example.com").await;
    let made = client.post("/auth/api-tokens", &wanted).await;
    assert_eq!(made.status, StatusCode::CREATED, "{}", made.body);
    let token = made.body["token"].as_str().unwrap();
    assert!(ApiToken::parse(token).is_ok() && token.starts_with("plm_"));
    assert_eq!(made.body["scopes"], json!(["read"]));
    assert_eq!(made.body["last_used_at"], Value::Null);
    let mails = world.rows("SELECT kind FROM mail_outbox WHERE kind = 'new_api_token'");
    assert_eq!(mails.len(), 1);

    let list = client.get("/auth/api-tokens").await;
    assert!(!list.text.contains(token) && !list.text.contains("digest"), "{}", list.text);
    let item = &list.body["items"][0];
    assert_eq!((&item["id"], &item["name"]), (&made.body["id"], &json!("robot")));
    assert_eq!(item["allowed_ips"], json!(["127.0.0.0/8", "2001:db8::1"]));
    assert_eq!(list.body["next_cursor"], Value::Null);

    let id = made.body["id"].as_str().unwrap();
    assert_eq!(delete(&client, id).await, StatusCode::NO_CONTENT);
    assert_eq!(client.get("/auth/api-tokens").await.body["items"], json!([]));
}

/// TOK-4: a change of the password ends the owner's tokens when asked, and leaves them otherwise; others keep theirs.
#[tokio::test]
async fn a_change_of_the_password_ends_the_tokens_when_asked() {
    let world = World::start().await;
    let ann = world.user("ann@example.com", Role::User);
    let bob = world.user("bob@example.com", Role::User);
    let (anns, bobs) = (world.api_token(ann, &[Scope::Read]), world.api_token(bob, &[Scope::Read]));
    let mut client = world.login("ann@example.com").await;
    let mut current = PASSWORD;
    for (new, asked, left) in [
        ("lantern-Otter 92 quarry", None, StatusCode::OK),
        ("kestrel pavement 17 umbrella", Some(false), StatusCode::OK),
        ("quarry-Kestrel 92 pavement", Some(true), StatusCode::UNAUTHORIZED),
    ] {
        let mut body = json!({ "current_password": current, "new_password": new });
        if let Some(asked) = asked {
            body["revoke_api_tokens"] = asked.into();
        }
        let reply = client.post("/auth/change-password", &body).await;
        assert_eq!(reply.status, StatusCode::OK, "{}", reply.body);
        assert_eq!(anns.get("/auth/me").await.status, left, "{asked:?}");
        client = world.client().bearer(reply.body["token"].as_str().unwrap());
        current = new;
    }
    assert_eq!(bobs.get("/auth/me").await.status, StatusCode::OK);
}

/// TOK-2: an end is demanded and at most a year away; scopes, names and networks are checked; nothing is kept.
#[tokio::test]
async fn wishes_out_of_bounds_are_refused() {
    let world = World::start().await;
    world.user("ann@example.com", Role::User);
    let client = stepped_up(&world, "ann@example.com").await;
    let good = || wish(&world, 30);
    let mut endless = good();
    endless.as_object_mut().unwrap().remove("expires_at");
    for (wanted, pointer) in [
        (endless, "/expires_at"),
        (wish(&world, 367), "/expires_at"),
        (wish(&world, 0), "/expires_at"),
        (with(good(), "name", json!("")), "/name"),
        (with(good(), "scopes", json!([])), "/scopes"),
        (with(good(), "scopes", json!(["read", "root"])), "/scopes/1"),
        (with(good(), "allowed_ips", json!(["10.0.0.1/8"])), "/allowed_ips/0"),
        (with(good(), "user_id", json!(1)), "/user_id"),
    ] {
        let reply = client.post("/auth/api-tokens", &wanted).await;
        assert_eq!(reply.status, StatusCode::UNPROCESSABLE_ENTITY, "{wanted}");
        assert_eq!(reply.body["errors"][0]["pointer"], pointer, "{}", reply.body);
    }
    for scope in ["admin", "trade_live"] {
        let reply = client.post("/auth/api-tokens", &with(good(), "scopes", json!([scope]))).await;
        assert_eq!((reply.status, &reply.body["code"]), (StatusCode::FORBIDDEN, &json!("access_denied")));
    }
    assert!(world.rows("SELECT id FROM api_tokens").is_empty());
    assert!(world.rows("SELECT id FROM mail_outbox WHERE kind = 'new_api_token'").is_empty());
    let denied =
        world.rows("SELECT seq FROM audit_log WHERE action = 'api_token.create' AND outcome = 'denied'");
    assert_eq!(denied.len(), 2);

    // Under a key as well; what is refused leaves the key free.
    let keyed = client.clone().header("idempotency-key", "token-1");
    let refused = keyed.post("/auth/api-tokens", &with(good(), "scopes", json!(["admin"]))).await;
    assert_eq!((refused.status, &refused.body["code"]), (StatusCode::FORBIDDEN, &json!("access_denied")));
    let denied = "SELECT seq FROM audit_log WHERE action = 'api_token.create' AND outcome = 'denied'";
    assert_eq!(world.rows(denied).len(), 3);
    let made = keyed.post("/auth/api-tokens", &good()).await;
    assert_eq!(made.status, StatusCode::CREATED, "{}", made.body);
    let again = keyed.post("/auth/api-tokens", &good()).await;
    assert_eq!(again.text, made.text, "the same token");
    assert_eq!(world.rows("SELECT id FROM api_tokens").len(), 1);
}

/// ADM-2: another's token, one that never was, and text that is no id are one and the same 404.
#[tokio::test]
async fn foreign_and_unknown_tokens_are_alike() {
    let world = World::start().await;
    world.user("ann@example.com", Role::User);
    world.user("bob@example.com", Role::Admin);
    let ann = stepped_up(&world, "ann@example.com").await;
    let made = ann.post("/auth/api-tokens", &wish(&world, 1)).await;
    let bob = world.login("bob@example.com").await;
    let mut answers = Vec::new();
    for id in [made.body["id"].as_str().unwrap(), "00000000-0000-4000-8000-000000000000", "x"] {
        let reply = bob.send(Method::DELETE, &format!("/auth/api-tokens/{id}"), None).await;
        assert_eq!(reply.status, StatusCode::NOT_FOUND);
        answers.push((reply.body["code"].clone(), reply.body["detail"].clone()));
    }
    assert!(answers.windows(2).all(|pair| pair[0] == pair[1]), "{answers:?}");
    assert_eq!(bob.get("/auth/api-tokens").await.body, json!({ "items": [], "next_cursor": null }));
    assert_eq!(ann.get("/auth/api-tokens").await.body["items"].as_array().unwrap().len(), 1);
}

#[tokio::test]
async fn lists_go_on_where_they_stopped() {
    let world = World::start().await;
    world.user("ann@example.com", Role::User);
    let client = stepped_up(&world, "ann@example.com").await;
    for n in 0..3 {
        let wanted = with(wish(&world, 1), "name", json!(format!("robot {n}")));
        assert_eq!(client.post("/auth/api-tokens", &wanted).await.status, StatusCode::CREATED);
    }
    let mut seen = std::collections::BTreeSet::new();
    let mut path = "/auth/api-tokens?limit=2".to_owned();
    for more in [true, false] {
        let page = client.get(&path).await;
        for item in page.body["items"].as_array().unwrap() {
            seen.insert(item["name"].as_str().unwrap().to_owned());
        }
        assert_eq!(page.headers.contains_key("link"), more);
        let cursor = page.body["next_cursor"].as_str().unwrap_or_default();
        path = format!("/auth/api-tokens?limit=2&cursor={cursor}");
    }
    assert_eq!(seen.len(), 3);
    assert_eq!(client.get("/auth/api-tokens?cursor=x").await.status, StatusCode::BAD_REQUEST);
}
