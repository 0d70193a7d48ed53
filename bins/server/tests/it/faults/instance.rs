//! One `plimsoll serve`, behind a proxy of its own.

use std::fs::{self, File};
use std::path::{Path, PathBuf};
use std::process::{Command, ExitStatus};
use std::time::Duration;

use nix::sys::signal::Signal;
use plimsoll_testkit::{ChildGuard, free_port};

use super::proxy::Proxy;
use super::world::{PATIENCE, until};

/// A server that was started, and is perhaps not running any more.
pub(crate) struct Instance {
    pub(crate) name: String,
    pub(crate) url: String,
    /// Between it and the database.
    pub(crate) proxy: Proxy,
    pub(super) log: PathBuf,
    child: Option<ChildGuard>,
    frozen: bool,
    bind: String,
    folder: PathBuf,
    settings: Vec<(String, String)>,
    http: reqwest::Client,
    /// When it had just become ready.
    baseline: Option<Figures>,
}

/// What a process holds.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Figures {
    pub(crate) threads: usize,
    pub(crate) files: usize,
    pub(crate) resident_kib: usize,
}

/// What may be more than when it had just become ready: pools that have grown, their threads, caches.
const MAY_GROW: Figures = Figures { threads: 48, files: 60, resident_kib: 96 * 1024 };

impl Instance {
    pub(super) fn new(
        name: &str,
        folder: &Path,
        database: &str,
        settings: Vec<(String, String)>,
        http: reqwest::Client,
    ) -> Self {
        let bind = format!("127.0.0.1:{}", free_port());
        Self {
            name: name.to_owned(),
            url: format!("http://{bind}"),
            proxy: Proxy::start(database),
            log: folder.join(format!("{name}.log")),
            child: None,
            frozen: false,
            bind,
            folder: folder.to_owned(),
            settings,
            http,
            baseline: None,
        }
    }

    /// A command of the program with this server's settings.
    pub(crate) fn command(&self) -> Command {
        let mut command = Command::new(env!("CARGO_BIN_EXE_plimsoll"));
        command.env_clear().env("PATH", "/usr/bin:/bin").env("TMPDIR", std::env::temp_dir());
        command.current_dir(&self.folder).stdin(std::process::Stdio::null());
        command.env("DATA_DIR", self.folder.join(&self.name)).env("DATABASE_URL", &self.proxy.url);
        command.envs(self.settings.iter().map(|(name, value)| (name.as_str(), value.as_str())));
        command
    }

    /// Starts it, or starts it again, and does not wait. It writes on where its log ended.
    pub(crate) fn spawn(&mut self) {
        let mut command = self.command();
        let log = File::options().create(true).append(true).open(&self.log).unwrap();
        command.args(["serve", "--bind", &self.bind]).stderr(log);
        self.child = Some(ChildGuard::spawn(command));
        (self.frozen, self.baseline) = (false, None);
    }

    /// Waits until it serves.
    pub(crate) async fn ready(&mut self) {
        until("the server is ready", async || self.is_ready().await).await;
        self.baseline = Some(self.figures());
    }

    /// Starts it again and waits until it serves.
    pub(crate) async fn restart(&mut self) {
        self.spawn();
        self.ready().await;
    }

    pub(crate) async fn is_ready(&self) -> bool {
        self.probe("ready").await == Some(200)
    }

    /// The status of `/health/<what>`; `None` without an answer.
    pub(crate) async fn probe(&self, what: &str) -> Option<u16> {
        let asked = self.http.get(format!("{}/health/{what}", self.url)).send().await;
        asked.ok().map(|answer| answer.status().as_u16())
    }

    fn child(&mut self) -> &mut ChildGuard {
        self.child.as_mut().expect("a server that was started")
    }

    /// Its process's id.
    pub(crate) fn pid(&self) -> u32 {
        self.child.as_ref().expect("a server that was started").id()
    }

    /// Ends it at once.
    pub(crate) fn kill(&mut self) {
        self.child().kill();
        self.child = None;
    }

    /// Waits for the end of a process that was killed by something else.
    pub(crate) fn wait(&mut self) -> ExitStatus {
        let status = self.child().wait(PATIENCE);
        self.child = None;
        status
    }

    /// Asks it to end, and waits.
    pub(crate) fn stop(&mut self) -> ExitStatus {
        self.thaw();
        let status = self.child().terminate(PATIENCE);
        self.child = None;
        status
    }

    /// Stops it in its tracks.
    pub(crate) fn freeze(&mut self) {
        self.child().signal(Signal::SIGSTOP);
        self.frozen = true;
    }

    /// Something else has stopped it.
    pub(crate) fn is_frozen(&mut self) {
        self.frozen = true;
    }

    /// Lets it go on; does nothing to one that runs.
    pub(crate) fn thaw(&mut self) {
        self.child().signal(Signal::SIGCONT);
        self.frozen = false;
    }

    /// Whether its process is there and moves.
    pub(crate) fn runs(&self) -> bool {
        self.child.is_some() && !self.frozen
    }

    /// What it has written so far.
    pub(crate) fn log(&self) -> String {
        fs::read_to_string(&self.log).unwrap_or_default()
    }

    pub(crate) fn figures(&self) -> Figures {
        let folder = PathBuf::from(format!("/proc/{}", self.pid()));
        let entries = |name: &str| fs::read_dir(folder.join(name)).unwrap().count();
        let status = fs::read_to_string(folder.join("status")).unwrap();
        let line = status.lines().find(|line| line.starts_with("VmRSS:")).unwrap();
        let resident_kib = line.split_whitespace().nth(1).unwrap().parse().unwrap();
        Figures { threads: entries("task"), files: entries("fd"), resident_kib }
    }

    /// What it holds beyond what it may; `None` when it does not.
    pub(super) fn excess(&self) -> Option<String> {
        let (before, now) = (self.baseline?, self.figures());
        let within = now.threads <= before.threads + MAY_GROW.threads
            && now.files <= before.files + MAY_GROW.files
            && now.resident_kib <= before.resident_kib + MAY_GROW.resident_kib;
        (!within).then(|| format!("{} holds {now:?}, after {before:?} at its start", self.name))
    }
}

/// A moment in which nothing is expected to happen.
pub(crate) async fn pause(time: Duration) {
    tokio::time::sleep(time).await;
}
