//! Comparing many accounts with their broker: taking over everything that the broker has, and then comparing what agrees.
//! `cargo bench --bench reconcile -- --help` names the arguments.

#[path = "../tests/it/people.rs"]
#[expect(clippy::unwrap_used, reason = "a helper that fails, fails the bench that called it")]
mod people;

use std::process::Command;
use std::sync::Arc;
use std::time::{Duration, Instant};

use chrono::{DateTime, TimeDelta, Utc};
use people::{Installation, KEY};
use plimsoll_core_domain::{AccountId, Clock, SystemClock, UserId};
use plimsoll_reliability::reconcile::Trigger;
use plimsoll_testkit::{ChildGuard, TestDb, free_port, program};
use reqwest::{Client, Method};
use serde_json::{Value, json};
use tokio::sync::Semaphore;
use uuid::Uuid;

type Result<T> = std::result::Result<T, Box<dyn std::error::Error + Send + Sync>>;

const HELP: &str = "arguments: --accounts N (200), --orders N open of each (50), --fills N of each (250)";
/// How long anything may take.
const PATIENCE: Duration = Duration::from_secs(1_800);
/// Requests to the broker at a time while it is filled.
const AT_ONCE: usize = 32;
/// Fills of each account that are younger than an hour of the broker's.
const YOUNG: usize = 50;

struct Arguments {
    accounts: usize,
    orders: usize,
    fills: usize,
}

impl Arguments {
    fn read() -> Result<Self> {
        let mut this = Self { accounts: 200, orders: 50, fills: 250 };
        let mut words = std::env::args().skip(1);
        while let Some(word) = words.next() {
            let mut value = || words.next().ok_or_else(|| format!("{word} has no value; {HELP}"));
            match word.as_str() {
                "--bench" => {} // cargo's own
                "--accounts" => this.accounts = value()?.parse()?,
                "--orders" => this.orders = value()?.parse()?,
                "--fills" => this.fills = value()?.parse()?,
                _ => return Err(HELP.into()),
            }
        }
        Ok(this)
    }
}

/// An account at the simulator, and its user here.
#[derive(Clone)]
struct Account {
    user: UserId,
    id: String,
    key: String,
    secret: String,
}

struct Broker {
    url: String,
    http: Client,
}

impl Broker {
    fn start(folder: &std::path::Path, http: Client) -> Result<(Self, ChildGuard, TestDb)> {
        let books = TestDb::paper();
        let mut command = Command::new(program("paper-broker"));
        command.args([
            "--json",
            "--rate-limit",
            "off",
            "--fixed-price",
            "100",
            "--database-url",
            books.url(),
        ]);
        command.arg("--data-dir").arg(folder.join("broker"));
        let mut child = ChildGuard::spawn(command);
        let said: Value = serde_json::from_str(&child.line(Duration::from_secs(60)))?;
        let url = said["url"].as_str().ok_or("no address")?.to_owned();
        Ok((Self { url, http }, child, books))
    }

    async fn sim(&self, method: Method, path: &str, body: Value) -> Result<Value> {
        let mut request = self.http.request(method, format!("{}/_sim/{path}", self.url));
        if !body.is_null() {
            request = request.header("Content-Type", "application/json").body(body.to_string());
        }
        let answer = request.send().await?.error_for_status()?;
        Ok(serde_json::from_str(&answer.text().await?).unwrap_or(Value::Null))
    }

    async fn place(&self, account: &Account, body: &Value) -> Result<()> {
        let request = self.http.post(format!("{}/v2/orders", self.url)).body(body.to_string());
        let request = request.header("Content-Type", "application/json");
        let request = request.header("APCA-API-KEY-ID", &account.key);
        request.header("APCA-API-SECRET-KEY", &account.secret).send().await?.error_for_status()?;
        Ok(())
    }

