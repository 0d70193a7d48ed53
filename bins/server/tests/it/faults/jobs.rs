//! Requests that come a hundred times, jobs that cannot be done, and dead letters that are all replayed.

use std::collections::BTreeMap;

use reqwest::Method;
use serde_json::{Value, json};

use super::desk::{Answer, Desk, market};
use super::trap::{Deed, Moment, Wanted};
use super::world::{Setup, World, until};

/// Row 50. A hundred equal requests at once have one effect and one reply; another body under the key is refused.
#[tokio::test(flavor = "multi_thread")]
async fn row_50_a_hundred_equal_requests() {
    let (mut world, ann) = World::with_one(Setup::default()).await;
    world.watch(&ann, &[0]).await;
    let url = world.url(0);
    for (n, path) in ["/orders?wait_ms=0", "/orders", "/orders?wait_ms=3000"].into_iter().enumerate() {
        let mut twins = tokio::task::JoinSet::new();
        let key = format!("twins-{n}");
        for _ in 0..100 {
            let (ann, url, key) = (ann.clone(), url.clone(), key.clone());
            twins.spawn(async move {
                let body = Some(market("buy").to_string());
                ann.send(&url, Method::POST, path, Some(&key), body).await.unwrap()
            });
        }
        let mut answers: Vec<Answer> = Vec::new();
        while let Some(answer) = twins.join_next().await {
            answers.push(answer.unwrap());
        }
        let (good, rest): (Vec<&Answer>, Vec<&Answer>) = answers.iter().partition(|answer| answer.is_final());
        assert_eq!(good.iter().filter(|answer| !answer.replayed).count(), 1, "{path}: one had the effect");
        assert!(good.iter().all(|answer| answer.text == good[0].text), "{path}: all got its reply");
        for answer in rest {
            let wait = (answer.status, answer.retry_after.is_some());
            assert!(matches!(wait, (409 | 503, true)), "{path}: {answer:?}");
        }
        let mut other = market("buy");
        other["qty"] = "2".into();
        let answer = ann.send(&url, Method::POST, path, Some(&key), Some(other.to_string())).await.unwrap();
        assert_eq!(
            (answer.status, answer.text_of("code").as_str()),
            (422, "idempotency_key_reused"),
            "{answer:?}"
        );
        assert_eq!(world.database.count("orders"), i64::try_from(n + 1).unwrap());
    }
    world.finish().await;
}

/// Inserts a job past every check, as a broken release would; its id.
fn insert(world: &World, queue: &str, kind: &str, payload: &Value) -> i64 {
    world.database.execute(&format!(
        "INSERT INTO jobs (queue, kind, max_attempts, payload) VALUES ('{queue}', '{kind}', 3, '{payload}')"
    ));
    world.database.rows(&format!("SELECT max(id) AS id FROM jobs WHERE kind = '{kind}'"))[0]["id"]
        .as_i64()
        .unwrap()
}

fn job(world: &World, id: i64) -> Value {
    world.database.rows(&format!("SELECT state, attempt, crash_count, last_error FROM jobs WHERE id = {id}"))
        [0]
    .clone()
}

/// Waits until a job is dead, and answers why.
async fn dies(world: &World, id: i64) -> String {
    until("the job is given up", async || job(world, id)["state"] == "dead").await;
    job(world, id)["last_error"].as_str().unwrap().to_owned()
}

/// An order goes all the way.
async fn flows(world: &World, ann: &Desk, key: &str) -> Value {
    let answer = ann.insist(&[&world.url(0)], key, &market("buy")).await;
    world.becomes(&answer.text_of("id"), &["filled"]).await;
    answer.json()
}

