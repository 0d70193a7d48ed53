//! Signals and the orders around them: what the broker is asked for, what makes way, and what nobody else can stop.

use plimsoll_storage::testing::RawConnection;
use reqwest::Method;
use serde_json::{Value, json};

use crate::api_tokens::stepped_up;
use crate::signals::{Desk, post};

fn audited(desk: &Desk) -> usize {
    desk.world.rows("SELECT seq FROM audit_log WHERE action = 'order.create'").len()
}

/// A limit of an amount, an instrument that is known and a price that is not: the broker is asked for it at once.
#[tokio::test]
async fn the_broker_is_asked_for_a_price_and_the_order_follows() {
    let desk = Desk::new(json!({})).await;
    let limits = json!({ "max_order_notional": "1000" });
    assert_eq!(desk.owner.send(Method::PUT, "/risk/limits", Some(&limits)).await.status, 200);
    for id in ["a", "b"] {
        let signal = json!({ "ticker": "AAPL", "action": "buy", "quantity": 5, "price": "1", "id": id });
        let answer = desk.post(signal).await;
        assert_eq!(answer.status, 202, "{}", answer.body);
        assert!(answer.body["order_id"].is_string(), "{}", answer.body);
    }
    assert_eq!((desk.orders().len(), audited(&desk)), (2, 2), "what was only asked for is no refusal");
    let large = desk.post(json!({ "ticker": "AAPL", "action": "buy", "quantity": 10, "price": "1" })).await;
    assert_eq!((large.status, &large.body["reason"]), (422, &json!("risk_limit")), "{}", large.body);
    assert!(large.body["detail"].as_str().unwrap().contains("1010"), "{}", large.body);
    assert_eq!(audited(&desk), 3);
    // Nor does a broker that tells none make the sender's price one.
    let blind = desk.post(json!({ "action": "buy", "quantity": 5, "price": "1" })).await;
    assert_eq!((blind.status, &blind.body["reason"]), (422, &json!("risk_limit")), "{}", blind.body);
    assert!(blind.body["detail"].as_str().unwrap().contains("unknown"), "{}", blind.body);
    assert_eq!((desk.orders().len(), audited(&desk)), (2, 4), "refused once, on record once");

    // The same of a size by money that only a price turns into units.
    desk.close_orders();
    let sizing = json!({ "sizing": { "mode": "fixed_notional", "value": "500" } });
    desk.owner.send(Method::PATCH, &desk.path(), Some(&sizing)).await;
    let short = desk.post(json!({ "ticker": "AAPL", "action": "short", "price": "1" })).await;
    assert_eq!(short.status, 202, "{}", short.body);
    assert_eq!(desk.orders()[2]["qty"], "4.000000000", "500 at 101");
    let blind = desk.post(json!({ "action": "short", "price": "1" })).await;
    assert_eq!((blind.status, &blind.body["reason"]), (422, &json!("no_price")), "{}", blind.body);
}

/// WHK-5: whatever strangers post, the rightful sender is heard: at a hook whose address they know, and at the server's own.
#[tokio::test]
async fn strangers_do_not_keep_the_sender_out() {
    let desk = Desk::new(json!({})).await;
    let wrong = json!({ "secret": "whsec_wrong", "ticker": "SPY", "action": "buy" }).to_string().into_bytes();
    for n in 0..100 {
        let body = if n % 2 == 0 { wrong.clone() } else { b"nonsense".to_vec() };
        assert!(matches!(desk.post_raw(body, &[]).await.status, 400 | 401));
    }
    let right = desk.post(json!({ "action": "buy", "quantity": 1, "id": "a" })).await;
    assert_eq!(right.status, 202, "{}", right.body);
    let noted = desk.world.rows("SELECT id::text FROM signals WHERE NOT genuine").len();
    assert!((20..30).contains(&noted), "no more than twenty a minute are on record: {noted}");

    // One address that tries doors behind which nobody is has its bound; a door that somebody came through is open to it.
    let mut seen = Vec::new();
    for n in 0..100_u32 {
        let urls: Vec<String> = (0..20)
            .map(|m| format!("{}/hooks/0196a6b0-1111-7222-8333-{:012}", desk.world.url, 20 * n + m))
            .collect();
        let posts = urls.iter().map(|url| post(url, wrong.clone(), &[]));
        seen.extend(futures_util::future::join_all(posts).await.iter().map(|answer| answer.status));
        if seen.contains(&429) {
            break;
        }
    }
    assert_eq!(seen[0], 401);
    assert!(seen.contains(&429) && seen.len() > 100, "{seen:?}");
    let still = desk.post(json!({ "action": "buy", "quantity": 1, "id": "b" })).await;
    assert_eq!(still.status, 202, "{}", still.body);
    assert_eq!(desk.post_raw(wrong, &[]).await.status, 401, "as far as the proof");
    assert_eq!(desk.orders().len(), 2);
}

