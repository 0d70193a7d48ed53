//! Broker credentials and live trading over HTTP.

use plimsoll_auth::Role;
use plimsoll_auth::api_tokens::Scope;
use reqwest::Method;
use serde_json::{Value, json};

use crate::api_tokens::stepped_up;
use crate::world::{Client, Reply, World};

const PATH: &str = "/broker/credentials/alpaca";

fn wish(key: &str, environment: &str) -> Value {
    json!({ "api_key": key, "api_secret": "CANARY-secret-of-the-broker", "environment": environment })
}

async fn put(client: &Client, body: &Value) -> Reply {
    client.send(Method::PUT, PATH, Some(body)).await
}

async fn allow(client: &Client, enabled: bool) -> Reply {
    client.send(Method::PUT, "/account/live", Some(&json!({ "enabled": enabled }))).await
}

async fn order(client: &Client, key: &str) -> Reply {
    let order =
        json!({ "symbol": "SPY", "side": "buy", "type": "market", "time_in_force": "day", "qty": "1" });
    client.clone().header("idempotency-key", key).post("/orders?wait_ms=0", &order).await
}

/// ENC-9, STP-1: saved after a step-up, shown by its ends, listed, deleted.
#[tokio::test]
async fn a_credential_is_saved_shown_by_its_ends_and_deleted() {
    let world = World::start().await;
    let ann = world.user("ann@example.com", Role::User);
    let signed_in = world.login("ann@example.com").await;
    let early = put(&signed_in, &wish("PKCANARY000000001234", "paper")).await;
    assert_eq!((early.status.as_u16(), early.code()), (403, "step_up_required"));

    let client = stepped_up(&world, "ann@example.com").await;
    let saved = put(&client, &wish("PKCANARY000000001234", "paper")).await;
    assert_eq!(saved.status, 200, "{}", saved.text);
    assert_eq!((&saved.body["key_last4"], &saved.body["environment"]), (&json!("1234"), &json!("paper")));
    assert_eq!((&saved.body["broker"], &saved.body["state"]), (&json!("alpaca"), &json!("unverified")));
    assert_eq!(saved.body["fingerprint"].as_str().unwrap().len(), 16);
    let list = client.get("/broker/credentials").await;
    assert_eq!(list.body, json!({ "items": [saved.body], "next_cursor": null }));
    let log = format!("{:?}", world.rows(&format!("SELECT * FROM audit_log WHERE chain = {ann}")));
    assert!(log.contains("credential.save") && !log.contains("CANARY"), "{log}");
    assert!(![saved.text, list.text].concat().contains("CANARY"));

    assert_eq!(signed_in.delete(PATH).await.code(), "step_up_required", "another session proved it");
    assert_eq!(client.delete(PATH).await.status, 204);
    assert_eq!(client.delete(PATH).await.status, 404);
    assert_eq!(client.get("/broker/credentials").await.body["items"], json!([]));
    let deleted = world.rows("SELECT 1 AS x FROM audit_log WHERE action = 'credential.delete'");
    assert_eq!(deleted.len(), 1);
}

/// TOK-3.
#[tokio::test]
async fn an_api_token_neither_reads_nor_changes_credentials() {
    let world = World::start().await;
    let ann = world.user("ann@example.com", Role::Admin);
    for scope in Scope::ALL {
        let robot = world.api_token(ann, &[scope]);
        for reply in [
            put(&robot, &wish("PKCANARY000000001234", "paper")).await,
            robot.get("/broker/credentials").await,
            robot.delete(PATH).await,
            robot.post("/broker/credentials/alpaca/test", &json!({})).await,
            allow(&robot, true).await,
        ] {
            assert_eq!(
                (reply.status.as_u16(), reply.code()),
                (403, "access_denied"),
                "{scope} {}",
                reply.text
            );
        }
    }
}

