//! The receiver, in a process of its own: Python's `standardwebhooks` verifies what it gets.

use std::io::Write;
use std::path::{Path, PathBuf};
use std::process::{Child, ChildStdin, Command, Stdio};
use std::sync::mpsc::{self, Receiver as Lines};
use std::time::Duration;

use serde_json::Value;

/// Longest wait for one message.
const WITHIN: Duration = Duration::from_secs(60);

pub(super) fn data(name: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/data").join(name)
}

/// A Python that has standardwebhooks: that of ./test.
pub(super) fn python() -> Option<PathBuf> {
    let python = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../.venv/bin/python");
    let ready = Command::new(&python)
        .args(["-c", "import standardwebhooks"])
        .output()
        .is_ok_and(|ran| ran.status.success());
    if !ready {
        println!("SKIPPED: standardwebhooks is not in .venv (./test installs it)");
    }
    ready.then_some(python)
}

pub(super) struct Receiver {
    pub(super) port: u16,
    child: Child,
    lines: Lines<String>,
    stdin: ChildStdin,
}

impl Receiver {
    pub(super) fn start(python: &Path, tls: bool) -> Self {
        let mut command = Command::new(python);
        command.arg(data("webhooks/receiver.py")).args(tls.then_some("tls"));
        let mut child = command.stdin(Stdio::piped()).stdout(Stdio::piped()).spawn().unwrap();
        let (stdin, stdout) = (child.stdin.take().unwrap(), child.stdout.take().unwrap());
        let (sends, lines) = mpsc::channel();
        // Ends with the child's output.
        std::thread::spawn(move || {
            for line in std::io::BufRead::lines(std::io::BufReader::new(stdout)).map_while(Result::ok) {
                if sends.send(line).is_err() {
                    break;
                }
            }
        });
        let port = lines.recv_timeout(WITHIN).unwrap().parse().unwrap();
        Self { port, child, lines, stdin }
    }

    /// Verifies with this secret too, under the next number.
    pub(super) fn knows(&mut self, secret: &str) {
        writeln!(self.stdin, "{secret}").unwrap();
        let answer = self.next();
        assert!(answer["secrets"].is_number(), "{answer}");
    }

    /// The next message.
    pub(super) fn next(&self) -> Value {
        let line = self.lines.recv_timeout(WITHIN).expect("a message in time");
        serde_json::from_str(&line).unwrap()
    }

    /// The next message for a path; others are passed over.
    pub(super) fn next_at(&self, path: &str) -> Value {
        loop {
            let message = self.next();
            if message["path"] == path {
                return message;
            }
        }
    }
}

impl Drop for Receiver {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}
