//! `plimsoll key …` in real processes: what is listed, what a rotation moves, what stops a start.

use std::fs;
use std::process::{Command, Output};
use std::time::{Duration, Instant};

use plimsoll_testkit::{ChildGuard, TestDb};
use serde_json::{Value, json};
use tempfile::TempDir;

use crate::config::{plimsoll, stderr, stdout};

pub(crate) const FIRST: &str = "8f1c7a9d2e4b6053f1e2d3c4b5a697887766554433221100ffeeddccbbaa9988";
pub(crate) const SECOND: &str = "11fd7a9d2e4b6053f1e2d3c4b5a697887766554433221100ffeeddccbbaa9988";
const PHRASE: &str = "seven slow herons under a copper bridge";
const PATIENCE: Duration = Duration::from_secs(90);

/// A database, and commands over it, each as if on a machine of its own.
pub(crate) struct Desk {
    pub(crate) folder: TempDir,
    pub(crate) database: TestDb,
}

impl Desk {
    pub(crate) fn new() -> Self {
        Self { folder: tempfile::tempdir().unwrap(), database: TestDb::platform() }
    }

    /// A command with `key` active and `old` beside it.
    pub(crate) fn command(&self, key: &str, old: &[&str], words: &str) -> Command {
        let mut command = plimsoll(self.folder.path());
        command.args(words.split(' ')).env("DATABASE_URL", self.database.url()).env("PROFILE", "development");
        command.env("ENCRYPTION_KEY", key).env("DATA_DIR", self.folder.path().join("data"));
        if !old.is_empty() {
            command.env("ENCRYPTION_KEYS_OLD", old.join(","));
        }
        command
            .env("ARGON2_MEMORY_KIB", "12288")
            .env("METRICS_ADDR", "127.0.0.1:0")
            .env("LOG_LEVEL", "error");
        // a broker that is never there: nothing here needs it
        command
            .env("ALPACA_API_KEY", "PKTESTKEYS0000000001")
            .env("ALPACA_API_SECRET", "nobody needs this secret");
        command.env("ALPACA_BASE_URL", "http://127.0.0.1:9");
        command
    }

    pub(crate) fn run(&self, key: &str, old: &[&str], words: &str) -> Output {
        self.command(key, old, words).output().unwrap()
    }

    #[track_caller]
    pub(crate) fn json(&self, key: &str, old: &[&str], words: &str, code: i32) -> Value {
        let output = self.run(key, old, words);
        assert_eq!(output.status.code(), Some(code), "{words}: {}{}", stderr(&output), stdout(&output));
        serde_json::from_str(&stdout(&output)).unwrap()
    }

    pub(crate) fn count(&self, from: &str) -> i64 {
        self.database.rows(&format!("SELECT count(*)::bigint AS n FROM {from}"))[0]["n"].as_i64().unwrap()
    }

    /// The id of the one key that `key list` calls active.
    fn active(&self, key: &str, old: &[&str]) -> String {
        let listed = self.json(key, old, "key list --json", 0);
        let active: Vec<&Value> =
            listed.as_array().unwrap().iter().filter(|key| key["active"] == true).collect();
        assert_eq!(active.len(), 1, "{listed}");
        active[0]["id"].as_str().unwrap().to_owned()
    }

    /// A digest of every table.
    pub(crate) fn digests(&self) -> Vec<Value> {
        let tables = self.database.rows(
            "SELECT relname::text AS name FROM pg_class WHERE relkind = 'r' AND relnamespace = 'public'::regnamespace \
             ORDER BY 1",
        );
        let digest = |name: &str| {
            let query = format!(
                "SELECT '{name}' AS name, md5(coalesce(string_agg(t::text, '|' ORDER BY t::text), '')) AS digest \
                 FROM \"{name}\" t"
            );
            self.database.rows(&query).remove(0)
        };
        tables.iter().map(|row| digest(row["name"].as_str().unwrap())).collect()
    }
}

