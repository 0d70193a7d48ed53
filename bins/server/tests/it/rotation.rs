//! A rotation while servers write, killed again and again: it ends with one key, and everything that it moved opens.

use std::sync::Arc;
use std::time::{Duration, Instant};

use plimsoll_auth::totp::{TotpSecret, step_at};
use plimsoll_auth::vault::{self, BrokerName, Opened};
use plimsoll_auth::{Act, UserId};
use plimsoll_core_domain::{Clock, SystemClock};
use plimsoll_crypto::passwords::{HashParams, Passwords};
use plimsoll_crypto::{DataKey, KeyRing, MasterKey, OsRandom, Stretching};
use plimsoll_storage::Db;
use plimsoll_storage::platform::keys::PlatformKeys;
use plimsoll_testkit::{ChildGuard, free_port};
use reqwest::StatusCode;
use secrecy::{ExposeSecret, SecretString};
use serde_json::{Value, json};

use crate::demo::Client;
use crate::keys::{Desk, FIRST, SECOND, spawn_rotation};

const PATIENCE: Duration = Duration::from_secs(120);
const PASSWORD: &str = "umbrella-Kestrel 41 pavement";
/// Users that were there before, each with a data key under the first key.
const USERS: i64 = 12_000;
/// Users who enrol and save keys while the rotation runs.
const WRITERS: i64 = 12;
const KILLS: usize = 4;

fn ring(active: &str, old: &[&str]) -> KeyRing {
    let master =
        |text: &str| MasterKey::parse(text, &Stretching::new([0; 16].to_vec(), 1_000_000).unwrap()).unwrap();
    old.iter().fold(KeyRing::new(&master(active)), |ring, old| ring.with_old(&master(old)).unwrap())
}

fn plant_users(desk: &Desk) {
    let params = HashParams { memory_kib: 12_288, iterations: 3, parallelism: 1 };
    let hash = Passwords::new(params, &mut OsRandom)
        .unwrap()
        .hash(&SecretString::from(PASSWORD.to_owned()), &mut OsRandom)
        .unwrap();
    desk.database.execute(&format!(
        "INSERT INTO users (email, email_folded, password_hash, email_verified_at) \
         SELECT e, e, '{}', now() FROM (SELECT 'user' || n || '@example.com' AS e FROM generate_series(1, {USERS}) n) t",
        hash.as_str()
    ));
    desk.database.execute("INSERT INTO audit_head (chain, seq, mac) SELECT id, 0, decode(repeat('00', 32), 'hex') FROM users ON CONFLICT DO NOTHING");
    let first = ring(FIRST, &[]);
    let users = desk.database.rows("SELECT id FROM users ORDER BY id");
    for some in users.chunks(2_000) {
        let rows: Vec<String> = some
            .iter()
            .map(|row| {
                let user = row["id"].as_i64().unwrap();
                let wrapped = DataKey::generate(&mut OsRandom).wrap(&first, user, &mut OsRandom);
                let hex = data_encoding::HEXLOWER.encode(&wrapped);
                format!("({user}, '{}', '\\x{hex}', now(), now())", first.active())
            })
            .collect();
        desk.database.execute(&format!(
            "INSERT INTO user_keys (user_id, key_id, wrapped, created_at, updated_at) VALUES {}",
            rows.join(",")
        ));
    }
}

struct Server {
    _child: ChildGuard,
    client: Client,
}

