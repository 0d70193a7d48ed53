//! A running demo server, and clients of it.

use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::{Duration, Instant};

use futures_util::{SinkExt, StreamExt};
use plimsoll_testkit::{ChildGuard, free_port};
use reqwest::{Method, StatusCode};
use serde_json::{Value, json};
use tempfile::TempDir;
use tokio::net::TcpStream;
use tokio_tungstenite::tungstenite::Message;
use tokio_tungstenite::{MaybeTlsStream, WebSocketStream};

/// A request without an answer for so long has failed: a killed server may leave one behind.
const ANSWERS_WITHIN: Duration = Duration::from_secs(30);
/// How long a start may take on a busy machine.
const STARTS_WITHIN: Duration = Duration::from_secs(60);

pub(crate) struct Demo {
    pub(crate) child: ChildGuard,
    pub(crate) url: String,
    pub(crate) logins: Value,
    pub(crate) http: reqwest::Client,
    data: PathBuf,
    settings: Vec<(String, String)>,
    _dir: TempDir,
}

fn command(data: &Path, settings: &[(String, String)]) -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_plimsoll"));
    command.env_remove("DATABASE_URL").env_remove("ALPACA_API_KEY").current_dir(data);
    command.env("DATA_DIR", data).env("ARGON2_MEMORY_KIB", "12288").env("ARGON2_ITERATIONS", "3");
    command.env("METRICS_ADDR", "127.0.0.1:0").env("LOG_LEVEL", "warn");
    command.envs(settings.iter().map(|(name, value)| (name.as_str(), value.as_str())));
    command
}

impl Demo {
    pub(crate) async fn start(settings: &[(&str, &str)]) -> Self {
        let dir = tempfile::Builder::new().prefix("plm").tempdir().unwrap();
        // As root the private PostgreSQL runs as another account, which must be able to enter.
        let open = std::os::unix::fs::PermissionsExt::from_mode(0o711);
        std::fs::set_permissions(dir.path(), open).unwrap();
        let data = dir.path().join("data");
        std::fs::create_dir(&data).unwrap();
        let port = free_port();
        let mut all = vec![("BIND_ADDR".to_owned(), format!("127.0.0.1:{port}"))];
        all.extend(settings.iter().map(|(name, value)| ((*name).to_owned(), (*value).to_owned())));
        let child = spawn(&data, &all);
        plimsoll_broker::install_crypto_provider();
        let mut demo = Self {
            child,
            url: format!("http://127.0.0.1:{port}"),
            logins: Value::Null,
            http: reqwest::Client::builder().no_proxy().timeout(ANSWERS_WITHIN).build().unwrap(),
            data,
            settings: all,
            _dir: dir,
        };
        demo.ready().await;
        demo.logins = demo.show_logins();
        demo
    }

    /// Starts the server again over the same data folder.
    pub(crate) async fn restart(&mut self) {
        self.child = spawn(&self.data, &self.settings);
        self.ready().await;
        self.logins = self.show_logins();
    }

    /// The program over this demonstration's folder, while it runs.
    pub(crate) fn command(&self) -> Command {
        command(&self.data, &self.settings)
    }

    pub(crate) fn show_logins(&self) -> Value {
        let output =
            command(&self.data, &self.settings).args(["demo", "--show-logins", "--json"]).output().unwrap();
        assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
        serde_json::from_slice(&output.stdout).unwrap()
    }

    async fn ready(&self) {
        let deadline = Instant::now() + STARTS_WITHIN;
        loop {
            let answer = self.http.get(format!("{}/health/ready", self.url)).send().await;
            if answer.is_ok_and(|answer| answer.status().is_success()) {
                return;
            }
            assert!(Instant::now() < deadline, "not ready in time");
            tokio::time::sleep(Duration::from_millis(50)).await;
        }
    }

    pub(crate) async fn login(&self, role: &str) -> Client {
        let users = self.logins["users"].as_array().unwrap();
        let user = users.iter().find(|user| user["role"] == role).unwrap();
        let answer = self
            .http
            .post(format!("{}/auth/login", self.url))
            .json(&json!({"email": user["email"], "password": user["password"]}))
            .send()
            .await
            .unwrap();
        assert_eq!(answer.status(), StatusCode::OK);
        let body: Value = answer.json().await.unwrap();
        let token = body["token"].as_str().unwrap().to_owned();
        let client = Client { url: self.url.clone(), http: self.http.clone(), token };
        client.trading().await;
        client
    }