/// ENC-4, ENC-5: a start whose keys do not open what is stored ends with 2 and says which key is needed, never a key.
#[test]
fn a_wrong_key_stops_the_start() {
    let desk = Desk::new();
    assert_eq!(desk.run(FIRST, &[], "user list").status.code(), Some(0));
    let id = desk.active(FIRST, &[]);
    for words in ["serve --bind 127.0.0.1:0", "user list", "key rotate", "key rotate --dry-run"] {
        let output = desk.run(SECOND, &[], words);
        let text = stderr(&output);
        assert_eq!(output.status.code(), Some(2), "{words}: {text}");
        for part in [&*id, "ENCRYPTION_KEY is not the key", "ENCRYPTION_KEYS_OLD"] {
            assert!(text.contains(part), "{words}: {text}");
        }
        assert!(!text.contains(SECOND) && !text.contains(FIRST), "{text}");
    }
    assert_eq!(desk.count("encryption_keys"), 1);
    // what is missing can be looked at
    let listed = desk.json(SECOND, &[], "key list --json", 0);
    let needed = listed.as_array().unwrap().iter().find(|key| key["id"] == *id).unwrap();
    assert_eq!((&needed["rows"], &needed["active"]), (&json!(4), &json!(false)), "{listed}");
    assert!(stdout(&desk.run(SECOND, &[], "key list")).contains("MISSING"));
}

/// ENC-6: a server says which form of key it read, and how many earlier ones; never a key.
#[test]
fn a_server_tells_how_its_key_was_read() {
    let desk = Desk::new();
    for (key, form) in
        [(FIRST, "read as 32 bytes in hexadecimal, 1 earlier"), (PHRASE, "read as a pass phrase")]
    {
        let log = desk.folder.path().join("log");
        let old = if key == FIRST { PHRASE } else { FIRST };
        let mut command = desk.command(key, &[old], "serve --bind 127.0.0.1:0");
        command.env("LOG_LEVEL", "info").stderr(fs::File::create(&log).unwrap());
        let _server = ChildGuard::spawn(command);
        let deadline = Instant::now() + PATIENCE;
        let told = loop {
            let text = fs::read_to_string(&log).unwrap();
            if let Some(line) = text.lines().find(|line| line.contains("master key ")) {
                break line.to_owned();
            }
            assert!(Instant::now() < deadline, "{text}");
            std::thread::sleep(Duration::from_millis(50));
        };
        assert!(told.contains(form) && told.contains("1 earlier"), "{told}");
        assert!(!told.contains(key) && !told.contains(old), "{told}");
    }
}

/// ENC-5, ENC-6: the salt of a pass phrase is the database's, so that another machine derives the same key; a wrong phrase
/// stops the start; a salt that an earlier release kept in the data folder is taken over.
#[test]
fn a_pass_phrase_is_the_same_key_on_every_machine() {
    let desk = Desk::new();
    let data = desk.folder.path().join("data");
    fs::create_dir(&data).unwrap();
    let salt = "5a".repeat(32);
    let kept = json!({ "salt": salt, "iterations": 1_000_000 });
    fs::write(data.join("encryption.stretching.json"), kept.to_string()).unwrap();
    assert_eq!(desk.run(PHRASE, &[], "user list").status.code(), Some(0));
    let rows =
        desk.database.rows("SELECT encode(salt, 'hex') AS salt, iterations FROM encryption_stretching");
    assert_eq!(rows, [json!({ "salt": salt, "iterations": 1_000_000 })]);
    let id = desk.active(PHRASE, &[]);

    let elsewhere = desk.folder.path().join("elsewhere");
    let output = desk.command(PHRASE, &[], "key list --json").env("DATA_DIR", &elsewhere).output().unwrap();
    assert!(stdout(&output).contains(&id), "{}", stderr(&output));
    assert!(!elsewhere.join("encryption.stretching.json").exists());
    let wrong = format!("{PHRASE}!");
    let output = desk.run(&wrong, &[], "user list");
    assert_eq!(output.status.code(), Some(2));
    assert!(stderr(&output).contains(&id) && !stderr(&output).contains(PHRASE), "{}", stderr(&output));
}