#[tokio::test]
async fn what_is_no_credential_is_named_by_its_field() {
    let world = World::start().await;
    world.user("ann@example.com", Role::User);
    let client = stepped_up(&world, "ann@example.com").await;
    let good = wish("PKCANARY000000001234", "paper");
    let with = |field: &str, value: Value| {
        let mut body = good.clone();
        body[field] = value;
        body
    };
    for (body, pointer, code) in [
        (with("api_key", json!("PK1")), "/api_key", "invalid_length"),
        (with("api_key", json!("P".repeat(129))), "/api_key", "invalid_length"),
        (with("api_key", json!("PKCANARY 00000001234")), "/api_key", "invalid_characters"),
        (with("api_secret", json!("CANARY-sécret-of-it")), "/api_secret", "invalid_characters"),
        (with("api_secret", json!("x".repeat(257))), "/api_secret", "invalid_length"),
        (with("api_key", json!("AKCANARY000000001234")), "/api_key", "wrong_environment"),
        (with("environment", json!("live")), "/api_key", "wrong_environment"),
        (with("environment", json!("Paper")), "/environment", "invalid"),
    ] {
        let reply = put(&client, &body).await;
        assert_eq!((reply.status.as_u16(), reply.code()), (422, "validation_failed"), "{}", reply.text);
        let error = &reply.body["errors"][0];
        assert_eq!((&error["pointer"], &error["code"]), (&json!(pointer), &json!(code)), "{}", reply.text);
        assert!(!reply.text.contains("CANARY"), "{}", reply.text);
    }
    assert_eq!(put(&client, &with("account", json!("x"))).await.status, 422);
    let unknown = client.send(Method::PUT, "/broker/credentials/other", Some(&good)).await;
    assert_eq!((unknown.status.as_u16(), unknown.code()), (404, "not_found"));
    assert!(world.rows("SELECT 1 AS x FROM broker_credentials").is_empty());
}

#[tokio::test]
async fn the_brokers_word_is_noted() {
    let world = World::start().await;
    let ann = world.user("ann@example.com", Role::User);
    let client = stepped_up(&world, "ann@example.com").await;
    let test = async || client.post("/broker/credentials/alpaca/test", &json!({})).await;
    let state = async || client.get("/broker/credentials").await.body["items"][0]["state"].clone();
    assert_eq!(test().await.code(), "not_found");

    put(&client, &wish("PK0000000000000TAKEN", "paper")).await;
    let taken = test().await;
    assert_eq!(
        taken.body,
        json!({ "ok": true, "account_status": "ACTIVE", "environment": "paper" }),
        "{}",
        taken.text
    );
    assert_eq!(state().await, "valid");

    put(&client, &wish("PK00000000000REFUSED", "paper")).await;
    let refused = test().await;
    assert_eq!((refused.status.as_u16(), refused.code()), (422, "credential_refused"), "{}", refused.text);
    assert_eq!(state().await, "invalid");
    assert_eq!(world.rows("SELECT 1 AS x FROM mail_outbox WHERE kind = 'broker_keys_refused'").len(), 1);
    let alerts = world.rows(&format!("SELECT payload FROM stream_event WHERE stream_id = {ann}"));
    assert_eq!(alerts.len(), 1);

    put(&client, &wish("PK0000000000000AWAY1", "paper")).await;
    let away = test().await;
    assert_eq!((away.status.as_u16(), away.code()), (503, "unavailable"));
    assert_eq!(state().await, "unverified", "nothing was learnt of the keys");

    // Keys of another account than the one in which something is held are never called valid, and that is told once.
    put(&client, &wish("PK0000000000000TAKEN", "paper")).await;
    world.test.execute(
        "UPDATE accounts SET broker_account = 'PA-OTHER'; INSERT INTO positions (account_id, symbol, user_id, qty, \
         cost_basis, realized_pl, updated_at) SELECT id, 'SPY', user_id, 1, 100, 0, now() FROM accounts",
    );
    for _ in 0..2 {
        assert_eq!(test().await.code(), "credential_refused");
        assert_eq!(state().await, "invalid");
        assert_eq!(world.rows("SELECT 1 AS x FROM mail_outbox WHERE kind = 'broker_keys_refused'").len(), 2);
    }
    assert_eq!(world.rows("SELECT 1 AS x FROM audit_log WHERE detail::jsonb->>'to' = 'valid'").len(), 1);
    // Nothing is held any more: the account may be another one.
    world.test.execute("UPDATE positions SET qty = 0, cost_basis = 0");
    assert_eq!(test().await.status, 200);
    assert_eq!(state().await, "valid");
}