    /// So many orders of each account.
    async fn fill(self: &Arc<Self>, accounts: &[Account], count: usize, body: Value) -> Result<()> {
        let (turns, mut tasks) = (Arc::new(Semaphore::new(AT_ONCE)), tokio::task::JoinSet::new());
        for account in accounts {
            let (broker, turns, body) = (Arc::clone(self), Arc::clone(&turns), body.clone());
            let account = account.clone();
            tasks.spawn(async move {
                let _turn = turns.acquire_owned().await?;
                for _ in 0..count {
                    broker.place(&account, &body).await?;
                }
                Ok::<_, Box<dyn std::error::Error + Send + Sync>>(())
            });
        }
        while let Some(done) = tasks.join_next().await {
            done??;
        }
        Ok(())
    }

    /// The number of the last call in the broker's log.
    async fn last_call(&self) -> Result<u64> {
        let rows = self.sim(Method::GET, "requests", Value::Null).await?;
        Ok(rows.as_array().and_then(|rows| rows.last()).and_then(|row| row["seq"].as_u64()).unwrap_or(0))
    }
}

fn memory(pid: u32, what: &str) -> Result<f64> {
    let status = std::fs::read_to_string(format!("/proc/{pid}/status"))?;
    let line = status.lines().find_map(|line| line.strip_prefix(what)).ok_or("no such figure")?;
    Ok(line.trim_matches([':', ' ', '\t']).trim_end_matches(" kB").trim().parse::<f64>()? / 1_024.0)
}

