//! The audit log over HTTP: own entries, everybody's, verifying, and refusals.

use plimsoll_auth::Role;
use plimsoll_auth::api_tokens::Scope;
use reqwest::StatusCode;
use serde_json::{Value, json};

use crate::world::{Client, Reply, World};

async fn items(client: &Client, path: &str) -> Vec<Value> {
    let reply = client.get(path).await;
    assert_eq!(reply.status, StatusCode::OK, "{}", reply.text);
    reply.body["items"].as_array().unwrap().clone()
}

fn actions(items: &[Value]) -> Vec<&str> {
    items.iter().map(|item| item["action"].as_str().unwrap()).collect()
}

async fn all_pages(client: &Client, path: &str) -> (usize, Vec<Value>) {
    let (mut pages, mut found, mut cursor) = (0, Vec::new(), String::new());
    loop {
        let reply = client.get(&format!("{path}{cursor}")).await;
        assert_eq!(reply.status, StatusCode::OK, "{}", reply.text);
        pages += 1;
        found.extend(reply.body["items"].as_array().unwrap().clone());
        match reply.body["next_cursor"].as_str() {
            Some(next) => {
                let link = reply.headers["link"].to_str().unwrap();
                assert!(link.contains(next) && link.ends_with("rel=\"next\""), "{link}");
                cursor = format!("&cursor={next}");
            }
            None => return (pages, found),
        }
    }
}

fn code(reply: &Reply) -> (u16, &str) {
    (reply.status.as_u16(), reply.code())
}

/// AUD-7: a user sees the own chain, filtered and page by page; another one sees nothing of it.
#[tokio::test]
async fn a_user_sees_the_own_entries() {
    let world = World::start().await;
    let ann = world.user("ann@example.com", Role::User);
    world.user("bob@example.com", Role::User);
    for _ in 0..3 {
        world.login("ann@example.com").await;
    }
    let wrong = json!({ "email": "ann@example.com", "password": "not this one at all" });
    world.client().post("/auth/login", &wrong).await;
    let client = world.login("ann@example.com").await;
    let (bob, other) = (world.login("bob@example.com").await, items(&client, "/audit").await);
    assert_eq!(actions(&other), ["login"; 5]);
    let newest = &other[0];
    let fields = [
        "action",
        "actor_id",
        "at",
        "detail",
        "id",
        "ip",
        "outcome",
        "request_id",
        "subject_id",
        "user_agent",
    ];
    assert!(newest.as_object().unwrap().keys().map(String::as_str).eq(fields), "{newest}");
    assert_eq!((&newest["actor_id"], &newest["ip"]), (&json!(ann.0), &json!("127.0.0.1")));
    assert_eq!(newest["id"], format!("{}.5", ann.0));
    assert_eq!(items(&client, "/audit?outcome=denied").await.len(), 1);
    assert_eq!(items(&client, "/audit?action=logout").await.len(), 0);
    assert_eq!(items(&client, "/audit?from=2026-06-01T14:00:00Z&to=2026-06-01T14:00:01Z").await.len(), 5);
    assert_eq!(items(&client, "/audit?to=2026-06-01T14:00:00Z").await.len(), 0);
    let (pages, all) = all_pages(&client, "/audit?limit=2").await;
    assert_eq!((pages, all), (3, other));
    assert_eq!(actions(&items(&bob, "/audit").await), ["login"]);
    let token = world.api_token(ann, &[Scope::Read]);
    assert_eq!(items(&token, "/audit").await.len(), 5);

    for (query, status) in
        [("outcome=maybe", 422), ("limit=0", 422), ("user=1", 422), ("cursor=x", 400), ("action=a%0Ab", 422)]
    {
        assert_eq!(client.get(&format!("/audit?{query}")).await.status.as_u16(), status, "{query}");
    }
}

/// AUD-7: where somebody else acted on the account, the owner learns what, not from where.
#[tokio::test]
async fn an_administrators_address_is_not_shown_to_the_owner() {
    let world = World::start().await;
    world.user("boss@example.com", Role::Admin);
    let ann = world.user("ann@example.com", Role::User);
    let boss = crate::api_tokens::stepped_up(&world, "boss@example.com").await;
    let done = boss.post(&format!("/admin/users/{}/logout", ann.0), &json!({})).await;
    assert_eq!(done.status, StatusCode::NO_CONTENT);
    let client = world.login("ann@example.com").await;
    let own = items(&client, "/audit?action=user.logout").await;
    assert_eq!((own.len(), &own[0]["ip"], &own[0]["user_agent"]), (1, &Value::Null, &Value::Null));
    let seen = items(&boss, "/admin/audit?action=user.logout").await;
    assert_eq!(seen[0]["ip"], "127.0.0.1");
}

