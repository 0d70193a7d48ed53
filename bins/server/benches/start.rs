//! From the start of the program to its first 200 at `/health/ready`, over a database that is migrated already, and the
//! memory of its process when nothing happens.

use std::io::{Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::os::unix::fs::PermissionsExt;
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use plimsoll_storage::private_postgres::{Options, PrivatePostgres};
use plimsoll_testkit::free_port;

type Result<T> = std::result::Result<T, Box<dyn std::error::Error + Send + Sync>>;

/// Starts of each kind; the first one, which makes and migrates the databases, does not count.
const STARTS: usize = 7;
/// How long a server is left alone before its memory is read.
const IDLE: Duration = Duration::from_secs(3);
const READY_WITHIN: Duration = Duration::from_secs(60);

fn main() -> Result<()> {
    let folder = tempfile::Builder::new().prefix("plimsoll-bench-").tempdir()?;
    // As root the databases run under an account that must be able to go in.
    std::fs::set_permissions(folder.path(), std::fs::Permissions::from_mode(0o711))?;
    let cores = std::thread::available_parallelism()?;
    println!("{cores} cores, load {}", std::fs::read_to_string("/proc/loadavg")?.trim());

    let own = Kind { name: "private PostgreSQL and paper broker, of the data folder", settings: Vec::new() };
    own.measure(&folder.path().join("own"))?;

    let mut options = Options::new(folder.path().join("database"));
    options.path_var = "/usr/local/bin:/usr/bin:/bin".to_owned();
    let mut postgres = PrivatePostgres::start(options)?;
    let mut given = Vec::new();
    for (name, database) in [("DATABASE_URL", "plimsoll"), ("PAPER_DATABASE_URL", "paper")] {
        postgres.ensure_database(database)?;
        given.push((name, postgres.url(database)));
    }
    let paper = Kind { name: "database given, paper broker in the process", settings: given.clone() };
    paper.measure(&folder.path().join("given"))?;

    // Nobody has an account there, so nothing is sent to the broker's address.
    given.truncate(1);
    given.push(("ALPACA_API_KEY", "PKBENCH0000000000000".to_owned()));
    given.push(("ALPACA_API_SECRET", "bench-bench-bench-bench-bench-bench-bench".to_owned()));
    let alpaca = Kind { name: "database given, Alpaca as the broker", settings: given };
    alpaca.measure(&folder.path().join("given"))?;
    postgres.stop(Duration::from_secs(20));
    Ok(())
}

/// A way to run the server.
struct Kind {
    name: &'static str,
    settings: Vec<(&'static str, String)>,
}

impl Kind {
    fn measure(&self, data: &Path) -> Result<()> {
        if !data.exists() {
            std::fs::create_dir(data)?;
            std::fs::set_permissions(data, std::fs::Permissions::from_mode(0o711))?;
        }
        let (mut times, mut memories) = (Vec::new(), Vec::new());
        for start in 0..=STARTS {
            let address: SocketAddr = format!("127.0.0.1:{}", free_port()).parse()?;
            let began = Instant::now();
            let mut server = self.spawn(data, address)?;
            let ready = wait_until_ready(&mut server, address);
            let took = began.elapsed();
            let memory = ready.and_then(|()| {
                std::thread::sleep(IDLE);
                memory_of(server.id())
            });
            kill(Pid::from_raw(i32::try_from(server.id())?), Signal::SIGTERM)?;
            let status = server.wait()?;
            let memory = memory?;
            if !status.success() {
                return Err(format!("{}: ended with {status}", self.name).into());
            }
            if start > 0 {
                times.push(took.as_secs_f64());
                memories.push(memory);
            }
        }
        times.sort_by(f64::total_cmp);
        memories.sort_unstable();
        println!(
            "{}: ready after {:.3} s (median of {STARTS}; {:.3} to {:.3}), {:.1} MiB resident when idle",
            self.name,
            times[STARTS / 2],
            times[0],
            times[STARTS - 1],
            memories[STARTS / 2] as f64 / 1_024.0,
        );
        Ok(())
    }

    fn spawn(&self, data: &Path, address: SocketAddr) -> Result<Child> {
        let mut command = Command::new(env!("CARGO_BIN_EXE_plimsoll"));
        command.env_clear().current_dir(data).arg("serve").stdin(Stdio::null()).stderr(Stdio::null());
        command.env("PATH", "/usr/local/bin:/usr/bin:/bin").env("PROFILE", "development");
        command.env("DATA_DIR", data).env("BIND_ADDR", address.to_string()).env("LOG_LEVEL", "warn");
        command.envs(self.settings.iter().map(|(name, value)| (*name, value.as_str())));
        Ok(command.stdout(Stdio::null()).spawn()?)
    }
}

fn wait_until_ready(server: &mut Child, address: SocketAddr) -> Result<()> {
    let began = Instant::now();
    while began.elapsed() < READY_WITHIN {
        if is_ready(address).unwrap_or(false) {
            return Ok(());
        }
        if let Some(status) = server.try_wait()? {
            return Err(format!("the server ended with {status} instead of serving").into());
        }
        std::thread::sleep(Duration::from_millis(2));
    }
    Err("the server was not ready in time".into())
}

fn is_ready(address: SocketAddr) -> Result<bool> {
    let mut stream = TcpStream::connect(address)?;
    stream.set_read_timeout(Some(Duration::from_secs(2)))?;
    stream.write_all(b"GET /health/ready HTTP/1.1\r\nHost: bench\r\nConnection: close\r\n\r\n")?;
    let mut answer = String::new();
    stream.read_to_string(&mut answer)?;
    Ok(answer.starts_with("HTTP/1.1 200"))
}

/// Resident memory of a process, in units of 1,024 bytes.
fn memory_of(pid: u32) -> Result<u64> {
    let status = std::fs::read_to_string(format!("/proc/{pid}/status"))?;
    let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:")).ok_or("no resident memory")?;
    Ok(line.trim().trim_end_matches(" kB").parse()?)
}
