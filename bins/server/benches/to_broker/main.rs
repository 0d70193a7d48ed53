//! From a request to the broker: orders, and signals whose sender sends each of them twice. Their rates beside one another
//! as fast as they are answered, and their latencies at a fixed pace. `cargo bench --bench to_broker -- --help` names the
//! arguments.

#[path = "../orders/answers.rs"]
mod answers;
#[path = "../orders/broker.rs"]
mod broker;
#[path = "../orders/figures.rs"]
#[allow(dead_code, reason = "each bench uses its part")]
mod figures;
mod load;
#[path = "../orders/platform.rs"]
#[allow(dead_code, reason = "each bench uses its part")]
mod platform;

use std::sync::Arc;
use std::time::{Duration, Instant};

use broker::Sends;
use figures::{load_average, median};
use load::{Kind, Load, Pace, Request, percentile};
use platform::Platform;
use plimsoll_auth::AccountPolicy;

type Result<T> = std::result::Result<T, Box<dyn std::error::Error + Send + Sync>>;

/// Users with an account and a hook each.
const USERS: usize = 200;
/// Connections that ask as fast as they are answered.
const CONNECTIONS: usize = 32;
/// How long to wait for orders that were accepted and are not at the broker yet.
const DRAINED_WITHIN: Duration = Duration::from_secs(300);

const HELP: &str = "arguments: --rounds N (5), --seconds N of each part (8), --orders N a second at a fixed pace (50), \
                    --signals N a second at a fixed pace, repeats among them (200), --only orders";

struct Arguments {
    time: Duration,
    rounds: usize,
    orders: u32,
    signals: u32,
    /// Without signals: of orders the latencies alone.
    only_orders: bool,
}

impl Arguments {
    fn read() -> Result<Self> {
        let mut this =
            Self { time: Duration::from_secs(8), rounds: 5, orders: 50, signals: 200, only_orders: false };
        let mut words = std::env::args().skip(1);
        while let Some(word) = words.next() {
            let mut value = || words.next().ok_or_else(|| format!("{word} has no value; {HELP}"));
            match word.as_str() {
                "--bench" => {} // cargo's own
                "--seconds" => this.time = Duration::from_secs(value()?.parse()?),
                "--rounds" => this.rounds = value()?.parse()?,
                "--orders" => this.orders = value()?.parse()?,
                "--signals" => this.signals = value()?.parse()?,
                "--only" if value()? == "orders" => this.only_orders = true,
                _ => return Err(HELP.into()),
            }
        }
        Ok(this)
    }
}

fn main() -> Result<()> {
    let arguments = Arguments::read()?;
    let sends = Arc::new(Sends::default());
    let platform = Platform::start_with(USERS, AccountPolicy::default(), Some(Arc::clone(&sends)))?;
    let outcome = run(&arguments, &platform, &sends);
    platform.stop();
    outcome
}

/// One run of a load, and what the broker saw of it.
struct Seen {
    /// Requests a second.
    rate: f64,
    /// Milliseconds from the request, or from when it was due, to its answer.
    answered: Vec<f64>,
    /// To the broker.
    to_broker: Vec<f64>,
    /// From the answer, which the commit precedes, to the broker; 0 where the broker was first.
    behind: Vec<f64>,
}

struct Bench<'a> {
    platform: &'a Platform,
    sends: &'a Sends,
    hooks: Vec<load::Hook>,
    /// Sizes given to orders so far: each order has its own, by which it is known at the broker.
    given: u64,
}

fn run(arguments: &Arguments, platform: &Platform, sends: &Sends) -> Result<()> {
    let cores = std::thread::available_parallelism()?;
    println!("{cores} cores, load {}; {}", load_average(), platform.durability()?);
    let hooks =
        if arguments.only_orders { Vec::new() } else { load::hooks(platform.address(), &platform.tokens)? };
    let mut bench = Bench { platform, sends, hooks, given: 0 };
    bench.run(Kind::Order, Pace::AsAnswered(CONNECTIONS), Duration::from_secs(1))?;
    if !arguments.only_orders {
        bench.run(Kind::Signal, Pace::AsAnswered(CONNECTIONS), Duration::from_secs(1))?;
    }
    platform.analyze()?;
    if !arguments.only_orders {
        bench.compare(arguments)?;
    }
    bench.paces(arguments)?;
    println!("no order was sent twice and none is missing at the broker");
    Ok(())
}

