//! The program: wrong use, a second instance, a private server, signals.

use std::net::TcpListener;
use std::path::Path;
use std::process::Output;

use nix::sys::signal::Signal;
use plimsoll_testkit::{ChildGuard, TestDb};
use serde_json::Value;

use crate::support::{PATIENCE, program, text};

fn refusal(folder: &Path, arguments: &[&str]) -> String {
    let output = program(folder).args(arguments).output().unwrap();
    told(&output, 2)
}

/// One line on standard error, nothing on standard output.
fn told(output: &Output, code: i32) -> String {
    let error = String::from_utf8_lossy(&output.stderr).into_owned();
    assert_eq!((output.status.code(), output.stdout.as_slice()), (Some(code), &b""[..]), "{error}");
    error
}

#[test]
fn wrong_use_is_one_clear_line() {
    let folder = tempfile::tempdir().unwrap();
    let data = tempfile::tempdir().unwrap();
    std::fs::write(
        data.path().join("bad.csv"),
        "symbol,timestamp,open,high,low,close,volume\nX,yesterday,1,1,1,1,1\n",
    )
    .unwrap();
    let taken = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = taken.local_addr().unwrap().to_string();
    let data_text = data.path().display().to_string();
    for (arguments, words) in [
        (vec!["--bind", address.as_str(), "--database-url", "postgresql:///none"], "cannot listen on"),
        (vec!["--market-data", data_text.as_str()], "bad.csv"),
        (vec!["--market-data", "/no/such/folder"], "/no/such/folder"),
        (vec!["--fixed-price=-1"], "-1"),
        (vec!["--partial-fill-rate", "1.5"], "between 0 and 1"),
        (vec!["--faults", "/no/such/file"], "/no/such/file"),
    ] {
        let error = refusal(folder.path(), &arguments);
        assert!(error.contains(words), "{arguments:?}: {error}");
        assert_eq!(error.trim().lines().count(), 1, "{error}");
    }
    for (arguments, words) in [
        (vec!["--spede", "3"], "--speed"),
        (vec!["--speed", "fast"], "--speed"),
        (vec!["--rate-limit", "0"], "--rate-limit"),
        (vec!["--fixed-price", "1", "--market-data", "x"], "--market-data"),
    ] {
        let error = refusal(folder.path(), &arguments);
        assert!(error.contains(words), "{arguments:?}: {error}");
    }
}

#[test]
fn folders_that_cannot_be_used_are_named() {
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("file");
    std::fs::write(&file, "").unwrap();
    let error = refusal(&file, &["--database-url", "postgresql:///none"]);
    assert!(error.contains(&file.display().to_string()), "{error}");
    let db = TestDb::paper();
    std::fs::write(folder.path().join("paper-keys.json"), "{}").unwrap();
    let error = refusal(folder.path(), &["--database-url", db.url()]);
    assert!(error.contains("paper-keys.json"), "{error}");
}

#[test]
fn a_second_instance_is_refused_and_the_first_goes_on() {
    let (db, folder) = (TestDb::paper(), tempfile::tempdir().unwrap());
    let mut command = program(folder.path());
    command.args(["--database-url", db.url()]);
    let mut first = ChildGuard::spawn(command);
    assert!(first.line(PATIENCE).starts_with("paper broker at http://127.0.0.1:"));
    let error = refusal(folder.path(), &["--database-url", db.url()]);
    assert!(error.contains("in use by another running paper broker"), "{error}");
    assert!(first.terminate(PATIENCE).success());
}

#[test]
fn a_database_that_is_away_is_told_apart() {
    let folder = tempfile::tempdir().unwrap();
    let output = program(folder.path())
        .args(["--database-url", "postgresql:///x?host=/no/such/folder"])
        .output()
        .unwrap();
    let error = told(&output, 3);
    assert!(error.contains("database"), "{error}");
}

#[test]
fn a_private_server_starts_and_ends_with_it() {
    let folder = tempfile::tempdir().unwrap();
    let data = folder.path().join("data");
    let mut keys = Vec::new();
    for signal in [Signal::SIGTERM, Signal::SIGINT] {
        let mut command = program(&data);
        command.args(["--json", "--speed", "10"]);
        let mut broker = ChildGuard::spawn(command);
        let started: Value = serde_json::from_str(&broker.line(PATIENCE * 3)).unwrap();
        keys.push(started["accounts"].clone());
        assert!(text(&started["url"]).starts_with("http://127.0.0.1:"));
        broker.signal(signal);
        assert!(broker.wait(PATIENCE).success(), "{signal}");
    }
    assert_eq!(keys[0], keys[1], "keys are made once");
    assert_eq!(keys[0].as_array().unwrap().len(), 1);
    let log = std::fs::read_to_string(data.join("postgres.log")).unwrap_or_default();
    assert!(!log.contains("PANIC"), "{log}");
}
