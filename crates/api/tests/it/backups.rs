//! Backups over HTTP, with a desk that only writes down what it is asked for.

use std::collections::HashMap;
use std::sync::Mutex;
use std::sync::atomic::{AtomicBool, Ordering};

use chrono::{DateTime, TimeDelta, Utc};
use plimsoll_api::backups::{Asked, BackupDesk, BackupJob, BackupWork};
use plimsoll_auth::Role;
use plimsoll_reliability::backup::{
    BackupError, BackupKind, BackupName, Header, Item, Level, Progress, SnapshotFacts, State,
};
use reqwest::Method;
use serde_json::{Value, json};
use uuid::Uuid;

use crate::api_tokens::stepped_up;
use crate::world::{Client, World};

const BOSS: &str = "boss@example.com";

fn at(hour: i64) -> DateTime<Utc> {
    "2026-05-01T00:00:00Z".parse::<DateTime<Utc>>().unwrap() + TimeDelta::hours(hour)
}

fn item(name: &str, hour: i64, level: Option<Level>) -> Item {
    let snapshot = SnapshotFacts {
        at: at(hour),
        lsn: String::new(),
        system_identifier: String::new(),
        timeline: 1,
        server_version: "15.8".to_owned(),
        database: "live".to_owned(),
        migrations: vec!["20261124000100".to_owned()],
        catalogue: String::new(),
        foreign_objects: Vec::new(),
        tables: Vec::new(),
        table_bytes: 0,
        stretching: None,
    };
    let header = Header {
        name: name.to_owned(),
        kind: BackupKind::Manual,
        created_at: at(hour),
        description: Some("a test's".to_owned()),
        app_version: "0.1.0".to_owned(),
        snapshot,
        zstd_level: 3,
        chunk_bytes: 65_536,
        key_id: "1e15bb5a8d8c17a9".to_owned(),
        salt: String::new(),
    };
    let state = State { rows: Some(7), level, verified_at: Some(at(hour)), pinned: false };
    Item { name: BackupName::parse(name).unwrap(), size_bytes: 99, header, state }
}

/// Two verified backups and one that was not; nothing is ever done.
#[derive(Default)]
pub(crate) struct FakeDesk {
    asked: Mutex<HashMap<Uuid, BackupWork>>,
    busy: AtomicBool,
}

impl BackupDesk for FakeDesk {
    fn database(&self) -> String {
        "live".to_owned()
    }
    fn list(&self) -> Result<Vec<Item>, BackupError> {
        Ok(vec![item("c", 3, None), item("b", 2, Some(Level::V1)), item("a", 1, Some(Level::V0))])
    }
    fn item(&self, name: &BackupName) -> Result<Item, BackupError> {
        self.list()?.into_iter().find(|item| item.name == *name).ok_or(BackupError::NotFound)
    }
    fn ask(&self, id: Uuid, work: BackupWork, _: DateTime<Utc>) -> Result<Asked, BackupError> {
        let mut asked = self.asked.lock().unwrap();
        if let Some(there) = asked.get(&id) {
            return Ok(if *there == work { Asked::There } else { Asked::Other });
        }
        if work == BackupWork::Cleanup {
            self.busy.store(true, Ordering::SeqCst);
        } else if self.busy.load(Ordering::SeqCst) {
            return Err(BackupError::Busy);
        }
        asked.insert(id, work);
        Ok(Asked::Begun)
    }
    fn job(&self, id: Uuid) -> Result<Option<BackupJob>, BackupError> {
        let asked = self.asked.lock().unwrap();
        Ok(asked.get(&id).map(|work| BackupJob {
            id,
            kind: work.kind().to_owned(),
            state: "running".to_owned(),
            progress: Progress { percent: 5, bytes: 10, tables_done: 1, tables_total: 20, eta_s: None },
            result: Some(json!({ "work": format!("{work:?}") })),
            error: None,
        }))
    }
    fn pin(&self, name: &BackupName, pinned: bool) -> Result<Item, BackupError> {
        let mut item = self.item(name)?;
        item.state.pinned = pinned;
        Ok(item)
    }
}

async fn ask(boss: &Client, key: &str, path: &str, body: Value) -> crate::world::Reply {
    boss.clone().header("idempotency-key", key).post(path, &body).await
}

async fn work(boss: &Client, begun: &crate::world::Reply) -> String {
    assert_eq!(begun.status, 202, "{}", begun.text);
    let job = boss.get(&format!("/backup/jobs/{}", begun.body["job_id"].as_str().unwrap())).await;
    assert_eq!(
        (job.status.as_u16(), &job.body["progress"]["tables_total"]),
        (200, &json!(20)),
        "{}",
        job.text
    );
    job.body["result"]["work"].as_str().unwrap().to_owned()
}

