//! Where programs from outside are found.

use std::fs;
use std::io::Write as _;
use std::path::{Path, PathBuf};
use std::process::{Command, Output, Stdio};

/// The version the checks were written with.
const WANTED: &str = "pyotp==2.12.0";
/// What serves as well, should that version be gone.
const OR_ELSE: &str = "pyotp>=2.9,<3";

/// A Python that has pyotp: the workspace's `.venv`, else a virtual environment that is made below the target folder and
/// kept there.
pub(crate) fn python() -> Result<PathBuf, String> {
    let ready = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../.venv/bin/python");
    if has_pyotp(&ready) {
        return Ok(ready);
    }
    // tests of one program run side by side: the first makes it, the others wait
    static MADE: std::sync::OnceLock<Result<PathBuf, String>> = std::sync::OnceLock::new();
    MADE.get_or_init(make_environment).clone()
}

fn make_environment() -> Result<PathBuf, String> {
    let target = Path::new(env!("CARGO_TARGET_TMPDIR"));
    let folder = target.join("pyotp");
    let python = folder.join("bin/python");
    if has_pyotp(&python) {
        return Ok(python);
    }
    fs::create_dir_all(target).map_err(|error| error.to_string())?;
    run(Command::new("python3").args(["-m", "venv", "--clear"]).arg(&folder), b"")?;
    let pip = |what: &str| {
        run(
            Command::new(&python).args(["-m", "pip", "install", "-q", "--disable-pip-version-check", what]),
            b"",
        )
    };
    if pip(WANTED).is_err() {
        pip(OR_ELSE)?;
    }
    has_pyotp(&python).then_some(python).ok_or_else(|| "it was installed and cannot be imported".to_owned())
}

fn has_pyotp(python: &Path) -> bool {
    Command::new(python).args(["-c", "import pyotp"]).output().is_ok_and(|output| output.status.success())
}

/// What a program prints, given `input`; the last line of its complaints when it fails.
pub(crate) fn run(command: &mut Command, input: &[u8]) -> Result<Output, String> {
    let fail = |error: std::io::Error| error.to_string();
    let mut child = command
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .map_err(|error| format!("{}: {error}", command.get_program().display()))?;
    let mut stdin = child.stdin.take().expect("it was asked for");
    let input = input.to_owned();
    // beside reading what it prints, or both sides could wait for each other
    let writer = std::thread::spawn(move || stdin.write_all(&input));
    let output = child.wait_with_output().map_err(fail)?;
    let written = writer.join().expect("writing does not panic");
    if output.status.success() {
        return written.map_err(fail).map(|()| output);
    }
    let text = String::from_utf8_lossy(&output.stderr);
    Err(text.lines().rfind(|line| !line.trim().is_empty()).unwrap_or("it failed without a word").to_owned())
}
