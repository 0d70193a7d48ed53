//! The program's configuration: each mistake is told in a line, ends with 2, and opens nothing.

use std::fs;
use std::path::Path;
use std::process::{Command, Output, Stdio};

use plimsoll_testkit::program;
use serde_json::Value;
use tempfile::TempDir;

/// The program in a folder of its own, without any setting from outside.
pub(crate) fn plimsoll(folder: &Path) -> Command {
    let mut command = Command::new(program("plimsoll"));
    command.env_clear().env("PATH", "/usr/bin:/bin").env("TMPDIR", std::env::temp_dir());
    command.current_dir(folder).stdin(Stdio::null());
    command
}

pub(crate) fn stderr(output: &Output) -> String {
    String::from_utf8_lossy(&output.stderr).into_owned()
}

pub(crate) fn stdout(output: &Output) -> String {
    String::from_utf8_lossy(&output.stdout).into_owned()
}

fn folder() -> TempDir {
    tempfile::tempdir().unwrap()
}

/// Starts a server with these variables, which must refuse them in one line with all of `words`, and make nothing.
#[track_caller]
fn refused(variables: &[(&str, &str)], words: &[&str]) {
    let folder = folder();
    let output = plimsoll(folder.path()).arg("serve").envs(variables.iter().copied()).output().unwrap();
    let text = stderr(&output);
    assert_eq!(output.status.code(), Some(2), "{text}");
    assert_eq!(text.lines().count(), 1, "{text}");
    for word in words {
        assert!(text.contains(word), "{text} lacks {word}");
    }
    assert_eq!(fs::read_dir(folder.path()).unwrap().count(), 0, "something was made before the refusal");
}

#[test]
fn each_bad_setting_is_one_line_and_exit_code_2() {
    refused(&[("PLIMSOLL_BIND_ADRR", "x")], &["PLIMSOLL_BIND_ADRR", "did you mean BIND_ADDR?"]);
    refused(&[("BIND_ADDR", "localhost")], &["BIND_ADDR", "127.0.0.1:8080"]);
    refused(&[("BIND_ADDR", "0.0.0.0:8080")], &["BIND_ADDR", "loopback only"]);
    refused(&[("SHUTDOWN_TIMEOUT", "soon")], &["SHUTDOWN_TIMEOUT", "90s, 15m or 48h"]);
    refused(&[("ENCRYPTION_KEY", "too short")], &["ENCRYPTION_KEY"]);
    refused(&[("ENCRYPTION_KEY_FILE", "/no/such/file")], &["ENCRYPTION_KEY", "/no/such/file"]);
    refused(&[("ALPACA_API_KEY", "PKX")], &["ALPACA_API_KEY", "ALPACA_API_SECRET"]);
    refused(&[("RATE_LIMIT_ORDERS", "lots")], &["RATE_LIMIT_ORDERS", "50/s,200"]);
    refused(&[("ARGON2_ITERATIONS", "1"), ("ARGON2_MEMORY_KIB", "1024")], &["ARGON2_MEMORY_KIB"]);
    refused(&[("PROFILE", "test")], &["PROFILE", "development or production"]);
    refused(&[("LOG_FORMAT", "xml")], &["LOG_FORMAT", "pretty or json"]);
    refused(&[("PAPER_FIXED_PRICE", "-1")], &["PAPER_FIXED_PRICE"]);
    refused(&[("DATABASE_URL", "sqlite:x"), ("PROFILE", "development")], &["DATABASE_URL", "postgresql://"]);
}

#[test]
fn production_names_all_that_it_lacks_at_once() {
    let folder = folder();
    let output = plimsoll(folder.path()).arg("serve").env("PROFILE", "production").output().unwrap();
    assert_eq!(output.status.code(), Some(2));
    let text = stderr(&output);
    for name in ["ENCRYPTION_KEY", "WEBHOOK_SECRET", "PUBLIC_URL", "DATABASE_URL"] {
        assert!(text.lines().any(|line| line.contains(name)), "{text} lacks {name}");
    }
    assert_eq!(text.lines().count(), 4, "{text}");
}

#[test]
fn the_file_in_the_working_folder_is_read() {
    let folder = folder();
    fs::write(folder.path().join("plimsoll.toml"), "log_levle = \"info\"").unwrap();
    let output = plimsoll(folder.path()).arg("serve").output().unwrap();
    assert_eq!(output.status.code(), Some(2));
    assert!(stderr(&output).contains("plimsoll.toml") && stderr(&output).contains("LOG_LEVEL"));

    fs::write(folder.path().join("plimsoll.toml"), "SESSION_IDLE = \"10m\"").unwrap();
    let shown = plimsoll(folder.path()).args(["config", "show"]).output().unwrap();
    assert!(
        stdout(&shown).contains("SESSION_IDLE = 10m  (configuration file plimsoll.toml)"),
        "{}",
        stdout(&shown)
    );
}

#[test]
fn check_says_everything_and_show_keeps_secrets() {
    let folder = folder();
    let secret = "hQm0T5dPjmbF2C8NKJcxvJmzY0XHc1q7c1oXv4Q1pF0=";
    let mut check = plimsoll(folder.path());
    check
        .args(["config", "check", "--json"])
        .env("ENCRYPTION_KEY", secret)
        .env("WEBHOOK_USER", "ann@example.com");
    let output = check.output().unwrap();
    assert_eq!(output.status.code(), Some(0));
    let report: Value = serde_json::from_slice(&output.stdout).unwrap();
    assert_eq!(report["verdict"], "warnings");
    assert_eq!(report["warnings"][0]["setting"], "WEBHOOK_USER");
    assert_eq!(report["information"][0]["setting"], "ENCRYPTION_KEY");

    let mut show = plimsoll(folder.path());
    let output = show.args(["config", "show", "--json"]).env("ENCRYPTION_KEY", secret).output().unwrap();
    let text = stdout(&output);
    assert!(!text.contains(secret));
    let shown: Vec<Value> = serde_json::from_str(&text).unwrap();
    let of = |name: &str| shown.iter().find(|it| it["name"] == name).unwrap().clone();
    assert_eq!(of("ENCRYPTION_KEY")["value"], "***");
    assert_eq!(of("ENCRYPTION_KEY")["origin"], "environment variable ENCRYPTION_KEY");
    assert_eq!(of("PROFILE")["value"], "development");
    assert_eq!(of("shutdown_total")["value"], "25s");
    assert_eq!(of("DATABASE_URL")["value"], Value::Null);

    let mut bad = plimsoll(folder.path());
    let output = bad.args(["config", "check", "--bind", "nowhere"]).output().unwrap();
    assert_eq!(output.status.code(), Some(2));
    assert!(stdout(&output).contains("error: BIND_ADDR (flag --bind)"), "{}", stdout(&output));
}
