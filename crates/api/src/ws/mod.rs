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
mod rechecks;
mod refusal;
mod settings;
mod socket;
mod upgrade;

#[cfg(test)]
mod tests;

use std::net::IpAddr;
use std::sync::Arc;

use actix_web::error::BlockingError;
use actix_web::web;
use plimsoll_core_domain::UserId;
use plimsoll_realtime::Hub;
use tokio::sync::Semaphore;
use tokio_util::sync::CancellationToken;

pub use auth::{WsAuthError, WsAuthenticator, WsCaller, WsCredential};
pub use refusal::UpgradeRefused;
pub use settings::WsSettings;
pub use upgrade::{connect, connect_to_user};

use limits::ConnectionLimits;
use rechecks::Rechecks;

/// Everything the sockets of one server share. Make one per server, not one per worker.
pub struct WebSockets {
    hub: Hub,
    authenticator: Arc<dyn WsAuthenticator>,
    settings: WsSettings,
    limits: Arc<ConnectionLimits>,
    rechecks: Arc<Rechecks>,
    draining: CancellationToken,
    reads: Arc<Semaphore>,
}

impl WebSockets {
    /// Sockets over this hub.
    #[must_use]
    pub fn new(hub: Hub, authenticator: Arc<dyn WsAuthenticator>, settings: WsSettings) -> Self {
        let limits = Arc::new(ConnectionLimits::new(&settings));
        let (rechecks, draining) = (Arc::default(), CancellationToken::new());
        let reads = Arc::new(Semaphore::new(settings.concurrent_reads.max(1)));
        Self { hub, authenticator, settings, limits, rechecks, draining, reads }
    }

    /// Whether the stream of `subject` (`None`: the own) may be heard, from the address `ip`.
    async fn let_in(
        &self,
        caller: &WsCaller,
        subject: Option<UserId>,
        ip: Option<IpAddr>,
    ) -> Result<(), WsAuthError> {
        match subject.filter(|subject| *subject != caller.user_id) {
            None => Ok(()),
            Some(subject) if caller.is_admin => self.authenticator.open_foreign(caller, subject, ip).await,
            Some(_) => Err(WsAuthError::Forbidden),
        }
    }

    /// Reads history on a thread that may block, when it is this socket's turn.
    async fn read_history<T, F>(&self, read: F) -> Result<T, BlockingError>
    where
        F: FnOnce() -> T + Send + 'static,
        T: Send + 'static,
    {
        // The semaphore is never closed. The turn ends with the read, whatever becomes of the socket.
        let turn = Arc::clone(&self.reads).acquire_owned().await;
        web::block(move || {
            let _turn = turn;
            read()
        })
        .await
    }

    /// The user's logins have changed: each of the user's sockets looks whether it may stay.
    pub fn look_again(&self, user: UserId) {
        self.rechecks.ring(user);
    }

    /// Every socket looks whether it may stay.
    pub fn look_again_at_all(&self) {
        self.rechecks.ring_all();
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
