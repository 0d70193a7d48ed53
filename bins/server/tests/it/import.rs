//! `plimsoll import-credentials` over exports that the real Python package `cryptography` made.

use std::fs;
use std::io::Write;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::sync::Arc;

use plimsoll_auth::vault::{self, BrokerName, Opened};
use plimsoll_auth::{Act, UserId};
use plimsoll_core_domain::{Clock, SystemClock};
use plimsoll_crypto::{KeyRing, MasterKey, OsRandom, Stretching};
use plimsoll_storage::platform::keys::PlatformKeys;
use secrecy::ExposeSecret;
use serde_json::{Value, json};

use crate::config::{stderr, stdout};
use crate::keys::{Desk, FIRST};

/// A Python that has `cryptography`: that of ./test.
fn python() -> Option<PathBuf> {
    let python = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../.venv/bin/python");
    let ready = Command::new(&python)
        .args(["-c", "import cryptography.fernet"])
        .output()
        .is_ok_and(|ran| ran.status.success());
    if !ready {
        println!("SKIPPED: cryptography is not in .venv (./test installs it)");
    }
    ready.then_some(python)
}

/// Writes an export and the file of its key.
fn export(python: &Path, folder: &Path, kind: &str, form: &str, rows: &Value) -> (PathBuf, PathBuf) {
    let script = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/data/import/export.py");
    let (file, key) = (folder.join(format!("export.{kind}")), folder.join(format!("{form}.old")));
    let mut child = Command::new(python)
        .arg(script)
        .args([kind, file.to_str().unwrap(), form])
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .spawn()
        .unwrap();
    child.stdin.take().unwrap().write_all(rows.to_string().as_bytes()).unwrap();
    let output = child.wait_with_output().unwrap();
    assert!(output.status.success());
    fs::write(&key, &output.stdout).unwrap();
    (file, key)
}

fn desk() -> Desk {
    let desk = Desk::new();
    let password = desk.folder.path().join("password");
    fs::write(&password, "umbrella-Kestrel 41 pavement\n").unwrap();
    for name in ["ann", "bob", "eve"] {
        let words = format!("user create-admin {name}@example.com --password-file {}", password.display());
        assert_eq!(desk.run(FIRST, &[], &words).status.code(), Some(0));
    }
    desk
}

fn words(file: &Path, key: &Path, more: &str) -> String {
    format!("import-credentials {} --old-key-file {}{more}", file.display(), key.display())
}

/// What the vault has for a user: key, secret, environment.
fn opened(desk: &Desk, email: &str) -> Option<(String, String, String)> {
    let stretching = Stretching::new([0; 16].to_vec(), 1_000_000).unwrap();
    let ring = KeyRing::new(&MasterKey::parse(FIRST, &stretching).unwrap());
    let db = desk.database.db();
    let keys = Arc::new(PlatformKeys::load_or_create(&db, &ring, &mut OsRandom).unwrap());
    let db = db.with_keys(keys);
    let rows = desk.database.rows(&format!("SELECT id FROM users WHERE email = '{email}'"));
    let user = UserId(rows[0]["id"].as_i64().unwrap());
    let act = Act::without_request(SystemClock.now());
    match db.run_blocking(|tx| vault::open(tx, &ring, user, BrokerName::Alpaca, &act)).unwrap() {
        Opened::Keys { keys, environment, .. } => Some((
            keys.api_key.expose_secret().to_owned(),
            keys.api_secret.expose_secret().to_owned(),
            environment.to_string(),
        )),
        Opened::Nothing => None,
        other => panic!("{other:?}"),
    }
}

fn outcomes(report: &Value) -> Vec<(u64, String)> {
    let rows = report["rows"].as_array().unwrap();
    rows.iter()
        .map(|row| (row["line"].as_u64().unwrap(), row["outcome"].as_str().unwrap().to_owned()))
        .collect()
}

