//! `kill -9` at random moments during 200 orders: each accepted request has exactly one order at the broker.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use reqwest::Method;
use rust_decimal::Decimal;
use serde_json::{Value, json};

use crate::demo::{Client, Demo};

const ORDERS: usize = 200;
const KILLS: usize = 4;

fn dec(value: &Value) -> Decimal {
    value.as_str().unwrap().parse().unwrap()
}

/// Sends one order until it is answered, whatever happens to the server meanwhile: the key is the same on every try.
async fn insist(client: Client, n: usize) -> String {
    let body = json!({"symbol": "SPY", "side": if n % 3 == 2 { "sell" } else { "buy" }, "type": "market",
        "time_in_force": "day", "qty": "1"});
    let deadline = Instant::now() + Duration::from_secs(150);
    loop {
        assert!(Instant::now() < deadline, "order {n} was never answered");
        let path = if n.is_multiple_of(2) { "/orders?wait_ms=0" } else { "/orders?wait_ms=300" };
        match client.send(Method::POST, path, Some(&format!("kill-{n}")), Some(body.to_string())).await {
            Ok((status, answer, _)) if status.is_success() => {
                return answer["id"].as_str().unwrap().to_owned();
            }
            Ok((status, answer, _)) if status.as_u16() == 422 && answer["order_id"].is_string() => {
                return answer["order_id"].as_str().unwrap().to_owned();
            }
            Ok((status, answer, _)) => {
                assert!(matches!(status.as_u16(), 409 | 503), "{status} {answer}");
                tokio::time::sleep(Duration::from_millis(100)).await;
            }
            Err(_) => tokio::time::sleep(Duration::from_millis(50)).await,
        }
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn nothing_is_lost_and_nothing_sent_twice() {
    let mut demo = Demo::start(&[("RATE_LIMIT_ORDERS", "off"), ("PAPER_FIXED_PRICE", "100")]).await;
    let trader = demo.login("trader").await;
    let all_sent = Arc::new(AtomicBool::new(false));
    let sending = {
        let (trader, done) = (trader.clone(), Arc::clone(&all_sent));
        tokio::spawn(async move {
            let mut ids = Vec::new();
            let mut running = tokio::task::JoinSet::new();
            for n in 0..ORDERS {
                while running.len() >= 8 {
                    ids.push(running.join_next().await.unwrap().unwrap());
                }
                running.spawn(insist(trader.clone(), n));
            }
            while let Some(id) = running.join_next().await {
                ids.push(id.unwrap());
            }
            done.store(true, Ordering::Release);
            ids
        })
    };
    // The moments follow from the process id and the clock of this run: another one each time.
    let mut moment = u64::from(std::process::id()) * 7919 + demo.url.len() as u64;
    let mut kills = 0;
    while kills < KILLS && !all_sent.load(Ordering::Acquire) {
        moment = moment.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        tokio::time::sleep(Duration::from_millis(60 + (moment >> 33) % 700)).await;
        demo.child.kill();
        kills += 1;
        demo.restart().await;
    }
    assert!(kills > 0, "the orders were through before the first kill");
    let ids: BTreeSet<String> = sending.await.unwrap().into_iter().collect();
    assert_eq!(ids.len(), ORDERS, "each key has an order of its own");

    let mine = settled(&trader).await;
    assert_eq!(mine.keys().cloned().collect::<BTreeSet<_>>(), ids, "no order beyond those accepted");
    let ledger = demo.ledger("orders").await;
    let mut at_broker: BTreeMap<String, usize> = BTreeMap::new();
    for row in &ledger {
        *at_broker.entry(row["client_order_id"].as_str().unwrap().to_owned()).or_default() += 1;
    }
    let (mut sold, mut fills_here) = (0, BTreeMap::new());
    for order in mine.values() {
        let client_id = order["client_order_id"].as_str().unwrap();
        let expected = usize::from(!matches!(order["status"].as_str(), Some("rejected" | "not_sent")));
        assert_eq!(at_broker.remove(client_id).unwrap_or_default(), expected, "{order}");
        sold += usize::from(order["side"] == "sell");
        fills_here.insert(client_id.to_owned(), dec(&order["filled_qty"]));
    }
    assert!(at_broker.is_empty(), "orders at the broker that nobody placed: {at_broker:?}");
    assert_eq!(sold, ORDERS / 3);

    let mut fills_there: BTreeMap<String, Decimal> = BTreeMap::new();
    for fill in demo.ledger("fills").await {
        *fills_there.entry(fill["client_order_id"].as_str().unwrap().to_owned()).or_default() +=
            dec(&fill["qty"]);
    }
    fills_here.retain(|_, qty| !qty.is_zero());
    assert_eq!(fills_here, fills_there);
    let net: Decimal = mine
        .values()
        .map(
            |order| {
                if order["side"] == "buy" { dec(&order["filled_qty"]) } else { -dec(&order["filled_qty"]) }
            },
        )
        .sum();
    let (_, position) = trader.get("/positions/SPY").await;
    assert_eq!(dec(&position["qty"]), net, "the position is the sum of its fills");
}

/// Every order of the caller, once all of them are final.
async fn settled(trader: &Client) -> BTreeMap<String, Value> {
    let deadline = Instant::now() + Duration::from_secs(120);
    loop {
        let (mut orders, mut cursor) = (BTreeMap::new(), String::new());
        loop {
            let (_, page) = trader.get(&format!("/orders?limit=100{cursor}")).await;
            for order in page["items"].as_array().unwrap() {
                orders.insert(order["id"].as_str().unwrap().to_owned(), order.clone());
            }
            match page["next_cursor"].as_str() {
                Some(next) => cursor = format!("&cursor={next}"),
                None => break,
            }
        }
        let open: Vec<_> = orders.values().filter(|order| order["closed_at"].is_null()).collect();
        if open.is_empty() {
            return orders;
        }
        assert!(Instant::now() < deadline, "{} orders are not final: {}", open.len(), open[0]);
        tokio::time::sleep(Duration::from_millis(250)).await;
    }
}