/// ENC-13: one answer for whatever keeps a credential from opening, and nothing is lost by it.
#[tokio::test]
async fn a_credential_that_does_not_open_is_unavailable() {
    let world = World::start().await;
    let ann = world.user("ann@example.com", Role::User);
    let client = stepped_up(&world, "ann@example.com").await;
    put(&client, &wish("PK0000000000000TAKEN", "paper")).await;
    world.test.execute("CREATE TABLE kept AS SELECT * FROM broker_credentials; CREATE TABLE kept_keys AS SELECT * FROM user_keys");
    for sql in [
        "UPDATE broker_credentials SET api_key = api_secret",
        "UPDATE broker_credentials SET api_secret = '\\x'",
        "UPDATE user_keys SET wrapped = set_byte(wrapped, 3, get_byte(wrapped, 3) # 1)",
        "DELETE FROM user_keys",
    ] {
        world.test.execute(sql);
        let reply = client.post("/broker/credentials/alpaca/test", &json!({})).await;
        assert_eq!((reply.status.as_u16(), reply.code()), (503, "credential_unavailable"), "{sql}");
        assert_eq!(reply.body["detail"], "the stored credential cannot be used at the moment");
        assert_eq!(client.get("/broker/credentials").await.body["items"][0]["key_last4"], "AKEN");
        world.test.execute(
            "DELETE FROM broker_credentials; INSERT INTO broker_credentials SELECT * FROM kept; \
             DELETE FROM user_keys; INSERT INTO user_keys SELECT * FROM kept_keys",
        );
    }
    assert_eq!(client.post("/broker/credentials/alpaca/test", &json!({})).await.status, 200);
    let log =
        format!("SELECT 1 AS x FROM audit_log WHERE chain = {ann} AND action = 'credential.undecryptable'");
    assert_eq!(world.rows(&log).len(), 1, "once a minute");
}

/// Real money: a second factor, a step-up and the owner's word, or no order.
#[tokio::test]
async fn live_trading_has_to_be_allowed() {
    let world = World::start().await;
    let ann = world.user("ann@example.com", Role::User);
    world.connect(ann);
    let client = stepped_up(&world, "ann@example.com").await;
    assert_eq!(put(&client, &wish("AKCANARY000000001234", "live")).await.status, 200);
    let refused = order(&client, "one").await;
    assert_eq!((refused.status.as_u16(), refused.code()), (403, "live_trading_disabled"), "{}", refused.text);

    let early = allow(&world.login("ann@example.com").await, true).await;
    assert_eq!(early.code(), "step_up_required");
    let without = allow(&client, true).await;
    assert_eq!((without.status.as_u16(), without.code()), (403, "two_factor_enrolment_required"));
    world.test.execute(&format!(
        "INSERT INTO user_2fa (user_id, secret, enabled_at, updated_at) VALUES ({ann}, '\\x00', now(), now())"
    ));
    let allowed = allow(&client, true).await;
    assert_eq!((allowed.status.as_u16(), &allowed.body), (200, &json!({ "enabled": true })));
    let accepted = order(&client, "one").await;
    assert_eq!(accepted.status, 202, "{}", accepted.text);
    assert_eq!(accepted.body["environment"], "live");

    // The word is asked for a replacement too, which may be for more.
    assert_eq!(allow(&client, false).await.status, 200);
    let path = format!("/orders/{}", accepted.body["id"].as_str().unwrap());
    let more = client.clone().header("idempotency-key", "more");
    let more = more.send(Method::PATCH, &path, Some(&json!({ "qty": "2" }))).await;
    assert_eq!((more.status.as_u16(), more.code()), (403, "live_trading_disabled"), "{}", more.text);

    // The other environment waits for that order; then it is found by its id only.
    let waiting = put(&client, &wish("PKCANARY000000001234", "paper")).await;
    assert_eq!((waiting.status.as_u16(), waiting.code()), (409, "orders_open"));
    world.test.execute("UPDATE orders SET status = 'canceled', closed_at = now()");
    assert_eq!(put(&client, &wish("PKCANARY000000001234", "paper")).await.status, 200);
    assert_eq!(order(&client, "two").await.body["environment"], "paper");
    let orders = client.get("/orders").await;
    assert_eq!(orders.body["items"].as_array().unwrap().len(), 1, "{}", orders.text);
    let of_live = client.get(&format!("/orders/{}", accepted.body["id"].as_str().unwrap())).await;
    assert_eq!((of_live.status.as_u16(), &of_live.body["environment"]), (200, &json!("live")));

    let again = allow(&client, false).await;
    assert_eq!(again.body, json!({ "enabled": false }));
    let entries = world.rows("SELECT outcome FROM audit_log WHERE action = 'account.live' ORDER BY seq");
    let outcomes: Vec<&str> = entries.iter().map(|row| row["outcome"].as_str().unwrap()).collect();
    assert_eq!(outcomes, ["denied", "success", "success", "success"]);
}