#[test]
fn an_export_of_python_moves_into_the_vault() {
    let Some(python) = python() else { return };
    let desk = desk();
    let rows = json!([
        [
            "ann@example.com",
            "alpaca",
            "paper",
            "PKIMPORTANN000000001",
            "secret-of-ann-0123456789-ABCDEFGHIJKLMNO"
        ],
        [
            "Bob@Example.com",
            "Alpaca",
            "live",
            "AKIMPORTBOB000000001",
            "secret-of-bob-0123456789-ABCDEFGHIJKLMNO"
        ],
        [
            "nobody@example.com",
            "alpaca",
            "paper",
            "PKIMPORTNOB000000001",
            "secret-of-nobody-456789-ABCDEFGHIJKLMNO"
        ],
        [
            "ann@example.com",
            "alpaca",
            "live",
            "AKIMPORTANN000000002",
            "secret-of-ann-2-3456789-ABCDEFGHIJKLMNO"
        ],
        [
            "eve@example.com",
            "kraken",
            "paper",
            "PKIMPORTEVE000000001",
            "secret-of-eve-0123456789-ABCDEFGHIJKLMNO"
        ],
        ["eve@example.com", "alpaca", "paper", "short", "secret-of-eve-0123456789-ABCDEFGHIJKLMNO"],
    ]);
    let (file, key) = export(&python, desk.folder.path(), "csv", "key", &rows);
    let before = desk.digests();
    let trial = desk.json(FIRST, &[], &words(&file, &key, " --dry-run --json"), 3);
    assert_eq!(desk.digests(), before, "a trial changes nothing");
    assert_eq!(
        (&trial["dry_run"], &trial["in"], &trial["failed"]),
        (&json!(true), &json!(2), &json!(4)),
        "{trial}"
    );

    let report = desk.json(FIRST, &[], &words(&file, &key, " --json"), 3);
    assert_eq!(report["rows"], trial["rows"], "what was foretold");
    let words_of = |n: usize| report["rows"][n]["reason"].as_str().unwrap_or_default().to_owned();
    let told: Vec<String> =
        outcomes(&report).into_iter().map(|(line, word)| format!("{line} {word}")).collect();
    assert_eq!(told, ["2 imported", "3 imported", "4 failed", "5 failed", "6 failed", "7 failed"]);
    assert!(words_of(2).contains("no user") && words_of(3).contains("line 2"), "{report}");
    assert!(words_of(4).contains("broker") && words_of(5).contains("api_key"), "{report}");
    assert_eq!(report["rows"][0]["key_last4"], "0001");
    assert!(
        !report.to_string().contains("PKIMPORT") && !report.to_string().contains("secret-of"),
        "{report}"
    );
    let ann =
        ("PKIMPORTANN000000001".to_owned(), rows[0][4].as_str().unwrap().to_owned(), "paper".to_owned());
    assert_eq!(opened(&desk, "ann@example.com"), Some(ann));
    let bob = opened(&desk, "bob@example.com").unwrap();
    assert_eq!((&*bob.0, &*bob.2), ("AKIMPORTBOB000000001", "live"));
    assert_eq!(opened(&desk, "eve@example.com"), None);
    assert_eq!(desk.count("audit_log WHERE action = 'credential.import' AND outcome = 'failure'"), 1);
    assert_eq!(desk.count("audit_log WHERE action = 'credential.save' AND actor_id IS NULL"), 2);

    // again: those that are in stay as they are
    let versions =
        || desk.database.rows("SELECT user_id, version, updated_at FROM broker_credentials ORDER BY 1");
    let before = versions();
    let again = desk.json(FIRST, &[], &words(&file, &key, " --json"), 3);
    assert_eq!(outcomes(&again)[0].1, "present");
    assert_eq!(versions(), before);
}

/// SQLite, a key made of a password, and rows that replace what a user has.
#[test]
fn a_table_and_a_password_are_read_too() {
    let Some(python) = python() else { return };
    let desk = desk();
    let rows = |key: &str| {
        json!([["ann@example.com", "alpaca", "paper", key, "secret-of-ann-0123456789-ABCDEFGHIJKLMNO"]])
    };
    let folder = desk.folder.path();
    let (file, key) = export(&python, folder, "sqlite", "password", &rows("PKIMPORTANN000000001"));
    let options = " --old-key-iterations 210000 --json --old-key-salt";
    let hex = data_encoding::HEXLOWER.encode(b"salt of the old days");
    let done = desk.json(FIRST, &[], &words(&file, &key, &format!("{options} hex:{hex}")), 0);
    assert_eq!(outcomes(&done), [(1, "imported".to_owned())]);
    let wrong = desk.json(FIRST, &[], &words(&file, &key, &format!("{options} other")), 3);
    assert!(wrong["rows"][0]["reason"].as_str().unwrap().contains("another key"), "{wrong}");

    fs::remove_file(&file).unwrap();
    let (file, key) = export(&python, folder, "sqlite", "key", &rows("PKIMPORTANN000000002"));
    let kept = desk.json(FIRST, &[], &words(&file, &key, " --keep-existing --json"), 3);
    assert_eq!(outcomes(&kept), [(1, "failed".to_owned())]);
    let replaced = desk.run(FIRST, &[], &words(&file, &key, ""));
    assert_eq!(replaced.status.code(), Some(0), "{}", stderr(&replaced));
    let text = stdout(&replaced);
    assert!(text.contains("line 1  ann@example.com  replaced: alpaca paper, key ends in 0002"), "{text}");
    assert!(text.contains("1 of 1 rows are in, 0 failed"), "{text}");
    assert_eq!(opened(&desk, "ann@example.com").unwrap().0, "PKIMPORTANN000000002");
}

