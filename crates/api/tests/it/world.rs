#![allow(dead_code, reason = "each feature uses its part of it")]
//! The whole service on a loopback port over a database of its own, with a clock that moves when told to.

use std::net::TcpListener;
use std::num::NonZeroU32;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, OnceLock, mpsc};
use std::time::Duration;

use actix_web::dev::ServerHandle;
use actix_web::{HttpResponse, HttpServer, web};
use chrono::{DateTime, TimeDelta, Utc};
use futures_util::future::BoxFuture;
use futures_util::{SinkExt, StreamExt};
use plimsoll_api::Served;
use plimsoll_api::gateway::{CheckedAccount, GatewayError, SeenAccount, Trading, TradingGateway};
use plimsoll_api::logins::Logins;
use plimsoll_api::proxies::TrustedProxies;
use plimsoll_api::routes::openapi::OpenApiText;
use plimsoll_api::sockets::SessionAuthenticator;
use plimsoll_api::state::{ApiSettings, AppState, IdSource, OrderRate, Parts};
use plimsoll_api::waiters::Waiters;
use plimsoll_api::ws::{WebSockets, WsSettings};
use plimsoll_auth::api_tokens::{Scope, TokenRecord};
use plimsoll_auth::ports::{AccountStore, ApiTokenStore};
use plimsoll_auth::vault::BrokerKeys;
use plimsoll_auth::{AccountPolicy, NewUser, Role};
use plimsoll_core_domain::broker::{BrokerAccount, BrokerAsset, HistoryQuery, PortfolioHistory};
use plimsoll_core_domain::order::Environment;
use plimsoll_core_domain::{Clock, OrderId, Price, StoreError, Symbol, UserId};
use plimsoll_crypto::passwords::{HashParams, Passwords};
use plimsoll_crypto::tokens::{ApiToken, SecretToken};
use plimsoll_crypto::{KeyRing, MasterKey, OsRandom, Stretching};
use plimsoll_observability::health::HealthRegistry;
use plimsoll_observability::readiness::Readiness;
use plimsoll_realtime::{CloseCode, Hub, HubSettings};
use plimsoll_reliability::webhooks::{Guard, SendLimits, Sender};
use plimsoll_storage::platform::keys::PlatformKeys;
use plimsoll_storage::platform::streams::StreamLog;
use plimsoll_storage::{AfterCommit, CommitNote, Db};
use plimsoll_testkit::{FixedClock, TestDb};
use reqwest::{Method, StatusCode};
use secrecy::ExposeSecret;
use serde_json::Value;
use tokio::net::TcpStream;
use tokio_tungstenite::tungstenite::client::IntoClientRequest;
use tokio_tungstenite::tungstenite::{Error, Message};
use tokio_tungstenite::{WebSocketStream, client_async};
use uuid::Uuid;

/// The password of every user that [`World::user`] makes.
pub(crate) const PASSWORD: &str = "correct horse battery staple 7";

pub(crate) struct World {
    pub(crate) test: TestDb,
    pub(crate) db: Db,
    pub(crate) keys: Arc<PlatformKeys>,
    pub(crate) clock: Arc<FixedClock>,
    pub(crate) url: String,
    pub(crate) state: web::Data<AppState>,
    pub(crate) sockets: web::Data<WebSockets>,
    broker_away: Arc<AtomicBool>,
    passwords: Arc<Passwords>,
    server: ServerHandle,
}

struct Ids;

impl IdSource for Ids {
    fn order_id(&self) -> OrderId {
        OrderId(Uuid::now_v7())
    }
    fn request_id(&self) -> Uuid {
        Uuid::new_v4()
    }
    fn session_token(&self) -> SecretToken {
        SecretToken::generate(&mut OsRandom)
    }
}

/// No broker is connected; or, once the flag is set, one that cannot be asked.
struct NoBroker(Arc<AtomicBool>);