#[tokio::test]
async fn backups_are_asked_for_once_and_restores_are_meant() {
    let world = World::start().await;
    world.user(BOSS, Role::Admin);
    let boss = stepped_up(&world, BOSS).await;

    let listed = boss.get("/backup/list").await;
    assert_eq!(listed.body["items"].as_array().unwrap().len(), 3, "{}", listed.text);
    assert_eq!(
        listed.body["items"][1],
        json!({
            "name": "b", "kind": "manual", "created_at": "2026-05-01T02:00:00.000000Z", "size_bytes": 99,
            "description": "a test's", "schema_version": "20261124000100", "app_version": "0.1.0", "rows": 7,
            "verified_level": "v1", "verified_at": "2026-05-01T02:00:00.000000Z", "pinned": false,
        })
    );

    let missing = boss.post("/backup/create", &json!({})).await;
    assert_eq!((missing.status.as_u16(), missing.code()), (400, "idempotency_key_missing"));
    let begun = ask(&boss, "one", "/backup/create", json!({ "description": "x", "pinned": true })).await;
    assert!(work(&boss, &begun).await.starts_with("Create { description: Some(\"x\"), pinned: true"));
    let again = ask(&boss, "one", "/backup/create", json!({ "description": "x", "pinned": true })).await;
    assert_eq!(
        (
            again.body["job_id"].clone(),
            again.headers.get("idempotency-replayed").and_then(|value| value.to_str().ok())
        ),
        (begun.body["job_id"].clone(), Some("true"))
    );
    let other = ask(&boss, "one", "/backup/create", json!({ "description": "y" })).await;
    assert_eq!((other.status.as_u16(), other.code()), (422, "idempotency_key_reused"));
    let long = ask(&boss, "two", "/backup/create", json!({ "description": "x".repeat(201) })).await;
    assert_eq!((long.status.as_u16(), &long.body["errors"][0]["pointer"]), (422, &json!("/description")));

    for (path, body) in [
        ("/backup/restore/a", json!({ "confirm": "lively" })),
        ("/backup/undo", json!({ "confirm": "" })),
        ("/backup/restore-to", json!({ "time": at(9), "accept_gap": true, "confirm": "x" })),
    ] {
        let reply = ask(&boss, "three", path, body).await;
        assert_eq!(
            (reply.status.as_u16(), &reply.body["errors"][0]["pointer"]),
            (422, &json!("/confirm")),
            "{path}"
        );
    }
    for name in ["nothing", "..%2Fa", "%252e", "A"] {
        let reply =
            ask(&boss, "four", &format!("/backup/restore/{name}"), json!({ "confirm": "live" })).await;
        assert_eq!((reply.status.as_u16(), reply.code()), (404, "backup_not_found"), "{name}");
    }
    let restored = ask(&boss, "five", "/backup/restore/a", json!({ "confirm": "live" })).await;
    assert_eq!(work(&boss, &restored).await, "Restore { name: BackupName(\"a\") }");

    let body = json!({ "time": at(9), "confirm": "live" });
    let gap = ask(&boss, "six", "/backup/restore-to", body).await;
    assert_eq!(
        (gap.status.as_u16(), &gap.body["backup"], &gap.body["gap_s"]),
        (200, &json!("b"), &json!(7 * 3_600))
    );
    let body = json!({ "time": at(1), "accept_gap": true, "confirm": "live" });
    let taken = ask(&boss, "six", "/backup/restore-to", body).await;
    assert_eq!(work(&boss, &taken).await, "Restore { name: BackupName(\"a\") }");
    let early = ask(&boss, "six", "/backup/restore-to", json!({ "time": at(0), "confirm": "live" })).await;
    assert_eq!((early.status.as_u16(), early.code()), (404, "backup_not_found"));

    let verified = boss.post("/backup/verify/b", &json!({ "rehearse": true })).await;
    assert_eq!(work(&boss, &verified).await, "Verify { name: BackupName(\"b\"), rehearse: true }");
    let pinned = boss.send(Method::PATCH, "/backup/b", Some(&json!({ "pinned": true }))).await;
    assert_eq!((pinned.status.as_u16(), &pinned.body["pinned"]), (200, &json!(true)), "{}", pinned.text);
    assert_eq!(boss.get("/backup/jobs/0196a6b0-1111-7222-8333-444455556666").await.status, 404);

    world.test.execute(
        "INSERT INTO jobs (queue, kind, state, max_attempts, payload) VALUES ('q', 'greet', 'held', 1, '{}')",
    );
    let held = boss.post("/backup/release", &json!({ "kinds": [] })).await;
    assert_eq!(held.body, json!({ "released": 0, "dropped": 0, "held": [{ "kind": "greet", "jobs": 1 }] }));
    let released = boss.post("/backup/release", &json!({ "kinds": ["greet"] })).await;
    assert_eq!(released.body, json!({ "released": 1, "dropped": 0, "held": [] }));

    assert_eq!(boss.post("/backup/cleanup", &json!({})).await.status, 202);
    let busy = boss.post("/backup/undo", &json!({ "confirm": "live" })).await;
    assert_eq!((busy.status.as_u16(), busy.code()), (409, "backup_busy"), "{}", busy.text);

    let acts = world.rows(
        "SELECT action, count(*) AS n FROM audit_log WHERE action LIKE 'backup.%' GROUP BY 1 ORDER BY 1",
    );
    let acts: Vec<String> =
        acts.iter().map(|row| format!("{} {}", row["action"].as_str().unwrap(), row["n"])).collect();
    assert_eq!(
        acts,
        [
            "backup.cleanup 1",
            "backup.create 1",
            "backup.pin 1",
            "backup.release 2",
            "backup.restore 2",
            "backup.verify 1"
        ]
    );
}
