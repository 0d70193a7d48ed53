//! `plimsoll backup …`: what an operator does with backups, and what is left when a restore is killed.

use std::fs;
use std::path::PathBuf;
use std::process::{Command, Output, Stdio};
use std::thread;
use std::time::{Duration, Instant};

use plimsoll_testkit::{ChildGuard, TestDb, free_port};
use serde_json::Value;
use tempfile::TempDir;

use crate::config::{plimsoll, stderr, stdout};

const PATIENCE: Duration = Duration::from_secs(60);

struct Desk {
    folder: TempDir,
    database: TestDb,
}

impl Desk {
    /// With a user in the database.
    fn new() -> Self {
        let desk = Self { folder: tempfile::tempdir().unwrap(), database: TestDb::platform() };
        desk.database.execute(
            "INSERT INTO users (email, email_folded, role, state, password_hash, created_at) \
             VALUES ('ann@example.com', 'ann@example.com', 'user', 'active', 'x', now()); \
             INSERT INTO audit_head (chain, mac) SELECT id, decode(repeat('00', 32), 'hex') FROM users",
        );
        desk
    }

    fn command(&self, words: &[&str]) -> Command {
        let mut command = plimsoll(self.folder.path());
        command.args(words).arg("--data-dir").arg(self.folder.path().join("data"));
        command.env("DATABASE_URL", self.database.url()).env("PROFILE", "development");
        command
    }

    fn run(&self, words: &[&str]) -> Output {
        self.command(&[&["backup"], words].concat()).output().unwrap()
    }

    fn json(&self, words: &[&str]) -> Value {
        let output = self.run(&[words, &["--json"]].concat());
        assert_eq!(output.status.code(), Some(0), "{words:?}: {}", stderr(&output));
        serde_json::from_str(&stdout(&output)).unwrap()
    }

    fn refused(&self, words: &[&str], code: i32, why: &str) {
        let output = self.run(words);
        assert_eq!(output.status.code(), Some(code), "{words:?}: {}", stderr(&output));
        assert!(stderr(&output).contains(why), "{words:?}: {}", stderr(&output));
    }

    fn made(&self) -> String {
        self.json(&["create"])["name"].as_str().unwrap().to_owned()
    }

    fn file(&self, name: &str) -> PathBuf {
        self.folder.path().join("data/backups").join(format!("{name}.plmb"))
    }

    fn call(&self, name: &str) {
        self.database.execute(&format!("UPDATE users SET display_name = '{name}'"));
    }

    fn called(&self) -> Value {
        self.database.rows("SELECT display_name AS name FROM users")[0]["name"].clone()
    }

    /// Databases beside the live one that are called after it.
    fn beside(&self) -> Vec<String> {
        let rows = self.database.rows(&format!(
            "SELECT datname AS name FROM pg_database WHERE datname LIKE '{}\\_%' ORDER BY 1",
            self.database.name()
        ));
        rows.iter().map(|row| row["name"].as_str().unwrap().to_owned()).collect()
    }
}

impl Drop for Desk {
    fn drop(&mut self) {
        for name in self.beside() {
            self.database.execute(&format!("DROP DATABASE IF EXISTS {name} WITH (FORCE)"));
        }
    }
}