/// A row whose transaction is cut off fails alone; the report and the audit entry come. A key of the other environment is
/// no key of this one.
#[test]
fn a_row_fails_alone() {
    let Some(python) = python() else { return };
    let desk = desk();
    let secret = "secret-of-someone-456789-ABCDEFGHIJKLMNO";
    let rows = json!([
        ["ann@example.com", "alpaca", "paper", "PKIMPORTANN000000001", secret],
        ["bob@example.com", "alpaca", "paper", "PKIMPORTBOB000000001", secret],
        ["eve@example.com", "alpaca", "live", "PKIMPORTEVE000000001", secret],
        ["eve@example.com", "alpaca", "live", "AKIMPORTEVE000000001", secret],
    ]);
    let (file, key) = export(&python, desk.folder.path(), "csv", "key", &rows);
    desk.database.execute(
        "CREATE FUNCTION cut() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN \
         PERFORM pg_terminate_backend(pg_backend_pid()); RETURN NEW; END $$; \
         CREATE TRIGGER cut BEFORE INSERT ON broker_credentials FOR EACH ROW \
         WHEN (NEW.key_last4 = '0001' AND NEW.user_id = 2) EXECUTE FUNCTION cut()",
    );
    let bob = desk.database.rows("SELECT id FROM users WHERE email = 'bob@example.com'")[0]["id"].clone();
    assert_eq!(bob, 2);
    let report = desk.json(FIRST, &[], &words(&file, &key, " --json"), 3);
    let told: Vec<String> =
        outcomes(&report).into_iter().map(|(line, word)| format!("{line} {word}")).collect();
    assert_eq!(told, ["2 imported", "3 failed", "4 failed", "5 imported"], "{report}");
    let why = |n: usize| report["rows"][n]["reason"].as_str().unwrap().to_owned();
    assert!(why(1).starts_with("the database: ") && why(2).contains("AK"), "{report}");
    assert_eq!(desk.count("audit_log WHERE action = 'credential.import' AND outcome = 'failure'"), 1);
    assert_eq!(desk.count("broker_credentials"), 2);
}

/// A trial over a database of before is refused, and one over a database without keys makes none.
#[test]
fn a_trial_leaves_the_schema_and_the_keys_alone() {
    let desk = Desk::new();
    let (file, key) = (desk.folder.path().join("export.csv"), desk.folder.path().join("old.key"));
    fs::write(&file, "email,broker,environment,api_key,api_secret\n").unwrap();
    fs::write(&key, "AAECAwQFBgcICQoLDA0ODxAREhMUFRYXGBkaGxwdHh8=\n").unwrap();
    let before = desk.digests();
    assert_eq!(desk.run(FIRST, &[], &words(&file, &key, " --dry-run")).status.code(), Some(0));
    assert_eq!((desk.digests(), desk.count("installation_keys")), (before, 0));

    desk.database.execute(
        "DELETE FROM __diesel_schema_migrations WHERE version = (SELECT max(version) FROM __diesel_schema_migrations)",
    );
    let before = desk.digests();
    let output = desk.run(FIRST, &[], &words(&file, &key, " --dry-run"));
    assert_eq!(output.status.code(), Some(1), "{}", stderr(&output));
    assert!(stderr(&output).contains("`plimsoll migrate` first"), "{}", stderr(&output));
    assert_eq!(desk.digests(), before);
}

#[test]
fn a_key_that_is_none_is_wrong_use() {
    let desk = Desk::new();
    let (file, key) = (desk.folder.path().join("export.csv"), desk.folder.path().join("old.key"));
    fs::write(&file, "email,broker,environment,api_key,api_secret\n").unwrap();
    fs::write(&key, "no key at all, a password\n").unwrap();
    let output = desk.run(FIRST, &[], &words(&file, &key, ""));
    assert_eq!(output.status.code(), Some(2));
    assert!(
        stderr(&output).contains("--old-key-salt") && !stderr(&output).contains("a password\n"),
        "{}",
        stderr(&output)
    );
    fs::write(&key, "AAECAwQFBgcICQoLDA0ODxAREhMUFRYXGBkaGxwdHh8=\n").unwrap();
    assert_eq!(
        desk.run(FIRST, &[], &words(&file, &key, "")).status.code(),
        Some(0),
        "nothing to import is no failure"
    );
    fs::write(&file, "email\n").unwrap();
    assert_eq!(desk.run(FIRST, &[], &words(&file, &key, "")).status.code(), Some(2));
}