    /// A session of the user of this role, with a factor proven a moment ago.
    pub(crate) async fn stepped_up(&self, role: &str) -> Client {
        let users = self.logins["users"].as_array().unwrap();
        let user = users.iter().find(|user| user["role"] == role).unwrap();
        let post = async |path: &str, token: Option<&str>, body: Value| {
            let request = self.http.post(format!("{}{path}", self.url)).json(&body);
            let request = token.into_iter().fold(request, |request, token| request.bearer_auth(token));
            let answer: Value = request.send().await.unwrap().json().await.unwrap();
            answer["token"].as_str().unwrap().to_owned()
        };
        let login = json!({"email": user["email"], "password": user["password"]});
        let token = post("/auth/login", None, login).await;
        let token = post("/auth/step-up", Some(&token), json!({"password": user["password"]})).await;
        Client { url: self.url.clone(), http: self.http.clone(), token }
    }

    /// The rows of the paper broker's ledger.
    pub(crate) async fn ledger(&self, what: &str) -> Vec<Value> {
        let url = self.logins["paper_broker"]["url"].as_str().unwrap();
        let rows: Value =
            self.http.get(format!("{url}/_sim/{what}")).send().await.unwrap().json().await.unwrap();
        match rows {
            Value::Array(rows) => rows,
            mut other => other["items"].take().as_array().cloned().unwrap(),
        }
    }
}

fn spawn(data: &Path, settings: &[(String, String)]) -> ChildGuard {
    let mut command = command(data, settings);
    command.arg("demo");
    ChildGuard::spawn(command)
}

#[derive(Clone)]
pub(crate) struct Client {
    pub(crate) url: String,
    pub(crate) http: reqwest::Client,
    pub(crate) token: String,
}

pub(crate) type Socket = WebSocketStream<MaybeTlsStream<TcpStream>>;

impl Client {
    /// Waits until the account takes orders.
    async fn trading(&self) {
        let deadline = Instant::now() + STARTS_WITHIN;
        while self.get("/account").await.0 != StatusCode::OK {
            assert!(Instant::now() < deadline, "the broker account is not there in time");
            tokio::time::sleep(Duration::from_millis(50)).await;
        }
    }

    pub(crate) async fn send(
        &self,
        method: Method,
        path: &str,
        key: Option<&str>,
        body: Option<String>,
    ) -> Result<(StatusCode, Value, bool), reqwest::Error> {
        let mut request = self.http.request(method, format!("{}{path}", self.url)).bearer_auth(&self.token);
        if let Some(key) = key {
            request = request.header("Idempotency-Key", key);
        }
        if let Some(body) = body {
            request = request.header("Content-Type", "application/json").body(body);
        }
        let answer = request.send().await?;
        let (status, replayed) = (answer.status(), answer.headers().contains_key("idempotency-replayed"));
        let text = answer.text().await?;
        Ok((status, serde_json::from_str(&text).unwrap_or(Value::String(text)), replayed))
    }

    pub(crate) async fn get(&self, path: &str) -> (StatusCode, Value) {
        let (status, body, _) = self.send(Method::GET, path, None, None).await.unwrap();
        (status, body)
    }

    pub(crate) async fn order(&self, key: &str, body: &Value) -> (StatusCode, Value) {
        loop {
            let (status, answer, _) =
                self.send(Method::POST, "/orders", Some(key), Some(body.to_string())).await.unwrap();
            if status == StatusCode::SERVICE_UNAVAILABLE && answer["code"] == "reconciling" {
                tokio::time::sleep(Duration::from_millis(100)).await;
                continue;
            }
            return (status, answer);
        }
    }

    /// Opens the WebSocket and reads its greeting.
    pub(crate) async fn socket(&self, cursor: Option<&str>) -> (Socket, Value) {
        let address = self.url.replace("http://", "ws://");
        let query = cursor.map(|cursor| format!("?cursor={cursor}")).unwrap_or_default();
        let mut request = tokio_tungstenite::tungstenite::client::IntoClientRequest::into_client_request(
            format!("{address}/ws{query}"),
        )
        .unwrap();
        request.headers_mut().insert("authorization", format!("Bearer {}", self.token).parse().unwrap());
        let (mut socket, _) = tokio_tungstenite::connect_async(request).await.unwrap();
        let hello = next(&mut socket).await;
        assert_eq!(hello["type"], "hello", "{hello}");
        (socket, hello)
    }
}

/// The next JSON message.
pub(crate) async fn next(socket: &mut Socket) -> Value {
    loop {
        let message =
            tokio::time::timeout(Duration::from_secs(20), socket.next()).await.expect("a message in time");
        match message.expect("an open socket").unwrap() {
            Message::Text(text) => return serde_json::from_str(&text).unwrap(),
            Message::Ping(data) => socket.send(Message::Pong(data)).await.unwrap(),
            Message::Close(frame) => {
                return json!({"type": "close", "code": frame.map(|frame| u16::from(frame.code))});
            }
            _ => {}
        }
    }
}
