//! A session of a real server with recognisable secrets, and the search for them: in a dump of the whole database, in the
//! log at its most talkative, in what refusals and health checks answer. Accounts alone have a longer story in the tests
//! of the API; this one has the broker's keys, the settings' secrets and the program itself.

use std::collections::HashMap;
use std::fs;
use std::io::Write;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use data_encoding::{BASE32_NOPAD, BASE64_NOPAD, BASE64URL_NOPAD, HEXLOWER, HEXLOWER_PERMISSIVE, HEXUPPER};
use nix::sys::signal::Signal;
use plimsoll_auth::totp::{TotpSecret, step_at};
use plimsoll_core_domain::{Clock, SystemClock};
use plimsoll_testkit::{ChildGuard, free_port};
use reqwest::{Method, StatusCode};
use secrecy::ExposeSecret;
use serde_json::{Value, json};
use tempfile::TempDir;

const PATIENCE: Duration = Duration::from_secs(90);
const PASSWORD: &str = "canary-Curlew 85 harbour";
const WRONG: &str = "canary-Wrong 74 thicket";
const API_KEY: &str = "PKCANARYCANARY000001";
const API_SECRET: &str = "canarysecretofthebroker0123456789abcdefg";
const REFUSED_KEY: &str = "PKCANARYREFUSED00001";
const REFUSED_SECRET: &str = "canarysecretthatthebrokerrefuses01234567";
const SMTP_PASSWORD: &str = "canary-smtp-password-4711-harbour";
const WEBHOOK_SECRET: &str = "canary-webhook-secret-0815-lighthouse";
const ENCRYPTION_KEY: &str = "Y2FuYXJ5LWtleS1jYW5hcnkta2V5LWNhbmFyeSEhISE=";
const OLD_KEY: &str = "canary pass phrase of an earlier year";

/// Bytes by which forms are looked up; none is shorter.
const START: usize = 8;

/// Forms of one secret in bytes: as they are, as hexadecimal digits, and in base64 wherever in a longer text they stand.
fn forms_of(secret: &[u8]) -> Vec<Vec<u8>> {
    let mut forms = vec![secret.to_vec()];
    forms.extend([HEXLOWER.encode(secret), HEXUPPER.encode(secret)].map(String::into_bytes));
    for (before, skip) in [(0, 0), (1, 2), (2, 3)] {
        let shifted = [&[0; 2][..before], secret].concat();
        // only the digits that the secret alone decides
        let whole = shifted.len() * 8 / 6;
        for encoding in [BASE64_NOPAD, BASE64URL_NOPAD] {
            forms.push(encoding.encode(&shifted).as_bytes()[skip..whole].to_vec());
        }
    }
    forms.sort();
    forms.dedup();
    forms
}

/// The same of the text and of the bytes that it encodes, if any.
fn forms(secret: &str) -> Vec<Vec<u8>> {
    let text = secret.as_bytes();
    let mut forms = forms_of(text);
    let token = secret.rsplit('_').next().unwrap_or_default().as_bytes();
    for decoded in [
        BASE64URL_NOPAD.decode(token),
        data_encoding::BASE64.decode(text),
        BASE32_NOPAD.decode(text),
        HEXLOWER_PERMISSIVE.decode(text),
    ] {
        forms.extend(
            decoded.ok().filter(|bytes| bytes.len() >= 16).map(|bytes| forms_of(&bytes)).unwrap_or_default(),
        );
    }
    forms
}

/// Where any of the forms stands in `place`: one walk, however many forms there are.
fn find(place: &[u8], forms: &[Vec<u8>]) -> Vec<(usize, usize)> {
    let mut by_start: HashMap<&[u8], Vec<usize>> = HashMap::new();
    for (n, form) in forms.iter().enumerate() {
        by_start.entry(&form[..START]).or_default().push(n);
    }
    let candidates =
        place.windows(START).enumerate().filter_map(|(at, start)| Some((at, by_start.get(start)?)));
    candidates
        .flat_map(|(at, some)| some.iter().map(move |n| (at, *n)))
        .filter(|(at, n)| place[*at..].starts_with(&forms[*n]))
        .collect()
}

fn holds(place: &[u8], form: &[u8]) -> bool {
    place.windows(form.len()).any(|window| window == form)
}

/// A text and, after it, the bytes of everything in it that looks like a `bytea` value: `\x` and hexadecimal digits.
fn with_bytes(text: &[u8]) -> Vec<u8> {
    let mut all = text.to_vec();
    for (at, _) in text.windows(2).enumerate().filter(|(_, pair)| pair == b"\\x") {
        let digits = text[at + 2..].iter().take_while(|byte| byte.is_ascii_hexdigit()).count() / 2 * 2;
        all.push(b'\n');
        all.extend(HEXLOWER_PERMISSIVE.decode(&text[at + 2..at + 2 + digits]).unwrap());
    }
    all
}

