//! WebSocket fan-out beside a raw broadcaster, memory per idle connection, and how fast everybody comes back.
//! `cargo bench --bench fanout -- --help` names the arguments.
//!
//! The sockets are the API's own over a hub with its history in memory: what is measured is from the hub's publish to the
//! client. Clients are two processes of this program on addresses 127.0.0.2 and up, on the same cores as the server. Limits of
//! users and addresses are off; upgrades a second are off except where everybody comes back.

#[path = "../../../../bins/server/benches/orders/figures.rs"]
mod figures;

mod clients;
mod commit;
mod load;
mod ours;
mod raw;

use std::time::{Duration, Instant};

use clients::Clients;
use figures::{load_average, median, row};

type Result<T> = std::result::Result<T, Box<dyn std::error::Error + Send + Sync>>;

const HELP: &str = "arguments: --rounds N (5), --seconds N of each side of a round (6), --sockets N (10000: idle, and coming back)";
/// The length of a message on the wire, without the frame's header.
const MESSAGE: usize = 300;
/// Messages that are published at once; the next ones follow when every client has all but the last `BATCH`.
const BATCH: usize = 40;

/// A server whose clients all hear what is published.
trait Side {
    fn address(&self) -> std::net::SocketAddr;
    /// Sends a message with the time of now in it to every client.
    fn publish(&mut self) -> Result<()>;
    /// Ends it.
    fn stop(self: Box<Self>);
}

struct Arguments {
    time: Duration,
    rounds: usize,
    sockets: usize,
}

impl Arguments {
    fn read(words: impl Iterator<Item = String>) -> Result<Self> {
        let mut this = Self { time: Duration::from_secs(6), rounds: 5, sockets: 10_000 };
        let mut words = words;
        while let Some(word) = words.next() {
            let mut value = || words.next().ok_or_else(|| format!("{word} has no value; {HELP}"));
            match word.as_str() {
                "--bench" => {} // cargo's own
                "--seconds" => this.time = Duration::from_secs(value()?.parse()?),
                "--rounds" => this.rounds = value()?.parse()?,
                "--sockets" => this.sockets = value()?.parse()?,
                _ => return Err(HELP.into()),
            }
        }
        Ok(this)
    }
}

fn main() -> Result<()> {
    let mut words: Vec<String> = std::env::args().skip(1).collect();
    rlimit();
    if words.first().is_some_and(|word| word == "--load") {
        return load::run(words.split_off(1));
    }
    let arguments = Arguments::read(words.into_iter())?;
    let cores = std::thread::available_parallelism()?;
    println!("{cores} cores, load {}; {MESSAGE}-byte messages, {BATCH} at a time", load_average());
    println!("WS_MAX_PER_USER, WS_MAX_PER_IP and upgrades a second: off");
    let mut rows = Vec::new();
    for sockets in [1_000, 5_000] {
        rows.push(fan_out(&arguments, sockets)?);
    }
    rows.push(idle(&arguments)?);
    rows.push(come_back(&arguments)?);
    rows.extend(commit::run(arguments.sockets, 3 * arguments.time)?);
    println!("\n| id | workload | ours | peer | ratio |\n| --- | --- | --- | --- | --- |");
    rows.iter().for_each(|row| println!("{row}"));
    Ok(())
}

/// As many files as the system lets this process have.
fn rlimit() {
    use rustix::process::{Resource, getrlimit, setrlimit};
    let mut limit = getrlimit(Resource::Nofile);
    limit.current = limit.maximum;
    // Too few show themselves as connections that are refused.
    let _ = setrlimit(Resource::Nofile, limit);
}

/// Deliveries a second, and the times from publishing to receiving in milliseconds: p50, p99.
fn measure(mut side: Box<dyn Side>, sockets: usize, time: Duration) -> Result<(f64, f64, f64)> {
    let mut clients = Clients::start(side.address(), sockets, &[])?;
    let began = Instant::now();
    let mut batches = 0;
    while began.elapsed() < time {
        for _ in 0..BATCH {
            side.publish()?;
        }
        batches += 1;
        clients.have(BATCH * (batches - 1))?;
    }
    clients.have(BATCH * batches)?;
    let took = began.elapsed().as_secs_f64();
    let report = clients.finish()?;
    side.stop();
    let expected = sockets * BATCH * batches;
    if report.received != expected {
        return Err(format!("{} of {expected} messages came", report.received).into());
    }
    Ok((expected as f64 / took, report.p50_ms, report.p99_ms))
}

