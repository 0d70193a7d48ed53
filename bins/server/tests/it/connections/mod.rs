//! Each user trades through keys of their own: over connections that come, change and go with the keys, and that
//! instances share out among themselves.

mod world;

use std::collections::BTreeMap;
use std::time::Duration;

use reqwest::Method;
use serde_json::{Value, json};

use self::world::{PATIENCE, World, buy, resident, until};

/// Everything that happens to a key takes effect within five seconds; a busy machine gets a few more.
const AT_ONCE: Duration = Duration::from_secs(15);

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn users_trade_through_their_own_keys_as_they_come_change_and_go() {
    let world = World::new().await;
    let instance = world.serve("one").await;
    let (mut ann, mut bob) = (world.trader("ann").await, world.trader("bob").await);
    let (of_ann, of_bob) = (instance.client(&world, &ann), instance.client(&world, &bob));

    let ids = [buy(&of_ann, "a1").await, buy(&of_bob, "b1").await, buy(&of_bob, "b2").await];
    until("all orders are at the broker", async || world.orders_at_broker(None).await.len() == 3).await;
    assert_eq!(world.orders_at_broker(Some(&ann.account)).await, ids[..1]);
    assert_eq!(world.orders_at_broker(Some(&bob.account)).await, ids[1..]);
    let own = async |client: &crate::demo::Client| {
        let (_, page) = client.get("/orders").await;
        page["items"].as_array().unwrap().len()
    };
    assert_eq!((own(&of_ann).await, own(&of_bob).await), (1, 2));
    until("both keys are valid", async || [&ann, &bob].iter().all(|user| world.state(user) == "valid")).await;

    // Another key of the same account: the one before is not used any more, so nobody misses it.
    let old = ann.key.clone();
    world.next_key(&mut ann).await;
    instance.put_key(&world, &ann).await;
    let took = until("the new key is in use", async || world.state(&ann) == "valid").await;
    println!("a changed key took effect in {took:?}");
    assert!(took < AT_ONCE, "{took:?}");
    world.revoke(&old).await;
    let id = buy(&of_ann, "a2").await;
    until("it is at the broker", async || world.orders_at_broker(Some(&ann.account)).await.contains(&id))
        .await;
    assert_eq!(world.state(&ann), "valid");

    // A key that is deleted leaves no stream behind, and takes nobody else's along.
    until("both are followed", async || {
        (world.streams(&ann.account).await, world.streams(&bob.account).await) == (1, 1)
    })
    .await;
    let deleted = of_ann.send(Method::DELETE, "/broker/credentials/alpaca", None, None).await.unwrap();
    assert_eq!(deleted.0.as_u16(), 204, "{}", deleted.1);
    let took = until("the stream is closed", async || world.streams(&ann.account).await == 0).await;
    println!("a deleted key took effect in {took:?}");
    assert!(took < AT_ONCE, "{took:?}");
    assert_eq!(world.streams(&bob.account).await, 1);
    let (status, problem, _) = of_ann.send(Method::GET, "/account", None, None).await.unwrap();
    assert_eq!(status.as_u16(), 404, "{problem}");

    // A key that the broker refuses: its user is told, and nothing more is tried with it.
    let mails = format!("mail_outbox WHERE user_id = {}", bob.id);
    let alerts = format!("stream_event WHERE stream_id = {} AND kind = 'system_alert'", bob.id);
    let before = (world.count(&mails), world.count(&alerts));
    world.revoke(&bob.key).await;
    let took = until("the key is known to be refused", async || world.state(&bob) == "invalid").await;
    println!("a revoked key was noticed in {took:?}");
    assert!(took < AT_ONCE, "{took:?}");
    assert_eq!((world.count(&mails), world.count(&alerts)), (before.0 + 1, before.1 + 1));
    let body = json!({"symbol": "SPY", "side": "buy", "type": "market", "time_in_force": "day", "qty": "1"});
    let mut answer = Value::Null;
    until("orders are refused with the reason", async || {
        let sent = of_bob.send(Method::POST, "/orders", Some("b3"), Some(body.to_string())).await.unwrap();
        (sent.0.as_u16(), sent.1["code"].as_str()) == (422, Some("credential_refused"))
    })
    .await;
    let seq = last_request(&world).await;
    tokio::time::sleep(Duration::from_secs(3)).await;
    assert_eq!(world.count(&mails), before.0 + 1, "told once");
    answer["requests"] = world.sim(Method::GET, &format!("requests?after={seq}"), Value::Null).await;
    assert_eq!(answer["requests"], json!([]), "a refused key is left alone");
    let tested = of_bob.send(Method::POST, "/broker/credentials/alpaca/test", None, None).await.unwrap();
    assert_eq!((tested.0.as_u16(), tested.1["code"].as_str()), (422, Some("credential_refused")));
    world.next_key(&mut bob).await;
    instance.put_key(&world, &bob).await;
    let tested = of_bob.send(Method::POST, "/broker/credentials/alpaca/test", None, None).await.unwrap();
    assert_eq!((tested.0.as_u16(), &tested.1["ok"]), (200, &json!(true)), "{}", tested.1);
    let id = buy(&of_bob, "b4").await;
    until("it is at the broker", async || world.orders_at_broker(Some(&bob.account)).await.contains(&id))
        .await;
    assert_eq!(world.orders_at_broker(Some(&ann.account)).await.len(), 2);

    // A key of another account is not taken while something is held in the one before.
    let stranger = world.trader("stranger").await;
    bob.take_over(&stranger);
    instance.put_key(&world, &bob).await;
    until("the other account is noticed", async || world.state(&bob) == "invalid").await;
    // Whoever holds nothing moves there.
    let mut carl = world.trader("carl").await;
    until("the key is valid", async || world.state(&carl) == "valid").await;
    let next = world.sim(Method::POST, "accounts", json!({ "cash": "4321" })).await;
    carl.take(&next);
    instance.put_key(&world, &carl).await;
    let of_carl = instance.client(&world, &carl);
    let took = until("the other account is shown", async || {
        let (status, account) = of_carl.get("/account").await;
        status.as_u16() == 200 && account["cash"].as_str().is_some_and(|cash| cash.starts_with("4321"))
    })
    .await;
    println!("another account took effect in {took:?}");
    let id = buy(&of_carl, "c1").await;
    until("it is at the broker", async || world.orders_at_broker(Some(&carl.account)).await == [id.as_str()])
        .await;

    // What does not open stops the account, is on record, and is no word of the broker's.
    let damaged = "api_key = set_byte(api_key, 40, get_byte(api_key, 40) # 1)";
    world.database.execute(&format!("UPDATE broker_credentials SET {damaged} WHERE user_id = {}", carl.id));
    until("the credential is known not to open", async || {
        let (status, problem) = of_carl.get("/account").await;
        (status.as_u16(), problem["code"].as_str()) == (503, Some("credential_unavailable"))
    })
    .await;
    until("the stream is closed", async || world.streams(&carl.account).await == 0).await;
    assert_eq!(world.state(&carl), "valid");
    assert_eq!(world.count("audit_log WHERE action = 'credential.undecryptable'"), 1);
    let sent = of_carl.send(Method::POST, "/orders", Some("c2"), Some(body.to_string())).await.unwrap();
    assert_eq!((sent.0.as_u16(), sent.1["code"].as_str()), (503, Some("credential_unavailable")));
}

