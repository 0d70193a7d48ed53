//! Logins beside what the argon2 crate alone computes, what logins cost other requests, and `GET /auth/me` beside a bare
//! actix-web route. `cargo bench --bench login -- --help` names the arguments.

#[path = "../orders/answers.rs"]
mod answers;
#[path = "../orders/broker.rs"]
mod broker;
mod client;
#[path = "../orders/figures.rs"]
#[allow(dead_code, reason = "each bench uses its part")]
mod figures;
mod peers;
#[path = "../orders/platform.rs"]
#[allow(dead_code, reason = "each bench uses its part")]
mod platform;

use std::time::Duration;

use chrono::TimeDelta;
use client::{Load, Outcome};
use figures::{load_average, median, row};
use peers::Bare;
use platform::Platform;
use plimsoll_auth::AccountPolicy;
use plimsoll_auth::ports::AccountStore;
use plimsoll_auth::throttle::Limit;
use plimsoll_core_domain::{Clock, SystemClock, UserId};
use plimsoll_crypto::OsRandom;
use plimsoll_crypto::passwords::{HashParams, Passwords};

type Result<T> = std::result::Result<T, Box<dyn std::error::Error + Send + Sync>>;

const USERS: usize = 50;
const PASSWORD: &str = "a password of a bench";
/// Logins at once, each of a user of its own, whose earlier sessions they end.
const LOGINS: usize = 2;
/// Connections that ask for `/auth/me` as fast as they are answered.
const CONNECTIONS: usize = 32;
/// Connections of the other requests while logins run, and the time from one request of each to its next.
const OTHERS: usize = 8;
const OTHERS_EVERY: Duration = Duration::from_millis(40);

const HELP: &str = "arguments: --rounds N (5), --seconds N of each part of a round (8)";

struct Arguments {
    time: Duration,
    rounds: usize,
}

impl Arguments {
    fn read() -> Result<Self> {
        let mut this = Self { time: Duration::from_secs(8), rounds: 5 };
        let mut words = std::env::args().skip(1);
        while let Some(word) = words.next() {
            let mut value = || words.next().ok_or_else(|| format!("{word} has no value; {HELP}"));
            match word.as_str() {
                "--bench" => {} // cargo's own
                "--seconds" => this.time = Duration::from_secs(value()?.parse()?),
                "--rounds" => this.rounds = value()?.parse()?,
                _ => return Err(HELP.into()),
            }
        }
        Ok(this)
    }
}

fn main() -> Result<()> {
    let arguments = Arguments::read()?;
    let mut policy = AccountPolicy::default();
    policy.login.per_ip = Limit::new(1_000_000, TimeDelta::seconds(1), 1_000_000);
    let platform = Platform::start(USERS, policy)?;
    let outcome = run(&arguments, &platform);
    platform.stop();
    outcome
}

fn run(arguments: &Arguments, platform: &Platform) -> Result<()> {
    let cores = std::thread::available_parallelism()?;
    let cost = HashParams::default();
    println!("{cores} cores, load {}; {}; {cost:?}", load_average(), platform.durability()?);
    let logins = logins(platform, cost)?;
    platform.analyze()?;

    println!("\nW6: {LOGINS} logins at once; {OTHERS} connections ask for /auth/me every {OTHERS_EVERY:?}");
    let w6 = hashing(arguments, platform, &logins, cost)?;
    println!("\nGET /auth/me: {CONNECTIONS} connections, a user each");
    let me = me(arguments, platform)?;
    println!("\n| id | workload | ours | peer | ratio |\n| --- | --- | --- | --- | --- |");
    for line in w6.into_iter().chain([me]) {
        println!("{line}");
    }
    Ok(())
}

/// Gives as many users as sign in at once a password that is known, and their requests.
fn logins(platform: &Platform, cost: HashParams) -> Result<Vec<Vec<u8>>> {
    let passwords = Passwords::new(cost, &mut OsRandom)?;
    let mut requests = Vec::new();
    for number in 0..LOGINS {
        let hash = passwords.hash(&PASSWORD.to_owned().into(), &mut OsRandom)?;
        let user = UserId(platform.first_user + i64::try_from(number)?);
        platform.db().run_blocking(|tx| tx.set_password_hash(user, &hash, SystemClock.now()))?;
        requests.push(client::login(&format!("trader{number}@example.com"), PASSWORD));
    }
    Ok(requests)
}

