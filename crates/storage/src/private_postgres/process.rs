//! The server's process: started under a watching shell, restarted when it dies, ended with us.

use std::fs::{self, File};
use std::io::{Read, Seek, SeekFrom};
use std::os::unix::fs::OpenOptionsExt;
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::{Child, ChildStdin, ExitStatus, Stdio};
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::thread;
use std::time::{Duration, Instant};

use nix::sys::signal::Signal;

use super::account::Account;
use super::cluster::Cluster;
use super::error::{StartError, io};
use super::predecessor;
use super::programs::Programs;

/// Starts the server and then waits for either of two ends: the server's own, or ours. Our end closes the pipe on
/// descriptor 3 (also by SIGKILL), which stops the server quickly and cleanly (SIGINT: fast shutdown).
/// Arguments: socket folder, folder to remove afterwards (may be empty), the server's command line.
const WATCH: &str = r#"sock=$1; trash=$2; shift 2
exec 3<&0 </dev/null
"$@" 3<&- & server=$!
trap '' INT TERM HUP
( read -r _ <&3; kill -INT "$server" ) & watcher=$!
exec 3<&-
wait "$server"; status=$?
kill -KILL "$watcher" 2>/dev/null
[ -z "$trash" ] || rm -rf "$trash"
rmdir "$sock" 2>/dev/null
exit "$status""#;

const LOG_LIMIT: u64 = 10 * 1024 * 1024;
const FIRST_PAUSE: Duration = Duration::from_millis(250);
const LONGEST_PAUSE: Duration = Duration::from_secs(10);
/// A server that ran this long had started well, so the next pause is short again.
const STEADY: Duration = Duration::from_secs(60);
/// What is left for a SIGQUIT to work after a stop's deadline.
const LAST_WAIT: Duration = Duration::from_secs(2);

/// All that a start needs; the same for each restart.
#[derive(Clone, Debug)]
pub(super) struct Launch {
    pub(super) programs: Programs,
    pub(super) account: Account,
    pub(super) cluster: Cluster,
    pub(super) settings: Vec<(String, String)>,
    pub(super) log: PathBuf,
    /// Removed when the server has ended.
    pub(super) trash: Option<PathBuf>,
}

impl Launch {
    fn spawn(&self) -> Result<Child, StartError> {
        super::place::make_socket_folder(&self.cluster.socket, self.account)?;
        let log = self.open_log().map_err(io(format!("opening {}", self.log.display())))?;
        let mut command = self.account.command(Path::new("/bin/sh"));
        command.args(["-c", WATCH, "sh"]).arg(&self.cluster.socket);
        command.arg(self.trash.as_deref().unwrap_or(Path::new("")));
        command.arg(self.programs.bin.join("postgres")).arg("-D").arg(&self.cluster.data);
        command.arg("-k").arg(&self.cluster.socket);
        for (name, value) in &self.settings {
            command.arg("-c").arg(format!("{name}={value}"));
        }
        command
            .process_group(0) // a ^C at the terminal is for us; we stop the server last
            .stdin(Stdio::piped())
            .stdout(Stdio::null())
            .stderr(Stdio::from(log))
            .spawn()
            .map_err(io("starting PostgreSQL"))
    }

    fn open_log(&self) -> std::io::Result<File> {
        if fs::metadata(&self.log).is_ok_and(|log| log.len() > LOG_LIMIT) {
            fs::rename(&self.log, self.log.with_extension("log.1"))?;
        }
        File::options().append(true).create(true).mode(0o600).open(&self.log)
    }

    fn log_length(&self) -> u64 {
        fs::metadata(&self.log).map_or(0, |log| log.len())
    }

    /// Why the server ended, from what it logged after `from`.
    fn last_words(&self, from: u64) -> String {
        let mut text = Vec::new();
        if let Ok(mut log) = File::open(&self.log) {
            let from = if self.log_length() < from { 0 } else { from };
            let _ = log.seek(SeekFrom::Start(from)).and_then(|_| log.take(1 << 20).read_to_end(&mut text));
        }
        reason(&String::from_utf8_lossy(&text))
    }

    /// Starts the server and waits until it answers.
    fn start(&self, patience: Duration) -> Result<Child, StartError> {
        let began = Instant::now();
        loop {
            predecessor::clear(&self.cluster.data, predecessor::PATIENCE)?;
            let from = self.log_length();
            let mut child = self.spawn()?;
            match self.await_answer(&mut child, began + patience) {
                Ok(()) => return Ok(child),
                Err(ended) => {
                    let reason = match ended {
                        Some(_) => self.last_words(from),
                        None => format!("it did not answer within {} s", patience.as_secs()),
                    };
                    drop(child.stdin.take());
                    let _ = child.wait();
                    let held = reason.contains("lock file") || reason.contains("pre-existing shared memory");
                    if !held || began.elapsed() >= predecessor::PATIENCE {
                        return Err(StartError::ServerFailed { reason, log: self.log.clone() });
                    }
                    thread::sleep(Duration::from_millis(200));
                }
            }
        }
    }

