//! Hours of trading on the replay of recorded market data, with random faults and two servers: in the end nothing is open
//! between the platform and its broker, and both have the same positions, fills and cash, to the cent.

use std::collections::BTreeSet;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use reqwest::Method;
use rust_decimal::Decimal;
use serde_json::{Value, json};

use super::desk::Desk;
use super::world::{Setup, World, until};

/// Simulated seconds a second.
const SPEED: u32 = 60;
/// What every account begins with.
const CASH: u32 = 100_000;

/// Numbers that follow from a seed.
struct Dice(u64);

impl Dice {
    fn new(seed: u64) -> Self {
        Self(seed.wrapping_mul(0x9E37_79B9_7F4A_7C15) | 1)
    }

    /// Below `below`.
    fn roll(&mut self, below: u64) -> u64 {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        (self.0 >> 11) % below
    }

    fn pick<'a>(&mut self, words: &[&'a str]) -> &'a str {
        words[usize::try_from(self.roll(words.len() as u64)).unwrap()]
    }
}

/// Simulated minutes: two hours where that is asked for.
#[expect(clippy::disallowed_methods, reason = "the environment is how a test run is configured")]
fn minutes() -> u64 {
    let asked = std::env::var("RECONCILE_MINUTES").ok().and_then(|text| text.parse().ok());
    asked.unwrap_or(15)
}

/// One way in which the broker misbehaves, for a few requests or messages.
fn fault(dice: &mut Dice) -> Value {
    let times = 1 + dice.roll(4);
    match dice.roll(4) {
        0 => {
            let method = dice.pick(&["POST", "PATCH", "DELETE"]);
            let action = dice.pick(&["accept_then_drop", "status_after", "status_before", "garbage", "drop"]);
            json!({"match": {"method": method, "path": "/orders*"}, "action": action, "times": times})
        }
        1 => {
            let path = dice.pick(&["/orders*", "/positions", "/account", "/account/activities*"]);
            let action = dice.pick(&["status_before", "drop", "garbage"]);
            json!({"match": {"method": "GET", "path": path}, "action": action, "times": times})
        }
        2 => {
            let action = dice.pick(&["lookup_404", "hide_from_list", "hide_from_book"]);
            json!({"action": action, "times": times})
        }
        _ => {
            let action = dice.pick(&[
                "stream_drop",
                "stream_duplicate",
                "stream_reorder",
                "stream_cut",
                "stream_silence",
            ]);
            json!({"action": action, "times": times * 3, "ms": 50 + dice.roll(1_500)})
        }
    }
}

/// A trader who buys, sells, waits, changes and cancels until it is `over`. Whatever is answered is taken.
async fn trade(desk: Desk, urls: [String; 2], seed: u64, over: Arc<AtomicBool>) {
    let (mut dice, mut resting, mut n) = (Dice::new(seed), Vec::<String>::new(), 0);
    while !over.load(Ordering::Acquire) {
        n += 1;
        let key = format!("hours-{seed}-{n}");
        let symbol = dice.pick(&["SPY", "MSFT"]);
        let side = dice.pick(&["buy", "sell"]);
        let qty = (1 + dice.roll(9)).to_string();
        let (method, path, body) = match dice.roll(10) {
            0..5 => {
                let body = json!({"symbol": symbol, "side": side, "type": "market", "time_in_force": "day", "qty": qty});
                (Method::POST, "/orders?wait_ms=0".to_owned(), Some(body))
            }
            5..8 => {
                let body = json!({
                    "symbol": symbol, "side": "buy", "type": "limit", "time_in_force": "gtc", "qty": qty,
                    "limit_price": "10",
                });
                (Method::POST, "/orders?wait_ms=500".to_owned(), Some(body))
            }
            roll => {
                let Some(id) = resting.pop() else { continue };
                let path = format!("/orders/{id}");
                match roll {
                    8 => (Method::PATCH, path, Some(json!({"limit_price": "11"}))),
                    _ => (Method::DELETE, path, None),
                }
            }
        };
        let waits = path.ends_with("=500");
        for _ in 0..40 {
            let url = &urls[usize::try_from(dice.roll(2)).unwrap()];
            let body = body.as_ref().map(Value::to_string);
            match desk.send(url, method.clone(), &path, Some(&key), body).await {
                Ok(answer) if !matches!(answer.status, 409 | 429 | 500..) => {
                    if waits && answer.status < 300 {
                        resting.push(answer.text_of("id"));
                    }
                    break;
                }
                _ if over.load(Ordering::Acquire) => break,
                _ => tokio::time::sleep(Duration::from_millis(100)).await,
            }
        }
        tokio::time::sleep(Duration::from_millis(40 + dice.roll(300))).await;
    }
}