/// Logins against the crate, and other requests with and without them.
fn hashing(
    arguments: &Arguments,
    platform: &Platform,
    logins: &[Vec<u8>],
    cost: HashParams,
) -> Result<[String; 2]> {
    let time = arguments.time;
    let me: Vec<Vec<u8>> =
        platform.tokens.iter().rev().take(OTHERS).map(|token| client::get("/auth/me", token)).collect();
    let login = Load { address: platform.address(), requests: logins, every: None };
    let other = Load { address: platform.address(), requests: &me, every: Some(OTHERS_EVERY) };
    client::run([&login, &other], Duration::from_secs(2))?; // plans and caches are filled

    let (mut signed_in, mut ceilings, mut ratios) = (Sides::default(), Vec::new(), Vec::new());
    let (mut beside, mut alone, mut slower) = (Sides::default(), Sides::default(), Vec::new());
    for round in 1..=arguments.rounds {
        let ceiling = peers::hashes_per_second(cost, LOGINS, time)?;
        let [ours] = client::run([&login], time)?;
        let [quiet] = client::run([&other], time)?;
        let [meanwhile, loud] = client::run([&login, &other], time)?;
        let (ratio, wait) = (ours.rate / ceiling, loud.percentile(99.0) / quiet.percentile(99.0));
        println!(
            "round {round}: {:.2} logins/s (p50 {:.0} ms), argon2 alone {ceiling:.2}/s, ratio {ratio:.3}; others' p99 \
             {:.2} ms, with {:.2} logins/s beside them {:.2} ms, ratio {wait:.2}; load {}",
            ours.rate,
            ours.percentile(50.0),
            quiet.percentile(99.0),
            meanwhile.rate,
            loud.percentile(99.0),
            load_average(),
        );
        signed_in.push(&ours);
        ceilings.push(ceiling);
        ratios.push(ratio);
        alone.push(&quiet);
        beside.push(&loud);
        slower.push(wait);
    }
    let hash_ms = LOGINS as f64 * 1_000.0 / median(&mut ceilings);
    let peer = (median(&mut ceilings), hash_ms, hash_ms);
    Ok([
        row("W6", "`POST /auth/login`, two at a time", signed_in.medians(), peer, median(&mut ratios)),
        row(
            "W6",
            "p99 of `GET /auth/me` with logins beside it and without",
            beside.medians(),
            alone.medians(),
            median(&mut slower),
        ),
    ])
}

/// `GET /auth/me` against the bare route.
fn me(arguments: &Arguments, platform: &Platform) -> Result<String> {
    let bare = Bare::start()?;
    let requests: Vec<Vec<u8>> = platform.tokens[LOGINS..]
        .iter()
        .take(CONNECTIONS)
        .map(|token| client::get("/auth/me", token))
        .collect();
    let ours = Load { address: platform.address(), requests: &requests, every: None };
    let theirs = Load { address: bare.address, requests: &requests, every: None };
    client::run([&ours], Duration::from_secs(2))?;
    client::run([&theirs], Duration::from_secs(2))?;
    let (mut own, mut other, mut ratios) = (Sides::default(), Sides::default(), Vec::new());
    for round in 1..=arguments.rounds {
        let [one] = client::run([&ours], arguments.time)?;
        let [two] = client::run([&theirs], arguments.time)?;
        let ratio = one.rate / two.rate;
        println!(
            "round {round}: {:.0}/s, bare {:.0}/s, ratio {ratio:.2}, load {}",
            one.rate,
            two.rate,
            load_average()
        );
        own.push(&one);
        other.push(&two);
        ratios.push(ratio);
    }
    bare.stop();
    Ok(row("–", "`GET /auth/me`, 32 connections", own.medians(), other.medians(), median(&mut ratios)))
}

/// Rate, p50 and p99 of each round.
#[derive(Default)]
struct Sides {
    rates: Vec<f64>,
    p50: Vec<f64>,
    p99: Vec<f64>,
}

impl Sides {
    fn push(&mut self, outcome: &Outcome) {
        self.rates.push(outcome.rate);
        self.p50.push(outcome.percentile(50.0));
        self.p99.push(outcome.percentile(99.0));
    }

    fn medians(&mut self) -> (f64, f64, f64) {
        (median(&mut self.rates), median(&mut self.p50), median(&mut self.p99))
    }
}