/// A signal is stored although its account is held by somebody: its order is the job's.
#[tokio::test]
async fn a_busy_account_loses_no_signal() {
    let desk = Desk::new(json!({})).await;
    let mut other = RawConnection::open(desk.world.test.url()).unwrap();
    other.execute("BEGIN").unwrap();
    other.execute("SELECT id FROM accounts FOR UPDATE").unwrap();
    let answer = desk.post(json!({ "action": "buy", "quantity": 1, "id": "a" })).await;
    assert_eq!((answer.status, &answer.body["verdict"]), (202, &json!("accepted")), "{}", answer.body);
    assert!(answer.body.get("order_id").is_none() && desk.orders().is_empty());
    let row = &desk.signals().await[0];
    assert_eq!((&row["id"], &row["pending"]), (&answer.body["signal_id"], &json!(true)));
    assert_eq!(desk.world.rows("SELECT id::text FROM jobs WHERE kind = 'act_on_signal'").len(), 1);
    other.execute("ROLLBACK").unwrap();
    let again = desk.post(json!({ "action": "buy", "quantity": 1, "id": "a" })).await;
    assert_eq!((again.status, &again.body["signal_id"]), (200, &row["id"]));
}

fn states(desk: &Desk) -> Vec<Value> {
    let rows = desk.world.rows("SELECT status FROM orders ORDER BY id");
    rows.into_iter().map(|row| row["status"].clone()).collect()
}

/// What a hook has resting in a symbol is of before: a target takes it away, and so does a cancel. Others' orders stay.
#[tokio::test]
async fn a_hooks_own_resting_orders_make_way() {
    let desk = Desk::new(json!({})).await;
    let resting = |id: &str| json!({ "action": "buy", "quantity": 1, "orderType": "limit", "limitPrice": "50", "tif": "gtc", "id": id });
    assert_eq!(desk.post(resting("a")).await.status, 202);
    let own = json!({
        "symbol": "SPY", "side": "buy", "type": "limit", "limit_price": "50", "time_in_force": "day", "qty": "1",
    });
    let keyed = desk.owner.clone().header("idempotency-key", "own");
    assert_eq!(keyed.post("/orders?wait_ms=0", &own).await.status, 202);
    let flat = desk.post(json!({ "action": "exit", "id": "b" })).await;
    assert_eq!((flat.status, &flat.body["reason"]), (202, &json!("nothing_to_do")), "{}", flat.body);
    assert_eq!(states(&desk), ["canceled", "pending_submit"], "it had not been sent");

    // One that the broker has is asked for, once, and waited for.
    assert_eq!(desk.post(resting("c")).await.status, 202);
    desk.world
        .test
        .execute("UPDATE orders SET status = 'new', submit_attempts = 1 WHERE status = 'pending_submit'");
    let jobs = || desk.world.rows("SELECT payload FROM jobs WHERE kind = 'cancel_order'").len();
    for id in ["d", "e"] {
        let waits = desk.post(json!({ "action": "exit", "id": id })).await;
        assert_eq!((waits.status, &waits.body["reason"]), (202, &Value::Null), "{}", waits.body);
        assert_eq!(jobs(), 1);
    }
    let canceled = desk.world.rows("SELECT seq FROM audit_log WHERE action = 'order.cancel'").len();
    assert_eq!(canceled, 2, "each on record once");

    let asked = desk.post(json!({ "action": "cancel", "id": "f" })).await;
    assert_eq!((asked.status, &asked.body["reason"]), (202, &Value::Null), "{}", asked.body);
    let nothing = desk.post(json!({ "ticker": "AAPL", "action": "cancel", "id": "g" })).await;
    assert_eq!(nothing.body["reason"], "nothing_to_do");
    let rules = json!({ "actions": ["buy", "sell"] });
    desk.owner.send(Method::PATCH, &desk.path(), Some(&rules)).await;
    let refused = desk.post(json!({ "action": "cancel", "id": "h" })).await;
    assert_eq!((refused.status, &refused.body["reason"]), (422, &json!("action_not_allowed")));
}

