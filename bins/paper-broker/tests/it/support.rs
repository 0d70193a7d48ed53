//! A broker over a database of its own, and clients for it.

use std::future::Future;
use std::time::{Duration, Instant};

use futures_util::{SinkExt, StreamExt};
use plimsoll_broker::install_crypto_provider;
use plimsoll_paper_broker::{Config, Database, Handle, Login, MarketSource, PaperBroker};
use plimsoll_testkit::TestDb;
use reqwest::header::HeaderMap;
use reqwest::{Client, Method};
use serde_json::{Value, json};
use tempfile::TempDir;
use tokio::net::TcpStream;
use tokio_tungstenite::tungstenite::Message;
use tokio_tungstenite::{MaybeTlsStream, WebSocketStream, connect_async};

pub(crate) const PATIENCE: Duration = Duration::from_secs(20);

/// A running broker at a fixed price of $100, and its first account's keys.
pub(crate) struct Bench {
    pub(crate) client: Account,
    pub(crate) handle: Option<Handle>,
    pub(crate) db: TestDb,
    pub(crate) folder: TempDir,
}

/// A client with one account's keys.
#[derive(Clone)]
pub(crate) struct Account {
    pub(crate) url: String,
    pub(crate) login: Login,
    pub(crate) http: Client,
}

pub(crate) struct Reply {
    pub(crate) status: u16,
    pub(crate) headers: HeaderMap,
    pub(crate) body: Value,
}

pub(crate) fn config(db: &TestDb, folder: &TempDir) -> Config {
    let mut config = Config::new(folder.path(), Database::Url(db.url().to_owned()));
    config.market = MarketSource::FixedPrice(100.into());
    config
}

pub(crate) async fn start(config: Config) -> Handle {
    install_crypto_provider();
    tokio::task::spawn_blocking(|| PaperBroker::start(config)).await.unwrap().unwrap()
}

impl Bench {
    pub(crate) async fn start() -> Self {
        Self::with(|_| {}).await
    }

    pub(crate) async fn with(edit: impl FnOnce(&mut Config)) -> Self {
        let (db, folder) = (TestDb::paper(), tempfile::tempdir().unwrap());
        let mut config = config(&db, &folder);
        edit(&mut config);
        let handle = start(config).await;
        Self { client: Account::of(&handle), handle: Some(handle), db, folder }
    }
}

impl std::ops::Deref for Bench {
    type Target = Account;
    fn deref(&self) -> &Account {
        &self.client
    }
}

impl Account {
    pub(crate) fn of(handle: &Handle) -> Self {
        Self::new(handle.url(), handle.accounts()[0].clone())
    }

    pub(crate) fn new(url: &str, login: Login) -> Self {
        install_crypto_provider();
        // each request on a connection of its own: a fault that closes one must not be hidden by a client's retry
        let http = Client::builder().pool_max_idle_per_host(0).timeout(PATIENCE).build().unwrap();
        Self { url: url.to_owned(), login, http }
    }

    pub(crate) async fn try_send(
        &self,
        method: Method,
        path: &str,
        body: Option<&str>,
    ) -> reqwest::Result<Reply> {
        let mut request = self.http.request(method, format!("{}{path}", self.url));
        request = request.header("APCA-API-KEY-ID", &self.login.api_key);
        request = request.header("APCA-API-SECRET-KEY", &self.login.api_secret);
        if let Some(body) = body {
            request = request.header("content-type", "application/json").body(body.to_owned());
        }
        let response = request.send().await?;
        let (status, headers) = (response.status().as_u16(), response.headers().clone());
        let text = response.text().await?;
        let body =
            serde_json::from_str(&text).unwrap_or(if text.is_empty() { Value::Null } else { text.into() });
        Ok(Reply { status, headers, body })
    }

    pub(crate) async fn send(&self, method: Method, path: &str, body: Option<&Value>) -> Reply {
        let body = body.map(Value::to_string);
        self.try_send(method, path, body.as_deref()).await.unwrap()
    }

    /// The body of a 200.
    pub(crate) async fn get(&self, path: &str) -> Value {
        let reply = self.send(Method::GET, path, None).await;
        assert_eq!(reply.status, 200, "{path}: {}", reply.body);
        reply.body
    }

    pub(crate) async fn post(&self, path: &str, body: Value) -> Reply {
        self.send(Method::POST, path, Some(&body)).await
    }

    pub(crate) async fn delete(&self, path: &str) -> Reply {
        self.send(Method::DELETE, path, None).await
    }

    /// Sends an order that is taken.
    pub(crate) async fn order(&self, body: Value) -> Value {
        let reply = self.post("/v2/orders", body).await;
        assert_eq!(reply.status, 200, "{}", reply.body);
        reply.body
    }

    /// Waits until an order has a status.
    pub(crate) async fn order_in(&self, order: &Value, status: &str) -> Value {
        let path = format!("/v2/orders/{}", text(&order["id"]));
        eventually(|| async {
            let order = self.get(&path).await;
            if order["status"] == status {
                Ok(order)
            } else {
                Err(format!("{} instead of {status}", order["status"]))
            }
        })
        .await
    }