/// AUD-7: an administrator sees everybody's entries, and each read is an entry with what was asked for.
#[tokio::test]
async fn an_administrators_read_is_an_entry_itself() {
    let world = World::start().await;
    let boss = world.user("boss@example.com", Role::Admin);
    let ann = world.user("ann@example.com", Role::User);
    let user = world.login("ann@example.com").await;
    let unknown = json!({ "email": "nobody@example.com", "password": "not this one at all" });
    world.client().post("/auth/login", &unknown).await;
    assert_eq!(code(&user.get("/admin/audit").await), (403, "access_denied"));
    let admin = world.login("boss@example.com").await;
    let all = items(&admin, "/admin/audit").await;
    assert!(all.iter().any(|entry| entry["id"].as_str().unwrap().starts_with("system")), "{all:?}");
    assert!(all.iter().any(|entry| entry["subject_id"] == ann.0));
    let hers = items(&admin, &format!("/admin/audit?user={}&outcome=success", ann.0)).await;
    assert_eq!(actions(&hers), ["login"]);
    let reads = world.rows(
        "SELECT chain, actor_id, subject_id, detail FROM audit_log WHERE action = 'audit.read' ORDER BY seq",
    );
    assert_eq!(reads.len(), 2);
    assert_eq!((reads[1]["chain"].as_i64(), reads[1]["subject_id"].as_i64()), (Some(boss.0), Some(ann.0)));
    let detail: Value = serde_json::from_str(reads[1]["detail"].as_str().unwrap()).unwrap();
    assert_eq!(
        (&detail["user"], &detail["outcome"], &detail["entries"]),
        (&json!(ann.0), &json!("success"), &json!(1))
    );
    // page by page nothing is lost, though each read adds an entry at the front
    let before = world.rows("SELECT chain FROM audit_log").len();
    let (pages, paged) = all_pages(&admin, "/admin/audit?limit=3").await;
    let mut ids: Vec<&str> = paged.iter().map(|entry| entry["id"].as_str().unwrap()).collect();
    ids.sort_unstable();
    ids.dedup();
    assert_eq!((ids.len(), paged.len()), (before, before), "{pages} pages");
    let (_, hers) = all_pages(&admin, &format!("/admin/audit?limit=1&user={}", ann.0)).await;
    assert_eq!(actions(&hers), ["access.refused", "login"]);
    // a cursor belongs to its list
    let page = admin.get("/admin/audit?limit=1").await;
    let cursor = page.body["next_cursor"].as_str().unwrap();
    for path in [format!("/admin/audit?user={}&cursor={cursor}", ann.0), format!("/audit?cursor={cursor}")] {
        assert_eq!(code(&admin.get(&path).await), (400, "invalid_cursor"), "{path}");
    }
}

/// AUD-2: verifying over HTTP says that all is well, and names the first bad entry by its id.
#[tokio::test]
async fn verifying_names_the_first_bad_entry() {
    let world = World::start().await;
    world.user("boss@example.com", Role::Admin);
    let ann = world.user("ann@example.com", Role::User);
    for _ in 0..3 {
        world.login("ann@example.com").await;
    }
    world.db.run(|tx| tx.audit_checkpoint(chrono::Utc::now())).await.unwrap();
    let admin = world.login("boss@example.com").await;
    let good = admin.get("/admin/audit/verify").await;
    assert_eq!(good.status, StatusCode::OK, "{}", good.text);
    let expected = json!({ "ok": true, "chains": 18, "entries": 4, "checkpoints": 1, "first_bad": null });
    for (field, value) in expected.as_object().unwrap() {
        assert_eq!(&good.body[field], value, "{}", good.text);
    }
    assert!(good.body["newest_checkpoint"].as_str().unwrap().starts_with("1:"));
    world.test.execute(&format!(
        "ALTER TABLE audit_log DISABLE TRIGGER USER; UPDATE audit_log SET ip = '203.0.113.9' WHERE chain = {ann} AND seq = 2"
    ));
    let bad = admin.get("/admin/audit/verify").await;
    assert_eq!((bad.status, &bad.body["ok"]), (StatusCode::OK, &json!(false)));
    let expected = json!({ "user_id": ann.0, "entry_id": format!("{ann}.2"), "reason": "altered" });
    assert_eq!(bad.body["first_bad"], expected);
    let found = world.rows("SELECT outcome FROM audit_log WHERE action = 'audit.verify' ORDER BY seq");
    assert_eq!(
        found.iter().map(|row| row["outcome"].as_str().unwrap()).collect::<Vec<_>>(),
        ["success", "failure"]
    );
}

/// AUD-4: refused authorisation and throttle hits are entries, with the route's pattern and never the path; an attacker
/// cannot flood the log with them.
#[tokio::test]
async fn refusals_are_entries_and_no_flood() {
    let world = World::start().await;
    let ann = world.user("ann@example.com", Role::User);
    let client = world.login("ann@example.com").await;
    for n in 0..15 {
        let refused = client.get(&format!("/admin/users/99123{n}")).await;
        assert_eq!(refused.status, StatusCode::FORBIDDEN);
    }
    let of = |what: &str| {
        world.rows(&format!(
            "SELECT chain, actor_id, detail FROM audit_log WHERE action = '{what}' ORDER BY seq"
        ))
    };
    let refused = of("access.refused");
    assert_eq!(refused.len(), 10);
    assert_eq!((refused[0]["chain"].as_i64(), refused[0]["actor_id"].as_i64()), (Some(ann.0), Some(ann.0)));
    let detail: Value = serde_json::from_str(refused[0]["detail"].as_str().unwrap()).unwrap();
    assert_eq!(detail["route"], "/admin/users/{id}");
    assert_eq!((&detail["code"], &detail["method"]), (&json!("access_denied"), &json!("GET")));
    assert!(detail["session_id"].is_string() && !detail.to_string().contains("99123"));
    world.clock.advance(chrono::TimeDelta::minutes(1));
    client.get("/admin/users").await;
    let detail: Value = serde_json::from_str(of("access.refused")[10]["detail"].as_str().unwrap()).unwrap();
    assert_eq!(detail["left_out_before"], 5);

    let mut throttled = 0;
    for n in 0..20 {
        let body = json!({ "email": format!("nobody{n}@example.com") });
        let reply = world.client().post("/auth/request-reset", &body).await;
        throttled += usize::from(reply.status == StatusCode::TOO_MANY_REQUESTS);
    }
    let written = of("request.throttled");
    assert_eq!((throttled, written.len()), (10, 10));
    assert!(written.iter().all(|row| row["chain"].as_i64().unwrap() < 0 && row["actor_id"].is_null()));
}