#[test]
fn the_search_finds_what_is_hidden() {
    let secret = "canary-Curlew 85 harbour";
    let hidden = |text: &str| !find(&with_bytes(text.as_bytes()), &forms(secret)).is_empty();
    assert!(hidden(&format!("password={secret}&x")));
    for before in ["", "x", "xy", "xyz"] {
        let whole = format!("{before}{secret} and more");
        assert!(hidden(&data_encoding::BASE64.encode(whole.as_bytes())), "{before}");
        assert!(hidden(&BASE64URL_NOPAD.encode(whole.as_bytes())), "{before}");
        assert!(hidden(&format!("1\t\\\\x{}\tx", HEXLOWER.encode(whole.as_bytes()))), "{before}");
        let twice = data_encoding::BASE64.encode(whole.as_bytes());
        assert!(hidden(&format!("\\x{}", HEXUPPER.encode(twice.as_bytes()))), "{before}");
    }
    assert!(!hidden("canary-Curlew 86 harbour"));
    let totp = "JBSWY3DPEHPK3PXPJBSWY3DPEHPK3PXP";
    let bytes = BASE32_NOPAD.decode(totp.as_bytes()).unwrap();
    let stored = with_bytes(format!("\\x{}", HEXLOWER.encode(&bytes)).as_bytes());
    assert!(!find(&stored, &forms(totp)).is_empty());
}

/// A server that logs everything to a file.
struct Server {
    child: ChildGuard,
    url: String,
    http: reqwest::Client,
    data: PathBuf,
    log: PathBuf,
    settings: Vec<(String, String)>,
    secrets: Vec<String>,
    answers: Vec<u8>,
    _folder: TempDir,
}

fn command(data: &Path, settings: &[(String, String)]) -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_plimsoll"));
    command.env_clear().env("PATH", "/usr/bin:/bin").env("TMPDIR", std::env::temp_dir()).current_dir(data);
    command.env("DATA_DIR", data).envs(settings.iter().map(|(name, value)| (name.as_str(), value.as_str())));
    command.stdin(Stdio::null());
    command
}

impl Server {
    async fn start() -> Self {
        let folder = tempfile::Builder::new().prefix("plm").tempdir().unwrap();
        let open = std::os::unix::fs::PermissionsExt::from_mode(0o711);
        fs::set_permissions(folder.path(), open).unwrap();
        let data = folder.path().join("data");
        fs::create_dir(&data).unwrap();
        let port = free_port();
        let settings = [
            ("BIND_ADDR", &*format!("127.0.0.1:{port}")),
            ("ARGON2_MEMORY_KIB", "12288"),
            ("LOG_LEVEL", "trace"),
            ("LOG_FORMAT", "json"),
            ("ENCRYPTION_KEY", ENCRYPTION_KEY),
            ("ENCRYPTION_KEYS_OLD", OLD_KEY),
            ("WEBHOOK_SECRET", WEBHOOK_SECRET),
            // nobody listens: mails wait, sealed, while the server tries
            ("SMTP_HOST", "localhost"),
            ("SMTP_PORT", &*free_port().to_string()),
            ("SMTP_FROM", "noreply@example.com"),
            ("SMTP_TLS", "none"),
            ("SMTP_USERNAME", "mailer"),
            ("SMTP_PASSWORD", SMTP_PASSWORD),
            ("TIME_SCALE", "0.2"),
        ]
        .map(|(name, value)| (name.to_owned(), value.to_owned()))
        .to_vec();
        let log = folder.path().join("log");
        let mut started = command(&data, &settings);
        started.arg("demo").stderr(fs::File::create(&log).unwrap());
        let child = ChildGuard::spawn(started);
        plimsoll_broker::install_crypto_provider();
        let http = reqwest::Client::builder().no_proxy().timeout(Duration::from_secs(30)).build().unwrap();
        let secrets = [
            PASSWORD,
            WRONG,
            API_SECRET,
            REFUSED_SECRET,
            SMTP_PASSWORD,
            WEBHOOK_SECRET,
            ENCRYPTION_KEY,
            OLD_KEY,
        ];
        let mut this = Self {
            child,
            url: format!("http://127.0.0.1:{port}"),
            http,
            data,
            log,
            settings,
            secrets: secrets.map(str::to_owned).to_vec(),
            answers: Vec::new(),
            _folder: folder,
        };
        let deadline = Instant::now() + PATIENCE;
        loop {
            let answer = this.http.get(format!("{}/health/ready", this.url)).send().await;
            if answer.is_ok_and(|answer| answer.status().is_success()) {
                break;
            }
            assert!(
                Instant::now() < deadline,
                "not ready in time: {}",
                fs::read_to_string(&this.log).unwrap()
            );
            tokio::time::sleep(Duration::from_millis(50)).await;
        }
        this.plant_logins();
        this
    }