    pub(crate) async fn filled(&self, body: Value) -> Value {
        let order = self.order(body).await;
        self.order_in(&order, "filled").await
    }

    pub(crate) async fn fault(&self, rule: Value) -> String {
        let reply = self.post("/_sim/faults", rule).await;
        assert_eq!(reply.status, 201, "{}", reply.body);
        text(&reply.body["id"]).to_owned()
    }

    pub(crate) async fn hits(&self, rule: &str) -> u64 {
        let list = self.get("/_sim/faults").await;
        list.as_array().unwrap().iter().find(|row| row["id"] == rule).unwrap()["hits"].as_u64().unwrap()
    }

    /// A stream connection that listens.
    pub(crate) async fn stream(&self) -> Stream {
        let mut stream = Stream::connect(&self.url).await;
        stream.authenticate(&self.login).await;
        stream.listen().await;
        stream
    }
}

/// A client of the order stream.
pub(crate) struct Stream {
    pub(crate) socket: WebSocketStream<MaybeTlsStream<TcpStream>>,
}

impl Stream {
    pub(crate) async fn connect(url: &str) -> Self {
        let (socket, _) = connect_async(format!("{}/stream", url.replacen("http", "ws", 1))).await.unwrap();
        Self { socket }
    }

    pub(crate) async fn say(&mut self, message: Value) {
        self.socket.send(Message::text(message.to_string())).await.unwrap();
    }

    pub(crate) async fn authenticate(&mut self, login: &Login) {
        let data = json!({ "key_id": login.api_key, "secret_key": login.api_secret });
        self.say(json!({ "action": "authenticate", "data": data })).await;
        let expected = json!({ "stream": "authorization", "data": { "status": "authorized", "action": "authenticate" } });
        assert_eq!(self.next().await, Some(expected));
    }

    pub(crate) async fn listen(&mut self) {
        self.say(json!({ "action": "listen", "data": { "streams": ["trade_updates"] } })).await;
        let expected = json!({ "stream": "listening", "data": { "streams": ["trade_updates"] } });
        assert_eq!(self.next().await, Some(expected));
    }

    /// The next message, which must be in a binary frame; `None` when the connection has ended.
    pub(crate) async fn next(&mut self) -> Option<Value> {
        loop {
            match tokio::time::timeout(PATIENCE, self.socket.next()).await.expect("a message in time")? {
                Ok(Message::Binary(bytes)) => return Some(serde_json::from_slice(&bytes).unwrap()),
                Ok(Message::Ping(_) | Message::Pong(_)) => {}
                Ok(Message::Close(_)) | Err(_) => return None,
                Ok(other) => panic!("{other:?}"),
            }
        }
    }

    /// The next event's name and order status.
    pub(crate) async fn event(&mut self) -> (String, Value) {
        let message = self.next().await.expect("an open connection");
        assert_eq!(message["stream"], "trade_updates", "{message}");
        (text(&message["data"]["event"]).to_owned(), message["data"].clone())
    }

    /// The names of the next events.
    pub(crate) async fn events(&mut self, count: usize) -> Vec<String> {
        let mut names = Vec::new();
        for _ in 0..count {
            names.push(self.event().await.0);
        }
        names
    }

    /// Nothing comes for a while.
    pub(crate) async fn silent(&mut self) {
        let next = tokio::time::timeout(Duration::from_millis(400), self.socket.next()).await;
        assert!(next.is_err(), "{next:?}");
    }
}

pub(crate) fn text(value: &Value) -> &str {
    value.as_str().unwrap_or_else(|| panic!("{value} is no text"))
}

pub(crate) fn market(symbol: &str, side: &str, qty: u32) -> Value {
    json!({ "symbol": symbol, "qty": qty.to_string(), "side": side, "type": "market", "time_in_force": "day" })
}

/// A buy that rests: far below the market of $100.
pub(crate) fn resting(symbol: &str, qty: u32) -> Value {
    json!({ "symbol": symbol, "qty": qty.to_string(), "side": "buy", "type": "limit", "time_in_force": "day", "limit_price": "50" })
}

/// Tries until it succeeds.
pub(crate) async fn eventually<T, F: Future<Output = Result<T, String>>>(attempt: impl Fn() -> F) -> T {
    let deadline = Instant::now() + PATIENCE;
    loop {
        match attempt().await {
            Ok(value) => return value,
            Err(seen) if Instant::now() > deadline => panic!("{seen}"),
            Err(_) => tokio::time::sleep(Duration::from_millis(10)).await,
        }
    }
}

/// A payload of the fixtures.
pub(crate) fn fixture(name: &str) -> Value {
    let path = format!("{}/tests/fixtures/{name}.json", env!("CARGO_MANIFEST_DIR"));
    serde_json::from_str(&std::fs::read_to_string(&path).unwrap_or_else(|error| panic!("{path}: {error}")))
        .unwrap()
}

/// The program with a data folder and a free port.
pub(crate) fn program(data_dir: &std::path::Path) -> std::process::Command {
    let mut command = std::process::Command::new(env!("CARGO_BIN_EXE_paper-broker"));
    command.arg("--data-dir").arg(data_dir);
    command
}
