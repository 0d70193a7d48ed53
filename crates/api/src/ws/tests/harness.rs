//! A server, and clients of it.

use std::collections::{HashMap, HashSet};
use std::net::IpAddr;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use actix_web::dev::ServerHandle;
use actix_web::{App, HttpServer, web};
use chrono::DateTime;
use futures_util::future::BoxFuture;
use futures_util::{FutureExt, SinkExt, StreamExt};
use plimsoll_core_domain::UserId;
use plimsoll_core_domain::stream::{EventKind, StreamEvent, StreamId};
use plimsoll_realtime::{Hub, HubSettings, MemoryLog};
use secrecy::ExposeSecret;
use serde_json::Value;
use tokio::net::{TcpSocket, TcpStream};
use tokio_tungstenite::tungstenite::client::IntoClientRequest;
use tokio_tungstenite::tungstenite::handshake::client::Request;
use tokio_tungstenite::tungstenite::{Error, Message};
use tokio_tungstenite::{WebSocketStream, client_async};
use uuid::Uuid;

use crate::ws::{WebSockets, WsAuthError, WsAuthenticator, WsCaller, WsCredential, WsSettings, configure};

pub(super) const TRADER: UserId = UserId(7);
pub(super) const OTHER: UserId = UserId(8);
pub(super) const MINE: StreamId = StreamId::User(TRADER);

/// Nothing here takes that long; a test that waits for it has failed.
const PATIENCE: Duration = Duration::from_secs(20);

pub(super) struct Tokens {
    callers: HashMap<&'static str, WsCaller>,
    pub(super) ended: Mutex<HashSet<String>>,
    pub(super) down: AtomicBool,
    pub(super) looks: AtomicUsize,
}

impl WsAuthenticator for Tokens {
    fn authenticate<'a>(
        &'a self,
        credential: &'a WsCredential,
        _: Option<IpAddr>,
    ) -> BoxFuture<'a, Result<WsCaller, WsAuthError>> {
        let (WsCredential::BearerHeader(token)
        | WsCredential::FirstMessage(token)
        | WsCredential::Ticket(token)
        | WsCredential::Cookie(token)) = credential;
        async move {
            match token.expose_secret() {
                _ if self.down.load(Ordering::Relaxed) => Err(WsAuthError::Unavailable),
                "disabled" => Err(WsAuthError::Forbidden),
                token => self.callers.get(token).cloned().ok_or(WsAuthError::Refused),
            }
        }
        .boxed()
    }

    fn open_foreign<'a>(
        &'a self,
        _: &'a WsCaller,
        _: UserId,
        _: Option<IpAddr>,
    ) -> BoxFuture<'a, Result<(), WsAuthError>> {
        async { Ok(()) }.boxed()
    }

    fn still_valid<'a>(&'a self, caller: &'a WsCaller) -> BoxFuture<'a, Result<(), WsAuthError>> {
        self.looks.fetch_add(1, Ordering::Relaxed);
        let ended = self.ended.lock().unwrap().contains(&caller.session_id);
        let down = self.down.load(Ordering::Relaxed);
        async move {
            match (down, ended) {
                (true, _) => Err(WsAuthError::Unavailable),
                (_, true) => Err(WsAuthError::Refused),
                _ => Ok(()),
            }
        }
        .boxed()
    }
}

pub(super) struct Server {
    pub(super) sockets: web::Data<WebSockets>,
    pub(super) tokens: Arc<Tokens>,
    pub(super) log: Arc<MemoryLog>,
    pub(super) address: String,
    pub(super) handle: ServerHandle,
}

pub(super) fn serve() -> Server {
    serve_with(WsSettings::default(), HubSettings::default())
}

pub(super) fn serve_with(settings: WsSettings, hub_settings: HubSettings) -> Server {
    let caller =
        |user_id, is_admin, session_id: &str| WsCaller { user_id, is_admin, session_id: session_id.into() };
    let callers = [
        ("trader", caller(TRADER, false, "login-7")),
        ("other", caller(OTHER, false, "login-8")),
        ("admin", caller(UserId(1), true, "login-1")),
    ];
    let tokens = Arc::new(Tokens {
        callers: callers.into(),
        ended: Mutex::default(),
        down: AtomicBool::new(false),
        looks: AtomicUsize::new(0),
    });
    let log = Arc::new(MemoryLog::new(Uuid::from_u128(1)));
    let hub = Hub::new(log.clone(), hub_settings);
    let sockets = web::Data::new(WebSockets::new(hub, tokens.clone(), settings));
    let app = sockets.clone();
    let server = HttpServer::new(move || App::new().configure(configure(app.clone())))
        .workers(1)
        .disable_signals()
        .shutdown_timeout(5)
        .bind(("127.0.0.1", 0))
        .unwrap();
    let address = server.addrs()[0].to_string();
    let running = server.run();
    let handle = running.handle();
    actix_web::rt::spawn(running);
    Server { sockets, tokens, log, address, handle }
}