impl Bench<'_> {
    /// Rates of both, in turns.
    fn compare(&mut self, arguments: &Arguments) -> Result<()> {
        let (mut orders, mut signals, mut ratios) = (Vec::new(), Vec::new(), Vec::new());
        for round in 1..=arguments.rounds {
            let order = self.run(Kind::Order, Pace::AsAnswered(CONNECTIONS), arguments.time)?;
            let signal = self.run(Kind::Signal, Pace::AsAnswered(CONNECTIONS), arguments.time)?;
            println!(
                "round {round}: {:.0} orders/s, {:.0} signals/s, half of them repeats, ratio {:.2}, load {}",
                order.rate,
                signal.rate,
                signal.rate / order.rate,
                load_average()
            );
            orders.push(order.rate);
            signals.push(signal.rate);
            ratios.push(signal.rate / order.rate);
        }
        println!(
            "\nmedians: {:.0} orders/s, {:.0} signals/s, ratio {:.2}",
            median(&mut orders),
            median(&mut signals),
            median(&mut ratios)
        );
        Ok(())
    }

    /// Latencies of each at its pace.
    fn paces(&mut self, arguments: &Arguments) -> Result<()> {
        let paces = [(Kind::Order, "orders", arguments.orders), (Kind::Signal, "signals", arguments.signals)];
        let mut tails = Vec::new();
        for (kind, name, rate) in paces.into_iter().take(if arguments.only_orders { 1 } else { 2 }) {
            let (mut columns, time) = ([const { Vec::new() }; 5], arguments.time);
            for _ in 0..arguments.rounds {
                let mut seen = self.run(kind, Pace::Every(Duration::from_secs(1) / rate.max(1)), time)?;
                let figures = [
                    percentile(&mut seen.answered, 50.0),
                    percentile(&mut seen.answered, 99.0),
                    percentile(&mut seen.behind, 50.0),
                    percentile(&mut seen.to_broker, 50.0),
                    percentile(&mut seen.to_broker, 99.0),
                ];
                columns.iter_mut().zip(figures).for_each(|(column, figure)| column.push(figure));
            }
            let [answer_50, answer_99, behind_50, broker_50, broker_99] =
                columns.map(|mut column| median(&mut column));
            println!(
                "{rate} {name}/s: answered p50 {answer_50:.2} ms, p99 {answer_99:.2} ms; from the answer to the broker p50 \
             {behind_50:.2} ms; from the request to the broker p50 {broker_50:.2} ms, p99 {broker_99:.2} ms; load {}",
                load_average()
            );
            tails.push(broker_99);
        }
        if let [orders, signals] = tails.as_slice() {
            println!("p99 to the broker: signals' {:.2} times that of orders", signals / orders);
        }
        Ok(())
    }

    fn run(&mut self, kind: Kind, pace: Pace, time: Duration) -> Result<Seen> {
        self.sends.clear();
        let load = Load {
            address: self.platform.address(),
            tokens: &self.platform.tokens,
            hooks: &self.hooks,
            kind,
            pace,
            time,
            first: self.given + 1,
        };
        let outcome = load::run(&load)?;
        let orders: Vec<&Request> = outcome.requests.iter().filter(|request| !request.repeat).collect();
        self.given += orders.len() as u64 + 1_000;
        let until = Instant::now() + DRAINED_WITHIN;
        while self.sends.count() < orders.len() {
            if Instant::now() > until {
                return Err(
                    format!("{} of {} orders are at the broker", self.sends.count(), orders.len()).into()
                );
            }
            std::thread::sleep(Duration::from_millis(20));
        }
        let milliseconds = |time: Duration| time.as_secs_f64() * 1_000.0;
        let mut seen =
            Seen { rate: outcome.rate, answered: Vec::new(), to_broker: Vec::new(), behind: Vec::new() };
        for request in &outcome.requests {
            seen.answered.push(milliseconds(request.answered - request.due));
        }
        for request in orders {
            let at = self.sends.once(request.size)?;
            seen.to_broker.push(milliseconds(at.saturating_duration_since(request.due)));
            seen.behind.push(milliseconds(at.saturating_duration_since(request.answered)));
        }
        Ok(seen)
    }
}
