//! A simulator, a database and instances of the server over both, all of them processes; users with keys of their own.

use std::process::Command;
use std::time::{Duration, Instant};

use plimsoll_core_domain::UserId;
use plimsoll_testkit::{ChildGuard, TestDb, free_port, program};
use reqwest::{Method, StatusCode};
use serde_json::{Value, json};
use tempfile::TempDir;

use crate::config::plimsoll;
use crate::demo::Client;
use crate::people::{Installation, KEY};

/// For what happens at once, on a machine that is busy.
pub(super) const PATIENCE: Duration = Duration::from_secs(60);

pub(super) struct World {
    pub(super) database: TestDb,
    people: Installation,
    folder: TempDir,
    pub(super) broker: String,
    _broker: ChildGuard,
    _books: TestDb,
    login: Value,
    http: reqwest::Client,
}

/// A user with an account of their own at the simulator.
pub(super) struct Trader {
    pub(super) id: UserId,
    pub(super) token: String,
    /// At the simulator.
    pub(super) account: String,
    pub(super) key: String,
    secret: String,
}

/// A running server.
pub(super) struct Instance {
    pub(super) child: ChildGuard,
    url: String,
}

impl World {
    pub(super) async fn new() -> Self {
        plimsoll_broker::install_crypto_provider();
        let (database, books, folder) = (TestDb::platform(), TestDb::paper(), tempfile::tempdir().unwrap());
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
        command.arg("--data-dir").arg(folder.path().join("broker"));
        let mut broker = ChildGuard::spawn(command);
        let said: Value = serde_json::from_str(&broker.line(PATIENCE)).unwrap();
        let people = Installation::new(database.db());
        Self {
            database,
            people,
            folder,
            broker: said["url"].as_str().unwrap().to_owned(),
            _broker: broker,
            _books: books,
            login: said["accounts"][0].clone(),
            http: reqwest::Client::builder().no_proxy().timeout(Duration::from_secs(30)).build().unwrap(),
        }
    }

    /// Starts a server. Its settings have the simulator's first login; there is no administrator whose it could be.
    pub(super) async fn serve(&self, name: &str) -> Instance {
        let bind = format!("127.0.0.1:{}", free_port());
        let mut command = plimsoll(self.folder.path());
        command.args(["serve", "--bind", &bind]);
        command.env("DATABASE_URL", self.database.url()).env("PROFILE", "development");
        command.env("ENCRYPTION_KEY", KEY).env("DATA_DIR", self.folder.path().join(name));
        command.env("ALPACA_API_KEY", self.login["api_key"].as_str().unwrap());
        command.env("ALPACA_API_SECRET", self.login["api_secret"].as_str().unwrap());
        command.env("ALPACA_BASE_URL", &self.broker).env("METRICS_ADDR", "127.0.0.1:0");
        command.env("ARGON2_MEMORY_KIB", "12288").env("LOG_LEVEL", "error").env("RATE_LIMIT_ORDERS", "off");
        let instance = Instance { child: ChildGuard::spawn(command), url: format!("http://{bind}") };
        let url = format!("{}/health/ready", instance.url);
        until("the server is ready", async || {
            self.http.get(&url).send().await.is_ok_and(|answer| answer.status().is_success())
        })
        .await;
        instance
    }

    /// A call of the simulator's own routes.
    pub(super) async fn sim(&self, method: Method, path: &str, body: Value) -> Value {
        let mut request = self.http.request(method, format!("{}/_sim/{path}", self.broker));
        if !body.is_null() {
            request = request.json(&body);
        }
        let answer = request.send().await.unwrap();
        assert!(answer.status().is_success(), "{path}: {}", answer.status());
        serde_json::from_str(&answer.text().await.unwrap()).unwrap_or(Value::Null)
    }

    /// How many stream connections each account at the simulator has.
    pub(super) async fn streams(&self, account: &str) -> u64 {
        let rows = self.sim(Method::GET, "streams", Value::Null).await;
        let row = rows.as_array().unwrap().iter().find(|row| row["account"] == account);
        row.map_or(0, |row| row["connections"].as_u64().unwrap())
    }

    /// A signed-in user with a key of an account of their own at the simulator.
    pub(super) async fn trader(&self, name: &str) -> Trader {
        let login = self.sim(Method::POST, "accounts", json!({})).await;
        let text = |field: &str| login[field].as_str().unwrap().to_owned();
        let (id, token) = self.people.user(name);
        let (account, key, secret) = (text("account_id"), text("api_key"), text("api_secret"));
        let trader = Trader { id, token, account, key, secret };
        self.save_key(&trader);
        trader
    }

