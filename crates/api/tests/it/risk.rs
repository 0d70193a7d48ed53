//! Risk limits and halts over HTTP.

use plimsoll_auth::Role;
use plimsoll_auth::api_tokens::Scope;
use plimsoll_core_domain::risk::{HaltCause, HaltLevel};
use plimsoll_storage::platform::risk::NewHalt;
use reqwest::Method;
use serde_json::{Value, json};

use crate::api_tokens::stepped_up;
use crate::world::{Client, Reply, World};

async fn put(client: &Client, body: &Value) -> Reply {
    client.send(Method::PUT, "/risk/limits", Some(body)).await
}

async fn halt(client: &Client, scope: &str, level: &str) -> Reply {
    client.post("/risk/halt", &json!({ "scope": scope, "level": level, "reason": "a test" })).await
}

async fn resume(client: &Client, scope: &str) -> Reply {
    client.post("/risk/resume", &json!({ "scope": scope })).await
}

fn nothing() -> Value {
    json!({ "level": null, "user": null, "operator": null, "global": null, "pending_accounts": 0 })
}

async fn buy(client: &Client, key: &str, qty: &str) -> Reply {
    let order = json!({
        "symbol": "SPY", "side": "buy", "type": "limit", "limit_price": "100", "time_in_force": "day", "qty": qty,
    });
    client.clone().header("idempotency-key", key).post("/orders?wait_ms=0", &order).await
}

/// A user with an account, signed in.
async fn trader(world: &World) -> Client {
    let user = world.user("ann@example.com", Role::User);
    world.connect(user);
    world.login("ann@example.com").await
}

#[tokio::test]
async fn limits_are_set_shown_and_loosened_with_a_proven_factor_only() {
    let world = World::start().await;
    let client = trader(&world).await;
    let nothing = client.get("/risk/limits").await;
    assert_eq!(nothing.status, 200);
    assert_eq!(
        nothing.body,
        json!({
            "max_order_notional": null, "max_position_notional": null, "max_daily_loss": null,
            "max_open_orders": null, "max_orders_per_minute": null, "allowed_symbols": null,
            "denied_symbols": null, "daily_loss_action": "block_entries", "updated_at": null,
        })
    );
    let limits = json!({
        "max_order_notional": "1000.50", "max_open_orders": 3, "allowed_symbols": ["SPY", "QQQ", "SPY"],
        "daily_loss_action": "reduce_only",
    });
    let set = put(&client, &limits).await;
    assert_eq!(set.status, 200, "{}", set.text);
    assert_eq!(
        (&set.body["max_order_notional"], &set.body["allowed_symbols"], &set.body["max_daily_loss"]),
        (&json!("1000.5"), &json!(["QQQ", "SPY"]), &Value::Null)
    );
    assert_eq!(client.get("/risk/limits").await.body, set.body);

    let tighter = json!({
        "max_order_notional": "900", "max_open_orders": 3, "allowed_symbols": ["SPY"],
        "daily_loss_action": "reduce_only", "max_daily_loss": "50",
    });
    assert_eq!(put(&client, &tighter).await.status, 200, "what tightens needs nothing");
    let refused = put(&client, &limits).await;
    assert_eq!((refused.status.as_u16(), refused.code()), (403, "step_up_required"));
    let token = world.api_token(ann(&world), &[Scope::TradePaper]);
    assert_eq!(put(&token, &json!({})).await.code(), "access_denied");
    assert_eq!(client.get("/risk/limits").await.body["max_order_notional"], "900", "nothing was changed");

    let proven = stepped_up(&world, "ann@example.com").await;
    assert_eq!(put(&proven, &json!({})).await.status, 200);
    assert_eq!(client.get("/risk/limits").await.body["max_order_notional"], Value::Null);
    let rows = world.rows("SELECT detail FROM audit_log WHERE action = 'risk.limits' ORDER BY seq");
    assert_eq!(rows.len(), 3);
    let last: Value = serde_json::from_str(rows[2]["detail"].as_str().unwrap()).unwrap();
    assert_eq!(last["before"]["max_order_notional"], "900");
    assert_eq!(last["loosened"].as_array().unwrap().len(), 5, "{last}");
}

