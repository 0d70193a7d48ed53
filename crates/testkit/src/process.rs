//! Child processes that do not outlive their test.

use std::io::{BufRead, BufReader};
use std::net::TcpListener;
use std::process::{Child, Command, ExitStatus, Stdio};
use std::sync::mpsc::{Receiver, RecvTimeoutError, channel};
use std::thread;
use std::time::{Duration, Instant};

use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;

/// A TCP port of the loopback interface that was free a moment ago.
pub fn free_port() -> u16 {
    let listener = TcpListener::bind(("127.0.0.1", 0)).expect("a loopback port");
    listener.local_addr().expect("a bound address").port()
}

/// A child process that is killed, by its id, when this is dropped. Its standard output is read line by line.
#[derive(Debug)]
pub struct ChildGuard {
    child: Child,
    lines: Receiver<String>,
}

impl ChildGuard {
    /// Starts `command` with its standard output connected to [`line`](Self::line).
    ///
    /// # Panics
    /// When it cannot be started.
    pub fn spawn(mut command: Command) -> Self {
        let mut child =
            command.stdout(Stdio::piped()).spawn().unwrap_or_else(|error| panic!("{command:?}: {error}"));
        let stdout = child.stdout.take().expect("standard output is a pipe");
        let (sender, lines) = channel();
        thread::spawn(move || {
            // reads to the end in any case, or a full pipe would stop the child
            for line in BufReader::new(stdout).lines().map_while(Result::ok) {
                let _ = sender.send(line);
            }
        });
        Self { child, lines }
    }

    /// The process's id.
    pub fn id(&self) -> u32 {
        self.child.id()
    }

    /// The next line of its standard output.
    ///
    /// # Panics
    /// When none comes in time, or when the output has ended.
    pub fn line(&mut self, patience: Duration) -> String {
        match self.lines.recv_timeout(patience) {
            Ok(line) => line,
            Err(RecvTimeoutError::Timeout) => {
                panic!("process {} printed nothing for {patience:?}", self.id())
            }
            Err(RecvTimeoutError::Disconnected) => {
                panic!("process {} ended ({:?}) instead of printing a line", self.id(), self.child.wait())
            }
        }
    }

    /// Sends a signal, such as `SIGTERM`.
    ///
    /// # Panics
    /// When the process has ended and been waited for.
    pub fn signal(&mut self, signal: Signal) {
        assert!(
            self.child.try_wait().expect("the child's state").is_none(),
            "process {} has ended",
            self.id()
        );
        let pid = i32::try_from(self.id()).expect("a process id");
        kill(Pid::from_raw(pid), signal).expect("sending a signal");
    }

    /// Asks it to end (`SIGTERM`) and waits.
    ///
    /// # Panics
    /// When it is still there after `patience`.
    pub fn terminate(&mut self, patience: Duration) -> ExitStatus {
        self.signal(Signal::SIGTERM);
        self.wait(patience)
    }

    /// Ends it at once, without a chance to clean up (`SIGKILL`).
    ///
    /// # Panics
    /// When it has ended already and been waited for.
    pub fn kill(&mut self) {
        self.child.kill().expect("killing the child");
        self.child.wait().expect("waiting for the child");
    }

    /// Waits for its end.
    ///
    /// # Panics
    /// When it is still there after `patience`.
    pub fn wait(&mut self, patience: Duration) -> ExitStatus {
        let deadline = Instant::now() + patience;
        loop {
            if let Some(status) = self.child.try_wait().expect("the child's state") {
                return status;
            }
            assert!(Instant::now() < deadline, "process {} is still there after {patience:?}", self.id());
            thread::sleep(Duration::from_millis(5));
        }
    }
}

impl Drop for ChildGuard {
    fn drop(&mut self) {
        // fails only where it has ended already
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::os::unix::process::ExitStatusExt;

    fn sh(script: &str) -> ChildGuard {
        let mut command = Command::new("/bin/sh");
        command.args(["-c", script]);
        ChildGuard::spawn(command)
    }

    #[test]
    fn lines_and_the_end_are_seen() {
        let mut child = sh("echo one; echo two; exit 3");
        assert_eq!(child.line(Duration::from_secs(5)), "one");
        assert_eq!(child.line(Duration::from_secs(5)), "two");
        assert_eq!(child.wait(Duration::from_secs(5)).code(), Some(3));
    }

    #[test]
    fn a_child_can_be_asked_to_end() {
        let mut child = sh("trap 'exit 7' TERM; echo ready; while :; do sleep 0.05; done");
        child.line(Duration::from_secs(5));
        assert_eq!(child.terminate(Duration::from_secs(5)).code(), Some(7));
        let mut child = sh("exec sleep 60");
        child.kill();
        assert_eq!(child.wait(Duration::ZERO).signal(), Some(9));
    }

    #[test]
    fn a_dropped_guard_leaves_no_process() {
        let child = sh("exec sleep 60");
        let pid = Pid::from_raw(i32::try_from(child.id()).unwrap());
        drop(child);
        assert_eq!(kill(pid, None), Err(nix::errno::Errno::ESRCH));
    }

    #[test]
    fn a_free_port_can_be_bound() {
        TcpListener::bind(("127.0.0.1", free_port())).unwrap();
    }
}
