//! `plimsoll dead-letters …`: what an operator does with jobs that were given up.

use std::process::Output;

use plimsoll_testkit::TestDb;
use serde_json::Value;
use tempfile::TempDir;

use crate::config::{plimsoll, stderr, stdout};

struct Desk {
    folder: TempDir,
    database: TestDb,
}

impl Desk {
    /// With three dead letters of kind `greet` and one of kind `wave`.
    fn new() -> Self {
        let desk = Self { folder: tempfile::tempdir().unwrap(), database: TestDb::platform() };
        desk.database.execute(
            "INSERT INTO jobs (queue, kind, state, attempt, max_attempts, dedup_key, payload, last_error, errors, finished_at) \
             SELECT 'q', CASE n WHEN 4 THEN 'wave' ELSE 'greet' END, 'dead', 3, 3, 'key-' || n, \
             jsonb_build_object('n', n, 'email', 'ann@example.com'), 'nobody is there', \
             jsonb_build_array(jsonb_build_object('at', now(), 'attempt', 3, 'error', 'nobody is there')), now() \
             FROM generate_series(1, 4) n ORDER BY n",
        );
        desk
    }

    fn run(&self, words: &[&str]) -> Output {
        let mut command = plimsoll(self.folder.path());
        command.arg("dead-letters").args(words).arg("--data-dir").arg(self.folder.path().join("data"));
        command.env("DATABASE_URL", self.database.url()).env("PROFILE", "development").output().unwrap()
    }

    fn done(&self, words: &[&str]) -> String {
        let output = self.run(words);
        assert_eq!(output.status.code(), Some(0), "{words:?}: {}", stderr(&output));
        stdout(&output)
    }

    fn json(&self, words: &[&str]) -> Value {
        serde_json::from_str(&self.done(&[words, &["--json"]].concat())).unwrap()
    }

    fn refused(&self, words: &[&str], code: i32, why: &str) {
        let output = self.run(words);
        assert_eq!(output.status.code(), Some(code), "{words:?}: {}", stderr(&output));
        assert!(stderr(&output).contains(why), "{words:?}: {}", stderr(&output));
    }

    fn count(&self, from: &str) -> i64 {
        let rows = self.database.rows(&format!("SELECT count(*)::bigint AS n FROM {from}"));
        rows[0]["n"].as_i64().unwrap()
    }

    fn open(&self) -> i64 {
        self.count("jobs WHERE state = 'dead' AND resolved_at IS NULL")
    }
}

#[test]
fn an_operator_lists_shows_replays_and_discards() {
    let desk = Desk::new();
    let letters = desk.json(&["list"]);
    assert_eq!(letters.as_array().unwrap().len(), 4);
    assert_eq!(desk.json(&["list", "--kind", "wave"]).as_array().unwrap().len(), 1);
    assert_eq!(desk.json(&["list", "--error", "NOBODY", "--limit", "2"]).as_array().unwrap().len(), 2);
    assert!(desk.done(&["list", "--kind", "none"]).contains("there are none"));
    let newest = letters[0]["id"].to_string();
    let shown = desk.done(&["show", &newest]);
    assert!(shown.contains("nobody is there") && !shown.contains("ann@example.com"), "{shown}");

    desk.refused(&["replay"], 1, "say which");
    desk.refused(&["replay", "--all", "--per-second", "1000"], 2, "per-second");
    desk.refused(&["show", "999999"], 1, "no such dead letter");
    desk.refused(&["discard", &newest, "--reason", " "], 1, "--reason must be");
    assert_eq!(desk.open(), 4);

    let plan = desk.json(&["replay", "--kind", "greet", "--dry-run"]);
    assert_eq!((&plan["matched"], &plan["replayed"], desk.open()), (&3.into(), &3.into(), 4));
    let one = desk.json(&["replay", &letters[3]["id"].to_string()]);
    assert_eq!(one["id"], letters[3]["id"]);
    desk.refused(&["replay", &letters[3]["id"].to_string()], 1, "replayed already");
    // a job with the key of one of them is open: that one is left, and the exit code says so
    desk.database.execute(
        "INSERT INTO jobs (queue, kind, max_attempts, dedup_key, payload) VALUES ('q', 'greet', 3, 'key-2', '{}')",
    );
    let output = desk.run(&["replay", "--kind", "greet", "--json"]);
    assert_eq!(output.status.code(), Some(3), "{}", stderr(&output));
    let done: Value = serde_json::from_str(&stdout(&output)).unwrap();
    assert_eq!((&done["matched"], &done["replayed"], &done["refused"]), (&2.into(), &1.into(), &1.into()));
    assert_eq!(done["refusals"][0]["id"], letters[2]["id"]);
    desk.done(&["discard", &newest, "--reason", "waved by hand"]);
    assert_eq!(desk.open(), 1);
    assert_eq!(desk.count("jobs WHERE parent_id IS NOT NULL AND state = 'ready'"), 2);
    for action in
        ["admin.dead_letters_list", "admin.dead_letter_read", "dead_letter.replay", "dead_letter.discard"]
    {
        let entry = format!(
            "audit_log WHERE action = '{action}' AND actor_id IS NULL AND detail LIKE '%\"via\":\"cli\"%'"
        );
        assert!(desk.count(&entry) >= 1, "{action}");
    }
}
