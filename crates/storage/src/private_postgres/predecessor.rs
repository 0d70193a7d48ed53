//! The server that a killed process may have left behind.

use std::fs;
use std::path::Path;
use std::process::{Command, Stdio};
use std::thread;
use std::time::{Duration, Instant};

use nix::errno::Errno;
use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;

use super::error::{StartError, io};

/// How long an old server may take to stop.
pub(super) const PATIENCE: Duration = Duration::from_secs(30);
/// When a polite SIGINT becomes a SIGQUIT (the next start then recovers from the log).
const POLITE: Duration = Duration::from_secs(10);

/// Waits until no server and none of its children uses `cluster` any more, ending it if need be. Only call this while
/// holding the lock of the data folder: whoever still runs there is then nobody's.
pub(super) fn clear(cluster: &Path, patience: Duration) -> Result<(), StartError> {
    let start = Instant::now();
    let (mut asked, mut told) = (false, false);
    loop {
        let Some(pid) = postmaster(cluster) else { return Ok(()) };
        if !is_alive(pid) {
            // PostgreSQL itself replaces the file, after a check for children that still hold the shared memory
            return Ok(());
        }
        if !works_in(pid, cluster) {
            if !anyone_works_in(cluster) {
                // the number went to another process: the file would keep PostgreSQL from starting for ever
                let file = cluster.join("postmaster.pid");
                return match fs::remove_file(&file) {
                    Err(error) if error.kind() != std::io::ErrorKind::NotFound => {
                        Err(io(format!("removing {}", file.display()))(error))
                    }
                    _ => Ok(()),
                };
            }
        } else if !asked {
            tracing::info!(pid, "stopping the PostgreSQL server that an earlier process left behind");
            send(pid, Signal::SIGINT);
            asked = true;
        } else if !told && start.elapsed() >= POLITE.min(patience / 2) {
            send(pid, Signal::SIGQUIT);
            told = true;
        }
        if start.elapsed() >= patience {
            return Err(StartError::OldServerStays { cluster: cluster.to_owned(), pid });
        }
        thread::sleep(Duration::from_millis(20));
    }
}

/// The process in the cluster's `postmaster.pid`, which a server keeps while it runs.
pub(super) fn postmaster(cluster: &Path) -> Option<u32> {
    let text = fs::read_to_string(cluster.join("postmaster.pid")).ok()?;
    // a negative number marks a stand-alone backend, such as one of initdb
    text.lines()
        .next()?
        .trim()
        .parse::<i64>()
        .ok()
        .map(i64::unsigned_abs)
        .and_then(|pid| u32::try_from(pid).ok())
}

/// Sends a signal to the postmaster of `cluster`, if one runs there.
pub(super) fn signal_postmaster(cluster: &Path, signal: Signal) {
    if let Some(pid) = postmaster(cluster).filter(|pid| is_alive(*pid) && works_in(*pid, cluster)) {
        send(pid, signal);
    }
}

fn send(pid: u32, signal: Signal) {
    if let Ok(pid) = i32::try_from(pid) {
        // it may be gone by now, and that is what was wanted
        let _ = kill(Pid::from_raw(pid), signal);
    }
}

fn is_alive(pid: u32) -> bool {
    let Ok(pid) = i32::try_from(pid) else { return false };
    pid > 0 && !matches!(kill(Pid::from_raw(pid), None), Err(Errno::ESRCH))
}

/// Whether `pid` is a process of the server of `cluster`: every one of them has its working folder there.
fn works_in(pid: u32, cluster: &Path) -> bool {
    if Path::new("/proc/self/cwd").exists() {
        return fs::read_link(format!("/proc/{pid}/cwd")).is_ok_and(|folder| folder == cluster);
    }
    let output =
        Command::new("ps").args(["-o", "command=", "-p", &pid.to_string()]).stdin(Stdio::null()).output();
    output.is_ok_and(|output| {
        let line = String::from_utf8_lossy(&output.stdout);
        line.contains("postgres") && line.contains(&*cluster.to_string_lossy())
    })
}

fn anyone_works_in(cluster: &Path) -> bool {
    let pids = fs::read_dir("/proc").into_iter().flatten().flatten();
    pids.filter_map(|entry| entry.file_name().to_str()?.parse().ok()).any(|pid| works_in(pid, cluster))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn nothing_to_clear() {
        let cluster = tempfile::tempdir().unwrap();
        clear(cluster.path(), Duration::from_millis(50)).unwrap();
    }

    #[test]
    fn a_number_that_went_to_another_process_frees_the_folder() {
        let cluster = tempfile::tempdir().unwrap();
        let file = cluster.path().join("postmaster.pid");
        fs::write(&file, format!("{}\n{}\n", std::process::id(), cluster.path().display())).unwrap();
        clear(cluster.path(), Duration::from_millis(50)).unwrap();
        assert!(!file.exists());
    }

    #[test]
    fn the_file_of_a_dead_server_is_left_to_postgres() {
        let cluster = tempfile::tempdir().unwrap();
        let mut child = Command::new("/bin/true").spawn().unwrap();
        child.wait().unwrap();
        let file = cluster.path().join("postmaster.pid");
        fs::write(&file, format!("{}\n", child.id())).unwrap();
        clear(cluster.path(), Duration::from_millis(50)).unwrap();
        assert!(file.exists());
    }

    #[test]
    fn an_old_server_is_asked_and_then_told_to_stop() {
        let cluster = tempfile::tempdir().unwrap();
        let folder = fs::canonicalize(cluster.path()).unwrap();
        // deaf to SIGINT as a server that is busy stopping; the shell ends at SIGQUIT
        // (a shell cannot trap what its parent ignored, as a background job's parent does)
        let mut child = Command::new("/usr/bin/env")
            .args(["--default-signal=INT,QUIT", "/bin/sh", "-c"])
            .arg("trap '' INT; trap 'exit 3' QUIT; : >ready; while :; do sleep 0.05; done")
            .current_dir(&folder)
            .spawn()
            .unwrap();
        fs::write(folder.join("postmaster.pid"), format!("{}\n", child.id())).unwrap();
        while !folder.join("ready").exists() {
            thread::sleep(Duration::from_millis(10));
        }
        let waiter = thread::spawn(move || child.wait().unwrap().code());
        clear(&folder, Duration::from_secs(10)).unwrap();
        assert_eq!(waiter.join().unwrap(), Some(3));
    }

    #[test]
    fn one_that_stays_is_an_error() {
        let cluster = tempfile::tempdir().unwrap();
        let folder = fs::canonicalize(cluster.path()).unwrap();
        let mut child = Command::new("/bin/sh")
            .args(["-c", "trap '' INT QUIT; while :; do sleep 0.05; done"])
            .current_dir(&folder)
            .spawn()
            .unwrap();
        fs::write(folder.join("postmaster.pid"), format!("{}\n", child.id())).unwrap();
        thread::sleep(Duration::from_millis(100));
        let error = clear(&folder, Duration::from_millis(300)).unwrap_err();
        assert!(matches!(error, StartError::OldServerStays { pid, .. } if pid == child.id()), "{error}");
        child.kill().unwrap();
        child.wait().unwrap();
    }
}