    fn logins(&self) -> Value {
        let mut asked = command(&self.data, &self.settings);
        let output = asked.args(["demo", "--show-logins", "--json"]).output().unwrap();
        serde_json::from_slice(&output.stdout).unwrap()
    }

    /// What the demonstration made up itself is secret as well.
    fn plant_logins(&mut self) {
        let logins = self.logins();
        for user in logins["users"].as_array().unwrap() {
            self.secrets.push(user["password"].as_str().unwrap().to_owned());
        }
        self.secrets.push(logins["paper_broker"]["api_secret"].as_str().unwrap().to_owned());
    }

    async fn send(&mut self, method: Method, path: &str, token: &str, body: &str) -> (StatusCode, Value) {
        let mut request = self.http.request(method, format!("{}{path}", self.url)).header("X-Canary", WRONG);
        if !token.is_empty() {
            request = request.bearer_auth(token);
        }
        if !body.is_empty() {
            request = request.header("Content-Type", "application/json").body(body.to_owned());
        }
        let answer = request.send().await.unwrap();
        let status = answer.status();
        let text = answer.text().await.unwrap();
        let value: Value = serde_json::from_str(&text).unwrap_or(Value::Null);
        if status.is_success() {
            for field in ["token", "secret", "challenge"] {
                self.secrets.extend(value[field].as_str().map(str::to_owned));
            }
        } else {
            self.answers.extend(text.bytes().chain([b'\n']));
        }
        (status, value)
    }

    #[track_caller]
    fn token(answer: &(StatusCode, Value)) -> String {
        assert!(answer.0.is_success(), "{answer:?}");
        answer.1["token"].as_str().unwrap().to_owned()
    }

    async fn post(&mut self, path: &str, token: &str, body: Value) -> (StatusCode, Value) {
        self.send(Method::POST, path, token, &body.to_string()).await
    }

    /// The link of the newest mail to an address; its token is planted.
    async fn link(&mut self, to: &str) -> String {
        let outbox = self.http.get(format!("{}/dev/outbox", self.url)).header("accept", "application/json");
        let mails: Value = outbox.send().await.unwrap().json().await.unwrap();
        let mail = mails["items"].as_array().unwrap().iter().find(|mail| mail["to"] == to).unwrap();
        let text = mail["text"].as_str().unwrap();
        let token = text.split_whitespace().find_map(|word| word.split_once("#token=")).unwrap().1.to_owned();
        self.secrets.push(token.clone());
        token
    }
}

/// Ann's account with everything in it that is secret, and everything that can go wrong on the way.
async fn lived(server: &mut Server) {
    let email = "ann@example.com";
    let register = json!({ "email": email, "password": PASSWORD });
    assert_eq!(server.post("/auth/register", "", register).await.0, StatusCode::ACCEPTED);
    let link = server.link(email).await;
    assert!(server.post("/auth/verify-email", "", json!({ "token": link })).await.0.is_success());
    assert!(
        !server.post("/auth/login", "", json!({ "email": email, "password": WRONG })).await.0.is_success()
    );
    let broken = format!("{{\"email\":\"{email}\",\"password\":\"{PASSWORD}\"");
    assert_eq!(server.send(Method::POST, "/auth/login", "", &broken).await.0, StatusCode::BAD_REQUEST);
    let signed_in =
        Server::token(&server.post("/auth/login", "", json!({ "email": email, "password": PASSWORD })).await);
    let proven =
        Server::token(&server.post("/auth/step-up", &signed_in, json!({ "password": PASSWORD })).await);
    let setup = server.post("/auth/2fa/setup", &proven, json!({})).await.1;
    let secret = TotpSecret::parse(setup["secret"].as_str().unwrap()).unwrap();
    let code = secret.code_of(step_at(SystemClock.now())).expose_text().expose_secret().to_owned();
    let enabled = Server::token(&server.post("/auth/2fa/enable", &proven, json!({ "code": code })).await);
    let wish = json!({ "name": "robot", "scopes": ["read"], "expires_at": "2099-01-01T00:00:00Z" });
    server.post("/auth/api-tokens", &enabled, wish).await;

    // keys that the paper broker knows, after some that it does not and some that are malformed
    let broker = server.logins()["paper_broker"]["url"].as_str().unwrap().to_owned();
    let account = json!({ "api_key": API_KEY, "api_secret": API_SECRET });
    let made = server.http.post(format!("{broker}/_sim/accounts")).json(&account).send().await.unwrap();
    assert_eq!(made.status(), StatusCode::CREATED);
    let path = "/broker/credentials/alpaca";
    let keys = |key: &str, secret: &str, money: &str| {
        json!({ "api_key": key, "api_secret": secret, "environment": money }).to_string()
    };
    for body in [
        keys(API_KEY, &format!("{API_SECRET} with spaces"), "paper"),
        keys(API_KEY, API_SECRET, API_SECRET),
        format!("{{\"api_key\":\"{API_KEY}\",\"api_secret\":[\"{API_SECRET}\"],\"environment\":\"paper\"}}"),
        format!("{{\"api_secret\":\"{API_SECRET}"),
    ] {
        let (status, answer) = server.send(Method::PUT, path, &enabled, &body).await;
        assert!(status.is_client_error(), "{status} {answer}");
    }
    let refused = keys(REFUSED_KEY, REFUSED_SECRET, "paper");
    assert_eq!(server.send(Method::PUT, path, &enabled, &refused).await.0, StatusCode::OK);
    until(server, &enabled, "invalid").await;
    let good = keys(API_KEY, API_SECRET, "paper");
    assert_eq!(server.send(Method::PUT, path, &enabled, &good).await.0, StatusCode::OK);
    until(server, &enabled, "valid").await;
    server.post("/auth/request-reset", "", json!({ "email": email })).await;
    for path in ["/health", "/health/ready", "/health/live", "/metrics", "/broker/credentials", "/auth/me"] {
        let answer =
            server.http.get(format!("{}{path}", server.url)).bearer_auth(&enabled).send().await.unwrap();
        let text = answer.text().await.unwrap();
        server.answers.extend(text.bytes().chain([b'\n']));
    }
}

