//! Comparisons over HTTP: asked for, listed, decided about; by owners and by administrators.

use plimsoll_auth::Role;
use plimsoll_auth::api_tokens::Scope as TokenScope;
use plimsoll_core_domain::order::Environment;
use plimsoll_core_domain::{AccountId, OrderId, StoreError, Symbol, UserId};
use plimsoll_reliability::reconcile::{Case, Finding, Outcome, Scope, Subject, Trigger};
use plimsoll_storage::platform::reconciliation::{AccountOwner, FinishedRun};
use reqwest::Method;
use serde_json::{Value, json};
use uuid::Uuid;

use crate::api_tokens::stepped_up;
use crate::world::{Client, World};

/// A user with a key and an account, and a client with a proven factor.
struct Trader {
    user: UserId,
    account: AccountId,
    client: Client,
}

async fn trader(world: &World, email: &str, key: &str) -> Trader {
    let user = world.user(email, Role::User);
    let client = stepped_up(world, email).await;
    let body = json!({ "api_key": key, "api_secret": "a-secret-of-the-broker", "environment": "paper" });
    let saved = client.send(Method::PUT, "/broker/credentials/alpaca", Some(&body)).await;
    assert_eq!(saved.status, 200, "{}", saved.text);
    let account = world.db.read_blocking(|tx| tx.account_of_user(user)).unwrap();
    Trader { user, account: account.unwrap().id, client }
}

async fn boss(world: &World) -> Client {
    world.user("boss@example.com", Role::Admin);
    world.login("boss@example.com").await
}

fn finding(case: Case, subject: Subject, local: &str, broker: &str) -> Finding {
    Finding { subject, case, local: local.to_owned(), broker: broker.to_owned() }
}

fn unexplained(symbol: &str, local: &str, broker: &str) -> Finding {
    finding(Case::PositionUnexplained, Subject::Position(symbol.to_owned()), local, broker)
}

/// Ends a run of the account as an instance would.
fn finish(world: &World, of: &Trader, id: Uuid, outcome: Result<Vec<Finding>, String>) {
    let now = world.now();
    let owner = AccountOwner { account: of.account, user: of.user, environment: Environment::Paper };
    let outcome = outcome.map(|findings| Outcome::new(7, findings, true));
    let run =
        FinishedRun { id, trigger: Trigger::Demand, scope: Scope::Everything, started_at: now, outcome };
    let ended = world.db.run_blocking(|tx| tx.finish_run(owner, &run, now));
    ended.unwrap_or_else(|why: StoreError| panic!("{why}"));
}

fn number(n: u128) -> Uuid {
    Uuid::from_u128(0x0196_a6b0_1111_7222_8333_0000_0000_0000 + n)
}

fn run_id(body: &Value) -> Uuid {
    body["run_id"].as_str().unwrap().parse().unwrap()
}

async fn resolve(client: &Client, id: i64, action: &str) -> crate::world::Reply {
    let body = json!({ "action": action, "note": "looked at the broker's page" });
    client.post(&format!("/reconciliation/discrepancies/{id}/resolve"), &body).await
}

#[tokio::test]
async fn a_run_is_asked_for_once_and_its_report_is_there_when_it_has_ended() {
    let world = World::start().await;
    let ann = trader(&world, "ann@example.com", "PKANN000000000001234").await;
    let asked = ann.client.post("/reconciliation/run", &json!({})).await;
    assert_eq!(asked.status, 202, "{}", asked.text);
    assert_eq!((&asked.body["status"], &asked.body["trigger"]), (&json!("queued"), &json!("demand")));
    let again = ann.client.post("/reconciliation/run", &json!({})).await;
    assert_eq!((again.status.as_u16(), &again.body["run_id"]), (202, &asked.body["run_id"]));
    assert_eq!(world.rows("SELECT 1 AS x FROM jobs WHERE kind = 'reconcile'").len(), 1);
    let audited = world.rows("SELECT 1 AS x FROM audit_log WHERE action = 'reconciliation.run'");
    assert_eq!(audited.len(), 2);

    let waits = ann.client.clone();
    let waiting = tokio::spawn(async move { waits.post("/reconciliation/run?wait=true", &json!({})).await });
    // It asks first, and then waits: the third wish is on record before the run ends.
    while world.rows("SELECT 1 AS x FROM audit_log WHERE action = 'reconciliation.run'").len() < 3 {
        tokio::time::sleep(std::time::Duration::from_millis(10)).await;
    }
    finish(&world, &ann, run_id(&asked.body), Ok(vec![unexplained("SPY", "0", "7")]));
    let report = waiting.await.unwrap();
    assert_eq!(report.status, 200, "{}", report.text);
    assert_eq!((&report.body["status"], &report.body["scanned"]), (&json!("attention"), &json!(7)));
    let found = &report.body["discrepancies"][0];
    assert_eq!((&found["kind"], &found["class"]), (&json!("position_qty"), &json!("needs_human")));
    assert_eq!((&found["local"], &found["broker"]), (&json!("0"), &json!("7")));
    let id = report.body["run_id"].as_str().unwrap();
    let read = ann.client.get(&format!("/reconciliation/runs/{id}")).await;
    assert_eq!(read.body, report.body);
    let list = ann.client.get("/reconciliation/runs").await;
    assert_eq!(list.body["items"][0]["run_id"], id, "{}", list.text);
    assert_eq!(list.body["items"][0].get("discrepancies"), None);
}