fn ann(world: &World) -> plimsoll_core_domain::UserId {
    let rows = world.rows("SELECT id FROM users WHERE email = 'ann@example.com'");
    plimsoll_core_domain::UserId(rows[0]["id"].as_i64().unwrap())
}

#[tokio::test]
async fn limits_out_of_range_change_nothing() {
    let world = World::start().await;
    let client = trader(&world).await;
    let many: Vec<String> = (0..501).map(|n| format!("S{n}")).collect();
    for (body, pointer, code) in [
        (json!({ "max_order_notional": "0" }), "/max_order_notional", "not_positive"),
        (json!({ "max_order_notional": "-1" }), "/max_order_notional", "not_positive"),
        (json!({ "max_position_notional": "NaN" }), "/max_position_notional", "not_a_number"),
        (json!({ "max_daily_loss": "1e30" }), "/max_daily_loss", "not_a_number"),
        (json!({ "max_open_orders": 10_001 }), "/max_open_orders", "out_of_range"),
        (json!({ "allowed_symbols": ["SPY", "no symbol"] }), "/allowed_symbols/1", "invalid_symbol"),
        (json!({ "denied_symbols": many }), "/denied_symbols", "out_of_range"),
    ] {
        let reply = put(&client, &body).await;
        assert_eq!(reply.status, 422, "{body}: {}", reply.text);
        let errors = &reply.body["errors"][0];
        assert_eq!((&errors["pointer"], &errors["code"]), (&json!(pointer), &json!(code)), "{body}");
    }
    for body in [json!({ "max_open_orders": -1 }), json!({ "max_open_orders": 1.5 }), json!({ "most": 1 })] {
        assert_eq!(put(&client, &body).await.status, 422, "{body}");
    }
    assert_eq!(client.get("/risk/limits").await.body["updated_at"], Value::Null);
}

#[tokio::test]
async fn an_order_beyond_a_limit_is_told_rule_limit_and_actual() {
    let world = World::start().await;
    let client = trader(&world).await;
    assert_eq!(put(&client, &json!({ "max_order_notional": "500" })).await.status, 200);
    let refused = buy(&client, "a", "6").await;
    assert_eq!((refused.status.as_u16(), refused.code()), (422, "risk_limit"));
    assert_eq!(
        (&refused.body["rule"], &refused.body["limit"], &refused.body["actual"]),
        (&json!("max_order_notional"), &json!("500"), &json!("600"))
    );
    assert_eq!(buy(&client, "a", "5").await.status, 202, "the key is free");
    let rows = world.rows("SELECT outcome FROM audit_log WHERE action = 'order.create' ORDER BY seq");
    assert_eq!((rows[0]["outcome"].as_str(), rows[1]["outcome"].as_str()), (Some("denied"), Some("success")));
    assert_eq!(client.get("/problems/risk_limit").await.status, 200);
}

#[tokio::test]
async fn a_halt_holds_until_its_owner_ends_it_with_a_proven_factor() {
    let world = World::start().await;
    let client = trader(&world).await;
    assert_eq!(client.get("/risk/halt").await.body, nothing());
    let token = world.api_token(ann(&world), &[Scope::TradePaper]);
    let halted = halt(&token, "user", "block_entries").await;
    assert_eq!(halted.status, 200, "to stop needs no more than to trade: {}", halted.text);
    assert_eq!(
        (&halted.body["level"], &halted.body["user"]["cause"], &halted.body["user"]["by"]),
        (&json!("block_entries"), &json!("manual"), &json!(ann(&world)))
    );
    let refused = buy(&client, "a", "1").await;
    assert_eq!((refused.status.as_u16(), refused.code()), (422, "trading_halted"));
    assert_eq!(
        (&refused.body["rule"], &refused.body["limit"]),
        (&json!("user_halt"), &json!("block_entries"))
    );
    let state = halt(&client, "user", "flatten").await.body;
    assert_eq!(state["level"], "flatten");
    assert_eq!(halt(&client, "user", "reduce_only").await.body, state, "what goes further stays");

    assert_eq!(resume(&token, "user").await.code(), "access_denied");
    assert_eq!(resume(&client, "user").await.code(), "step_up_required");
    let proven = stepped_up(&world, "ann@example.com").await;
    let ended = resume(&proven, "user").await;
    assert_eq!(ended.body, nothing());
    assert_eq!(buy(&client, "a", "1").await.status, 202);
    assert_eq!(resume(&proven, "user").await.status, 200, "nothing was halted any more");
    let acts =
        |action: &str| world.rows(&format!("SELECT 1 AS x FROM audit_log WHERE action = '{action}'")).len();
    assert_eq!((acts("risk.halt"), acts("risk.resume")), (3, 1));
}