#[test]
fn a_backup_is_made_verified_restored_and_taken_back() {
    let desk = Desk::new();
    let database = desk.database.name().to_owned();
    desk.call("first");
    desk.database.execute(
        "INSERT INTO jobs (queue, kind, max_attempts, payload) VALUES ('mail', 'send_mail', 1, '{}')",
    );
    let made = desk.json(&["create", "--description", "before the change"]);
    let name = made["name"].as_str().unwrap().to_owned();
    assert_eq!(
        (&made["kind"], &made["verified_level"], &made["pinned"]),
        (&"manual".into(), &"v0".into(), &false.into())
    );
    assert!(
        made["rows"].as_u64().unwrap() > 1 && made["schema_version"].as_str().unwrap().starts_with("2026")
    );
    desk.call("second");

    desk.refused(&["restore", &name, "--confirm", "production"], 1, &format!("which is {database}"));
    desk.refused(&["restore", "../x", "--confirm", &database], 1, "name has");
    desk.refused(&["restore", "no-such", "--confirm", &database], 1, "no such backup");
    assert_eq!((desk.called(), desk.beside().len()), ("second".into(), 0));

    let rehearsed = desk.json(&["verify", &name, "--rehearse"]);
    assert_eq!((&rehearsed["level"], &rehearsed["rows"]), (&"v2".into(), &made["rows"]));
    assert!(desk.beside().is_empty(), "the rehearsal's copy is gone");

    let restored = desk.json(&["restore", &name, "--confirm", &database]);
    assert_eq!(desk.called(), "first");
    assert_eq!(restored["held"], serde_json::json!([{ "kind": "send_mail", "jobs": 1 }]));
    assert_eq!(desk.beside(), [restored["before"].as_str().unwrap()]);
    let entries = desk.database.rows("SELECT action FROM audit_log WHERE action LIKE 'backup.%' ORDER BY at");
    assert_eq!(
        entries,
        [serde_json::json!({ "action": "backup.restore" })],
        "what came after the backup is gone"
    );
    let list = desk.json(&["list"]);
    let kinds: Vec<&str> =
        list["items"].as_array().unwrap().iter().map(|item| item["kind"].as_str().unwrap()).collect();
    assert_eq!(kinds, ["pre_restore", "manual"]);
    assert_eq!(list["items"][1]["verified_level"], "v2");

    assert_eq!(desk.json(&["release"]), serde_json::json!([{ "kind": "send_mail", "jobs": 1 }]));
    assert_eq!(desk.json(&["release", "send_mail"])["released"], 1);
    assert_eq!(desk.json(&["release"]), serde_json::json!([]));

    desk.refused(&["undo", "--confirm", "x"], 1, &format!("which is {database}"));
    desk.json(&["undo", "--confirm", &database]);
    assert_eq!(desk.called(), "second");
    let held = desk.database.rows("SELECT state FROM jobs WHERE kind = 'send_mail'");
    assert_eq!(held[0]["state"], "held", "nor does the one from before the restore act by itself");
}

#[test]
fn backups_are_listed_and_verified_without_a_database() {
    let desk = Desk::new();
    let (one, two) = (desk.made(), desk.made());
    let offline = |words: &[&str]| {
        let mut command = desk.command(&[&["backup"], words].concat());
        command.env("DATABASE_URL", "postgresql://nobody@127.0.0.1:1/none").output().unwrap()
    };
    let listed = stdout(&offline(&["list"]));
    assert!(listed.contains(&one) && listed.contains(&two), "{listed}");
    let output = offline(&["verify", &one]);
    assert_eq!(output.status.code(), Some(0), "{}", stderr(&output));
    assert!(stdout(&offline(&["pin", &two])).contains("pinned"));
    let elsewhere = desk.folder.path().join("copy.bin");
    fs::copy(desk.file(&one), &elsewhere).unwrap();
    assert_eq!(offline(&["verify", elsewhere.to_str().unwrap()]).status.code(), Some(0));

    let whole = fs::read(desk.file(&one)).unwrap();
    let mut damaged = whole.clone();
    let middle = damaged.len() - 1_000;
    damaged[middle] ^= 1;
    for (bytes, why) in [
        (&damaged[..], "corrupt"),
        (&whole[..whole.len() - 1], "truncated"),
        (&[&whole[..], b"x"].concat()[..], "followed"),
        (&b"other"[..], "not a backup"),
    ] {
        fs::write(desk.file(&one), bytes).unwrap();
        let output = offline(&["verify", &one]);
        assert_eq!(output.status.code(), Some(1));
        assert!(stderr(&output).contains(why), "{}", stderr(&output));
        desk.refused(&["restore", &one, "--confirm", desk.database.name()], 1, why);
    }
    assert!(desk.beside().is_empty());
    fs::write(
        desk.folder.path().join("data/encryption.key"),
        "8f1c7a9d2e4b6053f1e2d3c4b5a697887766554433221100ffeeddccbbaa9988",
    )
    .unwrap();
    let output = offline(&["verify", &two]);
    assert!(stderr(&output).contains("was sealed with key"), "{}", stderr(&output));
}

#[test]
fn a_time_picks_the_newest_backup_before_it_and_the_gap_is_told() {
    let desk = Desk::new();
    let database = desk.database.name().to_owned();
    desk.refused(&["restore-to", "2020-01-01T00:00:00Z", "--confirm", &database], 1, "no verified backup");
    desk.call("first");
    let one = desk.made();
    desk.call("second");
    desk.made();
    let newest = desk.json(&["list"])["items"][0]["name"].clone();
    let output = desk.run(&["restore-to", "2099-01-01T00:00:00Z", "--confirm", &database, "--json"]);
    assert_eq!(output.status.code(), Some(3), "{}", stderr(&output));
    let gap: Value = serde_json::from_str(&stdout(&output)).unwrap();
    assert_eq!(gap["backup"], newest);
    assert!(gap["gap_s"].as_i64().unwrap() > 0);
    assert_eq!(desk.called(), "second");
    let before = gap["at"].as_str().unwrap().parse::<chrono::DateTime<chrono::Utc>>().unwrap();
    let before = (before - chrono::TimeDelta::microseconds(1)).to_rfc3339();
    let restored = desk.json(&["restore-to", &before, "--accept-gap", "--confirm", &database]);
    assert_eq!((&restored["backup"], desk.called()), (&one.into(), "first".into()));
}

