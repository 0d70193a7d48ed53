//! Two instances over one database, from the empty database on: the setup token at the terminal, a login that is known and
//! ended everywhere, upkeep that is done once, and an audit log that an operator verifies.

use std::process::Command;
use std::time::{Duration, Instant};

use plimsoll_testkit::{ChildGuard, TestDb, free_port};
use reqwest::{Method, StatusCode};
use serde_json::{Value, json};
use tempfile::TempDir;

use crate::config::{plimsoll, stdout};
use crate::demo::{Client, next};

const PATIENCE: Duration = Duration::from_secs(90);
const EMAIL: &str = "boss@example.com";
const PASSWORD: &str = "umbrella-Kestrel 41 pavement";

struct Pair {
    database: TestDb,
    folder: TempDir,
    instances: Vec<(ChildGuard, Client)>,
}

impl Pair {
    /// Both run against the same database with the same key; every duration of upkeep is two hundred times shorter.
    async fn start() -> Self {
        plimsoll_broker::install_crypto_provider();
        let mut this = Self {
            database: TestDb::platform(),
            folder: tempfile::tempdir().unwrap(),
            instances: Vec::new(),
        };
        for name in ["one", "two"] {
            let bind = format!("127.0.0.1:{}", free_port());
            let mut command = this.command(name);
            command.args(["serve", "--bind", &bind]);
            let child = ChildGuard::spawn(command);
            let http =
                reqwest::Client::builder().no_proxy().timeout(Duration::from_secs(30)).build().unwrap();
            let client = Client { url: format!("http://{bind}"), http, token: String::new() };
            this.instances.push((child, client));
        }
        for (_, client) in &this.instances {
            ready(client).await;
        }
        this
    }

    fn command(&self, name: &str) -> Command {
        let mut command = plimsoll(self.folder.path());
        command.env("DATABASE_URL", self.database.url()).env("PROFILE", "development");
        command.env("ENCRYPTION_KEY", "c2l4dGVlbiByYW5kb20gd29yZHMgb2YgYSB0ZXN0ISE=");
        command.env("DATA_DIR", self.folder.path().join(name));
        // A broker that is never there: what is looked at here does without.
        command
            .env("ALPACA_API_KEY", "PKTESTINSTANCES00001")
            .env("ALPACA_API_SECRET", "nobody needs this secret");
        command.env("ALPACA_BASE_URL", "http://127.0.0.1:9").env("METRICS_ADDR", "127.0.0.1:0");
        command.env("ARGON2_MEMORY_KIB", "12288").env("LOG_LEVEL", "error").env("TIME_SCALE", "0.005");
        command
    }

    fn client(&self, number: usize, token: &str) -> Client {
        Client { token: token.to_owned(), ..self.instances[number].1.clone() }
    }

    /// The setup token that an instance printed at its terminal.
    fn setup_token(&mut self, number: usize) -> String {
        loop {
            let line = self.instances[number].0.line(PATIENCE);
            if let Some((_, rest)) = line.split_once(r#""setup_token":""#) {
                return rest.split('"').next().unwrap().to_owned();
            }
        }
    }

    fn count(&self, query: &str) -> i64 {
        self.database.rows(&format!("SELECT ({query})::bigint AS n"))[0]["n"].as_i64().unwrap()
    }
}

