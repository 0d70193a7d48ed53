//! Alpaca's own Python SDK, unchanged but for the URL.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Command, Output};

use plimsoll_testkit::{ChildGuard, TestDb};

use crate::support::program;

/// The version the sample payloads were checked with.
const WANTED: &str = "alpaca-py==0.44.0";
/// What serves as well, should that version be gone.
const OR_ELSE: &str = "alpaca-py>=0.43,<0.50";

#[test]
fn the_sdk_works_against_it() {
    let python = match python() {
        Ok(python) => python,
        Err(why) => {
            println!("SKIPPED: alpaca-py: {why}");
            return;
        }
    };
    let (db, folder) = (TestDb::paper(), tempfile::tempdir().unwrap());
    let mut command = program(folder.path());
    command.args(["--database-url", db.url(), "--fixed-price", "100", "--rate-limit", "off", "--json"]);
    let mut broker = ChildGuard::spawn(command);
    let started: serde_json::Value = serde_json::from_str(&broker.line(crate::support::PATIENCE)).unwrap();
    let text = |value: &serde_json::Value| value.as_str().unwrap().to_owned();
    let account = &started["accounts"][0];
    let script = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/alpaca_py/check.py");
    let mut check = Command::new(&python);
    check
        .arg("-B")
        .arg(script)
        .arg(text(&started["url"]))
        .arg(text(&account["api_key"]))
        .arg(text(&account["api_secret"]));
    let output = check.output().unwrap();
    let (out, err) = (String::from_utf8_lossy(&output.stdout), String::from_utf8_lossy(&output.stderr));
    assert!(output.status.success() && out.contains("ok: "), "{out}\n{err}");
    println!("{}", out.trim());
}

/// A Python that has the SDK: the workspace's `.venv`, else a virtual environment that is made below the target folder
/// and kept there.
fn python() -> Result<PathBuf, String> {
    let workspace = Path::new(env!("CARGO_MANIFEST_DIR")).join("../..");
    let ready = workspace.join(".venv/bin/python");
    if has_sdk(&ready) {
        return Ok(ready);
    }
    let target = Path::new(env!("CARGO_TARGET_TMPDIR")).to_owned();
    let folder = target.join("alpaca-py");
    let python = folder.join("bin/python");
    if has_sdk(&python) {
        return Ok(python);
    }
    fs::create_dir_all(&target).map_err(|error| error.to_string())?;
    run(Command::new("python3").args(["-m", "venv", "--clear"]).arg(&folder))?;
    let pip = |what: &str| {
        run(Command::new(&python).args(["-m", "pip", "install", "-q", "--disable-pip-version-check", what]))
    };
    if pip(WANTED).is_err() {
        pip(OR_ELSE)?;
    }
    has_sdk(&python).then_some(python).ok_or_else(|| "it was installed and cannot be imported".to_owned())
}

fn has_sdk(python: &Path) -> bool {
    Command::new(python)
        .args(["-c", "import alpaca.trading.stream"])
        .output()
        .is_ok_and(|output| output.status.success())
}

fn run(command: &mut Command) -> Result<Output, String> {
    let output = command.output().map_err(|error| format!("{}: {error}", command.get_program().display()))?;
    if output.status.success() {
        return Ok(output);
    }
    let text = String::from_utf8_lossy(&output.stderr);
    Err(text.lines().rfind(|line| !line.trim().is_empty()).unwrap_or("it failed without a word").to_owned())
}