/// Waits until the connection has found out what the broker says to the keys.
async fn until(server: &mut Server, token: &str, state: &str) {
    let deadline = Instant::now() + PATIENCE;
    loop {
        let (_, list) = server.send(Method::GET, "/broker/credentials", token, "").await;
        let items = if list.is_array() { list.clone() } else { list["items"].clone() };
        if items[0]["state"] == *state {
            return;
        }
        assert!(Instant::now() < deadline, "the keys do not become {state}: {list}");
        tokio::time::sleep(Duration::from_millis(100)).await;
    }
}

/// The whole database as SQL: by pg_dump, or else what COPY gives of every table.
fn dump(url: &str) -> Vec<u8> {
    let dumped = Command::new("pg_dump").args(["--dbname", url]).output();
    if let Ok(output) = dumped
        && output.status.success()
    {
        return output.stdout;
    }
    let mut conn = plimsoll_storage::testing::RawConnection::open(url).unwrap();
    let tables = conn
        .rows("SELECT relname::text AS name FROM pg_class WHERE relkind = 'r' AND relnamespace = 'public'::regnamespace")
        .unwrap();
    let mut all = Vec::new();
    for table in tables {
        let rows = conn
            .rows(&format!("SELECT t::text AS row FROM \"{}\" t", table["name"].as_str().unwrap()))
            .unwrap();
        rows.iter().for_each(|row| writeln!(all, "{}", row["row"].as_str().unwrap()).unwrap());
    }
    all
}

/// ENC-11: none of them is found, in any form, in a dump of the database, the log at trace level, or an answer.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn secrets_are_in_no_dump_and_in_no_log() {
    let mut server = Server::start().await;
    lived(&mut server).await;
    let logins = server.logins();
    let platform = logins["database"]["url"].as_str().unwrap();
    let dump = with_bytes(&dump(platform));
    for table in
        ["broker_credentials", "user_keys", "user_2fa", "mail_outbox", "audit_log", "installation_keys"]
    {
        assert!(holds(&dump, table.as_bytes()), "the dump has no {table}");
    }
    server.child.signal(Signal::SIGTERM);
    server.child.wait(PATIENCE);
    let log = fs::read(&server.log).unwrap();
    assert!(log.split(|byte| *byte == b'\n').count() > 500, "the log is on");
    assert!(holds(&log, b"\"TRACE\"") || holds(&log, b"trace"), "at its most talkative");
    server.secrets.sort();
    server.secrets.dedup();
    assert!(server.secrets.len() > 15, "{} secrets", server.secrets.len());
    assert!(server.answers.len() > 1_000);
    let places = [("the dump", &dump), ("the log", &with_bytes(&log)), ("an answer", &server.answers)];
    let forms: Vec<Vec<u8>> = server.secrets.iter().flat_map(|secret| forms(secret)).collect();
    let mut found = Vec::new();
    for (name, place) in places {
        for (at, n) in find(place, &forms).into_iter().take(5) {
            let around = &place[at.saturating_sub(300)..(at + 300).min(place.len())];
            let (form, around) = (String::from_utf8_lossy(&forms[n]), String::from_utf8_lossy(around));
            found.push(format!("{name} holds {form}: {around}"));
        }
    }
    assert!(found.is_empty(), "{}", found.join("\n\n"));
}
