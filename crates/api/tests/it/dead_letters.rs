//! Jobs and dead letters over HTTP.

use plimsoll_auth::Role;
use plimsoll_core_domain::StoreError;
use plimsoll_reliability::jobs::{Claim, JobQueue, JobStore, NewJob, Settlement};
use reqwest::Method;
use serde_json::{Value, json};
use uuid::Uuid;

use crate::api_tokens::stepped_up;
use crate::world::{Client, World};

const BOSS: &str = "boss@example.com";

/// Gives a job up, and answers its id.
fn dead(world: &World, n: i64) -> i64 {
    let payload =
        json!({ "n": n, "email": "ann@example.com", "order": "0196a6b0-1111-7222-8333-444455556666" });
    let job = NewJob::new("q", "greet", &payload).dedup(format!("key-{n}"));
    world.db.transaction::<_, StoreError, _>(|tx| tx.enqueue(&job)).unwrap();
    let kinds = ["greet".to_owned()];
    let lease = std::time::Duration::from_secs(30);
    let claim = Claim { queue: "q", kinds: &kinds, except: &[], limit: 1, owner: Uuid::nil(), lease };
    let claimed = world.db.autocommit::<_, StoreError, _>(|tx| tx.claim(&claim)).unwrap().remove(0);
    let settlement = Settlement::Dead { error: format!("greeting {n} is refused") };
    assert!(world.db.autocommit::<_, StoreError, _>(|tx| tx.settle(claimed.lease, &settlement)).unwrap());
    claimed.lease.id.0
}

fn ids(page: &Value) -> Vec<i64> {
    page["items"].as_array().unwrap().iter().map(|item| item["id"].as_i64().unwrap()).collect()
}

async fn boss(world: &World) -> Client {
    world.user(BOSS, Role::Admin);
    stepped_up(world, BOSS).await
}

#[tokio::test]
async fn dead_letters_are_listed_shown_without_secrets_and_replayed() {
    let world = World::start().await;
    let boss = boss(&world).await;
    let letters: Vec<i64> = (0..3).map(|n| dead(&world, n)).collect();

    let first = boss.get("/admin/dead-letters?limit=2&kind=greet").await;
    assert_eq!(ids(&first.body), [letters[2], letters[1]], "{}", first.text);
    let cursor = first.body["next_cursor"].as_str().unwrap();
    let second = boss.get(&format!("/admin/dead-letters?limit=2&kind=greet&cursor={cursor}")).await;
    assert_eq!((ids(&second.body), &second.body["next_cursor"]), (vec![letters[0]], &Value::Null));
    assert_eq!(ids(&boss.get("/admin/dead-letters?error=GREETING%201").await.body), [letters[1]]);

    let shown = boss.get(&format!("/admin/dead-letters/{}", letters[0])).await;
    assert_eq!(shown.status, 200, "{}", shown.text);
    assert_eq!(shown.body["payload"]["email"], "*** (15 characters)");
    assert_eq!(shown.body["payload"]["order"], "0196a6b0-1111-7222-8333-444455556666");
    assert_eq!(shown.body["errors"][0]["error"], "greeting 0 is refused");
    assert_eq!(shown.body["errors"][0]["attempt"], 1);
    assert!(!shown.text.contains("ann@"), "{}", shown.text);

    let path = format!("/admin/dead-letters/{}/replay", letters[0]);
    let replayed = boss.post(&path, &json!({})).await;
    assert_eq!(
        (replayed.status.as_u16(), &replayed.body["id"]),
        (201, &json!(letters[0])),
        "{}",
        replayed.text
    );
    let again = boss.post(&path, &json!({})).await;
    assert_eq!((again.status.as_u16(), again.code()), (409, "duplicate"), "{}", again.text);
    let jobs = boss.get("/admin/jobs?state=ready&kind=greet").await;
    assert_eq!(ids(&jobs.body), [replayed.body["replay_id"].as_i64().unwrap()]);
    assert_eq!(jobs.body["items"][0]["parent_id"], letters[0]);
    let past = boss.get("/admin/dead-letters?resolution=replayed").await;
    assert_eq!(ids(&past.body), [letters[0]]);
    assert_eq!(past.body["items"][0]["replay_id"], replayed.body["replay_id"]);
    let counts = boss.get("/admin/jobs/counts").await;
    let of = |state: &str| {
        let items = counts.body["items"].as_array().unwrap();
        let found = items.iter().find(|item| item["kind"] == "greet" && item["state"] == state);
        found.map_or(0, |item| item["jobs"].as_i64().unwrap())
    };
    assert_eq!((of("ready"), of("dead")), (1, 2), "{}", counts.text);

    let actions =
        world.rows("SELECT DISTINCT action FROM audit_log WHERE actor_id IS NOT NULL ORDER BY action");
    let actions: Vec<_> = actions.iter().map(|row| row["action"].as_str().unwrap()).collect();
    for action in
        ["admin.dead_letter_read", "admin.dead_letters_list", "admin.jobs_list", "dead_letter.replay"]
    {
        assert!(actions.contains(&action), "{action} is not among {actions:?}");
    }
}