#[tokio::test]
async fn runs_come_in_pages_newest_first() {
    let world = World::start().await;
    let ann = trader(&world, "ann@example.com", "PKANN000000000001234").await;
    for n in 1..=3 {
        world.clock.advance(chrono::TimeDelta::seconds(1));
        finish(&world, &ann, number(n), Ok(Vec::new()));
    }
    let first = ann.client.get("/reconciliation/runs?limit=2").await;
    let ids = |body: &Value| {
        let items = body["items"].as_array().unwrap().iter();
        items.map(|item| item["run_id"].as_str().unwrap().to_owned()).collect::<Vec<_>>()
    };
    assert_eq!(ids(&first.body), [number(3).to_string(), number(2).to_string()]);
    let cursor = first.body["next_cursor"].as_str().unwrap();
    let last = ann.client.get(&format!("/reconciliation/runs?limit=2&cursor={cursor}")).await;
    assert_eq!((ids(&last.body), &last.body["next_cursor"]), (vec![number(1).to_string()], &Value::Null));
    for (path, status, code) in [
        ("/reconciliation/runs?cursor=xx", 400, "invalid_cursor"),
        ("/reconciliation/runs?limit=0", 422, "validation_failed"),
        ("/reconciliation/runs?account=x", 422, "validation_failed"),
        ("/reconciliation/runs/none", 404, "not_found"),
        ("/reconciliation/runs/0196a6b0-1111-7222-8333-444455556666", 404, "not_found"),
        ("/reconciliation/status?what=1", 422, "validation_failed"),
    ] {
        let reply = ann.client.get(path).await;
        assert_eq!((reply.status.as_u16(), reply.code()), (status, code), "{path}: {}", reply.text);
    }
}

#[tokio::test]
async fn nothing_is_asked_for_where_nobody_can_compare() {
    let world = World::start().await;
    world.user("eve@example.com", Role::User);
    let eve = world.login("eve@example.com").await;
    let none = eve.post("/reconciliation/run", &json!({})).await;
    assert_eq!((none.status.as_u16(), none.code()), (404, "not_found"), "{}", none.text);
    let status = eve.get("/reconciliation/status").await;
    assert_eq!(status.body, json!({ "accounts": [], "discrepancies": [] }));

    let ann = trader(&world, "ann@example.com", "PKANN000000000001234").await;
    world.test.execute("UPDATE broker_credentials SET state = 'invalid'");
    let refused = ann.client.post("/reconciliation/run", &json!({})).await;
    assert_eq!((refused.status.as_u16(), refused.code()), (422, "credential_refused"), "{}", refused.text);
    world.test.execute("DELETE FROM broker_credentials");
    assert_eq!(ann.client.post("/reconciliation/run", &json!({})).await.status, 404);
    assert_eq!(world.rows("SELECT 1 AS x FROM reconciliation_runs"), Vec::<Value>::new());
}

#[tokio::test]
async fn one_caller_cannot_ask_without_end() {
    let world = World::start().await;
    let ann = trader(&world, "ann@example.com", "PKANN000000000001234").await;
    let mut refused = 0;
    for _ in 0..13 {
        let reply = ann.client.post("/reconciliation/run", &json!({})).await;
        if reply.status == 429 {
            assert!(reply.headers.contains_key("retry-after"));
            refused += 1;
        }
    }
    assert_eq!(refused, 1);
}