#[tokio::test]
async fn everybody_is_halted_by_an_administrator_with_a_proven_factor() {
    let world = World::start().await;
    let client = trader(&world).await;
    world.user("root@example.com", Role::Admin);
    assert_eq!(halt(&client, "global", "reduce_only").await.code(), "access_denied");
    let proven_user = stepped_up(&world, "ann@example.com").await;
    assert_eq!(halt(&proven_user, "global", "reduce_only").await.code(), "access_denied");
    let admin = world.login("root@example.com").await;
    assert_eq!(halt(&admin, "global", "reduce_only").await.code(), "step_up_required");
    assert_eq!(client.get("/risk/halt").await.body["global"], Value::Null, "nothing was halted");
    let admin = stepped_up(&world, "root@example.com").await;
    let halted = halt(&admin, "global", "reduce_only").await;
    assert_eq!(halted.status, 200, "{}", halted.text);
    assert!(halted.body["global"]["by"].is_number());
    let seen = client.get("/risk/halt").await.body;
    assert_eq!(
        (&seen["level"], &seen["global"]["by"]),
        (&json!("reduce_only"), &Value::Null),
        "who is no matter of users"
    );
    assert_eq!(buy(&client, "a", "1").await.body["rule"], "global_halt");
    assert_eq!(resume(&proven_user, "user").await.status, 200);
    assert_eq!(buy(&client, "a", "1").await.code(), "trading_halted", "the user's own was none");
    assert_eq!(resume(&proven_user, "global").await.code(), "access_denied");
    assert_eq!(resume(&admin, "global").await.body["global"], Value::Null);
    assert_eq!(buy(&client, "a", "1").await.status, 202);
}

#[tokio::test]
async fn a_halt_that_cannot_be_read_halts_nothing() {
    let world = World::start().await;
    let client = trader(&world).await;
    for body in [
        json!({}),
        json!({ "scope": "user", "level": "stop", "reason": "x" }),
        json!({ "scope": "all", "level": "flatten", "reason": "x" }),
        json!({ "scope": "user", "level": "flatten" }),
        json!({ "scope": "user", "level": "flatten", "reason": "  " }),
        json!({ "scope": "user", "level": "flatten", "reason": "x".repeat(501) }),
        json!({ "scope": "user", "level": "flatten", "reason": "x", "user": 7 }),
    ] {
        let reply = client.post("/risk/halt", &body).await;
        assert_eq!(reply.status, 422, "{body}: {}", reply.text);
    }
    assert_eq!(client.get("/risk/halt").await.body["level"], Value::Null);
    assert_eq!(buy(&client, "a", "1").await.status, 202);
}

#[tokio::test]
async fn where_no_price_is_known_the_broker_is_asked() {
    let world = World::start().await;
    let client = trader(&world).await;
    assert_eq!(put(&client, &json!({ "max_order_notional": "500" })).await.status, 200);
    let order = async |key: &str, symbol: &str, qty: &str| {
        let order = json!({
            "symbol": symbol, "side": "sell", "type": "limit", "limit_price": "1", "time_in_force": "day", "qty": qty,
        });
        client.clone().header("idempotency-key", key).post("/orders?wait_ms=0", &order).await
    };
    let unknown = order("a", "SPY", "4").await;
    assert_eq!((unknown.status.as_u16(), unknown.code()), (422, "risk_limit"));
    assert_eq!(unknown.body["actual"], "unknown: no price is known");
    let dear = order("b", "AAPL", "5").await;
    assert_eq!((dear.status.as_u16(), &dear.body["actual"]), (422, &json!("505")));
    assert_eq!(order("b", "AAPL", "4").await.status, 202);
}

