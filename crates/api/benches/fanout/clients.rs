//! The two processes of clients, as the bench sees them.

use std::io::{BufRead, BufReader, Write};
use std::net::SocketAddr;
use std::process::{Child, ChildStdin, ChildStdout, Command, Stdio};

use crate::Result;

const PROCESSES: usize = 2;

/// All clients, connected.
pub(crate) struct Clients(Vec<Process>);

struct Process {
    child: Child,
    input: Option<ChildStdin>,
    output: BufReader<ChildStdout>,
    /// The messages that each of its connections has at least.
    least: usize,
}

/// What the clients got.
pub(crate) struct Report {
    pub(crate) received: usize,
    pub(crate) p50_ms: f64,
    pub(crate) p99_ms: f64,
}

impl Clients {
    /// Opens so many sockets; returns when all have their `hello`.
    pub(crate) fn start(server: SocketAddr, sockets: usize, more: &[&str]) -> Result<Self> {
        let (mut all, mut first) = (Vec::new(), 0);
        for number in 0..PROCESSES {
            let share = sockets / PROCESSES + usize::from(number < sockets % PROCESSES);
            let mut child = Command::new(std::env::current_exe()?)
                .arg("--load")
                .args([server.to_string(), share.to_string(), first.to_string(), (number + 2).to_string()])
                .args(more)
                .stdin(Stdio::piped())
                .stdout(Stdio::piped())
                .spawn()?;
            first += share;
            let (input, output) =
                (child.stdin.take(), child.stdout.take().ok_or("a process without output")?);
            all.push(Process { child, input, output: BufReader::new(output), least: 0 });
        }
        let mut this = Self(all);
        for process in &mut this.0 {
            let line = process.line()?;
            if line != "ready" {
                return Err(format!("a client said {line:?}").into());
            }
        }
        Ok(this)
    }

    /// Returns when every connection has so many messages.
    pub(crate) fn have(&mut self, messages: usize) -> Result<()> {
        for process in &mut self.0 {
            while process.least < messages {
                process.least = process.line()?.parse()?;
            }
        }
        Ok(())
    }

    /// Closes all sockets, and says what came over them.
    pub(crate) fn finish(mut self) -> Result<Report> {
        let mut report = Report { received: 0, p50_ms: 0.0, p99_ms: 0.0 };
        for process in &mut self.0 {
            drop(process.input.take());
            let last = loop {
                let line = process.line()?;
                if let Some(rest) = line.strip_prefix("end ") {
                    break rest.to_owned();
                }
            };
            let mut words = last.split(' ');
            let mut number = || -> Result<f64> { Ok(words.next().ok_or("too short a report")?.parse()?) };
            report.received += number()? as usize;
            // Of the two, the slower one counts.
            report.p50_ms = report.p50_ms.max(number()?);
            report.p99_ms = report.p99_ms.max(number()?);
            process.child.wait()?;
        }
        Ok(report)
    }
}

impl Process {
    fn line(&mut self) -> Result<String> {
        let mut line = String::new();
        if self.output.read_line(&mut line)? == 0 {
            return Err("a process of clients has ended".into());
        }
        Ok(line.trim_end().to_owned())
    }
}

impl Drop for Process {
    fn drop(&mut self) {
        // One that has ended already is none to end.
        let _ = self.input.take().map(|mut input| input.flush());
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}
