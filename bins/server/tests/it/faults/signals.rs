//! Signals from outside: acted on once, whatever crashes in between, and through flat in two orders.

use reqwest::Method;
use serde_json::{Value, json};

use super::desk::Desk;
use super::world::{Setup, World, until};

/// A hook of the trader's: its path on the API, its address for signals, and its secret.
struct Hook {
    path: String,
    door: String,
    secret: String,
}

async fn hook(world: &World, desk: &Desk) -> Hook {
    let wanted = json!({ "name": "strategy", "environment": "paper", "max_age_s": null }).to_string();
    let made = desk.send(&world.url(0), Method::POST, "/webhooks/inbound", None, Some(wanted)).await.unwrap();
    assert_eq!(made.status, 201, "{made:?}");
    let id = made.text_of("id");
    Hook {
        path: format!("/webhooks/inbound/{id}"),
        door: format!("/hooks/{id}"),
        secret: made.text_of("secret"),
    }
}

/// A signal that says where to stand.
async fn stand(
    world: &World,
    hook: &Hook,
    id: &str,
    position: &str,
    size: u32,
    previous: (&str, u32),
) -> Value {
    let action = if position == "long" { "buy" } else { "sell" };
    let body = json!({
        "secret": hook.secret, "id": id, "ticker": "SPY", "action": action, "position": position,
        "position_size": size, "previous": previous.0, "previous_size": previous.1,
    });
    let request = world.http.post(format!("{}{}", world.url(0), hook.door)).body(body.to_string());
    let answer = request.send().await.unwrap();
    let status = answer.status().as_u16();
    let text = answer.text().await.unwrap();
    assert_eq!(status, 202, "{text}");
    serde_json::from_str(&text).unwrap()
}

fn held(world: &World) -> String {
    let rows = world.database.rows("SELECT trim_scale(qty)::text AS qty FROM positions WHERE symbol = 'SPY'");
    rows.first().map_or_else(|| "0".to_owned(), |row| row["qty"].as_str().unwrap().to_owned())
}

/// From long to short with one message: what is held is closed, and only its fill opens the other side.
#[tokio::test]
async fn a_reversal_goes_through_flat_in_two_orders() {
    let (world, desk) = World::with_one(Setup::default()).await;
    let hook = hook(&world, &desk).await;
    let first = stand(&world, &hook, "a", "long", 3, ("flat", 0)).await;
    assert_eq!(first["verdict"], "accepted");
    until("3 are held", async || held(&world) == "3").await;
    stand(&world, &hook, "b", "short", 2, ("long", 3)).await;
    until("2 are owed", async || held(&world) == "-2").await;
    let orders = world.database.rows(
        "SELECT side, trim_scale(qty)::text AS qty, status, source_kind FROM orders ORDER BY created_at, id",
    );
    let told: Vec<_> = orders.iter().map(|row| (&row["side"], &row["qty"])).collect();
    assert_eq!(
        told,
        [(&json!("buy"), &json!("3")), (&json!("sell"), &json!("3")), (&json!("sell"), &json!("2"))]
    );
    assert!(orders.iter().all(|row| row["source_kind"] == "webhook" && row["status"] == "filled"));
    let log = desk.get(&world.url(0), &format!("{}/signals", hook.path)).await;
    let last = &log["items"][0];
    assert_eq!((&last["target"], &last["pending"]), (&json!("-2"), &json!(false)));
    assert!(last["order_id"].is_string() && last["next_order_id"].is_string(), "{last}");
    world.finish().await;
}

/// The process dies between a signal's answer and its order: it is acted on after the restart, once; its repeat changes
/// nothing.
#[tokio::test]
async fn a_signal_that_was_stored_is_acted_on_once_after_a_crash() {
    let (mut world, desk) = World::with_one(Setup::default()).await;
    let hook = hook(&world, &desk).await;
    // The instrument is not known yet, and the broker does not say.
    let slow = json!({ "id": "slow", "match": { "method": "GET", "path": "/assets/*" }, "action": "delay", "ms": 60_000 });
    world.broker.fault(slow).await;
    let answer = stand(&world, &hook, "a", "long", 2, ("flat", 0)).await;
    assert!(answer.get("order_id").is_none(), "{answer}");
    assert_eq!(world.database.count("orders"), 0);
    world.instances[0].kill();
    world.broker.heal().await;
    world.instances[0].restart().await;
    until("2 are held", async || held(&world) == "2").await;
    let request = world.http.post(format!("{}{}", world.url(0), hook.door));
    let body = json!({ "secret": hook.secret, "id": "a", "ticker": "SPY", "action": "buy", "position": "long",
        "position_size": 2 });
    let again = request.body(body.to_string()).send().await.unwrap();
    assert_eq!(again.status().as_u16(), 200);
    assert_eq!(world.database.count("orders"), 1);
    world.finish().await;
}

/// A hook that should fire and does not is told of once for each silence.
#[tokio::test]
async fn a_silent_hook_is_told_of() {
    let (world, desk) = World::with_one(Setup::default()).await;
    let hook = hook(&world, &desk).await;
    let change = Some(json!({ "silent_alert_after_s": 1 }).to_string());
    let changed = desk.send(&world.url(0), Method::PATCH, &hook.path, None, change).await.unwrap();
    assert_eq!(changed.status, 200, "{changed:?}");
    let alerts = "stream_event WHERE kind = 'system_alert' AND payload LIKE '%has had no signal%'";
    until("the owner is told", async || world.database.count(alerts) > 0).await;
    stand(&world, &hook, "a", "long", 1, ("flat", 0)).await;
    until("the owner is told again", async || world.database.count(alerts) > 1).await;
    world.finish().await;
}