async fn ready(client: &Client) {
    let deadline = Instant::now() + PATIENCE;
    loop {
        let answer = client.http.get(format!("{}/health/ready", client.url)).send().await;
        if answer.is_ok_and(|answer| answer.status().is_success()) {
            return;
        }
        assert!(Instant::now() < deadline, "not ready in time");
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
}

async fn post(client: &Client, path: &str, body: Value) -> (StatusCode, Value) {
    let (status, body, _) = client.send(Method::POST, path, None, Some(body.to_string())).await.unwrap();
    (status, body)
}

async fn until(what: &str, met: impl Fn() -> bool) {
    let deadline = Instant::now() + PATIENCE;
    while !met() {
        assert!(Instant::now() < deadline, "{what}");
        tokio::time::sleep(Duration::from_millis(100)).await;
    }
}

/// ADM-1: the token at the terminal makes the first administrator, once, at whichever instance. Two start-ups leave one
/// token that works: the later one voids the earlier.
async fn first_admin(pair: &mut Pair) {
    let tokens = [pair.setup_token(0), pair.setup_token(1)];
    let visitor = pair.client(1, "");
    let body = |token: &str| json!({"setup_token": token, "email": EMAIL, "password": PASSWORD});
    let mut statuses = Vec::new();
    for token in &tokens {
        statuses.push(post(&visitor, "/auth/setup", body(token)).await.0);
    }
    let refused = if statuses[0] == StatusCode::CREATED {
        // there is an administrator by then
        [StatusCode::CREATED, StatusCode::NOT_FOUND]
    } else {
        [StatusCode::BAD_REQUEST, StatusCode::CREATED]
    };
    assert_eq!(statuses, refused);
    for token in &tokens {
        assert_eq!(post(&pair.client(0, ""), "/auth/setup", body(token)).await.0, StatusCode::NOT_FOUND);
    }
    assert_eq!(pair.count("SELECT count(*) FROM users WHERE role = 'admin'"), 1);
}

/// SES-2, WSS-4: a logout at one instance closes the socket at the other, which does not know the session any more.
async fn logout_is_heard_everywhere(pair: &Pair) {
    let (status, body) =
        post(&pair.client(0, ""), "/auth/login", json!({"email": EMAIL, "password": PASSWORD})).await;
    assert_eq!(status, StatusCode::OK, "{body}");
    let token = body["token"].as_str().unwrap();
    let (here, there) = (pair.client(0, token), pair.client(1, token));
    assert_eq!(there.get("/auth/me").await.0, StatusCode::OK);
    let (mut socket, _) = there.socket(None).await;
    assert_eq!(post(&here, "/auth/logout", json!({})).await.0, StatusCode::NO_CONTENT);
    let closed = loop {
        let message = next(&mut socket).await;
        if message["type"] == "close" {
            break message;
        }
    };
    assert_eq!(closed["code"], 4401, "{closed}");
    assert_eq!(there.get("/auth/me").await.0, StatusCode::UNAUTHORIZED);
}

/// CLN-1: of every slot there is one job, whichever instance asked for it and whichever did it.
async fn upkeep_is_done_once(pair: &Pair) {
    let kinds = pair.database.rows("SELECT DISTINCT kind FROM jobs WHERE queue = 'upkeep' ORDER BY kind");
    assert!(kinds.len() >= 7, "sweeps, the cleanings and the checkpoint: {kinds:?}");
    until("five slots of every sweep are done", || {
        pair.database
            .rows("SELECT kind FROM jobs WHERE queue = 'upkeep' AND state = 'done' GROUP BY kind HAVING count(*) >= 5")
            .len()
            >= 3
    })
    .await;
    let twice = pair.database.rows(
        "SELECT kind, payload, count(*) FROM jobs WHERE queue = 'upkeep' GROUP BY kind, payload HAVING count(*) > 1",
    );
    assert!(twice.is_empty(), "{twice:?}");
    assert_eq!(pair.count("SELECT count(*) FROM jobs WHERE queue = 'upkeep' AND state = 'dead'"), 0);
}

fn verify(pair: &Pair, code: i32) -> Value {
    let output = pair.command("operator").args(["audit", "verify", "--json"]).output().unwrap();
    assert_eq!(output.status.code(), Some(code), "{output:?}");
    serde_json::from_str(&stdout(&output)).unwrap()
}

/// AUD-2: the checkpoint comes by itself, the whole log verifies beside both servers, and a changed entry is named.
async fn the_audit_log_verifies(pair: &Pair) {
    until("a checkpoint is signed", || pair.count("SELECT count(*) FROM audit_checkpoints") > 0).await;
    let report = verify(pair, 0);
    assert_eq!((&report["ok"], &report["first_bad"]), (&json!(true), &Value::Null), "{report}");
    assert!(report["newest_checkpoint"].is_string() && report["entries"].as_u64() >= Some(3), "{report}");

    let changed =
        pair.database.rows("SELECT chain, seq FROM audit_log WHERE action = 'login' AND chain > 0 LIMIT 1");
    let (chain, seq) = (changed[0]["chain"].as_i64().unwrap(), changed[0]["seq"].as_i64().unwrap());
    pair.database.execute("ALTER TABLE audit_log DISABLE TRIGGER USER");
    pair.database
        .execute(&format!("UPDATE audit_log SET outcome = 'failure' WHERE chain = {chain} AND seq = {seq}"));
    pair.database.execute("ALTER TABLE audit_log ENABLE TRIGGER USER");
    let report = verify(pair, 1);
    assert_eq!(
        (&report["ok"], &report["first_bad"]["reason"]),
        (&json!(false), &json!("altered")),
        "{report}"
    );
    assert_eq!(report["first_bad"]["user_id"], chain, "{report}");
    assert!(report["first_bad"]["entry_id"].as_str().unwrap().ends_with(&seq.to_string()), "{report}");
}

#[tokio::test(flavor = "multi_thread")]
async fn two_instances_are_one_service() {
    let mut pair = Pair::start().await;
    first_admin(&mut pair).await;
    logout_is_heard_everywhere(&pair).await;
    upkeep_is_done_once(&pair).await;
    the_audit_log_verifies(&pair).await;
}
