//! Halts over real processes: what is open is canceled, what is held is closed, and the daily loss halts by itself.

use reqwest::Method;
use rust_decimal::Decimal;
use serde_json::{Value, json};

use super::desk::{Desk, market, resting};
use super::world::{Setup, World, until};

fn shares(side: &str, qty: &str) -> Value {
    let mut order = market(side);
    order["qty"] = qty.into();
    order
}

async fn post(desk: &Desk, url: &str, path: &str, body: Value) -> Value {
    let answer = desk.send(url, Method::POST, path, None, Some(body.to_string())).await.unwrap();
    assert_eq!(answer.status, 200, "{path}: {answer:?}");
    answer.json()
}

async fn halt(desk: &Desk, url: &str, level: &str) {
    post(desk, url, "/risk/halt", json!({ "scope": "user", "level": level, "reason": "a test" })).await;
}

/// Units that the simulator counts as held, by its fills.
async fn held_at_broker(world: &World, symbol: &str) -> Decimal {
    let of = |fill: &Value| {
        let qty: Decimal = fill["qty"].as_str().unwrap().parse().unwrap();
        if fill["side"] == "buy" { qty } else { -qty }
    };
    world.broker.fills().await.iter().filter(|fill| fill["symbol"] == symbol).map(of).sum()
}

/// An order that is refused under a halt, with the halt's level.
async fn is_refused(desk: &Desk, url: &str, key: &str, level: &str) {
    let answer = desk.order(url, key, &shares("buy", "1")).await.unwrap();
    let body = answer.json();
    assert_eq!((answer.status, body["code"].as_str()), (422, Some("trading_halted")), "{body}");
    assert_eq!((body["rule"].as_str(), body["limit"].as_str()), (Some("user_halt"), Some(level)));
}

#[tokio::test(flavor = "multi_thread")]
async fn flatten_cancels_and_closes_everything_and_holds_until_it_is_lifted() {
    let (mut world, ann) = World::with_one(Setup::default()).await;
    let url = world.url(0);
    let long = ann.insist(&[&url], "long", &shares("buy", "10")).await.text_of("id");
    let open = ann.insist(&[&url], "open", &resting()).await.text_of("id");
    world.becomes(&long, &["filled"]).await;
    world.becomes(&open, &["new"]).await;
    // The broker is away while it is halted: the halt is carried out all the same, once it is back.
    world.broker.leave();
    halt(&ann, &url, "flatten").await;
    is_refused(&ann, &url, "early", "flatten").await;
    world.broker.come();
    world.becomes(&open, &["canceled"]).await;
    until("nothing is held", async || {
        world.database.count("positions WHERE qty <> 0") == 0
            && world.database.count("orders WHERE closed_at IS NULL") == 0
    })
    .await;
    assert_eq!(held_at_broker(&world, "SPY").await, Decimal::ZERO);
    let told = "stream_event WHERE kind = 'system_alert' AND payload::text LIKE '%every position closed%'";
    until("its owner is told", async || world.database.count(told) == 1).await;
    is_refused(&ann, &url, "late", "flatten").await;
    let state = post(&ann, &url, "/risk/resume", json!({ "scope": "user" })).await;
    assert_eq!(state["level"], Value::Null);
    let again = ann.insist(&[&url], "again", &shares("buy", "1")).await;
    assert!(matches!(again.status, 201 | 202), "{again:?}");
    world.finish().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn entries_that_wait_for_the_broker_never_go_out_under_a_halt() {
    let (mut world, ann) = World::with_one(Setup::default()).await;
    let url = world.url(0);
    world.broker.leave();
    let waiting = ann.insist(&[&url], "waits", &shares("buy", "3")).await;
    assert_eq!(waiting.status, 202, "{waiting:?}");
    let id = waiting.text_of("id");
    halt(&ann, &url, "block_entries").await;
    world.broker.come();
    world.becomes(&id, &["not_sent"]).await;
    let reason = world.database.rows(&format!("SELECT status_reason AS why FROM orders WHERE id = '{id}'"));
    assert!(reason[0]["why"].as_str().unwrap().contains("user_halt: block_entries"), "{reason:?}");
    assert!(world.broker.orders().await.is_empty(), "nothing reached the broker");
    world.finish().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn the_daily_loss_halts_by_itself_and_is_armed_again_by_hand() {
    let (mut world, ann) = World::with_one(Setup::default()).await;
    let url = world.url(0);
    let limits = json!({ "max_daily_loss": "500", "daily_loss_action": "reduce_only" }).to_string();
    let set = ann.send(&url, Method::PUT, "/risk/limits", None, Some(limits)).await.unwrap();
    assert_eq!(set.status, 200, "{set:?}");
    let id = ann.insist(&[&url], "long", &shares("buy", "100")).await.text_of("id");
    world.becomes(&id, &["filled"]).await;
    // Everything falls by a tenth: a loss of a thousand.
    world.broker.leave();
    world.broker.price = "90";
    world.broker.come();
    until("the loss halts", async || {
        let state = ann.get(&url, "/risk/halt").await;
        state["user"]["cause"] == "daily_loss" && state["level"] == "reduce_only"
    })
    .await;
    is_refused(&ann, &url, "more", "reduce_only").await;
    let rows = world.database.rows("SELECT detail FROM audit_log WHERE action = 'risk.halt'");
    let detail: Value = serde_json::from_str(rows[0]["detail"].as_str().unwrap()).unwrap();
    assert_eq!(
        (rows.len(), detail["rule"].as_str(), detail["limit"].as_str()),
        (1, Some("max_daily_loss"), Some("500"))
    );
    // What makes the position smaller goes through, and once lifted, the loss counts from that moment on.
    world.trades(&ann, 0).await;
    let out = ann.insist(&[&url], "out", &shares("sell", "40")).await;
    assert!(matches!(out.status, 201 | 202), "{out:?}");
    post(&ann, &url, "/risk/resume", json!({ "scope": "user" })).await;
    until("a look has come", async || world.database.count("accounts WHERE loss_baseline >= 500") == 1).await;
    assert_eq!(ann.get(&url, "/risk/halt").await["level"], Value::Null);
    let more = ann.insist(&[&url], "again", &shares("buy", "1")).await;
    assert!(matches!(more.status, 201 | 202), "{more:?}");
    world.finish().await;
}