async fn until(what: &str, met: impl AsyncFn() -> bool) -> Result<Duration> {
    let began = Instant::now();
    while !met().await {
        if began.elapsed() > PATIENCE {
            return Err(format!("not in time: {what}").into());
        }
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
    Ok(began.elapsed())
}

fn main() -> Result<()> {
    let arguments = Arguments::read()?;
    plimsoll_broker::install_crypto_provider();
    tokio::runtime::Builder::new_multi_thread().enable_all().build()?.block_on(run(&arguments))
}

async fn run(arguments: &Arguments) -> Result<()> {
    let folder = tempfile::tempdir()?;
    let cores = std::thread::available_parallelism()?;
    println!("{cores} cores, load {}", std::fs::read_to_string("/proc/loadavg")?.trim());
    let http = Client::builder().no_proxy().timeout(Duration::from_secs(60)).build()?;
    let (broker, _process, _books) = Broker::start(folder.path(), http)?;
    let broker = Arc::new(broker);
    let database = TestDb::platform();
    let people = Installation::new(database.db());
    let mut accounts = Vec::new();
    for number in 0..arguments.accounts {
        let login = broker.sim(Method::POST, "accounts", json!({ "cash": "10000000" })).await?;
        let text = |field: &str| login[field].as_str().unwrap_or_default().to_owned();
        let (user, _) = people.user(&format!("trader{number}"));
        people.save_key(user, &text("api_key"), &text("api_secret"));
        accounts.push(Account {
            user,
            id: text("account_id"),
            key: text("api_key"),
            secret: text("api_secret"),
        });
    }
    fill(arguments, &broker, &accounts).await?;

    let address = format!("127.0.0.1:{}", free_port());
    let mut command = Command::new(env!("CARGO_BIN_EXE_plimsoll"));
    command.env_clear().current_dir(folder.path()).args(["serve", "--bind", &address]);
    command.env("PATH", "/usr/bin:/bin").env("PROFILE", "development").env("ENCRYPTION_KEY", KEY);
    command.env("DATA_DIR", folder.path().join("server")).env("DATABASE_URL", database.url());
    command.env("ALPACA_API_KEY", &accounts[0].key).env("ALPACA_API_SECRET", &accounts[0].secret);
    command.env("ALPACA_BASE_URL", &broker.url).env("METRICS_ADDR", "127.0.0.1:0");
    command.env("LOG_LEVEL", "error").env("RECONCILE_INTERVAL", "24h");
    let began = Instant::now();
    let server = ChildGuard::spawn(command);
    let ready = format!("leases WHERE name LIKE 'account:%' AND ready) >= {} AS met", arguments.accounts);
    let met = |from: &str| {
        let rows = database.rows(&format!("SELECT (SELECT count(*) FROM {from}"));
        rows[0]["met"].as_bool().unwrap_or(false)
    };
    until("every account is compared", async || met(&ready)).await?;
    println!(
        "taken over: {} open orders and {} fills of {} accounts in {:.1} s; {:.0} MiB at most",
        arguments.accounts * arguments.orders,
        arguments.accounts * arguments.fills,
        arguments.accounts,
        began.elapsed().as_secs_f64(),
        memory(server.id(), "VmHWM")?,
    );
    compare(arguments, &broker, &database, &accounts, server.id()).await
}

/// Fills the broker: old fills, young ones, open orders.
async fn fill(arguments: &Arguments, broker: &Arc<Broker>, accounts: &[Account]) -> Result<()> {
    let began = Instant::now();
    let market =
        json!({"symbol": "SPY", "side": "buy", "type": "market", "time_in_force": "day", "qty": "1"});
    let resting = json!({
        "symbol": "AAPL", "side": "buy", "type": "limit", "time_in_force": "gtc", "qty": "1", "limit_price": "50",
    });
    let young = YOUNG.min(arguments.fills);
    broker.fill(accounts, arguments.fills - young, market.clone()).await?;
    let clock = broker.sim(Method::GET, "clock", Value::Null).await?;
    let now: DateTime<Utc> = clock["time"].as_str().ok_or("no time")?.parse()?;
    broker.sim(Method::PUT, "clock", json!({ "time": now + TimeDelta::hours(1) })).await?;
    broker.fill(accounts, young, market).await?;
    broker.fill(accounts, arguments.orders, resting).await?;
    println!("the broker was filled in {:.1} s", began.elapsed().as_secs_f64());
    Ok(())
}

/// Compares every account once more: nothing differs.
async fn compare(
    arguments: &Arguments,
    broker: &Broker,
    database: &TestDb,
    accounts: &[Account],
    server: u32,
) -> Result<()> {
    let pool = database.db();
    let before = broker.last_call().await?;
    let began = Instant::now();
    for account in accounts {
        let user = account.user;
        pool.run(move |tx| {
            let account = tx.account_of_user(user)?.map_or(AccountId(0), |account| account.id);
            tx.ask_for_run(
                account,
                user,
                Trigger::Demand,
                Uuid::from_u128(user.0.unsigned_abs().into()),
                SystemClock.now(),
            )
        })
        .await?;
    }
    let ended =
        "SELECT count(*)::bigint AS n FROM reconciliation_runs WHERE trigger = 'demand' AND status = 'ok'";
    let count = i64::try_from(accounts.len())?;
    until("every account is compared again", async || database.rows(ended)[0]["n"] == count).await?;
    let took = began.elapsed().as_secs_f64();
    let rows = broker.sim(Method::GET, &format!("requests?after={before}"), Value::Null).await?;
    let rows = rows.as_array().ok_or("no log")?;
    let calls = |of: &Account| rows.iter().filter(|row| row["account"] == of.id.as_str()).count();
    println!(
        "compared again: {} open orders and {} fills of {} accounts in {took:.1} s; at most {} calls for an account; \
         {:.0} MiB at most, {:.0} MiB now",
        arguments.accounts * arguments.orders,
        arguments.accounts * arguments.fills,
        arguments.accounts,
        accounts.iter().map(calls).max().unwrap_or(0),
        memory(server, "VmHWM")?,
        memory(server, "VmRSS")?,
    );
    let open = database.rows("SELECT count(*)::bigint AS n FROM discrepancies WHERE resolved_at IS NULL");
    println!("open differences: {}", open[0]["n"]);
    Ok(())
}
