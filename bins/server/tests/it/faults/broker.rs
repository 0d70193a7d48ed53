//! The simulator as a process that can be told to misbehave, stopped and started.

use std::path::PathBuf;
use std::process::Command;

use plimsoll_testkit::{ChildGuard, TestDb, free_port, program};
use reqwest::Method;
use serde_json::{Value, json};

use super::desk::Desk;
use super::world::PATIENCE;

pub(crate) struct Broker {
    child: Option<ChildGuard>,
    pub(crate) url: String,
    bind: String,
    folder: PathBuf,
    options: Vec<String>,
    /// At which everything trades after the next [start](Self::come).
    pub(crate) price: &'static str,
    replay: bool,
    books: TestDb,
    /// Its first login.
    pub(super) login: Value,
    http: reqwest::Client,
}

impl Broker {
    /// Starts one that trades everything at 100, or replays its recordings, on a port that it keeps. `options` are further
    /// ones of the program.
    pub(super) fn start(folder: PathBuf, options: &[&str], replay: bool, http: reqwest::Client) -> Self {
        let bind = format!("127.0.0.1:{}", free_port());
        let mut broker = Self {
            child: None,
            url: format!("http://{bind}"),
            bind,
            folder,
            options: options.iter().map(|option| (*option).to_owned()).collect(),
            books: TestDb::paper(),
            price: "100",
            replay,
            login: Value::Null,
            http,
        };
        broker.come();
        broker
    }

    /// Starts it after it [left](Self::leave), with the same books.
    pub(crate) fn come(&mut self) {
        let mut command = Command::new(program("paper-broker"));
        command.args(["--json", "--rate-limit", "off", "--bind", &self.bind]);
        if !self.replay {
            command.args(["--fixed-price", self.price]);
        }
        command.args(["--database-url", self.books.url()]).arg("--data-dir").arg(&self.folder);
        command.args(&self.options);
        let mut child = ChildGuard::spawn(command);
        let said: Value = serde_json::from_str(&child.line(PATIENCE)).unwrap();
        self.login = said["accounts"][0].clone();
        self.child = Some(child);
    }

    /// Ends it, so that nobody answers at its address.
    pub(crate) fn leave(&mut self) {
        if let Some(mut child) = self.child.take() {
            child.kill();
        }
    }

    /// A call of its own routes, such as `faults`.
    pub(crate) async fn sim(&self, method: Method, path: &str, body: Value) -> Value {
        let mut request = self.http.request(method, format!("{}/_sim/{path}", self.url));
        if !body.is_null() {
            request = request.json(&body);
        }
        let answer = request.send().await.unwrap();
        assert!(answer.status().is_success(), "{path}: {}", answer.status());
        serde_json::from_str(&answer.text().await.unwrap()).unwrap_or(Value::Null)
    }

    /// Adds a fault rule, such as `{"match": {"method": "POST", "path": "/orders"}, "action": "accept_then_drop", "times": 1}`.
    pub(crate) async fn fault(&self, rule: Value) {
        self.sim(Method::POST, "faults", rule).await;
    }

    /// How often the fault rule with this id has acted.
    pub(crate) async fn hits(&self, id: &str) -> u64 {
        let rules = self.list("faults").await;
        let rule = rules.iter().find(|rule| rule["id"] == id).expect("a rule that was added");
        rule["hits"].as_u64().unwrap()
    }

    /// Behaves again.
    pub(crate) async fn heal(&self) {
        self.sim(Method::DELETE, "faults", Value::Null).await;
    }

    /// All orders of all accounts.
    pub(crate) async fn orders(&self) -> Vec<Value> {
        self.list("orders").await
    }

    /// All executions of all accounts.
    pub(crate) async fn fills(&self) -> Vec<Value> {
        self.list("fills").await
    }

    /// What was called on the Trading API, oldest first.
    pub(crate) async fn requests(&self) -> Vec<Value> {
        self.list("requests").await
    }

    /// The calls about one order, as `METHOD status` (`-` for none), oldest first. Look-ups by client id count.
    pub(crate) async fn calls_about(&self, client_order_id: &str) -> Vec<String> {
        let about = |row: &Value| {
            let ids = row["client_order_ids"].as_array().unwrap();
            ids.iter().any(|id| id == client_order_id)
                || row["query"].as_str().is_some_and(|query| query.contains(client_order_id))
        };
        let rows = self.requests().await;
        let text = |row: &Value| {
            let status = row["status"].as_u64().map_or_else(|| "-".to_owned(), |status| status.to_string());
            format!("{} {status}", row["method"].as_str().unwrap())
        };
        rows.iter().filter(|row| about(row)).map(text).collect()
    }

    /// How many of the calls about an order were to have an effect, and how many of these had it.
    pub(crate) async fn sends(&self, client_order_id: &str) -> (usize, usize) {
        let calls = self.calls_about(client_order_id).await;
        let sends: Vec<_> =
            calls.iter().filter(|call| call.starts_with("POST") || call.starts_with("PATCH")).collect();
        (sends.len(), sends.iter().filter(|call| call.ends_with(" 200")).count())
    }

    /// Places an order straight at the broker, past the platform, with the trader's own key.
    pub(crate) async fn place_as(&self, desk: &Desk, body: &Value) -> Value {
        let (key, secret) = desk.keys();
        let request = self.http.post(format!("{}/v2/orders", self.url)).json(body);
        let request = request.header("APCA-API-KEY-ID", key).header("APCA-API-SECRET-KEY", secret);
        let answer = request.send().await.unwrap();
        assert_eq!(answer.status().as_u16(), 200, "{body}");
        serde_json::from_str(&answer.text().await.unwrap()).unwrap()
    }

    async fn list(&self, what: &str) -> Vec<Value> {
        self.sim(Method::GET, what, Value::Null).await.as_array().unwrap().clone()
    }

    /// Another account, with a key of its own.
    pub(super) async fn account(&self) -> Value {
        self.sim(Method::POST, "accounts", json!({})).await
    }
}
