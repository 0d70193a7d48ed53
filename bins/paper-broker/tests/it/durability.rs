//! What was answered is on disk, whatever ends.

use std::collections::BTreeMap;
use std::time::Duration;

use nix::sys::signal::Signal;
use plimsoll_paper_broker::{Ended, Login};
use plimsoll_storage::testing::RawConnection;
use plimsoll_testkit::{ChildGuard, TestDb, server_url};
use reqwest::Method;
use rust_decimal::Decimal;
use serde_json::{Value, json};

use crate::support::{Account, Bench, PATIENCE, config, eventually, market, program, resting, start, text};

/// The program over a test's database.
struct Process {
    child: ChildGuard,
    client: Account,
}

fn launch(db: &TestDb, folder: &std::path::Path) -> Process {
    let mut command = program(folder);
    command.args(["--database-url", db.url(), "--fixed-price", "100", "--rate-limit", "off", "--json"]);
    let mut child = ChildGuard::spawn(command);
    let started: Value = serde_json::from_str(&child.line(PATIENCE)).unwrap();
    let account = &started["accounts"][0];
    let login = Login {
        account_id: uuid::Uuid::nil(),
        api_key: text(&account["api_key"]).into(),
        api_secret: text(&account["api_secret"]).into(),
    };
    Process { client: Account::new(text(&started["url"]), login), child }
}

fn by_id(orders: &Value) -> BTreeMap<String, Value> {
    orders.as_array().unwrap().iter().map(|order| (text(&order["id"]).to_owned(), order.clone())).collect()
}

fn sum(rows: &Value, symbol: &str) -> Decimal {
    let rows = rows.as_array().unwrap().iter().filter(|row| row["symbol"] == symbol);
    let signed = |row: &Value| {
        let qty: Decimal = text(&row["qty"]).parse().unwrap();
        if row["side"] == "buy" { qty } else { -qty }
    };
    rows.map(signed).sum()
}

#[tokio::test(flavor = "multi_thread")]
async fn a_kill_loses_nothing_that_was_answered() {
    let (db, folder) = (TestDb::paper(), tempfile::tempdir().unwrap());
    let mut process = launch(&db, folder.path());
    let keys = process.client.login.clone();
    process.client.post("/v2/watchlists", json!({ "name": "mine", "symbols": ["SPY"] })).await;
    let mut acknowledged: Vec<Value> = Vec::new();
    for round in 0..3 {
        let mut senders = Vec::new();
        for number in 0..40 {
            let client = process.client.clone();
            let mut body = if number % 4 == 0 { resting("IBM", 1) } else { market("SPY", "buy", 1) };
            body["client_order_id"] = json!(format!("{round}-{number}"));
            senders.push(tokio::spawn(async move {
                let body = body.to_string();
                client
                    .try_send(Method::POST, "/v2/orders", Some(&body))
                    .await
                    .ok()
                    .filter(|reply| reply.status == 200)
            }));
        }
        tokio::time::sleep(Duration::from_millis(15 * (round + 1))).await;
        process.child.kill();
        for sender in senders {
            acknowledged.extend(sender.await.unwrap().map(|reply| reply.body));
        }
        process = launch(&db, folder.path());
        assert_eq!(process.client.login, keys, "clients keep their keys");
        let ledger = by_id(&process.client.get("/_sim/orders").await);
        for order in &acknowledged {
            let kept =
                ledger.get(text(&order["id"])).unwrap_or_else(|| panic!("{order} was answered and is lost"));
            assert_eq!(kept["client_order_id"], order["client_order_id"]);
        }
        let ids: Vec<&Value> = ledger.values().map(|order| &order["client_order_id"]).collect();
        assert_eq!(
            ids.iter().map(|id| id.to_string()).collect::<std::collections::BTreeSet<_>>().len(),
            ids.len()
        );
    }
    assert!(!acknowledged.is_empty(), "some order was answered before a kill");

    // everything fills at last, and the books agree with one another
    for order in &acknowledged {
        if order["symbol"] == "SPY" {
            process.client.order_in(order, "filled").await;
        }
    }
    eventually(|| async {
        let open = process.client.get("/v2/orders?symbols=SPY").await;
        if open == json!([]) { Ok(()) } else { Err(format!("{open}")) }
    })
    .await;
    let fills = process.client.get("/_sim/fills").await;
    let position = process.client.get("/v2/positions/SPY").await;
    assert_eq!(text(&position["qty"]).parse::<Decimal>().unwrap(), sum(&fills, "SPY"));
    assert_eq!(process.client.get("/v2/watchlists").await.as_array().unwrap().len(), 1);

    // and a kill at rest changes nothing at all
    let seen = |client: Account| async move {
        let account = client.get("/v2/account").await;
        (
            client.get("/_sim/orders").await,
            client.get("/_sim/fills").await,
            account["cash"].clone(),
            account["id"].clone(),
        )
    };
    let before = seen(process.client.clone()).await;
    process.child.kill();
    let mut process = launch(&db, folder.path());
    assert_eq!(seen(process.client.clone()).await, before);
    process.child.signal(Signal::SIGINT);
    assert!(process.child.wait(PATIENCE).success());
}