#[tokio::test]
async fn the_status_tells_what_is_open_and_blocked_and_a_decision_ends_it() {
    let world = World::start().await;
    let ann = trader(&world, "ann@example.com", "PKANN000000000001234").await;
    finish(&world, &ann, number(1), Ok(vec![unexplained("SPY", "0", "7"), unexplained("QQQ", "1", "2")]));
    world.clock.advance(chrono::TimeDelta::seconds(90));
    let status = ann.client.get("/reconciliation/status").await;
    let account = &status.body["accounts"][0];
    assert_eq!(
        (&account["needs_human"], &account["age_seconds"]),
        (&json!(2), &json!(90)),
        "{}",
        status.text
    );
    assert_eq!(account["blocked_symbols"], json!(["QQQ", "SPY"]));
    assert_eq!(account["last_run"]["status"], "attention");
    let open = status.body["discrepancies"].as_array().unwrap();
    let of = |symbol: &str| {
        let found = open.iter().find(|one| one["symbol"] == symbol).unwrap();
        assert_eq!((&found["blocks"], found["told_at"].is_string()), (&json!(true), true));
        found["id"].as_i64().unwrap()
    };
    let (spy, qqq) = (of("SPY"), of("QQQ"));

    for body in [
        json!({ "action": "accept_broker" }),
        json!({ "action": "accept_broker", "note": " " }),
        json!({ "action": "accept_broker", "note": "x".repeat(501) }),
        json!({ "action": "delete", "note": "x" }),
        json!({ "action": "keep_local", "note": "x", "by": 1 }),
    ] {
        let path = format!("/reconciliation/discrepancies/{spy}/resolve");
        assert_eq!(ann.client.post(&path, &body).await.status, 422, "{body}");
    }
    let done = resolve(&ann.client, spy, "accept_broker").await;
    assert_eq!(done.status, 200, "{}", done.text);
    assert_eq!(
        (&done.body["resolution"], &done.body["note"]),
        (&json!("accept_broker"), &json!("looked at the broker's page"))
    );
    assert_eq!(ann.client.get("/positions/SPY").await.body["qty"], "7");
    let twice = resolve(&ann.client, spy, "keep_local").await;
    assert_eq!((twice.status.as_u16(), twice.code()), (409, "duplicate"), "{}", twice.text);
    // QQQ is held with one unit by the record of that time, and with none by now.
    let changed = resolve(&ann.client, qqq, "accept_broker").await;
    assert_eq!((changed.status.as_u16(), changed.code()), (409, "discrepancy_changed"), "{}", changed.text);
    assert_eq!(resolve(&ann.client, qqq, "keep_local").await.status, 200);
    let after = ann.client.get("/reconciliation/status").await;
    assert_eq!(after.body["discrepancies"], json!([]));
    assert_eq!(after.body["accounts"][0]["blocked_symbols"], json!([]));
    assert_eq!(after.body["accounts"][0]["outside"], json!([{ "symbol": "SPY", "qty": "7" }]));
    assert_eq!(resolve(&ann.client, 999_999, "keep_local").await.status, 404);
    let audited =
        world.rows("SELECT detail FROM audit_log WHERE action = 'reconciliation.resolve' ORDER BY seq");
    assert_eq!(audited.len(), 2);
    assert!(audited[0]["detail"].as_str().unwrap().contains("accept_broker"), "{audited:?}");

    let claimed = ann.client.post("/positions/SPY/claim", &json!({})).await;
    assert_eq!((claimed.status.as_u16(), &claimed.body["qty"]), (200, &json!("7")), "{}", claimed.text);
    let twice = ann.client.post("/positions/SPY/claim", &json!({})).await;
    assert_eq!((twice.status.as_u16(), twice.code()), (409, "duplicate"), "{}", twice.text);
    assert_eq!(ann.client.post("/positions/IBM/claim", &json!({})).await.status, 404);
    let after = ann.client.get("/reconciliation/status").await;
    assert_eq!(after.body["accounts"][0]["outside"], json!([]));
}