#[tokio::test]
async fn what_the_operator_halted_is_shown_and_not_lifted() {
    let world = World::start().await;
    let client = trader(&world).await;
    let user = ann(&world);
    let new = NewHalt {
        level: HaltLevel::ReduceOnly,
        cause: HaltCause::Manual,
        reason: "disputed",
        by: None,
        now: chrono::Utc::now(),
    };
    world.db.run(move |tx| tx.halt_user_by_operator(user, &new)).await.unwrap();
    let seen = client.get("/risk/halt").await.body;
    assert_eq!(
        (&seen["level"], &seen["operator"]["reason"], &seen["user"]),
        (&json!("reduce_only"), &json!("disputed"), &Value::Null)
    );
    assert_eq!(seen["pending_accounts"], 1, "it is on its way");
    let proven = stepped_up(&world, "ann@example.com").await;
    let refused = resume(&proven, "user").await;
    assert_eq!((refused.status.as_u16(), refused.code()), (403, "access_denied"));
    // The user's own halt goes further, and is lifted alone.
    assert_eq!(halt(&client, "user", "flatten").await.body["level"], "flatten");
    let lifted = resume(&proven, "user").await;
    assert_eq!(
        (lifted.status.as_u16(), &lifted.body["level"], &lifted.body["user"]),
        (200, &json!("reduce_only"), &Value::Null)
    );
    assert_eq!(lifted.body["pending_accounts"], 0);
    assert_eq!(buy(&client, "a", "1").await.code(), "trading_halted");
    let acts = world.rows("SELECT 1 AS x FROM audit_log WHERE action = 'risk.resume'").len();
    assert_eq!(acts, 1, "what was refused is not on record as done");
}

/// Somebody stands still in a transaction that holds one account.
#[tokio::test(flavor = "multi_thread")]
async fn an_account_that_somebody_holds_is_told_as_pending_and_keeps_nobody_else_from_being_halted() {
    let world = World::start().await;
    let client = trader(&world).await;
    let held = world.user("held@example.com", Role::User);
    world.connect(held);
    world.user("root@example.com", Role::Admin);
    let admin = stepped_up(&world, "root@example.com").await;
    let (stands, standing) = tokio::sync::oneshot::channel();
    let (thaw, thawed) = std::sync::mpsc::channel::<()>();
    let mut stands = Some(stands);
    let db = world.db.clone();
    let frozen = tokio::task::spawn_blocking(move || {
        db.run_blocking(|tx| {
            tx.lock_trading_account(held)?;
            stands.take().unwrap().send(()).unwrap();
            thawed.recv().ok();
            Ok::<_, plimsoll_core_domain::StoreError>(())
        })
    });
    standing.await.unwrap();
    let halted = halt(&admin, "global", "reduce_only").await;
    assert_eq!(
        (halted.status.as_u16(), &halted.body["global"]["level"], &halted.body["pending_accounts"]),
        (200, &json!("reduce_only"), &json!(1)),
        "{}",
        halted.text
    );
    assert_eq!(buy(&client, "a", "1").await.body["rule"], "global_halt");
    drop(thaw);
    frozen.await.unwrap().unwrap();
    // What was begun goes on after the answer.
    let reached = || world.rows("SELECT 1 AS x FROM accounts WHERE halt_global = 'reduce_only'").len();
    for _ in 0..600 {
        if reached() == 2 {
            return;
        }
        tokio::time::sleep(std::time::Duration::from_millis(50)).await;
    }
    panic!("{} accounts are halted", reached());
}