/// W4.
fn fan_out(arguments: &Arguments, sockets: usize) -> Result<String> {
    println!("\nW4: {sockets} connections");
    let (mut ours, mut peers, mut ratios) = ([vec![], vec![], vec![]], [vec![], vec![], vec![]], vec![]);
    for round in 1..=arguments.rounds {
        let mine = measure(ours::start(ours::Limits::Off)?, sockets, arguments.time)?;
        let peer = measure(raw::start(sockets)?, sockets, arguments.time)?;
        println!(
            "round {round}: {:.0} deliveries/s (p50 {:.1} ms, p99 {:.1} ms), raw {:.0}/s (p50 {:.1} ms, p99 {:.1} ms), \
             ratio {:.2}, of the p99s {:.2}, load {}",
            mine.0,
            mine.1,
            mine.2,
            peer.0,
            peer.1,
            peer.2,
            mine.0 / peer.0,
            mine.2 / peer.2,
            load_average()
        );
        ratios.push(mine.0 / peer.0);
        for (all, one) in [(&mut ours, mine), (&mut peers, peer)] {
            all[0].push(one.0);
            all[1].push(one.1);
            all[2].push(one.2);
        }
    }
    let middle = |all: &mut [Vec<f64>; 3]| (median(&mut all[0]), median(&mut all[1]), median(&mut all[2]));
    let (ours, peers) = (middle(&mut ours), middle(&mut peers));
    let what = format!("fan-out, {sockets} sockets; p99 {:.2} × the peer's", ours.2 / peers.2);
    Ok(row("W4", &what, ours, peers, median(&mut ratios)))
}

/// W5. Memory that idle connections take, by the resident set before and after.
fn idle(arguments: &Arguments) -> Result<String> {
    println!("\nW5: {} idle connections", arguments.sockets);
    let mut figures = Vec::new();
    for round in 1..=3 {
        let side = ours::start(ours::Limits::Off)?;
        // What is made once is not the connections'.
        let warm = Clients::start(side.address(), 100, &[])?;
        warm.finish()?;
        std::thread::sleep(Duration::from_millis(500));
        let before = resident()?;
        let clients = Clients::start(side.address(), arguments.sockets, &[])?;
        std::thread::sleep(Duration::from_secs(2));
        let each = (resident()?.saturating_sub(before)) as f64 / arguments.sockets as f64;
        println!("round {round}: {:.1} kB each", each / 1e3);
        figures.push(each / 1e3);
        clients.finish()?;
        side.stop();
    }
    Ok(format!(
        "| W5 | memory of an idle connection, of {} | {:.1} kB | – | – |",
        arguments.sockets,
        median(&mut figures)
    ))
}

fn resident() -> Result<usize> {
    let status = std::fs::read_to_string("/proc/self/status")?;
    let line = status.lines().find(|line| line.starts_with("VmRSS:")).ok_or("no VmRSS")?;
    let kib: usize = line.split_whitespace().nth(1).ok_or("no number")?.parse()?;
    Ok(kib * 1024)
}

/// Everybody comes back with a cursor, at the default 500 upgrades a second; each must get what it missed exactly once.
fn come_back(arguments: &Arguments) -> Result<String> {
    println!("\n{} clients come back, with 30 events missed each", arguments.sockets);
    let mut times = Vec::new();
    for round in 1..=3 {
        let side = ours::start(ours::Limits::Upgrades)?;
        ours::write_history(side.address(), arguments.sockets, 30);
        let began = Instant::now();
        let mut clients = Clients::start(side.address(), arguments.sockets, &["--resume"])?;
        clients.have(30)?;
        let took = began.elapsed().as_secs_f64();
        let report = clients.finish()?;
        side.stop();
        if report.received != 30 * arguments.sockets {
            return Err(format!("{} of {} events came", report.received, 30 * arguments.sockets).into());
        }
        println!("round {round}: {took:.1} s, {} events, none lost, none twice", report.received);
        times.push(took);
    }
    Ok(format!(
        "| – | {} clients come back and get 30 events each | {:.1} s | – | – |",
        arguments.sockets,
        median(&mut times)
    ))
}
