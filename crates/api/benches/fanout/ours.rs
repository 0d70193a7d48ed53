//! The API's own sockets over a hub.

use std::net::{IpAddr, SocketAddr};
use std::sync::{Arc, Mutex, PoisonError};

use actix_web::dev::ServerHandle;
use actix_web::{App, HttpServer, web};
use futures_util::FutureExt;
use futures_util::future::BoxFuture;
use plimsoll_api::ws::{
    WebSockets, WsAuthError, WsAuthenticator, WsCaller, WsCredential, WsSettings, configure,
};
use plimsoll_core_domain::stream::{EventKind, StreamId};
use plimsoll_core_domain::{Clock, SystemClock, UserId};
use plimsoll_realtime::{Cursor, Hub, HubSettings, MemoryLog};
use secrecy::ExposeSecret;
use uuid::Uuid;

use crate::load::BEFORE_TIME;
use crate::{MESSAGE, Result, Side};

type Outcome<T> = std::result::Result<T, WsAuthError>;

/// Which limits are on.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(crate) enum Limits {
    Off,
    /// Upgrades a second, as by default.
    Upgrades,
}

/// The token is the user's number.
struct AnyNumber;

impl WsAuthenticator for AnyNumber {
    fn authenticate<'a>(
        &'a self,
        credential: &'a WsCredential,
        _: Option<IpAddr>,
    ) -> BoxFuture<'a, Outcome<WsCaller>> {
        async move {
            let WsCredential::BearerHeader(token) = credential else { return Err(WsAuthError::Refused) };
            let user = token.expose_secret().parse().map_err(|_| WsAuthError::Refused)?;
            Ok(WsCaller { user_id: UserId(user), is_admin: false, session_id: user.to_string() })
        }
        .boxed()
    }

    fn open_foreign<'a>(
        &'a self,
        _: &'a WsCaller,
        _: UserId,
        _: Option<IpAddr>,
    ) -> BoxFuture<'a, Outcome<()>> {
        async { Err(WsAuthError::Forbidden) }.boxed()
    }

    fn still_valid<'a>(&'a self, _: &'a WsCaller) -> BoxFuture<'a, Outcome<()>> {
        async { Ok(()) }.boxed()
    }
}

struct Ours {
    address: SocketAddr,
    handle: ServerHandle,
    hub: Hub,
    log: Arc<MemoryLog>,
    published: i64,
    /// Fills a message up to its length.
    filling: String,
}

/// The histories of the servers that run.
static LOGS: Mutex<Vec<(SocketAddr, Arc<MemoryLog>)>> = Mutex::new(Vec::new());

pub(crate) fn start(limits: Limits) -> Result<Box<dyn Side>> {
    let log = Arc::new(MemoryLog::new(Uuid::from_u128(1)));
    let hub = Hub::new(log.clone(), HubSettings::default());
    let (address, handle) = serve(hub.clone(), limits)?;
    LOGS.lock().unwrap_or_else(PoisonError::into_inner).push((address, log.clone()));
    // Everything of a message but its filling.
    let bare = format!(
        r#"{BEFORE_TIME}1234567890123456","severity":"info"}},"id":"","stream":"broadcast","offset":1000000,"ts":"2026-01-01T00:00:00.000000Z"}}"#
    );
    let filling = "x".repeat(MESSAGE.saturating_sub(bare.len() + Cursor::TEXT_LEN));
    Ok(Box::new(Ours { address, handle, hub, log, published: 0, filling }))
}

/// The sockets of a hub on a port of their own.
pub(crate) fn serve(hub: Hub, limits: Limits) -> Result<(SocketAddr, ServerHandle)> {
    let mut settings =
        WsSettings { max_per_ip: usize::MAX, max_per_user: usize::MAX, ..WsSettings::default() };
    if limits == Limits::Off {
        settings.upgrades_per_second = u32::MAX;
    }
    let sockets = web::Data::new(WebSockets::new(hub, Arc::new(AnyNumber), settings));
    let (tell, told) = std::sync::mpsc::channel();
    std::thread::spawn(move || {
        actix_web::rt::System::new().block_on(async move {
            let server = HttpServer::new(move || App::new().configure(configure(sockets.clone())))
                .workers(2)
                .backlog(4_096)
                .disable_signals()
                .shutdown_timeout(1)
                .bind(("127.0.0.1", 0))
                .and_then(|server| {
                    let address = server.addrs().first().copied();
                    let address = address.ok_or_else(|| std::io::Error::other("no address"))?;
                    Ok((server.run(), address))
                });
            match server {
                Ok((server, address)) => {
                    // The bench waits for it.
                    let _ = tell.send(Ok((server.handle(), address)));
                    let _ = server.await;
                }
                Err(error) => drop(tell.send(Err(error))),
            }
        });
    });
    let (handle, address) = told.recv()??;
    Ok((address, handle))
}

/// Writes events of the users 1, 2, … that nobody has heard yet.
pub(crate) fn write_history(server: SocketAddr, users: usize, events: usize) {
    let logs = LOGS.lock().unwrap_or_else(PoisonError::into_inner);
    let Some((_, log)) = logs.iter().find(|(address, _)| *address == server) else { return };
    for user in 1..=users {
        for _ in 0..events {
            let data =
                format!(r#"{{"message":"{}","severity":"info"}}"#, SystemClock.now().timestamp_micros());
            let user = UserId(i64::try_from(user).unwrap_or(i64::MAX));
            log.append(StreamId::User(user), EventKind::SystemAlert, &data, SystemClock.now());
        }
    }
}

impl Side for Ours {
    fn address(&self) -> SocketAddr {
        self.address
    }

    fn publish(&mut self) -> Result<()> {
        let now = SystemClock.now();
        let data = format!(r#"{{"message":"{}{}","severity":"info"}}"#, now.timestamp_micros(), self.filling);
        let event = self.log.append(StreamId::Broadcast, EventKind::SystemAlert, &data, now);
        self.hub.publish(&event);
        self.published += 1;
        if self.published % 1_000 == 0 {
            self.log.prune(StreamId::Broadcast, self.published - 500);
        }
        Ok(())
    }

    fn stop(self: Box<Self>) {
        LOGS.lock().unwrap_or_else(PoisonError::into_inner).retain(|(address, _)| *address != self.address);
        drop(self.handle.stop(false));
    }
}
