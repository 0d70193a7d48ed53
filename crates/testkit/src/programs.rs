//! Programs of this workspace, built when first asked for.

use std::collections::HashMap;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::sync::{Mutex, PoisonError};

/// The path of a binary of the workspace (`plimsoll`, `paper-broker`), built once per process with the profile and the
/// target folder of the running test.
///
/// # Panics
/// When there is no such binary or it does not compile.
pub fn program(name: &str) -> PathBuf {
    let package = match name {
        "plimsoll" => "plimsoll-server",
        "paper-broker" => "plimsoll-paper-broker",
        other => panic!("no package is known for the program {other}"),
    };
    built(&["-p", package, "--bin", name], Path::new(name))
}

/// The path of an example of a package, built with exactly the given features.
///
/// # Panics
/// When there is no such example or it does not compile.
pub fn example(package: &str, name: &str, features: &str) -> PathBuf {
    built(
        &["-p", package, "--example", name, "--no-default-features", "--features", features],
        &Path::new("examples").join(name),
    )
}

/// Runs `cargo build` with `arguments` and gives the path of what it made, which is `file` below the profile's folder.
fn built(arguments: &[&str], file: &Path) -> PathBuf {
    static BUILT: Mutex<Option<HashMap<String, PathBuf>>> = Mutex::new(None);
    // held while building: two threads that want the same program wait for one build
    let mut built = BUILT.lock().unwrap_or_else(PoisonError::into_inner);
    let built = built.get_or_insert_default();
    let key = arguments.join(" ");
    if let Some(path) = built.get(&key) {
        return path.clone();
    }
    // <target>/<profile>/deps/<test>-<hash>
    let test = std::env::current_exe().expect("the path of this test");
    let profile = test.parent().and_then(Path::parent).expect("a test lies in <target>/<profile>/deps");
    let target = profile.parent().expect("a profile's folder lies in the target folder");
    let mut command = cargo();
    command
        .current_dir(env!("CARGO_MANIFEST_DIR"))
        .arg("build")
        .args(arguments)
        .arg("--target-dir")
        .arg(target);
    match profile.file_name().and_then(|name| name.to_str()) {
        Some("debug") | None => {}
        Some(name) => {
            command.args(["--profile", name]);
        }
    }
    let output = command.stdin(Stdio::null()).output().expect("running cargo");
    assert!(output.status.success(), "cargo build {key}:\n{}", String::from_utf8_lossy(&output.stderr));
    let path = profile.join(file);
    assert!(path.is_file(), "cargo build {key} made no {}", path.display());
    built.insert(key, path.clone());
    path
}

#[expect(clippy::disallowed_methods, reason = "cargo tells the programs it runs where it is")]
fn cargo() -> Command {
    Command::new(std::env::var_os("CARGO").unwrap_or_else(|| "cargo".into()))
}
