//! Orders a second, beside what pgbench reaches on the same database in the same run: accepting them (one statement at a
//! time at the peer, in one transaction) and listing them. `cargo bench --bench orders -- --help` names the arguments.

mod answers;
mod broker;
mod figures;
mod http_load;
mod peer;
#[allow(dead_code, reason = "each bench uses its part")]
mod platform;

use std::time::Duration;

use figures::{load_average, median, row};
use http_load::{Kind, Load, Outcome};
use peer::Peer;
use platform::Platform;
use plimsoll_auth::AccountPolicy;

type Result<T> = std::result::Result<T, Box<dyn std::error::Error + Send + Sync>>;

/// Users with an account each.
const USERS: usize = 200;

/// One comparison.
struct Workload {
    id: &'static str,
    kind: Kind,
    connections: usize,
    users: usize,
}

const WORKLOADS: &[Workload] = &[
    Workload { id: "W1", kind: Kind::Place, connections: 32, users: USERS },
    Workload { id: "W1-one-user", kind: Kind::Place, connections: 32, users: 1 },
    Workload { id: "W1b", kind: Kind::Place, connections: 64, users: USERS },
    Workload { id: "W1c-1", kind: Kind::Place, connections: 1, users: USERS },
    Workload { id: "W1c-8", kind: Kind::Place, connections: 8, users: USERS },
    Workload { id: "W2", kind: Kind::List, connections: 32, users: USERS },
];

/// What the command line says.
struct Arguments {
    seconds: u64,
    rounds: usize,
    only: Option<Vec<String>>,
}

const HELP: &str =
    "arguments: --rounds N (5), --seconds N of each side in a round (8), --only W1,W2,… (all of them)";

impl Arguments {
    fn read() -> Result<Self> {
        let mut this = Self { seconds: 8, rounds: 5, only: None };
        let mut words = std::env::args().skip(1);
        while let Some(word) = words.next() {
            let mut value = || words.next().ok_or_else(|| format!("{word} has no value; {HELP}"));
            match word.as_str() {
                "--bench" => {} // cargo's own
                "--seconds" => this.seconds = value()?.parse()?,
                "--rounds" => this.rounds = value()?.parse()?,
                "--only" => this.only = Some(value()?.split(',').map(str::to_owned).collect()),
                _ => return Err(HELP.into()),
            }
        }
        Ok(this)
    }

    fn wants(&self, id: &str) -> bool {
        self.only.as_ref().is_none_or(|only| only.iter().any(|wanted| wanted == id))
    }
}

fn main() -> Result<()> {
    let arguments = Arguments::read()?;
    let platform = Platform::start(USERS, AccountPolicy::default())?;
    let outcome = run(&arguments, &platform);
    platform.stop();
    outcome
}

fn run(arguments: &Arguments, platform: &Platform) -> Result<()> {
    let cores = std::thread::available_parallelism()?;
    println!("{cores} cores, load {}; {}", load_average(), platform.durability()?);
    println!("the broker of this bench never answers a submit: what is measured is accepting, not sending");

    // Also fills the plans' and sessions' caches, and gives the peer rows to copy the sizes of.
    load(platform, &WORKLOADS[0], "warm-up", Duration::from_secs(3))?;
    let peer = Peer::new(platform)?;
    peer.run(&WORKLOADS[0], 2)?;
    println!("round trips of an accepted order (BEGIN and COMMIT among them): {}", round_trips(platform)?);
    println!("round trips of the peer's transaction: {}", peer.round_trips());

    let mut summary = Vec::new();
    for workload in WORKLOADS.iter().filter(|workload| arguments.wants(workload.id)) {
        summary.push(compare(arguments, platform, &peer, workload)?);
    }
    println!("\n| id | workload | ours | peer | ratio |\n| --- | --- | --- | --- | --- |");
    for line in summary {
        println!("{line}");
    }
    Ok(())
}

/// Rounds of both sides, alternating; the summary's line.
fn compare(arguments: &Arguments, platform: &Platform, peer: &Peer, workload: &Workload) -> Result<String> {
    println!("\n{}: {} connections, {} users", workload.id, workload.connections, workload.users);
    if workload.kind == Kind::List {
        // orders that the broker never answers for keep the server comparing them with it
        platform.close_orders()?;
        println!("every order is closed before, as most of a user's are");
    }
    platform.analyze()?;
    let (mut ours, mut theirs, mut ratios) = (Vec::new(), Vec::new(), Vec::new());
    let (mut p50, mut p99, mut peer_p50, mut peer_p99) = (Vec::new(), Vec::new(), Vec::new(), Vec::new());
    for round in 1..=arguments.rounds {
        let name = format!("{}-{round}", workload.id);
        let own = load(platform, workload, &name, Duration::from_secs(arguments.seconds))?;
        let other = peer.run(workload, arguments.seconds)?;
        let ratio = own.rate / other.rate;
        println!(
            "round {round}: {} pgbench {:.0}/s (p50 {:.2} ms, p99 {:.2} ms), ratio {ratio:.2}, load {}",
            own.line(),
            other.rate,
            other.p50_ms,
            other.p99_ms,
            load_average(),
        );
        ours.push(own.rate);
        theirs.push(other.rate);
        ratios.push(ratio);
        p50.push(own.percentile(50.0));
        p99.push(own.percentile(99.0));
        peer_p50.push(other.p50_ms);
        peer_p99.push(other.p99_ms);
    }
    let what = match workload.kind {
        Kind::Place => "`POST /orders?wait_ms=0`",
        Kind::List => "`GET /orders?limit=50`",
    };
    let users = if workload.users == 1 { "1 user".to_owned() } else { format!("{} users", workload.users) };
    let (own, theirs) = (
        (median(&mut ours), median(&mut p50), median(&mut p99)),
        (median(&mut theirs), median(&mut peer_p50), median(&mut peer_p99)),
    );
    println!("p50 {:.2} and p99 {:.2} times the peer's", own.1 / theirs.1, own.2 / theirs.2);
    let title = format!("{what}, {} connections, {users}", workload.connections);
    Ok(row(workload.id, &title, own, theirs, median(&mut ratios)))
}

fn load(platform: &Platform, workload: &Workload, name: &str, time: Duration) -> Result<Outcome> {
    let users = workload.users.min(platform.tokens.len());
    http_load::run(&Load {
        address: platform.address(),
        tokens: &platform.tokens[..users],
        connections: workload.connections,
        kind: workload.kind,
        name,
        time,
    })
}

/// Counted at the pool of requests, over a short load of one user, whose session is read once.
fn round_trips(platform: &Platform) -> Result<String> {
    let counter = platform.count_queries();
    let one = Workload { id: "counted", kind: Kind::Place, connections: 1, users: 1 };
    let outcome = load(platform, &one, one.id, Duration::from_millis(500))?;
    let each = counter.sent() as f64 / outcome.answers() as f64;
    Ok(format!("{each:.2} ({} statements for {} orders)", counter.sent(), outcome.answers()))
}
