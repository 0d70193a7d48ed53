//! An order stream that repeats, swaps and swallows what it tells.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use serde_json::{Value, json};

use super::desk::{Desk, market, resting};
use super::world::{Setup, World, real_time, until};

/// Numbers that follow from a seed.
struct Seeded(u64);

impl Seeded {
    fn new(seed: u64) -> Self {
        Self(seed.wrapping_mul(0x9E37_79B9_7F4A_7C15) | 1)
    }

    /// Below `below`.
    fn next(&mut self, below: u64) -> u64 {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        self.0 % below
    }
}

/// A symbol of its own for each seed, so that rules can tell the orders apart.
fn symbol(seed: u64) -> String {
    let letter = |n: u64| char::from(b'A' + u8::try_from(n % 26).unwrap());
    ['X', letter(seed / 676), letter(seed / 26), letter(seed)].iter().collect()
}

/// What is done to the messages and answers about one symbol.
fn rules(seed: u64) -> Vec<Value> {
    let (mut numbers, symbol) = (Seeded::new(seed), symbol(seed));
    let mut rules = Vec::new();
    for _ in 0..=numbers.next(3) {
        let action =
            ["stream_duplicate", "stream_reorder", "stream_reorder", "stream_drop"][numbers.next(4) as usize];
        let mut rule = json!({"match": {"symbol": symbol}, "action": action, "times": 1 + numbers.next(4)});
        if action == "stream_reorder" {
            rule["ms"] = (20 + numbers.next(400)).into();
        }
        if numbers.next(2) == 0 {
            let event = ["new", "fill", "partial_fill", "canceled"][numbers.next(4) as usize];
            rule["match"]["event"] = event.into();
        }
        rules.push(rule);
    }
    if numbers.next(3) == 0 {
        // the stream is ahead of the answer: a fill before its order is acknowledged
        let of = json!({"method": "POST", "path": "/orders", "symbol": symbol});
        rules.push(json!({"match": of, "action": "delay_after", "ms": 50 + numbers.next(300), "times": 1}));
    }
    rules
}

/// One seed's order; every third is canceled while it fills.
async fn trade(desk: &Desk, url: &str, seed: u64) {
    let mut numbers = Seeded::new(seed ^ 0xF111);
    let mut body = market(if numbers.next(4) == 0 { "sell" } else { "buy" });
    body["symbol"] = symbol(seed).into();
    body["qty"] = (1 + numbers.next(40)).to_string().into();
    if seed.is_multiple_of(3) {
        body["type"] = "limit".into();
        body["limit_price"] = if body["side"] == "buy" { "101" } else { "99" }.into();
        let (id, _) = desk.place(url, &format!("seed-{seed}"), &body).await;
        let path = format!("/orders/{id}");
        // it may be filled already
        let key = format!("seed-{seed}-cancel");
        let asked = desk.send(url, reqwest::Method::DELETE, &path, Some(&key), None).await.unwrap();
        assert!(matches!(asked.status, 200 | 202 | 409), "{asked:?}");
    } else {
        desk.place(url, &format!("seed-{seed}"), &body).await;
    }
}

/// Row 26. Messages come twice, swapped, late, before the answer, or not at all, and cancels race with fills: in the end
/// everything is as the broker has it.
#[tokio::test(flavor = "multi_thread")]
async fn row_26_the_order_stream_is_shuffled() {
    let seeds: u64 = if real_time() { 1_000 } else { 300 };
    let setup = Setup::default().broker(&["--partial-fill-rate", "0.5", "--several-streams"]);
    let (mut world, ann) = World::with_one(setup).await;
    let bob = world.trader("bob").await;
    world.trades(&bob, 0).await;
    world.watch(&ann, &[0]).await;
    let url = world.url(0);
    let all: Vec<Value> = (0..seeds).flat_map(rules).collect();
    world.broker.fault(all.into()).await;
    let next = Arc::new(AtomicUsize::new(0));
    let mut clients = tokio::task::JoinSet::new();
    for n in 0..4 {
        let (desk, url) = (if n % 2 == 0 { ann.clone() } else { bob.clone() }, url.clone());
        let next = Arc::clone(&next);
        clients.spawn(async move {
            loop {
                let seed = u64::try_from(next.fetch_add(1, Ordering::AcqRel)).unwrap();
                if seed >= seeds {
                    return;
                }
                trade(&desk, &url, seed).await;
            }
        });
    }
    while let Some(client) = clients.join_next().await {
        client.unwrap();
    }
    // what nobody told is found by the comparison of open orders
    world.finish().await;
}

/// Row 27. A fill that the stream does not tell is found in the broker's book of fills: at once when the stream connects
/// again, else by the regular comparison.
#[tokio::test(flavor = "multi_thread")]
async fn row_27_a_fill_that_the_stream_does_not_tell() {
    let (mut world, ann) = World::with_one(Setup::default()).await;
    world.watch(&ann, &[0]).await;
    let url = world.url(0);
    let unheard = json!({"id": "unheard", "match": {"event": "fill"}, "action": "stream_drop"});
    world.broker.fault(unheard.clone()).await;
    let first = ann.insist(&[&url], "first", &market("buy")).await;
    until("the fill is not told", async || world.broker.hits("unheard").await == 1).await;
    let cut = json!({"id": "cut", "match": {"event": "new"}, "action": "stream_cut", "times": 1});
    world.broker.sim(reqwest::Method::PUT, "faults", json!([cut, unheard])).await;
    let second = ann.insist(&[&url], "second", &resting()).await;
    until("the stream is cut", async || world.broker.hits("cut").await == 1).await;
    world.becomes(&first.text_of("id"), &["filled"]).await;
    world.becomes(&second.text_of("id"), &["new"]).await;
    let third = ann.insist(&[&url], "third", &market("buy")).await;
    world.becomes(&third.text_of("id"), &["filled"]).await;
    let told = "fills WHERE source = 'stream'";
    assert_eq!(world.database.count(told), 0, "the stream told none of them");
    world.finish().await;
}