impl TradingGateway for NoBroker {
    fn known_asset(&self, _: UserId, symbol: &Symbol) -> Option<BrokerAsset> {
        let known = self.0.load(Ordering::SeqCst) && matches!(symbol.as_str(), "SPY" | "AAPL" | "DIA");
        known.then(|| BrokerAsset {
            symbol: symbol.clone(),
            class: "us_equity".to_owned(),
            tradable: true,
            fractionable: true,
            shortable: true,
        })
    }
    fn price_seen(&self, _: UserId, symbol: &Symbol) -> Option<Price> {
        (symbol.as_str() == "DIA").then(|| "101".parse().unwrap())
    }
    fn known_account(&self, _: UserId) -> Option<SeenAccount> {
        let amount = rust_decimal::Decimal::from(10_000);
        let account = BrokerAccount {
            number: "PA1".to_owned(),
            status: "ACTIVE".to_owned(),
            currency: "USD".to_owned(),
            cash: amount,
            buying_power: amount,
            equity: amount,
            last_equity: amount,
            trading_blocked: false,
        };
        Some(SeenAccount { account, environment: "paper", as_of: DateTime::UNIX_EPOCH, stale: false })
    }
    fn asset<'a>(
        &'a self,
        user: UserId,
        symbol: &'a Symbol,
    ) -> BoxFuture<'a, Result<BrokerAsset, GatewayError>> {
        if let Some(asset) = self.known_asset(user, symbol) {
            return Box::pin(async { Ok(asset) });
        }
        if symbol.as_str() == "NOSUCH" {
            return Box::pin(async { Err(GatewayError::NotFound) });
        }
        let away = GatewayError::Unavailable { retry_after: Duration::from_secs(1) };
        let why = if self.0.load(Ordering::SeqCst) { away } else { GatewayError::NoAccount };
        Box::pin(async { Err(why) })
    }
    fn account(&self, _: UserId) -> BoxFuture<'_, Result<SeenAccount, GatewayError>> {
        Box::pin(async { Err(GatewayError::NoAccount) })
    }
    fn history<'a>(
        &'a self,
        _: UserId,
        _: &'a HistoryQuery,
    ) -> BoxFuture<'a, Result<PortfolioHistory, GatewayError>> {
        Box::pin(async { Err(GatewayError::NoAccount) })
    }
    fn price(&self, _: UserId, _: &Symbol) -> Option<Price> {
        None
    }
    /// Only when it is asked, the broker tells of one.
    fn quote<'a>(&'a self, _: UserId, symbol: &'a Symbol) -> BoxFuture<'a, Option<Price>> {
        let price = (symbol.as_str() == "AAPL").then(|| "101".parse().unwrap());
        Box::pin(async move { price })
    }
    /// What becomes of a key stands at its end.
    fn check(
        &self,
        _: UserId,
        keys: BrokerKeys,
        _: Environment,
    ) -> BoxFuture<'_, Result<CheckedAccount, GatewayError>> {
        let key = keys.api_key.expose_secret();
        let answer = if key.ends_with("TAKEN") {
            Ok(CheckedAccount { broker_account: "PA1".to_owned(), status: "ACTIVE".to_owned() })
        } else if key.ends_with("REFUSED") {
            Err(GatewayError::KeyRefused)
        } else {
            Err(GatewayError::Unavailable { retry_after: Duration::from_secs(1) })
        };
        Box::pin(async { answer })
    }

    fn check_key_form(&self, environment: Environment, key_id: &str) -> Result<(), String> {
        let fits = key_id.starts_with(if environment == Environment::Paper { "PK" } else { "AK" });
        if fits { Ok(()) } else { Err("the key is of the other environment".to_owned()) }
    }

    fn trading(&self, _: UserId) -> Trading {
        Trading::Open
    }
}

fn ring() -> KeyRing {
    let stretching = Stretching::new([7; 16].to_vec(), 600_000).unwrap();
    let key = "8f1c7a9d2e4b6053f1e2d3c4b5a697887766554433221100ffeeddccbbaa9988";
    KeyRing::new(&MasterKey::parse(key, &stretching).unwrap())
}

/// Posts to public addresses and to this machine's own 127.0.0.1.
fn webhooks() -> Sender {
    // Another test may have been first.
    drop(rustls::crypto::ring::default_provider().install_default());
    let guard = Guard::allowing(|address| address == std::net::IpAddr::from([127, 0, 0, 1]));
    let limits = SendLimits { total: Duration::from_secs(2), ..SendLimits::default() };
    Sender::new(guard, limits, None).unwrap()
}

impl World {
    /// With the default limits, administrators without a second factor allowed.
    pub(crate) async fn start() -> Self {
        Self::with(|policy| policy.require_admin_2fa = false).await
    }

    /// With limits of the test's own.
    pub(crate) async fn with(change: impl FnOnce(&mut AccountPolicy)) -> Self {
        Self::with_cost(HashParams::MINIMUM, change).await
    }

    /// With limits of the test's own, and password hashes of this cost.
    pub(crate) async fn with_cost(cost: HashParams, change: impl FnOnce(&mut AccountPolicy)) -> Self {
        Self::build(cost, |settings| change(Arc::make_mut(&mut settings.policy))).await
    }

