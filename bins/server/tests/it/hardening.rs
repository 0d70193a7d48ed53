//! What other processes see of one that holds keys.

use std::fs;
use std::io::Write;
use std::os::unix::fs::{MetadataExt, PermissionsExt};
use std::os::unix::process::CommandExt;
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use nix::unistd::{User, geteuid};
use plimsoll_testkit::program;

const PATIENCE: Duration = Duration::from_secs(30);

/// The account that the process runs as: never root, since root's processes are root's either way.
fn account() -> (u32, u32) {
    if !geteuid().is_root() {
        return (geteuid().as_raw(), nix::unistd::getegid().as_raw());
    }
    let nobody = User::from_name("nobody").unwrap().expect("an account of nobody");
    (nobody.uid.as_raw(), nobody.gid.as_raw())
}

/// A process that has read its settings and waits for a password on its standard input.
fn waiting(folder: &Path, profile: &str) -> Child {
    // a copy that the account can reach
    let copy = folder.join("plimsoll");
    fs::copy(program("plimsoll"), &copy).unwrap();
    let (uid, gid) = account();
    let mut command = Command::new(copy);
    command.env_clear().current_dir(folder).stdin(Stdio::piped()).stdout(Stdio::null()).stderr(Stdio::null());
    command.args(["user", "create-admin", "ann@example.com"]).env("PROFILE", profile);
    command
        .env("DATABASE_URL", "postgresql://nobody@127.0.0.1:1/none")
        .env("PUBLIC_URL", "https://example.com");
    command.env("ENCRYPTION_KEY", "8f1c7a9d2e4b6053f1e2d3c4b5a697887766554433221100ffeeddccbbaa9988");
    command.env("WEBHOOK_SECRET", "a long secret of this test alone 4711");
    if geteuid().is_root() {
        command.uid(uid).gid(gid);
    }
    command.spawn().unwrap()
}

/// Soft and hard limit of core dumps.
fn core_limits(pid: u32) -> Vec<String> {
    let limits = fs::read_to_string(format!("/proc/{pid}/limits")).unwrap_or_default();
    let line = limits.lines().find(|line| line.starts_with("Max core file size")).unwrap_or_default();
    line.split_whitespace().skip(4).take(2).map(str::to_owned).collect()
}

/// Whose the kernel says the process's files are: root's when its memory is nobody's business.
fn owner(pid: u32) -> u32 {
    fs::metadata(format!("/proc/{pid}/environ")).unwrap().uid()
}

fn sleeps(child: &mut Child) -> bool {
    assert_eq!(child.try_wait().unwrap(), None, "it ended");
    let status = fs::read_to_string(format!("/proc/{}/status", child.id())).unwrap();
    status.lines().any(|line| line.starts_with("State:") && line.contains('S'))
}

/// Such a process once it has slept for half a second: it waits for its input.
fn settled(folder: &Path, profile: &str) -> Child {
    let mut child = waiting(folder, profile);
    let deadline = Instant::now() + PATIENCE;
    let mut slept = 0;
    while slept < 10 {
        assert!(Instant::now() < deadline, "it does not wait for a password");
        std::thread::sleep(Duration::from_millis(50));
        slept = if sleeps(&mut child) { slept + 1 } else { 0 };
    }
    child
}

/// ENC-12: outside development there is no core dump, and no other process of the account reads the memory.
#[test]
fn memory_is_nobody_elses_outside_development() {
    let folder = tempfile::tempdir().unwrap();
    fs::set_permissions(folder.path(), fs::Permissions::from_mode(0o755)).unwrap();
    let mut production = settled(folder.path(), "production");
    let pid = production.id();
    assert_eq!((core_limits(pid), owner(pid)), (vec!["0".to_owned(), "0".to_owned()], 0));
    // it did wait for a password
    production.stdin.take().unwrap().write_all(b"\n").unwrap();
    assert_eq!(production.wait().unwrap().code(), Some(1));

    let mut development = settled(folder.path(), "development");
    assert_eq!(owner(development.id()), account().0, "a developer may attach a debugger");
    development.kill().unwrap();
    development.wait().unwrap();
}