/// ENC-7: rows per key before and after; a trial changes nothing; an earlier key is told to be removable at zero only.
#[test]
fn a_rotation_is_reported_and_a_trial_changes_nothing() {
    let desk = Desk::new();
    assert_eq!(desk.run(FIRST, &[], "user list").status.code(), Some(0));
    let (old, rows) = (desk.active(FIRST, &[]), 4);
    let before = desk.digests();
    let trial = desk.json(SECOND, &[FIRST], "key rotate --dry-run --json", 0);
    assert_eq!((&trial["dry_run"], &trial["moved"]), (&json!(true), &json!(rows)), "{trial}");
    assert_eq!((&trial["before"], &trial["needed"]), (&trial["after"], &json!([old])), "{trial}");
    assert_eq!(desk.digests(), before);

    let done = desk.json(SECOND, &[FIRST], "key rotate --json", 0);
    assert_eq!(
        (&done["moved"], &done["retirable"], &done["needed"]),
        (&json!(rows), &json!([old]), &json!([]))
    );
    let of = |list: &Value, id: &str| {
        list.as_array().unwrap().iter().find(|key| key["id"] == *id).map(|key| key["rows"].clone())
    };
    let new = done["active"].as_str().unwrap();
    assert_eq!(
        (of(&done["before"], &old), of(&done["before"], new)),
        (Some(json!(4)), Some(json!(0))),
        "{done}"
    );
    assert_eq!(
        (of(&done["after"], &old), of(&done["after"], new)),
        (Some(json!(0)), Some(json!(4))),
        "{done}"
    );

    let text = stdout(&desk.run(SECOND, &[FIRST], "key rotate"));
    assert!(text.contains(&format!("{old} is needed by nothing any more")), "{text}");
    let listed = desk.json(SECOND, &[], "key list --json", 0);
    assert_eq!(listed.as_array().unwrap().len(), 1, "{listed}");
    let key = &listed[0];
    assert_eq!((&key["id"], &key["rows"], &key["active"]), (&json!(new), &json!(4), &json!(true)));
    assert!(key["created_at"].is_string());
    assert_eq!(desk.count("encryption_keys WHERE retired_at IS NOT NULL"), 1);

    let entries = "audit_log WHERE action = 'key.rotate' AND actor_id IS NULL AND detail LIKE";
    assert_eq!(desk.count(&format!("{entries} '%\"phase\":\"begun\"%'")), 2);
    assert_eq!(desk.count(&format!("{entries} '%\"moved\":4%' AND chain < 0")), 1);
    assert_eq!(desk.run(SECOND, &[], "audit verify").status.code(), Some(0));
    assert_eq!(desk.run(FIRST, &[], "user list").status.code(), Some(2), "the earlier key opens nothing");
}

/// ENC-6, ENC-7: a pass phrase with a comma can be the key, and can be rotated away: from a line of a file or a variable.
#[test]
fn a_pass_phrase_with_a_comma_is_rotated_away() {
    const COMMA: &str = "seven herons, one lamp";
    let desk = Desk::new();
    assert_eq!(desk.run(COMMA, &[], "user list").status.code(), Some(0));
    let old = desk.active(COMMA, &[]);
    let output = desk.run(FIRST, &[COMMA], "key rotate --dry-run");
    assert!(stderr(&output).contains("line of its own"), "{}", stderr(&output));

    let file = desk.folder.path().join("earlier");
    fs::write(&file, format!("{COMMA}\n")).unwrap();
    let mut trial = desk.command(FIRST, &[], "key rotate --dry-run");
    let output = trial.env("ENCRYPTION_KEYS_OLD_FILE", &file).output().unwrap();
    assert_eq!(output.status.code(), Some(0), "{}", stderr(&output));
    let done = desk.json(FIRST, &[&format!("{COMMA}\n")], "key rotate --json", 0);
    assert_eq!((&done["moved"], &done["retirable"]), (&json!(4), &json!([old])), "{done}");
    assert_eq!(desk.run(FIRST, &[], "user list").status.code(), Some(0));
}