#[tokio::test(flavor = "multi_thread")]
async fn simulator_time_never_goes_back_over_a_restart() {
    let (db, folder) = (TestDb::paper(), tempfile::tempdir().unwrap());
    let time = |clock: &Value| text(&clock["time"]).parse::<chrono::DateTime<chrono::Utc>>().unwrap();
    let mut process = launch(&db, folder.path());
    process
        .client
        .send(Method::PUT, "/_sim/clock", Some(&json!({ "session": "after", "speed": 1000 })))
        .await;
    let order = process.client.order(resting("SPY", 1)).await;
    let before = process.client.get("/_sim/clock").await;
    process.child.kill();
    let process = launch(&db, folder.path());
    let after = process.client.get("/_sim/clock").await;
    assert!(time(&after) >= time(&before), "{before} {after}");
    assert_eq!(after["speed"], "1", "the flag counts at every start");
    let mut later = resting("SPY", 1);
    later["extended_hours"] = json!(true);
    let later = process.client.order(later).await;
    assert!(text(&later["submitted_at"]) > text(&order["submitted_at"]));
}

/// Lets nobody into a test's database, or lets them in again.
fn let_in(db: &TestDb, allow: bool) {
    let mut admin = RawConnection::open(server_url()).unwrap();
    admin.execute(&format!("ALTER DATABASE {} ALLOW_CONNECTIONS {allow}", db.name())).unwrap();
    if !allow {
        let others =
            format!("SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE datname = '{}'", db.name());
        admin.execute(&others).unwrap();
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn without_its_database_it_answers_nothing_and_loses_nothing() {
    let bench = Bench::start().await;
    bench.filled(market("SPY", "buy", 1)).await;
    let mut stream = bench.stream().await;
    let_in(&bench.db, false);
    let mut body = market("SPY", "buy", 2);
    body["client_order_id"] = json!("in doubt");
    let first = bench.post("/v2/orders", body.clone()).await;
    assert_eq!((first.status, &first.body["code"]), (500, &json!(50_010_000)), "its fate is unknown");
    let second = bench.post("/v2/orders", market("SPY", "buy", 4)).await;
    assert_eq!(second.status, 503, "nothing new is run");
    assert_eq!(
        bench.send(Method::GET, "/v2/positions", None).await.status,
        503,
        "nothing is told that is not on disk"
    );
    stream.silent().await;
    let_in(&bench.db, true);
    assert_eq!(stream.events(3).await, ["pending_new", "new", "fill"], "told as soon as it is on disk");
    assert_eq!(bench.get("/v2/positions/SPY").await["qty"], "3");
    assert_eq!(
        bench.post("/v2/orders", body).await.body["code"],
        40_010_001,
        "the doubtful order went through"
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn a_second_broker_takes_the_books_over() {
    let bench = Bench::start().await;
    bench.filled(market("SPY", "buy", 1)).await;
    let folder = tempfile::tempdir().unwrap();
    let second = start(config(&bench.db, &folder)).await;
    // the first notices when it next writes
    let refused = bench.post("/v2/orders", market("SPY", "buy", 1)).await;
    assert_eq!(refused.status, 503);
    assert_eq!(bench.handle.as_ref().unwrap().ended().await, Ended::TakenOver);
    let client = Account::of(&second);
    assert_eq!(client.get("/_sim/orders").await.as_array().unwrap().len(), 1);
    assert_eq!(
        client.get("/v2/positions/SPY").await["qty"],
        "1",
        "the same account, with a key for this folder"
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn keys_outlive_their_database() {
    let (db, folder) = (TestDb::paper(), tempfile::tempdir().unwrap());
    let first = start(config(&db, &folder)).await;
    let keys = first.accounts().to_vec();
    tokio::task::spawn_blocking(|| first.stop()).await.unwrap();
    let other = TestDb::paper();
    let second = start(config(&other, &folder)).await;
    assert_eq!(
        (&second.accounts()[0].api_key, &second.accounts()[0].api_secret),
        (&keys[0].api_key, &keys[0].api_secret)
    );
    assert_eq!(Account::of(&second).get("/v2/account").await["cash"], "100000");
}

#[tokio::test(flavor = "multi_thread")]
async fn the_database_holds_no_secret() {
    let bench = Bench::start().await;
    let mut connection = RawConnection::open(bench.db.url()).unwrap();
    let rows =
        connection.rows("SELECT key_id, encode(secret_sha256, 'escape') AS hash FROM api_keys").unwrap();
    assert_eq!((rows.len(), text(&rows[0]["key_id"])), (1, bench.login.api_key.as_str()));
    assert!(!rows[0].to_string().contains(&bench.login.api_secret));
    assert!(bench.folder.path().join("paper-keys.json").is_file());
}

#[tokio::test(flavor = "multi_thread")]
async fn orders_that_wait_share_a_transaction() {
    let bench = Bench::start().await;
    let commits = || {
        let mut admin = RawConnection::open(server_url()).unwrap();
        let query = format!(
            "SELECT xact_commit::bigint AS n FROM pg_stat_database WHERE datname = '{}'",
            bench.db.name()
        );
        admin.rows(&query).unwrap()[0]["n"].as_i64().unwrap()
    };
    let before = commits();
    let senders: Vec<_> = (0..200)
        .map(|_| {
            let client = bench.client.clone();
            tokio::spawn(async move { client.order(resting("SPY", 1)).await })
        })
        .collect();
    for sender in senders {
        sender.await.unwrap();
    }
    // the statistics lag behind by up to a second
    tokio::time::sleep(Duration::from_millis(1_500)).await;
    let used = commits() - before;
    assert!(used < 300, "200 orders and their acknowledgements took {used} commits");
}