/// A signal that waits is ended by a later one that says where to stand, whether or not either states a size.
#[tokio::test]
async fn a_later_word_ends_what_waits() {
    let desk = Desk::new(json!({ "sizing": { "mode": "fixed_qty", "value": "10" } })).await;
    desk.hold("10");
    let own = json!({ "symbol": "SPY", "side": "buy", "type": "market", "time_in_force": "day", "qty": "1" });
    let keyed = desk.owner.clone().header("idempotency-key", "own");
    assert_eq!(keyed.post("/orders?wait_ms=0", &own).await.status, 202);
    for (action, id) in [("short", "a"), ("exit", "b"), ("long", "c")] {
        let waits = desk.post(json!({ "action": action, "id": id })).await;
        assert_eq!(waits.status, 202, "{}", waits.body);
    }
    let log = desk.signals().await;
    let told: Vec<_> = log.iter().map(|row| (row["reason"].as_str(), row["pending"] == true)).collect();
    assert_eq!(told, [(None, true), (Some("superseded"), false), (Some("superseded"), false)]);

    // The second half of a reversal that no position was stated for ends as well.
    desk.close_orders();
    desk.world.test.execute("UPDATE signals SET pending = false");
    let turn = json!({ "action": "sell", "quantity": 20, "id": "d" });
    desk.owner.send(Method::PATCH, &desk.path(), Some(&json!({ "sizing": { "mode": "from_signal" } }))).await;
    assert_eq!(desk.post(turn).await.status, 202);
    assert_eq!(desk.signals().await[0]["pending"], true);
    assert_eq!(desk.post(json!({ "position": "flat", "id": "e" })).await.status, 202);
    let log = desk.signals().await;
    assert_eq!((&log[1]["pending"], &log[1]["reason"]), (&json!(false), &json!("superseded")), "{}", log[1]);
}

/// What a sender calls a symbol is told by the hook's map, before its symbols are looked at.
#[tokio::test]
async fn a_map_says_what_a_ticker_stands_for() {
    let map = json!({ "ES1!": "SPY", "BINANCE:BTCUSDT.P": "BTC/USD" });
    let desk = Desk::new(json!({ "symbols": ["SPY"], "symbol_map": map })).await;
    let signal = |ticker: &str| json!({ "ticker": ticker, "action": "buy", "quantity": 1 });
    for ticker in ["es1!", "CME_MINI:ES1!", "SPY"] {
        assert_eq!(desk.post(signal(ticker)).await.status, 202, "{ticker}");
    }
    let rows = desk.world.rows("SELECT DISTINCT symbol FROM orders");
    assert_eq!(rows, [json!({ "symbol": "SPY" })]);
    let refused = desk.post(signal("BINANCE:BTCUSDT.P")).await;
    assert_eq!(refused.body["reason"], "symbol_not_allowed", "{}", refused.body);
    assert_eq!(desk.post(signal("NQ1!")).await.body["reason"], "unknown_symbol");
    let trial = desk.owner.post(&format!("{}/test", desk.path()), &signal("ES1!")).await;
    assert_eq!(trial.body["symbol"], "SPY", "{}", trial.text);

    let hook = desk.owner.get(&desk.path()).await;
    assert_eq!(hook.body["symbol_map"], json!({ "BINANCE:BTCUSDT.P": "BTC/USD", "ES1!": "SPY" }));
    for (map, pointer) in [
        (json!({ "A": "no symbol" }), "/symbol_map/A"),
        (json!({ "": "SPY" }), "/symbol_map/"),
        (json!({ "A/B": "" }), "/symbol_map/A~1B"),
    ] {
        let reply = desk.owner.send(Method::PATCH, &desk.path(), Some(&json!({ "symbol_map": map }))).await;
        assert_eq!((reply.status.as_u16(), &reply.body["errors"][0]["pointer"]), (422, &json!(pointer)));
    }
    let gone = desk.owner.send(Method::PATCH, &desk.path(), Some(&json!({ "symbol_map": {} }))).await;
    assert_eq!(gone.body["symbol_map"], json!({}));
    assert_eq!(desk.post(signal("ES1!")).await.body["reason"], "unknown_symbol");
}

/// WHK-4: what trades with real money is given a new secret, and changed in whatever way, with a proven factor alone.
#[tokio::test]
async fn a_live_hook_is_changed_with_a_proven_factor() {
    let desk = Desk::new(json!({})).await;
    let rotate = format!("{}/rotate", desk.path());
    assert_eq!(desk.owner.post(&rotate, &json!({})).await.status, 200);
    desk.world.test.execute("UPDATE inbound_hooks SET environment = 'live'");
    for reply in [
        desk.owner.post(&rotate, &json!({})).await,
        desk.owner.send(Method::PATCH, &desk.path(), Some(&json!({ "environment": "paper" }))).await,
        desk.owner.send(Method::PATCH, &desk.path(), Some(&json!({ "allowed_ips": [] }))).await,
    ] {
        assert_eq!((reply.status.as_u16(), reply.code()), (403, "step_up_required"), "{}", reply.text);
    }
    let proven = stepped_up(&desk.world, "ann@example.com").await;
    let keyed = proven.clone().header("idempotency-key", "rotate");
    let (first, again) = (keyed.post(&rotate, &json!({})).await, keyed.post(&rotate, &json!({})).await);
    assert_eq!((first.status.as_u16(), &first.text), (200, &again.text), "a retry gets the same secret");
    let paper = json!({ "environment": "paper" });
    assert_eq!(proven.send(Method::PATCH, &desk.path(), Some(&paper)).await.status, 200);
    let mails = desk.world.rows("SELECT id::text FROM mail_outbox WHERE kind = 'signal_hook_added'");
    assert_eq!(mails.len(), 1, "of the hook, when it was made");
}