async fn serve(desk: &Desk, key: &str, old: &[&str]) -> Server {
    let bind = format!("127.0.0.1:{}", free_port());
    let mut command = desk.command(key, old, &format!("serve --bind {bind}"));
    command.env("TRUSTED_PROXIES", "127.0.0.1/32").env("DATA_DIR", desk.folder.path().join(&bind));
    let child = ChildGuard::spawn(command);
    plimsoll_broker::install_crypto_provider();
    let http = reqwest::Client::builder().no_proxy().timeout(Duration::from_secs(60)).build().unwrap();
    let client = Client { url: format!("http://{bind}"), http, token: String::new() };
    let deadline = Instant::now() + PATIENCE;
    loop {
        let answer = client.http.get(format!("{}/health/ready", client.url)).send().await;
        if answer.is_ok_and(|answer| answer.status().is_success()) {
            return Server { _child: child, client };
        }
        assert!(Instant::now() < deadline, "not ready in time");
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
}

/// A user at an address of their own, so that no limit of one network holds them up.
struct Writer {
    client: Client,
    n: i64,
}

impl Writer {
    async fn send(
        &self,
        method: reqwest::Method,
        path: &str,
        token: &str,
        body: &Value,
    ) -> (StatusCode, Value) {
        let request = self.client.http.request(method, format!("{}{path}", self.client.url)).json(body);
        let request = request.header("X-Forwarded-For", format!("192.0.2.{}", self.n)).bearer_auth(token);
        let answer = request.send().await.unwrap();
        let status = answer.status();
        (status, answer.json().await.unwrap_or(Value::Null))
    }

    async fn post(&self, path: &str, token: &str, body: Value) -> Value {
        let (status, answer) = self.send(reqwest::Method::POST, path, token, &body).await;
        assert!(status.is_success(), "{path}: {status} {answer}");
        answer
    }

    fn email(&self) -> String {
        format!("user{}@example.com", self.n)
    }

    fn api_key(&self) -> String {
        format!("PKROTATION{:010}", self.n)
    }

    /// Signs in, turns the second factor on and saves broker keys; gives the factor's secret.
    async fn enrol(&self) -> TotpSecret {
        let token = |answer: &Value| answer["token"].as_str().unwrap().to_owned();
        let login = json!({ "email": self.email(), "password": PASSWORD });
        let signed_in = token(&self.post("/auth/login", "", login).await);
        let proven = token(&self.post("/auth/step-up", &signed_in, json!({ "password": PASSWORD })).await);
        let setup = self.post("/auth/2fa/setup", &proven, json!({})).await;
        let secret = TotpSecret::parse(setup["secret"].as_str().unwrap()).unwrap();
        let code = code_of(&secret, 0);
        let enabled = token(&self.post("/auth/2fa/enable", &proven, json!({ "code": code })).await);
        self.save_keys(&enabled).await;
        secret
    }

    async fn save_keys(&self, token: &str) {
        let keys = json!({
            "api_key": self.api_key(), "api_secret": format!("secret-of-writer-{:010}", self.n), "environment": "paper",
        });
        let (status, saved) =
            self.send(reqwest::Method::PUT, "/broker/credentials/alpaca", token, &keys).await;
        assert_eq!(status, StatusCode::OK, "{saved}");
    }

    /// Signs in with the second factor, by the code of the step after the one that enabled it.
    async fn sign_in(&self, secret: &TotpSecret) {
        let login = json!({ "email": self.email(), "password": PASSWORD });
        let (_, asked) = self.send(reqwest::Method::POST, "/auth/login", "", &login).await;
        let challenge = asked["challenge"].as_str().unwrap_or_else(|| panic!("{asked}"));
        let answer = json!({ "challenge": challenge, "code": code_of(secret, 1) });
        let (status, signed_in) = self.send(reqwest::Method::POST, "/auth/2fa/verify", "", &answer).await;
        assert_eq!(status, StatusCode::OK, "{signed_in}");
    }
}

fn user_of(desk: &Desk, email: &str) -> UserId {
    let rows = desk.database.rows(&format!("SELECT id FROM users WHERE email = '{email}'"));
    UserId(rows[0]["id"].as_i64().unwrap())
}

/// The code of this half minute, or of a later one.
fn code_of(secret: &TotpSecret, later: i64) -> String {
    secret.code_of(step_at(SystemClock.now()) + later).expose_text().expose_secret().to_owned()
}

/// ENC-7, ENC-8: servers write, the rotation is killed in the middle and run again; in the end one key id is left, every
/// data key and every secret opens with the new key alone, and a user with a second factor signs in.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_rotation_that_is_killed_under_load_ends_with_one_key() {
    let desk = Desk::new();
    assert_eq!(desk.run(FIRST, &[], "user list").status.code(), Some(0));
    plant_users(&desk);
    let old = ring(FIRST, &[]).active();
    let left = || desk.count(&format!("user_keys WHERE key_id = '{old}'"));
    assert_eq!(left(), USERS);

    // one of the users enrols under the first key; all servers get the new one before the rotation
    let first = serve(&desk, FIRST, &[]).await;
    let early = Writer { client: first.client.clone(), n: WRITERS + 1 };
    let early_secret = early.enrol().await;
    drop(first);
    let servers = [serve(&desk, SECOND, &[FIRST]).await, serve(&desk, SECOND, &[FIRST]).await];
    let writing = {
        let clients: Vec<Client> = servers.iter().map(|server| server.client.clone()).collect();
        tokio::spawn(async move {
            let mut secrets = Vec::new();
            for n in 1..=WRITERS {
                let writer = Writer { client: clients[usize::try_from(n).unwrap() % 2].clone(), n };
                secrets.push((writer.enrol().await, writer));
            }
            secrets
        })
    };

    let mut kills = 0;
    while kills < KILLS {
        let before = left();
        let mut rotation = spawn_rotation(&desk);
        let deadline = Instant::now() + PATIENCE;
        while left() == before && before > 0 {
            assert!(Instant::now() < deadline, "the rotation does not move");
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
        rotation.kill();
        kills += 1;
        let now = left();
        assert!(now < before, "each run goes on where the one before was killed");
        if now == 0 {
            break;
        }
    }
    assert!(kills > 1, "the first run was through before it was killed");
    let secrets = writing.await.unwrap();
    let report = desk.json(SECOND, &[FIRST], "key rotate --json", 0);
    assert_eq!((&report["needed"], &report["damaged"]), (&json!([]), &json!([])), "{report}");
    assert_eq!(report["retirable"], json!([old.to_string()]), "{report}");
    let in_use: Vec<&Value> =
        report["after"].as_array().unwrap().iter().filter(|key| key["rows"] != 0).collect();
    assert_eq!(in_use.len(), 1, "{report}");
    let ids = desk.database.rows("SELECT DISTINCT key_id FROM user_keys");
    assert_eq!(ids, [json!({ "key_id": ring(SECOND, &[]).active().to_string() })]);

    everything_opens(&desk, &secrets);
    drop(servers);
    let last = serve(&desk, SECOND, &[]).await;
    let again = |n| Writer { client: last.client.clone(), n };
    again(early.n).sign_in(&early_secret).await;
    again(1).sign_in(&secrets[0].0).await;
}

/// With the new key alone: each user's data key, and the credentials that writers saved.
fn everything_opens(desk: &Desk, secrets: &[(TotpSecret, Writer)]) {
    let alone = ring(SECOND, &[]);
    let rows = desk.database.rows("SELECT user_id, encode(wrapped, 'hex') AS wrapped FROM user_keys");
    assert_eq!(i64::try_from(rows.len()).unwrap(), USERS);
    for row in &rows {
        let wrapped = data_encoding::HEXLOWER.decode(row["wrapped"].as_str().unwrap().as_bytes()).unwrap();
        DataKey::unwrap(&alone, row["user_id"].as_i64().unwrap(), &wrapped).unwrap();
    }
    let db: Db = desk.database.db();
    let keys = Arc::new(PlatformKeys::load_or_create(&db, &alone, &mut OsRandom).unwrap());
    let db = db.with_keys(keys);
    for (_, writer) in secrets {
        let user = user_of(desk, &writer.email());
        let act = Act::without_request(SystemClock.now());
        let opened = db.run_blocking(|tx| vault::open(tx, &alone, user, BrokerName::Alpaca, &act)).unwrap();
        let Opened::Keys { keys, .. } = opened else { panic!("{opened:?}") };
        assert_eq!(keys.api_key.expose_secret(), writer.api_key());
    }
}