/// Whatever step it is killed in: the live database is the one before or the one after, whole, and takes connections; the
/// next command puts the rest in order.
#[test]
fn a_killed_restore_is_put_in_order() {
    let desk = Desk::new();
    let database = desk.database.name().to_owned();
    desk.call("first");
    let name = desk.made();
    desk.call("second");
    let note = desk.folder.path().join("data/backups/restore.json");
    for step in ["verifying", "safety_backup", "loading", "checking", "swapping"] {
        let _ = fs::remove_file(&note);
        let mut child = desk
            .command(&["backup", "restore", &name, "--confirm", &database])
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .spawn()
            .unwrap();
        let deadline = Instant::now() + PATIENCE;
        let wanted = format!("\"step\": \"{step}\"");
        let ended = loop {
            if fs::read_to_string(&note).is_ok_and(|text| text.contains(&wanted)) {
                break false;
            }
            if child.try_wait().unwrap().is_some() {
                break true; // it was quicker than the eye
            }
            assert!(Instant::now() < deadline, "it never came to {step}");
            thread::sleep(Duration::from_millis(1));
        };
        child.kill().unwrap();
        child.wait().unwrap();
        // any command that changes something puts in order what was left
        let output = desk.run(&["undo", "--confirm", &database]);
        let swapped = output.status.success();
        assert!(swapped || stderr(&output).contains("no restore"), "{step}: {}", stderr(&output));
        assert_eq!(desk.called(), "second", "{step}: swapped {swapped}, ended {ended}");
        let left = desk.beside();
        assert!(left.iter().all(|name| name.contains("_pre_")), "{step}: {left:?}");
        for name in left {
            desk.database.execute(&format!("DROP DATABASE {name} WITH (FORCE)"));
        }
    }
    desk.json(&["restore", &name, "--confirm", &database]);
    assert_eq!(desk.called(), "first");
}

#[test]
fn a_server_makes_backups_by_the_clock_and_lives_through_a_restore() {
    let desk = Desk::new();
    let (paper, port) = (TestDb::paper(), free_port());
    let mut command = desk.command(&["serve"]);
    command
        .env("BIND_ADDR", format!("127.0.0.1:{port}"))
        .env("BACKUP_SCHEDULE", "1s")
        .env("TIME_SCALE", "0.05")
        .env("PAPER_FIXED_PRICE", "100")
        .env("PAPER_DATABASE_URL", paper.url())
        .env("ARGON2_MEMORY_KIB", "19456")
        .env("ARGON2_ITERATIONS", "2")
        .stderr(Stdio::null());
    let server = ChildGuard::spawn(command);
    let deadline = Instant::now() + PATIENCE;
    let scheduled = loop {
        assert!(Instant::now() < deadline, "no backup came");
        thread::sleep(Duration::from_millis(200));
        let list = desk.json(&["list"]);
        let items = list["items"].as_array().unwrap().clone();
        // the second one says that the first was looked after
        if items.iter().filter(|item| item["kind"] == "scheduled").count() >= 2 {
            break items.last().unwrap()["name"].as_str().unwrap().to_owned();
        }
    };
    desk.call("after the backup");
    loop {
        let output = desk.run(&["restore", &scheduled, "--confirm", desk.database.name(), "--json"]);
        if output.status.success() {
            break;
        }
        // the server's own backups take turns with it
        assert!(stderr(&output).contains("another backup"), "{}", stderr(&output));
        assert!(Instant::now() < deadline + PATIENCE, "the restore never got its turn");
    }
    assert_eq!(desk.called(), Value::Null, "as it was");
    let healthy = || {
        let mut probe = desk.command(&["health", "--ready"]);
        probe.env("BIND_ADDR", format!("127.0.0.1:{port}")).output().unwrap().status.success()
    };
    let deadline = Instant::now() + PATIENCE;
    while !healthy() {
        assert!(Instant::now() < deadline, "the server does not come back");
        thread::sleep(Duration::from_millis(100));
    }
    assert!(server.id() > 0);
    drop(server);
}