/// Row 51. What no handler can read, and what is about something that does not exist, is given up at once with its reason;
/// the queue goes on.
#[tokio::test(flavor = "multi_thread")]
async fn row_51_jobs_that_cannot_be_done() {
    let (world, ann) = World::with_one(Setup::default()).await;
    let nobody = "00000000-0000-7000-8000-000000000000";
    for (n, kind) in
        ["submit_order", "cancel_order", "replace_order", "watch_order", "sync_order"].into_iter().enumerate()
    {
        for (m, payload) in [json!({}), json!([]), json!(null), json!({"order_id": "no id", "account_id": 1})]
            .iter()
            .enumerate()
        {
            let id = insert(&world, "broker", kind, payload);
            let why = dies(&world, id).await;
            assert!(!why.is_empty(), "{kind} {payload}");
            assert_eq!(job(&world, id)["attempt"], 1, "{kind} {payload}: {why}");
            flows(&world, &ann, &format!("after-{n}-{m}")).await;
        }
        if kind != "replace_order" && kind != "sync_order" {
            let id = insert(&world, "broker", kind, &json!({"order_id": nobody, "account_id": 1}));
            let why = dies(&world, id).await;
            assert!(why.contains("no such order"), "{kind}: {why}");
        }
    }
    flows(&world, &ann, "after").await;
    world.finish().await;
}

/// Row 51. A job whose broker never answers ends its attempts in time, and others pass it.
#[tokio::test(flavor = "multi_thread")]
async fn row_51_a_job_that_waits_for_ever() {
    let (world, ann) = World::with_one(Setup::default()).await;
    let order = flows(&world, &ann, "before").await;
    let id = order["id"].as_str().unwrap();
    let row =
        &world.database.rows(&format!("SELECT account_id, broker_order_id FROM orders WHERE id = '{id}'"))[0];
    let path = format!("/orders/{}", row["broker_order_id"].as_str().unwrap());
    let silent = json!({"id": "silent", "match": {"path": path}, "action": "delay", "ms": 600_000});
    world.broker.fault(silent).await;
    let stuck =
        insert(&world, "broker", "sync_order", &json!({"order_id": id, "account_id": row["account_id"]}));
    until("the broker was asked", async || world.broker.hits("silent").await > 0).await;
    flows(&world, &ann, "meanwhile").await;
    let why = dies(&world, stuck).await;
    println!("given up: {why}");
    assert_eq!(job(&world, stuck)["attempt"], 3);
    world.finish().await;
}

/// Row 51. A job that ends its process each time is given up after five of them, and everything goes on.
#[tokio::test(flavor = "multi_thread")]
async fn row_51_a_job_that_kills_its_process() {
    let (mut world, ann) = World::with_one(Setup::default()).await;
    let order = flows(&world, &ann, "before").await;
    world.quiesce().await;
    let id = order["id"].as_str().unwrap();
    let account = &world.database.rows(&format!("SELECT account_id FROM orders WHERE id = '{id}'"))[0];
    let payload = json!({"order_id": id, "account_id": account["account_id"]});
    let mut deadly = 0;
    let mut kills = 0;
    loop {
        // the order that the job is about is read first; set before the process can have the job
        let (pid, proxy) = (world.instances[0].pid(), &world.instances[0].proxy);
        let text = "FROM orders o WHERE o.account_id = $1 AND o.id = $2";
        let trap = proxy.set(Wanted::text(text).of("jobs"), Moment::Before, Deed::Kill(pid));
        if kills == 0 {
            deadly = insert(&world, "broker", "sync_order", &payload);
        }
        until("the job runs or is given up", async || {
            trap.acted() > 0 || job(&world, deadly)["state"] == "dead"
        })
        .await;
        if trap.acted() == 0 {
            trap.lift();
            break;
        }
        kills += 1;
        world.instances[0].wait();
        world.instances[0].proxy.heal();
        world.instances[0].spawn();
    }
    world.instances[0].ready().await;
    assert!(kills >= 5 && job(&world, deadly)["crash_count"] == 5, "{kills} kills: {}", job(&world, deadly));
    let why = dies(&world, deadly).await;
    assert!(why.contains("crash"), "{why}");
    world.trades(&ann, 0).await;
    flows(&world, &ann, "after").await;
    world.finish().await;
}