/// A signal with these fields beside secret and symbol; accepted.
async fn signal(world: &World, hook: &Hook, mut fields: Value) -> Value {
    fields["secret"] = json!(hook.secret);
    fields["ticker"] = json!("SPY");
    let request = world.http.post(format!("{}{}", world.url(0), hook.door)).body(fields.to_string());
    let answer = request.send().await.unwrap();
    let status = answer.status().as_u16();
    let text = answer.text().await.unwrap();
    assert_eq!(status, 202, "{text}");
    serde_json::from_str(&text).unwrap()
}

fn open_orders(world: &World) -> i64 {
    world.database.count("orders WHERE closed_at IS NULL")
}

/// What was opened with exits can be closed by its hook: they make way.
#[tokio::test]
async fn an_exit_clears_the_exits_of_its_own_entry() {
    let (world, desk) = World::with_one(Setup::default()).await;
    let hook = hook(&world, &desk).await;
    let entry = json!({ "id": "a", "action": "buy", "quantity": 3, "price": 100,
        "takeProfit": { "price": 100_000 }, "stopLoss": { "price": 1 } });
    signal(&world, &hook, entry).await;
    until("3 are held and both exits stand", async || held(&world) == "3" && open_orders(&world) == 2).await;
    signal(&world, &hook, json!({ "id": "b", "action": "exit" })).await;
    until("nothing is held and nothing stands", async || held(&world) == "0" && open_orders(&world) == 0)
        .await;
    let sold = "orders WHERE side = 'sell' AND status = 'filled' AND role = 'entry'";
    assert_eq!(world.database.count(sold), 1);
    world.finish().await;
}

/// An entry that rests at a price does not fill later, against where the sender wants to stand now.
#[tokio::test]
async fn a_target_takes_back_what_the_hook_still_has_resting() {
    let (world, desk) = World::with_one(Setup::default()).await;
    let hook = hook(&world, &desk).await;
    let resting = json!({ "id": "a", "action": "buy", "quantity": 1, "orderType": "limit", "limitPrice": "1", "tif": "gtc" });
    signal(&world, &hook, resting).await;
    until("it rests", async || world.database.count("orders WHERE status IN ('new', 'accepted')") == 1).await;
    signal(&world, &hook, json!({ "id": "b", "action": "buy", "position": "long", "position_size": 2 }))
        .await;
    until("2 are held and nothing rests", async || held(&world) == "2" && open_orders(&world) == 0).await;
    assert_eq!(world.database.count("orders WHERE status = 'canceled'"), 1);
    world.finish().await;
}

/// The last word counts: whoever says "exit" while the second order of a reversal is still to come ends flat, and so does
/// a plain order that reverses.
#[tokio::test]
async fn a_later_signal_ends_what_an_earlier_one_has_still_to_come() {
    let (world, desk) = World::with_one(Setup::default()).await;
    let hook = hook(&world, &desk).await;
    signal(&world, &hook, json!({ "id": "a", "action": "buy", "quantity": 4 })).await;
    until("4 are held", async || held(&world) == "4").await;
    // the first order of each reversal stays open at the broker until the exit has come
    for (id, reversal) in [
        ("b", json!({ "action": "short", "quantity": 4 })),
        ("c", json!({ "action": "sell", "quantity": 9 })),
    ] {
        let slow = json!({ "id": id, "match": { "method": "POST", "path": "/orders" }, "action": "delay", "ms": 3_000 });
        world.broker.fault(slow).await;
        let mut fields = reversal;
        fields["id"] = json!(id);
        signal(&world, &hook, fields).await;
        let exit = json!({ "id": format!("{id}-exit"), "action": "exit" });
        signal(&world, &hook, exit).await;
        world.broker.heal().await;
        until("it is flat and nothing is to come", async || {
            held(&world) == "0"
                && open_orders(&world) == 0
                && world.database.count("signals WHERE pending") == 0
        })
        .await;
        let log = world.database.rows(
            "SELECT reason, pending, next_order_id FROM signals WHERE action = 'sell' ORDER BY id DESC LIMIT 1",
        );
        assert_eq!(
            (&log[0]["reason"], &log[0]["next_order_id"]),
            (&json!("superseded"), &Value::Null),
            "{log:?}"
        );
        signal(&world, &hook, json!({ "id": format!("{id}-again"), "action": "buy", "quantity": 4 })).await;
        until("4 are held again", async || held(&world) == "4").await;
    }
    world.finish().await;
}

/// Whoever was told that a signal is taken hears why it was not followed to its end.
#[tokio::test]
async fn the_owner_hears_of_half_a_reversal() {
    let (world, desk) = World::with_one(Setup::default()).await;
    let hook = hook(&world, &desk).await;
    signal(&world, &hook, json!({ "id": "a", "action": "buy", "quantity": 4 })).await;
    until("4 are held", async || held(&world) == "4").await;
    let slow = json!({ "id": "slow", "match": { "method": "POST", "path": "/orders" }, "action": "delay", "ms": 2_000 });
    world.broker.fault(slow).await;
    signal(&world, &hook, json!({ "id": "b", "action": "short", "quantity": 4 })).await;
    let off = Some(json!({ "enabled": false }).to_string());
    let changed = desk.send(&world.url(0), Method::PATCH, &hook.path, None, off).await.unwrap();
    assert_eq!(changed.status, 200, "{changed:?}");
    world.broker.heal().await;
    let alerts =
        "stream_event WHERE kind = 'system_alert' AND payload LIKE '%not followed to its end%hook_disabled%'";
    until("the owner is told", async || world.database.count(alerts) == 1).await;
    assert_eq!(world.database.count("signals WHERE pending"), 0);
    until("what was held is closed", async || held(&world) == "0" && open_orders(&world) == 0).await;
    assert_eq!(world.database.count("orders"), 2, "the other side was not opened");
    world.finish().await;
}