#[tokio::test]
async fn what_is_another_users_is_for_administrators_whose_looks_are_recorded() {
    let world = World::start().await;
    let ann = trader(&world, "ann@example.com", "PKANN000000000001234").await;
    let bob = trader(&world, "bob@example.com", "PKBOB000000000001234").await;
    finish(&world, &ann, number(1), Ok(vec![unexplained("SPY", "0", "7")]));
    let id = ann.client.get("/reconciliation/status").await.body["discrepancies"][0]["id"].as_i64().unwrap();
    let account = ann.account.0;
    let own = ann.client.get(&format!("/reconciliation/status?account={account}")).await;
    assert_eq!(own.body["accounts"][0]["account_id"], account, "{}", own.text);

    assert_eq!(resolve(&bob.client, id, "keep_local").await.status, 404);
    assert_eq!(bob.client.get(&format!("/reconciliation/runs/{}", number(1))).await.status, 404);
    for path in [
        format!("/reconciliation/status?account={account}"),
        "/reconciliation/status?all=true".to_owned(),
        format!("/reconciliation/runs?account={account}"),
        format!("/reconciliation/stale-orders?account={account}"),
        "/reconciliation/status?account=999999".to_owned(),
    ] {
        let reply = bob.client.get(&path).await;
        assert_eq!((reply.status.as_u16(), reply.code()), (403, "access_denied"), "{path}: {}", reply.text);
    }
    let asked = bob.client.post(&format!("/reconciliation/run?account={account}"), &json!({})).await;
    assert_eq!(asked.status, 403, "{}", asked.text);

    let boss = boss(&world).await;
    let admin = plimsoll_core_domain::UserId(
        world.rows("SELECT id FROM users WHERE email = 'boss@example.com'")[0]["id"].as_i64().unwrap(),
    );
    let robot = world.api_token(admin, &[TokenScope::Admin]);
    for client in [&boss, &robot] {
        let all = client.get("/reconciliation/status?all=true").await;
        assert_eq!(all.body["accounts"].as_array().unwrap().len(), 2, "{}", all.text);
        assert_eq!(all.body["accounts"][0]["account_id"], account, "what needs a human comes first");
        let runs = client.get(&format!("/reconciliation/runs?account={account}")).await;
        assert_eq!(runs.body["items"].as_array().unwrap().len(), 1, "{}", runs.text);
    }
    assert_eq!(boss.get("/reconciliation/runs?account=999999").await.status, 404);
    assert_eq!(boss.get(&format!("/reconciliation/status?all=true&account={account}")).await.status, 422);
    let reads = world.rows(&format!(
        "SELECT 1 AS x FROM audit_log WHERE action = 'admin.reconciliation_read' AND chain = {}",
        ann.user
    ));
    assert_eq!(reads.len(), 2);
    let asked = robot.post(&format!("/reconciliation/run?account={account}"), &json!({})).await;
    assert_eq!(asked.status, 202, "{}", asked.text);
    let body = json!({ "action": "keep_local", "note": "the owner called" });
    let other = format!("/reconciliation/discrepancies/{id}/resolve?account={}", bob.account);
    assert_eq!(boss.post(&other, &body).await.status, 404, "it is not of that account");
    let path = format!("/reconciliation/discrepancies/{id}/resolve?account={account}");
    assert_eq!(boss.post(&path, &body).await.status, 200);
    let by = world.rows("SELECT actor_id, subject_id FROM audit_log WHERE action = 'reconciliation.resolve'");
    assert_eq!(by, [json!({ "actor_id": admin.0, "subject_id": ann.user.0 })]);
}

#[tokio::test]
async fn stale_orders_are_listed_and_orders_from_outside_can_be_claimed() {
    let world = World::start().await;
    let ann = trader(&world, "ann@example.com", "PKANN000000000001234").await;
    world.connect_seen();
    let order = json!({
        "symbol": "SPY", "side": "buy", "type": "limit", "limit_price": "100", "time_in_force": "day", "qty": "1",
    });
    let placed = ann.client.clone().header("idempotency-key", "a").post("/orders?wait_ms=0", &order).await;
    assert_eq!(placed.status, 202, "{}", placed.text);
    let id: OrderId = placed.body["id"].as_str().unwrap().parse().unwrap();
    assert_eq!(ann.client.get("/reconciliation/stale-orders").await.body["items"], json!([]));
    let about = Subject::Order(id, Symbol::new("SPY").unwrap());
    finish(&world, &ann, number(1), Ok(vec![finding(Case::StalePending, about, "pending_submit", "open")]));
    let stale = ann.client.get("/reconciliation/stale-orders").await;
    assert_eq!(stale.body["items"][0]["id"], placed.body["id"], "{}", stale.text);

    let claim = format!("/orders/{id}/claim");
    let here = ann.client.post(&claim, &json!({})).await;
    assert_eq!((here.status.as_u16(), here.code()), (409, "duplicate"), "{}", here.text);
    world.test.execute("UPDATE orders SET source_kind = 'external'");
    let bob = trader(&world, "bob@example.com", "PKBOB000000000001234").await;
    assert_eq!(bob.client.post(&claim, &json!({})).await.status, 404);
    let claimed = ann.client.post(&claim, &json!({})).await;
    assert_eq!(
        (claimed.status.as_u16(), &claimed.body["source"]["kind"]),
        (200, &json!("api")),
        "{}",
        claimed.text
    );
    let shown = ann.client.get(&format!("/orders/{id}")).await;
    assert_eq!(shown.body["history"][1]["cause"], "claimed", "{}", shown.text);
    assert_eq!(world.rows("SELECT 1 AS x FROM audit_log WHERE action = 'order.claim'").len(), 1);
    assert_eq!(ann.client.post(&claim, &json!({})).await.status, 409, "once");
    assert_eq!(ann.client.post("/orders/none/claim", &json!({})).await.status, 404);
}