    /// Saves the trader's key pair as it is now. Nobody is woken: the next regular look finds it.
    pub(super) fn save_key(&self, trader: &Trader) {
        self.people.save_key(trader.id, &trader.key, &trader.secret);
    }

    /// Another key pair of the trader's account at the simulator, not saved yet.
    pub(super) async fn next_key(&self, trader: &mut Trader) {
        let login = self.sim(Method::POST, "keys", json!({ "account_id": trader.account })).await;
        trader.key = login["api_key"].as_str().unwrap().to_owned();
        trader.secret = login["api_secret"].as_str().unwrap().to_owned();
    }

    /// The simulator refuses the trader's key from now on.
    pub(super) async fn revoke(&self, key: &str) {
        self.sim(Method::DELETE, &format!("keys/{key}"), Value::Null).await;
    }

    pub(super) fn state(&self, trader: &Trader) -> String {
        let query = format!("SELECT state FROM broker_credentials WHERE user_id = {}", trader.id);
        self.database
            .rows(&query)
            .first()
            .map_or_else(String::new, |row| row["state"].as_str().unwrap().into())
    }

    pub(super) fn count(&self, from: &str) -> i64 {
        self.database.rows(&format!("SELECT count(*)::bigint AS n FROM {from}"))[0]["n"].as_i64().unwrap()
    }

    /// The client ids of the orders at the simulator, of one account or all.
    pub(super) async fn orders_at_broker(&self, account: Option<&str>) -> Vec<String> {
        let filter = account.map(|account| format!("?account={account}")).unwrap_or_default();
        let rows = self.sim(Method::GET, &format!("orders{filter}"), Value::Null).await;
        rows.as_array()
            .unwrap()
            .iter()
            .map(|row| row["client_order_id"].as_str().unwrap().to_owned())
            .collect()
    }
}

impl Trader {
    /// Has the key pair of a login of the simulator from now on; it is not saved yet.
    pub(super) fn take(&mut self, login: &Value) {
        let text = |field: &str| login[field].as_str().unwrap().to_owned();
        (self.account, self.key, self.secret) = (text("account_id"), text("api_key"), text("api_secret"));
    }

    /// Has another trader's key pair from now on; it is not saved yet.
    pub(super) fn take_over(&mut self, other: &Self) {
        (self.key, self.secret) = (other.key.clone(), other.secret.clone());
    }
}

impl Instance {
    pub(super) fn client(&self, world: &World, trader: &Trader) -> Client {
        Client { url: self.url.clone(), http: world.http.clone(), token: trader.token.clone() }
    }

    /// Saves the trader's key pair as the trader would.
    pub(super) async fn put_key(&self, world: &World, trader: &Trader) {
        let body =
            json!({"api_key": trader.key, "api_secret": trader.secret, "environment": "paper"}).to_string();
        let client = self.client(world, trader);
        let put = client.send(Method::PUT, "/broker/credentials/alpaca", None, Some(body)).await.unwrap();
        assert_eq!(put.0, StatusCode::OK, "{}", put.1);
    }
}

/// Places an order to buy one share, and answers its client id; waits while the account is not ready.
pub(super) async fn buy(client: &Client, key: &str) -> String {
    let body = json!({"symbol": "SPY", "side": "buy", "type": "market", "time_in_force": "day", "qty": "1"});
    let deadline = Instant::now() + PATIENCE;
    loop {
        let sent = client.send(Method::POST, "/orders", Some(key), Some(body.to_string())).await;
        match sent {
            Ok((status, answer, _)) if status.is_success() => {
                return answer["client_order_id"].as_str().unwrap().to_owned();
            }
            Ok((status, answer, _)) => {
                assert_eq!(
                    (status, &answer["code"]),
                    (StatusCode::SERVICE_UNAVAILABLE, &json!("reconciling"))
                );
                assert!(Instant::now() < deadline, "{answer}");
            }
            Err(error) => assert!(Instant::now() < deadline, "{error}"),
        }
        tokio::time::sleep(Duration::from_millis(100)).await;
    }
}

/// Waits for something, and answers how long it took.
pub(super) async fn until(what: &str, met: impl AsyncFn() -> bool) -> Duration {
    let began = Instant::now();
    while !met().await {
        assert!(began.elapsed() < PATIENCE, "not in time: {what}");
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
    began.elapsed()
}

/// Resident memory of a process, in KiB.
pub(super) fn resident(child: &ChildGuard) -> i64 {
    let status = std::fs::read_to_string(format!("/proc/{}/status", child.id())).unwrap();
    let line = status.lines().find(|line| line.starts_with("VmRSS:")).unwrap();
    line.split_whitespace().nth(1).unwrap().parse().unwrap()
}