impl Server {
    pub(super) fn request(&self, path: &str, headers: &[(&'static str, &str)]) -> Request {
        let mut request = format!("ws://{}{path}", self.address).into_client_request().unwrap();
        for (name, value) in headers {
            request.headers_mut().insert(*name, value.parse().unwrap());
        }
        request
    }

    pub(super) async fn try_connect(&self, request: Request) -> Result<Client, Error> {
        let tcp = TcpStream::connect(&self.address).await.unwrap();
        client_async(request, tcp).await.map(|(socket, _)| Client(socket))
    }

    /// A client with a bearer header.
    pub(super) async fn connect(&self, path: &str, token: &str) -> Client {
        let authorization = format!("Bearer {token}");
        self.try_connect(self.request(path, &[("authorization", &authorization)])).await.unwrap()
    }

    /// A client without any credential.
    pub(super) async fn connect_guest(&self, path: &str) -> Client {
        self.try_connect(self.request(path, &[])).await.unwrap()
    }

    /// A client whose system buffers little, so that not reading is felt soon.
    pub(super) async fn connect_narrow(&self) -> Client {
        let tcp = TcpSocket::new_v4().unwrap();
        tcp.set_recv_buffer_size(4_096).unwrap();
        let tcp = tcp.connect(self.address.parse().unwrap()).await.unwrap();
        let request = self.request("/ws", &[("authorization", "Bearer trader")]);
        Client(client_async(request, tcp).await.unwrap().0)
    }

    /// The status of an upgrade that is refused.
    pub(super) async fn refused(&self, request: Request) -> u16 {
        match self.try_connect(request).await {
            Err(Error::Http(response)) => {
                assert_eq!(response.headers()["content-type"], "application/problem+json");
                response.status().as_u16()
            }
            Err(other) => panic!("{other}"),
            Ok(_) => panic!("the upgrade was accepted"),
        }
    }

    pub(super) fn commit(&self, data: &str) -> StreamEvent {
        self.log.append(MINE, EventKind::OrderUpdated, data, DateTime::UNIX_EPOCH)
    }

    pub(super) fn emit(&self, data: &str) {
        self.sockets.hub().publish(&self.commit(data));
    }

    /// Waits until so many connections are open.
    pub(super) async fn connections(&self, wanted: usize) {
        self.reaches(wanted, || self.sockets.connection_count()).await;
    }

    /// Waits until so many sessions are open in the hub.
    pub(super) async fn sessions(&self, wanted: usize) {
        self.reaches(wanted, || self.sockets.hub().session_count()).await;
    }

    async fn reaches(&self, wanted: usize, count: impl Fn() -> usize) {
        let give_up = Instant::now() + PATIENCE;
        while count() != wanted {
            assert!(Instant::now() < give_up, "{} instead of {wanted}", count());
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
    }
}

pub(super) struct Client(pub(super) WebSocketStream<TcpStream>);

impl Client {
    pub(super) async fn send(&mut self, text: &str) {
        self.0.send(Message::text(text)).await.unwrap();
    }

    /// The next message that is no ping or pong.
    pub(super) async fn message(&mut self) -> Message {
        loop {
            let message = tokio::time::timeout(PATIENCE, self.0.next()).await.expect("a message in time");
            match message.expect("a message before the end").unwrap() {
                Message::Ping(_) | Message::Pong(_) => {}
                message => return message,
            }
        }
    }

    /// The next text message.
    pub(super) async fn text(&mut self) -> Value {
        match self.message().await {
            Message::Text(text) => serde_json::from_str(&text).unwrap(),
            other => panic!("no text: {other:?}"),
        }
    }

    /// The next text message's `type`, with the offset of events and the code of errors.
    pub(super) async fn brief(&mut self) -> String {
        let text = self.text().await;
        let kind = text["type"].as_str().unwrap();
        match (&text["offset"], &text["code"]) {
            (Value::Number(offset), _) => format!("{kind}#{offset}"),
            (_, Value::String(code)) => format!("{kind} {code}"),
            _ => kind.to_owned(),
        }
    }

    pub(super) async fn hello(&mut self) -> Value {
        let hello = self.text().await;
        assert_eq!(hello["type"], "hello");
        hello
    }

    /// The code of the close frame that comes, whatever comes before it.
    pub(super) async fn closed(&mut self) -> u16 {
        loop {
            if let Message::Close(frame) = self.message().await {
                return frame.expect("a reason").code.into();
            }
        }
    }
}