#[tokio::test]
async fn many_are_replayed_after_a_dry_run_and_at_a_pace() {
    let world = World::start().await;
    let boss = boss(&world).await;
    for n in 0..450 {
        dead(&world, n);
    }
    let replay = async |query: &str, body: Value| {
        boss.post(&format!("/admin/dead-letters/replay{query}"), &body).await
    };
    let plan = replay("?dry_run=true", json!({ "kind": "greet", "limit": 10_000 })).await;
    let expected = json!({
        "dry_run": true, "matched": 450, "replayed": 450, "refused": 0, "refusals": [], "last_run_at": null,
    });
    assert_eq!(plan.body, expected, "{}", plan.text);
    assert!(world.rows("SELECT id FROM jobs WHERE parent_id IS NOT NULL").is_empty());

    let some = replay("", json!({ "kind": "greet", "limit": 300, "per_second": 100 })).await;
    assert_eq!((&some.body["matched"], &some.body["replayed"]), (&json!(300), &json!(300)), "{}", some.text);
    let rest = replay("", json!({ "per_second": 100 })).await;
    assert_eq!((&rest.body["matched"], &rest.body["replayed"]), (&json!(150), &json!(150)), "{}", rest.text);
    let none = replay("", json!({})).await;
    assert_eq!((none.status.as_u16(), &none.body["matched"]), (200, &json!(0)));
    // never more than a hundred in any second
    let most = world.rows(
        "SELECT max(n) AS n FROM (SELECT count(*) OVER (ORDER BY run_at RANGE BETWEEN CURRENT ROW AND \
         interval '0.999 seconds' FOLLOWING) AS n FROM jobs WHERE parent_id IS NOT NULL) counted",
    );
    assert!(most[0]["n"].as_i64().unwrap() <= 100, "{most:?}");
    let replays = world.rows("SELECT DISTINCT parent_id FROM jobs WHERE parent_id IS NOT NULL");
    assert_eq!(replays.len(), 450);
}

#[tokio::test]
async fn a_letter_is_discarded_with_a_reason_only() {
    let world = World::start().await;
    let boss = boss(&world).await;
    let id = dead(&world, 1);
    for reason in ["", "?reason=", "?reason=%20%20", "?reason=a%0Ab", &format!("?reason={}", "x".repeat(501))]
    {
        let refused = boss.delete(&format!("/admin/dead-letters/{id}{reason}")).await;
        assert_eq!((refused.status.as_u16(), refused.code()), (422, "validation_failed"), "{}", refused.text);
    }
    assert_eq!(ids(&boss.get("/admin/dead-letters").await.body), [id]);
    let done = boss.delete(&format!("/admin/dead-letters/{id}?reason=sent%20by%20hand")).await;
    assert_eq!(done.status, 204, "{}", done.text);
    let again = boss.delete(&format!("/admin/dead-letters/{id}?reason=x")).await;
    assert_eq!((again.status.as_u16(), again.code()), (409, "duplicate"));
    assert!(ids(&boss.get("/admin/dead-letters").await.body).is_empty());
    let shown = boss.get(&format!("/admin/dead-letters/{id}")).await;
    assert_eq!(shown.body["resolution"], "discarded");
    assert_eq!(shown.body["resolution_reason"], "sent by hand");
}

#[tokio::test]
async fn what_is_wrong_with_a_request_is_said_and_changes_nothing() {
    let world = World::start().await;
    let boss = boss(&world).await;
    let id = dead(&world, 1);
    for path in [
        "/admin/dead-letters?resolution=lost",
        "/admin/dead-letters?kind=two%20words",
        "/admin/dead-letters?from=yesterday",
        "/admin/dead-letters?limit=0",
        "/admin/dead-letters?colour=red",
        "/admin/jobs?state=lost",
        "/admin/jobs?queue=",
    ] {
        let refused = boss.get(path).await;
        assert_eq!(
            (refused.status.as_u16(), refused.code()),
            (422, "validation_failed"),
            "{path}: {}",
            refused.text
        );
    }
    for path in ["/admin/dead-letters?cursor=x", "/admin/jobs?cursor=x"] {
        assert_eq!(boss.get(path).await.code(), "invalid_cursor");
    }
    for body in [
        json!({ "limit": 0 }),
        json!({ "limit": 10_001 }),
        json!({ "per_second": 0 }),
        json!({ "per_second": 101 }),
        json!({ "kind": "" }),
        json!({ "error": "x".repeat(201) }),
        json!({ "colour": "red" }),
        json!([]),
    ] {
        let refused = boss.post("/admin/dead-letters/replay", &body).await;
        assert_eq!(refused.status, 422, "{body}: {}", refused.text);
    }
    for path in ["x", "-1", "99999999999999999999", "0"] {
        assert_eq!(boss.get(&format!("/admin/dead-letters/{path}")).await.code(), "not_found", "{path}");
        let replay = boss.post(&format!("/admin/dead-letters/{path}/replay"), &json!({})).await;
        assert_eq!(replay.code(), "not_found", "{path}");
        let discard = boss.delete(&format!("/admin/dead-letters/{path}?reason=x")).await;
        assert_eq!(discard.code(), "not_found", "{path}");
    }
    // without a fresh factor nothing is written
    let plain = world.login(BOSS).await;
    for (method, path) in [
        (Method::POST, format!("/admin/dead-letters/{id}/replay")),
        (Method::POST, "/admin/dead-letters/replay".to_owned()),
        (Method::DELETE, format!("/admin/dead-letters/{id}?reason=x")),
    ] {
        let refused = plain.send(method, &path, Some(&json!({}))).await;
        assert_eq!(refused.code(), "step_up_required", "{path}");
    }
    assert_eq!(ids(&boss.get("/admin/dead-letters").await.body), [id]);
    assert!(world.rows("SELECT id FROM jobs WHERE parent_id IS NOT NULL").is_empty());
}