/// ENC-7: what does not open is named, stays as it is, and keeps its key needed: exit code 3.
#[test]
fn a_key_that_is_still_needed_ends_with_3() {
    let desk = Desk::new();
    let file = desk.folder.path().join("password");
    fs::write(&file, "umbrella-Kestrel 41 pavement\n").unwrap();
    let words = format!("user create-admin boss@example.com --password-file {}", file.display());
    assert_eq!(desk.run(FIRST, &[], &words).status.code(), Some(0));
    assert_eq!(desk.run(FIRST, &[], "user reset-password boss@example.com").status.code(), Some(0));
    desk.database.execute(
        "UPDATE mail_outbox SET sealed = set_byte(sealed, length(sealed) - 1, get_byte(sealed, length(sealed) - 1) # 1)",
    );
    let trial = desk.json(SECOND, &[FIRST], "key rotate --dry-run --json", 3);
    let damaged = trial["damaged"].as_array().unwrap();
    assert!(
        damaged.len() == 1 && damaged[0].as_str().unwrap().starts_with("mail_outbox.sealed row "),
        "{trial}"
    );
    let done = desk.json(SECOND, &[FIRST], "key rotate --json", 3);
    assert_eq!((done["needed"].as_array().unwrap().len(), &done["retirable"]), (1, &json!([])), "{done}");
    assert_eq!(desk.count("audit_log WHERE action = 'key.rotate' AND outcome = 'failure'"), 1);
    assert_eq!(desk.count("encryption_keys WHERE retired_at IS NOT NULL"), 0);
}

#[test]
fn a_new_key_is_printed_and_kept_nowhere() {
    let desk = Desk::new();
    let empty = desk.folder.path().join("empty");
    fs::create_dir(&empty).unwrap();
    let output = plimsoll(&empty).args(["key", "generate", "--json"]).output().unwrap();
    let key: Value = serde_json::from_str(&stdout(&output)).unwrap();
    assert_eq!(key["key"].as_str().unwrap().len(), 44, "{key}");
    assert_eq!(fs::read_dir(&empty).unwrap().count(), 0);
    assert_eq!(desk.run(key["key"].as_str().unwrap(), &[], "user list").status.code(), Some(0));
    let text = desk.database.rows("SELECT t::text AS row FROM encryption_keys t")[0]["row"].to_string();
    assert!(!text.contains(key["key"].as_str().unwrap()));
}

/// Of two rotations the second is refused.
#[test]
fn one_rotation_runs_at_a_time() {
    let desk = Desk::new();
    assert_eq!(desk.run(FIRST, &[], "user list").status.code(), Some(0));
    let mut holder = desk.database.raw();
    // the lock of the rotation; see `as_the_only_rotation`
    holder.execute(&format!("SELECT pg_advisory_lock({})", 0x706c_6d6b_6579_726f_i64)).unwrap();
    let output = desk.run(SECOND, &[FIRST], "key rotate");
    assert_eq!(output.status.code(), Some(1), "{}", stderr(&output));
    assert!(stderr(&output).contains("another `plimsoll key rotate` is running"), "{}", stderr(&output));
    drop(holder);
    let deadline = Instant::now() + PATIENCE;
    while desk.run(SECOND, &[FIRST], "key rotate").status.code() != Some(0) {
        assert!(Instant::now() < deadline);
    }
}

/// A rotation that goes on until it is killed.
pub(crate) fn spawn_rotation(desk: &Desk) -> ChildGuard {
    ChildGuard::spawn(desk.command(SECOND, &[FIRST], "key rotate --json"))
}