async fn last_request(world: &World) -> u64 {
    let log = world.sim(Method::GET, "requests", Value::Null).await;
    log.as_array().unwrap().last().map_or(0, |entry| entry["seq"].as_u64().unwrap())
}

/// Who has each account, by its id.
fn holders(world: &World) -> BTreeMap<String, String> {
    let rows = world.database.rows(
        "SELECT name, owner::text AS owner FROM leases WHERE name LIKE 'account:%' AND expires_at >= now() ORDER BY name",
    );
    let text = |row: &Value, field: &str| row[field].as_str().unwrap().to_owned();
    rows.iter().map(|row| (text(row, "name"), text(row, "owner"))).collect()
}

fn shares(holders: &BTreeMap<String, String>) -> Vec<usize> {
    let mut counts: BTreeMap<&str, usize> = BTreeMap::new();
    holders.values().for_each(|owner| *counts.entry(owner).or_default() += 1);
    counts.into_values().collect()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn two_instances_share_the_accounts_and_one_takes_over_from_the_other() {
    let world = World::new().await;
    let mut traders = Vec::new();
    for n in 0..6 {
        traders.push(world.trader(&format!("trader{n}")).await);
    }
    let one = world.serve("one").await;
    until("the first has everything", async || shares(&holders(&world)) == [6]).await;
    let mut two = world.serve("two").await;
    let took = until("each has its half", async || shares(&holders(&world)) == [3, 3]).await;
    println!("the accounts were shared out anew in {took:?}");

    // Whichever instance is asked, each order is sent once, by the one that has the account.
    let mut ids = Vec::new();
    for (n, trader) in traders.iter().enumerate() {
        for instance in [&one, &two] {
            let client = instance.client(&world, trader);
            assert_eq!(client.get("/account").await.0.as_u16(), 200);
            ids.push(buy(&client, &format!("{n}-{}", ids.len())).await);
        }
    }
    ids.sort_unstable();
    let sent = async || {
        let mut orders = world.orders_at_broker(None).await;
        orders.sort_unstable();
        orders
    };
    until("all are at the broker", async || sent().await.len() >= ids.len()).await;
    assert_eq!(sent().await, ids);
    for trader in &traders {
        assert_eq!(world.streams(&trader.account).await, 1, "each account is followed once");
    }

    two.child.kill();
    let killed = std::time::Instant::now();
    for (n, trader) in traders.iter().enumerate() {
        ids.push(buy(&one.client(&world, trader), &format!("after-{n}")).await);
    }
    until("the other one has everything", async || shares(&holders(&world)) == [6]).await;
    println!("taken over {:?} after the kill", killed.elapsed());
    ids.sort_unstable();
    until("all are at the broker", async || sent().await.len() >= ids.len()).await;
    assert_eq!(sent().await, ids, "each order once");
    until("every account is followed", async || {
        let mut followed = 0;
        for trader in &traders {
            followed += world.streams(&trader.account).await;
        }
        followed == 6
    })
    .await;

    // One that ends in order gives its accounts back at once.
    let mut two = world.serve("two").await;
    until("each has its half", async || shares(&holders(&world)) == [3, 3]).await;
    two.child.signal(nix::sys::signal::Signal::SIGTERM);
    assert_eq!(two.child.wait(PATIENCE).code(), Some(0));
    let took = until("the other one has everything", async || shares(&holders(&world)) == [6]).await;
    println!("taken over {took:?} after the end of an instance");
    assert!(took < AT_ONCE, "{took:?}");
}

/// Two hundred accounts on one instance: each with its client and its stream, and memory that stays where it is.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn two_hundred_accounts_on_one_instance_take_little_memory_and_keep_it() {
    const ACCOUNTS: usize = 200;
    /// Of a mix of orders, looks at accounts and changes of keys.
    const ROUNDS: usize = 30;
    /// What allocators and caches may still take while the mix runs.
    const MAY_GROW_KIB: i64 = 48 * 1024;

    let world = World::new().await;
    let instance = world.serve("one").await;
    let before = resident(&instance.child);
    let mut traders = Vec::new();
    let began = std::time::Instant::now();
    for n in 0..ACCOUNTS {
        traders.push(world.trader(&format!("trader{n}")).await);
    }
    let made = began.elapsed();
    let followed = async || world.sim(Method::GET, "streams", Value::Null).await.as_array().unwrap().len();
    let took = until("every account is followed", async || followed().await == ACCOUNTS).await;
    let valid = "broker_credentials WHERE state = 'valid'";
    until("every account is compared", async || world.count(valid) == ACCOUNTS as i64).await;
    let connected = resident(&instance.child);
    let each = (connected - before) / i64::try_from(ACCOUNTS).unwrap();
    println!(
        "{ACCOUNTS} accounts, made within {made:?}, the last followed {took:?} later: {before} KiB before, \
         {connected} KiB connected, {each} KiB an account"
    );

    let (mut placed, mut warm) = (0, 0);
    for round in 0..ROUNDS {
        for at in 0..10 {
            let n = (round * 37 + at * 19) % ACCOUNTS;
            let client = instance.client(&world, &traders[n]);
            buy(&client, &format!("{round}-{at}")).await;
            placed += 1;
            assert_eq!(client.get("/account").await.0.as_u16(), 200);
        }
        let changing = &mut traders[round * 7 % ACCOUNTS];
        world.next_key(changing).await;
        world.save_key(changing);
        if round == ROUNDS / 3 {
            warm = resident(&instance.child);
        }
        tokio::time::sleep(Duration::from_secs(1)).await;
    }
    until("all orders are at the broker", async || world.orders_at_broker(None).await.len() == placed).await;
    until("every account is followed", async || followed().await == ACCOUNTS).await;
    let after = resident(&instance.child);
    println!("after the mix: {warm} KiB early, {after} KiB late");
    assert!(after - connected < MAY_GROW_KIB, "{connected} KiB grew to {after} KiB");
}