    /// With settings of the test's own.
    pub(crate) async fn with_settings(change: impl FnOnce(&mut ApiSettings)) -> Self {
        Self::build(HashParams::MINIMUM, change).await
    }

    async fn build(cost: HashParams, change: impl FnOnce(&mut ApiSettings)) -> Self {
        let test = TestDb::platform();
        let keys = Arc::new(PlatformKeys::load_or_create(&test.db(), &ring(), &mut OsRandom).unwrap());
        let logins = Arc::new(Logins::default());
        let told = Arc::new(OnceLock::new());
        let after_commit = Arc::new(Told { hub: Arc::clone(&told), logins: Arc::clone(&logins) });
        let db = test.db().with_keys(Arc::clone(&keys)).with_after_commit(after_commit);
        let clock = Arc::new(FixedClock::at("2026-06-01T14:00:00Z"));
        let passwords = Arc::new(Passwords::new(cost, &mut OsRandom).unwrap());
        let hub = Hub::new(Arc::new(StreamLog(db.clone())), HubSettings::default());
        drop(told.set(hub.clone()));
        let readiness = Readiness::starting(["database"]);
        readiness.settled("database");
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let url = format!("http://{}", listener.local_addr().unwrap());
        let closing = hub.clone();
        let broker_away = Arc::new(AtomicBool::new(false));
        let parts = Parts {
            db: db.clone(),
            clock: clock.clone(),
            ids: Arc::new(Ids),
            client_order_ids: Arc::clone(&keys) as _,
            keys: Arc::clone(&keys),
            gateway: Arc::new(NoBroker(Arc::clone(&broker_away))),
            webhooks: webhooks(),
            hub: hub.clone(),
            waiters: Waiters::default(),
            readiness,
            health: Arc::new(HealthRegistry::new(clock.now())),
            passwords: Arc::clone(&passwords),
            on_logout: Arc::new(move |_, session: Uuid| {
                closing.close_login(&session.to_string(), CloseCode::Unauthenticated);
            }),
        };
        let rate = NonZeroU32::new(1_000).unwrap();
        let mut settings = ApiSettings {
            policy: Arc::new(AccountPolicy::default()),
            public_url: url.clone(),
            cors_origins: Vec::new(),
            trusted_proxies: TrustedProxies::default(),
            body_within: Duration::from_secs(10),
            dev_outbox: true,
            order_rate: Some(OrderRate { per_second: rate, burst: rate }),
            submit_within: (TimeDelta::seconds(60), TimeDelta::seconds(300)),
            default_wait: Duration::from_millis(50),
            session_cache: Duration::ZERO,
            parallel_hashes: 2,
            signals: plimsoll_api::signals::SignalSettings::default(),
        };
        change(&mut settings);
        let allowed_origins = settings.cors_origins.iter().chain([&url]).cloned().collect();
        let desk = Arc::new(crate::backups::FakeDesk::default());
        let state = web::Data::new(AppState::new(parts, settings).with_backups(desk));
        let authenticator = Arc::new(SessionAuthenticator(state.clone()));
        let sockets = web::Data::new(WebSockets::new(
            hub,
            authenticator,
            WsSettings { allowed_origins, ..WsSettings::default() },
        ));
        let document = web::Data::new(OpenApiText(plimsoll_api::openapi_document()));
        let (started, starting) = mpsc::channel();
        logins.serve(state.clone(), sockets.clone());
        let served = Served { state: state.clone(), sockets: sockets.clone(), document };
        std::thread::spawn(move || {
            actix_web::rt::System::new().block_on(async move {
                let server = HttpServer::new(move || {
                    plimsoll_api::app(served.clone())
                        .route("/test/panic", web::get().to(panics))
                        .route("/test/panic-in-transaction", web::get().to(panics_in_transaction))
                })
                .workers(1)
                .disable_signals()
                .listen(listener)
                .unwrap()
                .run();
                started.send(server.handle()).unwrap();
                server.await.unwrap();
            });
        });
        let server = starting.recv().unwrap();
        Self { test, db, keys, clock, url, state, sockets, broker_away, passwords, server }
    }

    /// A verified user with [`PASSWORD`].
    pub(crate) fn user(&self, email: &str, role: Role) -> UserId {
        let now = self.clock.now();
        let new = NewUser {
            email: email.parse().unwrap(),
            display_name: None,
            role,
            password_hash: self.passwords.hash(&PASSWORD.to_owned().into(), &mut OsRandom).unwrap(),
            email_verified_at: Some(now),
            created_at: now,
        };
        self.db.run_blocking(|tx| tx.insert_user(&new)).unwrap_or_else(|why: StoreError| panic!("{why}"))
    }

