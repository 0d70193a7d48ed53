//! The WebSocket: `GET /ws` and `GET /ws/{user_id}` over [`plimsoll_realtime::Hub`].
//!
//! The hub decides what a client hears; this module decides who may connect, reads and writes the socket, and keeps the
//! limits of a connection. Mount it with [`configure`] or, for an OpenAPI document, as the two services
//! [`connect`] and [`connect_to_user`], with [`WebSockets`] as application data.

mod auth;
mod connection;
mod guest;
mod limits;
mod places;
mod refusal;
mod settings;
mod socket;
mod upgrade;

#[cfg(test)]
mod tests;

use std::net::IpAddr;
use std::sync::Arc;

use actix_web::{HttpRequest, web};
use plimsoll_realtime::Hub;
use tokio_util::sync::CancellationToken;

pub use auth::{WsAuthError, WsAuthenticator, WsCaller, WsCredential};
pub use refusal::UpgradeRefused;
pub use settings::WsSettings;
pub use upgrade::{connect, connect_to_user};

use limits::ConnectionLimits;

/// Says from which address a request came, behind whatever proxies are trusted. `None`: not known, so not limited.
pub type ClientIp = Arc<dyn Fn(&HttpRequest) -> Option<IpAddr> + Send + Sync>;

/// Everything the sockets of one server share. Make one per server, not one per worker.
pub struct WebSockets {
    hub: Hub,
    authenticator: Arc<dyn WsAuthenticator>,
    settings: WsSettings,
    client_ip: ClientIp,
    limits: Arc<ConnectionLimits>,
    draining: CancellationToken,
}

impl WebSockets {
    /// Sockets over this hub. The address of a client is its peer's until [`client_ip`](Self::client_ip) says otherwise.
    #[must_use]
    pub fn new(hub: Hub, authenticator: Arc<dyn WsAuthenticator>, settings: WsSettings) -> Self {
        let limits = Arc::new(ConnectionLimits::new(&settings));
        let client_ip: ClientIp = Arc::new(|request| request.peer_addr().map(|peer| peer.ip()));
        Self { hub, authenticator, settings, client_ip, limits, draining: CancellationToken::new() }
    }

    /// Takes addresses from this function: where trusted proxies are configured.
    #[must_use]
    pub fn client_ip(mut self, client_ip: ClientIp) -> Self {
        self.client_ip = client_ip;
        self
    }

    /// The hub behind the sockets.
    #[must_use]
    pub fn hub(&self) -> &Hub {
        &self.hub
    }

    /// How many sockets are open, those included that have not authenticated yet.
    #[must_use]
    pub fn connection_count(&self) -> usize {
        self.limits.open()
    }

    /// Ends all sockets (`server_closing`, then 1001) and refuses new ones with 503. Call it when the server begins to
    /// shut down; the sockets then end by themselves.
    pub fn drain(&self) {
        self.draining.cancel();
        self.hub.drain(self.settings.retry_ms.clone());
    }
}

/// Mounts both routes.
pub fn configure(sockets: web::Data<WebSockets>) -> impl FnOnce(&mut web::ServiceConfig) {
    move |config| {
        config.app_data(sockets).service(connect).service(connect_to_user);
    }
}