/// Row 52. Ten thousand dead letters are replayed while the broker fails every now and then: they come due at the rate that
/// was asked for, what is past its time is refused, and nothing has an effect twice.
#[tokio::test(flavor = "multi_thread")]
async fn row_52_ten_thousand_dead_letters_are_replayed() {
    let setup = Setup::default().setting("REQUIRE_ADMIN_2FA", "false");
    let (mut world, ann) = World::with_one(setup).await;
    let url = world.url(0);
    world.watch(&ann, &[0]).await;
    let mut orders = Vec::new();
    for n in 0..5 {
        orders.push(flows(&world, &ann, &format!("done-{n}")).await["id"].as_str().unwrap().to_owned());
    }
    world.quiesce().await;
    // letters about what is done already, and of orders whose time is over
    world.database.execute(
        "INSERT INTO jobs (queue, kind, state, max_attempts, payload, last_error, finished_at) \
         SELECT 'broker', 'sync_order', 'dead', 8, jsonb_build_object('order_id', o.id, 'account_id', o.account_id), \
         'the broker was away', now() FROM (SELECT id, account_id, rank() OVER (ORDER BY id) AS n FROM orders) o \
         JOIN generate_series(0, 9994) g ON g % 5 + 1 = o.n",
    );
    world.database.execute(
        "INSERT INTO jobs (queue, kind, state, max_attempts, dedup_key, payload, last_error, finished_at) \
         SELECT 'broker', 'submit_order', 'dead', 8, 'letter-' || id, \
         jsonb_build_object('order_id', id, 'account_id', account_id), 'the broker was away', now() FROM orders",
    );
    world.database.execute("UPDATE orders SET submit_deadline = now() - interval '1 second'");
    let admin = world.trader("chief").await;
    world.database.execute(&format!("UPDATE users SET role = 'admin' WHERE id = {}", admin.user()));
    let fails = json!({"match": {"method": "GET", "path": "/orders/*"}, "action": "status_before", "status": 503, "times": 8});
    world.broker.fault(fails).await;

    let replay = async |query: &str| {
        let body = Some(json!({"limit": 10_000, "per_second": 100}).to_string());
        let path = format!("/admin/dead-letters/replay{query}");
        let answer = admin.send(&url, Method::POST, &path, None, body).await.unwrap();
        assert_eq!(answer.status, 200, "{answer:?}");
        answer.json()
    };
    let counted = |answer: &Value| {
        let count = |member: &str| answer[member].as_i64().unwrap();
        (count("matched"), count("replayed"), count("refused"))
    };
    let replays = "jobs WHERE parent_id IS NOT NULL";
    assert_eq!(counted(&replay("?dry_run=true").await), (10_000, 9_995, 5));
    assert_eq!(world.database.count(replays), 0, "a trial changes nothing");
    assert_eq!(counted(&replay("").await), (10_000, 9_995, 5));
    let again = replay("").await;
    assert_eq!(counted(&again).1, 0, "what was replayed is not replayed again: {again}");

    // as they were put in: no second has more than was asked for. Those that are due soon may have been put off already,
    // while the broker was given rest.
    let due = world.database.rows(
        "SELECT extract(epoch FROM run_at)::bigint AS second, count(*)::bigint AS n FROM jobs \
         WHERE parent_id IS NOT NULL AND state = 'ready' AND attempt = 0 AND run_at > now() + interval '15 seconds' GROUP BY 1",
    );
    let due: BTreeMap<i64, i64> =
        due.iter().map(|row| (row["second"].as_i64().unwrap(), row["n"].as_i64().unwrap())).collect();
    assert!(due.len() > 40 && due.values().all(|n| *n <= 101), "{due:?}");
    let done = "jobs WHERE parent_id IS NOT NULL AND state = 'done'";
    until("some are done", async || world.database.count(done) > 100).await;
    flows(&world, &ann, "meanwhile").await;
    // an operator has seen enough
    // these stood for jobs that their orders have had already
    world.database.execute("DELETE FROM jobs WHERE dedup_key LIKE 'letter-%'");
    world.database.execute(
        "UPDATE jobs SET state = 'cancelled', finished_at = now() WHERE parent_id IS NOT NULL AND state = 'ready'",
    );
    assert_eq!(world.database.count("fills"), 6, "nothing was booked twice");
    assert_eq!(world.broker.orders().await.len(), 6, "nothing was sent twice");
    world.finish().await;
}