/// Every fill of one side, as texts that both sides share.
fn fills_here(world: &World, desk: &Desk) -> BTreeSet<String> {
    let query = format!(
        "SELECT o.client_order_id AS id, trim_scale(f.cum_qty)::text AS cum, trim_scale(f.qty)::text AS qty, \
         trim_scale(f.price)::text AS price FROM fills f JOIN orders o ON o.id = f.order_id AND o.account_id = f.account_id \
         WHERE f.user_id = {}",
        desk.user()
    );
    let text = |row: &Value, name: &str| row[name].as_str().unwrap().to_owned();
    let one =
        |row: &Value| [text(row, "id"), text(row, "cum"), text(row, "qty"), text(row, "price")].join(" ");
    world.database.rows(&query).iter().map(one).collect()
}

fn dec(value: &Value) -> Decimal {
    value.as_str().map_or_else(|| value.to_string(), str::to_owned).parse().unwrap()
}

async fn fills_there(world: &World, desk: &Desk) -> (BTreeSet<String>, Decimal) {
    let (mut fills, mut cash) = (BTreeSet::new(), Decimal::from(CASH));
    for fill in world.broker.fills().await.iter().filter(|fill| fill["account"] == desk.account()) {
        let (qty, price) = (dec(&fill["qty"]), dec(&fill["price"]));
        cash += if fill["side"] == "buy" { -qty * price } else { qty * price };
        let id = fill["client_order_id"].as_str().unwrap();
        fills.insert(format!(
            "{id} {} {} {}",
            dec(&fill["cum_qty"]).normalize(),
            qty.normalize(),
            price.normalize()
        ));
    }
    (fills, cash)
}

/// The cash that the last agreement with the broker was about.
fn cash_here(world: &World, desk: &Desk) -> Decimal {
    let query = format!("SELECT cash_base::text AS cash FROM accounts WHERE user_id = {}", desk.user());
    dec(&world.database.rows(&query)[0]["cash"])
}

#[tokio::test(flavor = "multi_thread")]
async fn hours_of_trading_with_random_faults_end_in_the_brokers_ledger() {
    let setup = Setup::default().replay().broker(&["--several-streams", "--partial-fill-rate", "0.4"]);
    let (mut world, ann) = World::with_one(setup).await;
    world.serve("two").await;
    let mut desks = vec![ann];
    for name in ["bob", "cat"] {
        let desk = world.trader(name).await;
        world.trades(&desk, 0).await;
        desks.push(desk);
    }
    world.broker.sim(Method::PUT, "clock", json!({ "speed": SPEED.to_string() })).await;
    let (over, urls) = (Arc::new(AtomicBool::new(false)), [world.url(0), world.url(1)]);
    let mut traders = tokio::task::JoinSet::new();
    for (seed, desk) in desks.iter().enumerate() {
        traders.spawn(trade(desk.clone(), urls.clone(), seed as u64 + 1, Arc::clone(&over)));
    }
    let mut dice = Dice::new(6);
    let until_then = Instant::now() + Duration::from_secs(minutes() * 60 / u64::from(SPEED));
    while Instant::now() < until_then {
        match dice.roll(12) {
            0 => {
                let at = usize::try_from(dice.roll(2)).unwrap();
                world.instances[at].kill();
                world.instances[at].restart().await;
            }
            1..4 => world.broker.heal().await,
            _ => world.broker.fault(fault(&mut dice)).await,
        }
        tokio::time::sleep(Duration::from_millis(200 + dice.roll(800))).await;
    }
    over.store(true, Ordering::Release);
    while let Some(trader) = traders.join_next().await {
        trader.unwrap();
    }
    world.quiesce().await;
    for desk in &desks {
        until("the account agrees with the broker", async || world.compare(desk).await.status == "ok").await;
        let (there, cash) = fills_there(&world, desk).await;
        assert_eq!(fills_here(&world, desk), there);
        assert!(
            (cash_here(&world, desk) - cash).abs() < Decimal::new(1, 2),
            "{} {cash}",
            cash_here(&world, desk)
        );
        assert!(!there.is_empty(), "something was traded");
    }
    assert_eq!(world.open_discrepancies(), 0);
    assert_eq!(world.database.count("accounts WHERE entries_blocked IS NOT NULL"), 0);
    world.finish().await;
}