    /// Gives the user an account at a broker that cannot be asked: orders are taken and wait.
    pub(crate) fn connect(&self, user: UserId) {
        let now = self.now();
        let made = self.db.run_blocking(|tx| tx.insert_account(user, Environment::Paper, now));
        made.unwrap_or_else(|why: StoreError| panic!("{why}"));
        self.broker_away.store(true, Ordering::SeqCst);
    }

    /// The broker is known and cannot be asked: orders are taken and wait.
    pub(crate) fn connect_seen(&self) {
        self.broker_away.store(true, Ordering::SeqCst);
    }

    /// A client that nobody is signed in with.
    pub(crate) fn client(&self) -> Client {
        Client { http: http(), url: self.url.clone(), token: None, headers: Vec::new() }
    }

    /// A client signed in by password.
    pub(crate) async fn login(&self, email: &str) -> Client {
        let body = serde_json::json!({ "email": email, "password": PASSWORD });
        let reply = self.client().post("/auth/login", &body).await;
        assert_eq!(reply.status, StatusCode::OK, "{}", reply.body);
        self.client().bearer(reply.body["token"].as_str().unwrap())
    }

    /// A client with a session in a cookie, as a page of the service's own would be.
    pub(crate) async fn cookie_login(&self, email: &str) -> Client {
        let body = serde_json::json!({ "email": email, "password": PASSWORD, "transport": "cookie" });
        let reply = self.client().post("/auth/login", &body).await;
        assert_eq!(reply.status, StatusCode::OK, "{}", reply.body);
        self.client().header("cookie", &reply.cookie("__Host-plimsoll").expect("a session cookie"))
    }

    /// A client with a new API token of the user, good for a day.
    pub(crate) fn api_token(&self, user: UserId, scopes: &[Scope]) -> Client {
        let (token, now) = (ApiToken::generate(&mut OsRandom), self.now());
        let record = TokenRecord {
            id: Uuid::new_v4(),
            user_id: user,
            name: "a test's".to_owned(),
            scopes: scopes.iter().copied().collect(),
            allowed_ips: Vec::new(),
            created_at: now,
            expires_at: now + TimeDelta::days(1),
            last_used_at: None,
            last_used_ip: None,
            revoked_at: None,
            warned_at: None,
        };
        let digest = token.digest();
        let stored = self.db.run_blocking(move |tx| tx.insert_api_token(&digest, &record));
        stored.unwrap_or_else(|why: StoreError| panic!("{why}"));
        self.client().bearer(token.expose_text().expose_secret())
    }

    /// Opens a WebSocket; the status of the refusal otherwise.
    pub(crate) async fn socket(&self, path: &str, headers: &[(&'static str, &str)]) -> Result<Socket, u16> {
        let address = self.url.strip_prefix("http://").unwrap();
        let mut request = format!("ws://{address}{path}").into_client_request().unwrap();
        for (name, value) in headers {
            request.headers_mut().insert(*name, value.parse().unwrap());
        }
        let stream = TcpStream::connect(address).await.unwrap();
        match client_async(request, stream).await {
            Ok((socket, _)) => Ok(Socket(socket)),
            Err(Error::Http(response)) => Err(response.status().as_u16()),
            Err(other) => panic!("{other}"),
        }
    }

    /// The rows of a query, as JSON.
    pub(crate) fn rows(&self, query: &str) -> Vec<Value> {
        self.test.rows(query)
    }

    pub(crate) fn now(&self) -> DateTime<Utc> {
        self.clock.now()
    }
}

impl Drop for World {
    fn drop(&mut self) {
        drop(self.server.stop(false));
    }
}

fn http() -> reqwest::Client {
    let _ = rustls::crypto::ring::default_provider().install_default();
    reqwest::Client::new()
}

/// Fails while it has a connection and an open transaction.
async fn panics_in_transaction(state: web::Data<AppState>) -> HttpResponse {
    let work = |tx: &mut plimsoll_storage::Tx<'_>| -> Result<(), plimsoll_core_domain::StoreError> {
        tx.execute_raw("UPDATE users SET display_name = 'half done'")?;
        panic!("a handler that fails in a transaction")
    };
    let done: Result<(), plimsoll_core_domain::StoreError> = state.db.run(work).await;
    HttpResponse::Ok().json(done.is_ok())
}

async fn panics() -> HttpResponse {
    panic!("a handler that fails")
}

/// Tells what was committed, as the server does within one process.
struct Told {
    hub: Arc<OnceLock<Hub>>,
    logins: Arc<Logins>,
}

impl AfterCommit for Told {
    fn committed(&self, notes: Vec<CommitNote>) {
        for note in notes {
            match note {
                CommitNote::Stream(event) => {
                    if let Some(hub) = self.hub.get() {
                        hub.publish(&event);
                    }
                }
                CommitNote::Wake(topic) => drop(self.logins.heard(&topic)),
            }
        }
    }
}

/// A WebSocket of a client.
pub(crate) struct Socket(WebSocketStream<TcpStream>);

impl Socket {
    pub(crate) async fn send(&mut self, text: &str) {
        self.0.send(Message::text(text)).await.unwrap();
    }