    /// `Err(Some(status))`: the server ended; `Err(None)`: the deadline passed.
    fn await_answer(&self, child: &mut Child, deadline: Instant) -> Result<(), Option<ExitStatus>> {
        loop {
            // the socket appears late, so this costs nothing until then; a server in recovery refuses
            if self.cluster.socket.join(".s.PGSQL.5432").exists() && self.cluster.connect("postgres").is_ok()
            {
                return Ok(());
            }
            if let Ok(Some(status)) = child.try_wait() {
                return Err(Some(status));
            }
            if Instant::now() >= deadline {
                return Err(None);
            }
            thread::sleep(Duration::from_millis(10));
        }
    }
}

/// The last complaint in a piece of the server's log.
fn reason(log: &str) -> String {
    let serious = log.lines().rev().find_map(|line| {
        ["FATAL:", "PANIC:", "ERROR:"]
            .iter()
            .find_map(|level| line.split_once(level).map(|(_, text)| text.trim()))
    });
    let last = || log.lines().rev().map(str::trim).find(|line| !line.is_empty());
    serious.or_else(last).unwrap_or("it ended without a word").to_owned()
}

/// Keeps the server running until it is stopped.
#[derive(Debug)]
pub(super) struct Supervisor {
    shared: Arc<Shared>,
    cluster: PathBuf,
}

#[derive(Debug, Default)]
struct Shared {
    state: Mutex<State>,
    changed: Condvar,
}

#[derive(Debug, Default)]
struct State {
    /// Our end of the watcher's pipe: closing it stops the server.
    pipe: Option<ChildStdin>,
    stopping: bool,
    ended: bool,
    restarts: u64,
}

impl Shared {
    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Waits until `done` or until `time` has passed; says whether `done`.
    fn wait_until(&self, time: Duration, done: impl Fn(&State) -> bool) -> bool {
        let waited = self.changed.wait_timeout_while(self.lock(), time, |state| !done(state));
        let (state, _) = waited.unwrap_or_else(PoisonError::into_inner);
        done(&state)
    }
}

impl Supervisor {
    /// Starts the server, waits until it answers, and keeps it running from then on.
    pub(super) fn start(launch: Launch, patience: Duration) -> Result<Self, StartError> {
        let mut child = launch.start(patience)?;
        let shared = Arc::new(Shared::default());
        shared.lock().pipe = child.stdin.take();
        let supervisor = Self { shared: Arc::clone(&shared), cluster: launch.cluster.data.clone() };
        thread::Builder::new()
            .name("postgres-supervisor".to_owned())
            .spawn(move || supervise(&launch, child, &shared))
            .map_err(io("starting a thread"))?;
        Ok(supervisor)
    }

    /// How often the server had to be started again.
    pub(super) fn restarts(&self) -> u64 {
        self.shared.lock().restarts
    }

    /// Stops the server: cleanly within `deadline`, else the hard way. Says whether it ended cleanly. Repeatable.
    pub(super) fn stop(&self, deadline: Duration) -> bool {
        let pipe = {
            let mut state = self.shared.lock();
            state.stopping = true;
            state.pipe.take()
        };
        self.shared.changed.notify_all();
        drop(pipe);
        if self.shared.wait_until(deadline, |state| state.ended) {
            return true;
        }
        tracing::warn!(
            "PostgreSQL did not stop in time and is told to leave everything; its next start will recover"
        );
        predecessor::signal_postmaster(&self.cluster, Signal::SIGQUIT);
        self.shared.wait_until(LAST_WAIT, |state| state.ended);
        false
    }
}

fn supervise(launch: &Launch, mut child: Child, shared: &Shared) {
    let mut pause = FIRST_PAUSE;
    loop {
        let began = Instant::now();
        let status = child.wait();
        if shared.lock().stopping {
            break;
        }
        if began.elapsed() >= STEADY {
            pause = FIRST_PAUSE;
        }
        let next = loop {
            tracing::error!(
                status = status.as_ref().map_or_else(ToString::to_string, ToString::to_string),
                reason = launch.last_words(launch.log_length().saturating_sub(4096)),
                pause_ms = u64::try_from(pause.as_millis()).unwrap_or(u64::MAX),
                "PostgreSQL has ended by itself and is started again"
            );
            if shared.wait_until(pause, |state| state.stopping) {
                break None;
            }
            pause = (pause * 2).min(LONGEST_PAUSE);
            match predecessor::clear(&launch.cluster.data, predecessor::PATIENCE)
                .and_then(|()| launch.spawn())
            {
                Ok(next) => break Some(next),
                Err(error) => tracing::error!(%error, "PostgreSQL could not be started again"),
            }
        };
        let Some(next) = next else { break };
        child = next;
        let mut state = shared.lock();
        state.restarts += 1;
        if state.stopping {
            drop(child.stdin.take());
        } else {
            state.pipe = child.stdin.take();
        }
    }
    shared.lock().ended = true;
    shared.changed.notify_all();
}

#[cfg(test)]
mod tests {
    use super::reason;

    #[test]
    fn the_reason_is_the_last_complaint() {
        let log = "2026-11-24 [1] LOG:  starting PostgreSQL\n\
                   2026-11-24 [1] FATAL:  lock file \"postmaster.pid\" already exists\n\
                   2026-11-24 [1] HINT:  Is another postmaster running?\n";
        assert_eq!(reason(log), "lock file \"postmaster.pid\" already exists");
        assert_eq!(reason("sh: 1: postgres: not found\n\n"), "sh: 1: postgres: not found");
        assert_eq!(reason(""), "it ended without a word");
    }
}