    /// The next message, as JSON.
    pub(crate) async fn next(&mut self) -> Value {
        match self.message().await {
            Message::Text(text) => serde_json::from_str(&text).unwrap(),
            other => panic!("{other:?}"),
        }
    }

    /// The code with which the server closes; messages before it are passed over.
    pub(crate) async fn closed(&mut self) -> u16 {
        loop {
            if let Message::Close(frame) = self.message().await {
                return frame.expect("a close frame with a code").code.into();
            }
        }
    }

    async fn message(&mut self) -> Message {
        let next = tokio::time::timeout(Duration::from_secs(30), self.0.next()).await;
        next.expect("a message in time").expect("a message").unwrap()
    }
}

/// An answer.
#[derive(Debug)]
pub(crate) struct Reply {
    pub(crate) status: StatusCode,
    pub(crate) headers: reqwest::header::HeaderMap,
    /// Null when the body is empty or no JSON.
    pub(crate) body: Value,
    pub(crate) text: String,
}

impl Reply {
    /// `name=value` of a cookie that the answer sets.
    pub(crate) fn cookie(&self, name: &str) -> Option<String> {
        self.set_cookie(name).map(|line| line.split(';').next().unwrap().to_owned())
    }

    /// The whole line that sets a cookie.
    pub(crate) fn set_cookie(&self, name: &str) -> Option<&str> {
        let lines = self.headers.get_all("set-cookie").iter().map(|value| value.to_str().unwrap());
        lines.into_iter().find(|line| line.starts_with(&format!("{name}=")))
    }

    /// The problem's code.
    pub(crate) fn code(&self) -> &str {
        self.body["code"].as_str().unwrap_or_default()
    }
}

/// A client of the service.
#[derive(Clone)]
pub(crate) struct Client {
    http: reqwest::Client,
    url: String,
    token: Option<String>,
    headers: Vec<(String, String)>,
}

impl Client {
    pub(crate) fn bearer(mut self, token: &str) -> Self {
        self.token = Some(token.to_owned());
        self
    }

    pub(crate) fn header(mut self, name: &str, value: &str) -> Self {
        self.headers.push((name.to_owned(), value.to_owned()));
        self
    }

    pub(crate) async fn get(&self, path: &str) -> Reply {
        self.send(Method::GET, path, None).await
    }

    /// As a page of the service's own sends what changes something.
    pub(crate) fn own_page(self) -> Self {
        self.header("sec-fetch-site", "same-origin").header("x-plimsoll-csrf", "1")
    }

    /// Its bearer token.
    pub(crate) fn token(&self) -> &str {
        self.token.as_deref().expect("a client with a token")
    }

    /// What it sends under this name.
    pub(crate) fn sent(&self, name: &str) -> Option<&str> {
        self.headers.iter().find(|(known, _)| known == name).map(|(_, value)| value.as_str())
    }

    pub(crate) async fn delete(&self, path: &str) -> Reply {
        self.send(Method::DELETE, path, None).await
    }

    pub(crate) async fn post(&self, path: &str, body: &Value) -> Reply {
        self.send(Method::POST, path, Some(body)).await
    }

    pub(crate) async fn send(&self, method: Method, path: &str, body: Option<&Value>) -> Reply {
        self.request(method, path, body.map(|body| (body.to_string(), "application/json"))).await
    }

    /// With a body of any kind.
    pub(crate) async fn request(&self, method: Method, path: &str, body: Option<(String, &str)>) -> Reply {
        let mut request = self.http.request(method, format!("{}{path}", self.url));
        if let Some(token) = &self.token {
            request = request.bearer_auth(token);
        }
        for (name, value) in &self.headers {
            request = request.header(name, value);
        }
        if let Some((body, kind)) = body {
            request = request.header("content-type", kind).body(body);
        }
        let response = request.send().await.unwrap();
        let (status, headers) = (response.status(), response.headers().clone());
        let text = response.text().await.unwrap();
        Reply { status, headers, body: serde_json::from_str(&text).unwrap_or_default(), text }
    }
}
