//! One connection, from its upgrade to its end.

use std::cell::Cell;
use std::net::IpAddr;
use std::rc::Rc;
use std::sync::Arc;
use std::time::Instant;

use actix_web::web;
use actix_ws::CloseReason;
use plimsoll_core_domain::UserId;
use plimsoll_realtime::{
    ClientMessage, CloseCode, HubSession, Next, OpenError, OpenRequest, ServerMessage, SessionInfo,
};
use tokio::time::{sleep, sleep_until};

use super::WebSockets;
use super::auth::{WsAuthError, WsCaller};
use super::guest;
use super::places::Places;
use super::socket::{Incoming, Input, Output, Socket, WriteError};

/// A socket that was just upgraded.
pub(super) struct Connection {
    pub(super) sockets: web::Data<WebSockets>,
    /// Whose stream was asked for; `None` for the caller's own.
    pub(super) subject: Option<UserId>,
    pub(super) cursor: Option<String>,
    pub(super) socket: Socket,
    /// From where it comes.
    pub(super) ip: Option<IpAddr>,
    /// `None`: this address has too many sockets.
    pub(super) places: Option<Rc<Places>>,
}

impl Connection {
    /// Runs until the socket has ended. `caller` came with a bearer header or a cookie; without one the first message says who it is.
    pub(super) async fn run(mut self, caller: Option<WsCaller>) {
        let Some(places) = self.places.take() else {
            return self.socket.output.close(CloseCode::TooMany).await;
        };
        let caller = match caller {
            Some(caller) => Ok(caller),
            None => guest::authenticate(&self.sockets, &mut self.socket, self.ip, self.subject).await,
        };
        let caller = match caller {
            Ok(caller) => caller,
            Err(Some(code)) => return self.socket.output.close(code).await,
            Err(None) => return,
        };
        match self.sockets.limits.admit_user(caller.user_id) {
            Ok(slot) => places.take_user(slot),
            Err(_) => return self.socket.output.close(CloseCode::TooMany).await,
        }
        let session = match self.open(&caller).await {
            Ok(session) => session,
            Err(code) => return self.socket.output.close(code).await,
        };
        Live { sockets: &self.sockets, caller: &caller, session: &session, pongs: Cell::new(0) }
            .run(self.socket)
            .await;
    }

    async fn open(&mut self, caller: &WsCaller) -> Result<Arc<HubSession>, CloseCode> {
        let info = SessionInfo {
            caller: caller.user_id,
            subject: self.subject.unwrap_or(caller.user_id),
            login: caller.session_id.clone(),
        };
        let request = OpenRequest { info, cursor: self.cursor.take() };
        let hub = self.sockets.hub.clone();
        match self.sockets.read_history(move || hub.open(request)).await {
            Ok(Ok(session)) => Ok(Arc::new(session)),
            Ok(Err(OpenError::Draining)) => Err(CloseCode::ShuttingDown),
            Ok(Err(OpenError::Store(error))) => {
                tracing::warn!(%error, "A WebSocket was closed: its streams cannot be read.");
                Err(CloseCode::InternalError)
            }
            Err(error) => {
                tracing::error!(%error, "A WebSocket was closed: no thread to read its streams.");
                Err(CloseCode::InternalError)
            }
        }
    }
}

/// An authenticated connection with its session in the hub.
struct Live<'a> {
    sockets: &'a WebSockets,
    caller: &'a WsCaller,
    session: &'a Arc<HubSession>,
    /// How many pongs have come.
    pongs: Cell<u64>,
}

/// How a connection ends.
enum End {
    Close(CloseCode),
    /// The client closed; its own reason goes back (RFC 6455, 5.5.1).
    Echo(Option<CloseReason>),
    Gone,
}

impl From<WriteError> for End {
    fn from(error: WriteError) -> Self {
        match error {
            WriteError::TimedOut => Self::Close(CloseCode::TooSlow),
            WriteError::Gone => Self::Gone,
        }
    }
}

impl Live<'_> {
    async fn run(self, Socket { output, mut input }: Socket) {
        // All four run in this one task; the first to end ends the connection.
        let end = tokio::select! {
            end = self.write(output.clone()) => end,
            end = self.read(&mut input, output.clone()) => end,
            end = self.keep_alive(output.clone()) => end,
            end = self.stay_authorised() => end,
        };
        match end {
            End::Close(code) => {
                tracing::debug!(
                    session = self.session.name(),
                    code = code.number(),
                    "A WebSocket is closed."
                );
                output.close(code).await;
            }
            End::Echo(reason) => output.close_with(reason).await,
            End::Gone => {}
        }
    }

    /// Sends what the hub has, in its order.
    async fn write(&self, mut output: Output) -> End {
        loop {
            match self.session.next(Instant::now()) {
                Next::Text(text) => {
                    let sent = tokio::select! {
                        sent = output.text(text) => sent,
                        () = self.cut_off() => continue,
                    };
                    if let Err(error) = sent {
                        return error.into();
                    }
                }
                Next::Close(code) => return End::Close(code),
                Next::Idle(None) => self.session.ready().await,
                Next::Idle(Some(at)) => tokio::select! {
                    () = self.session.ready() => {}
                    () = sleep_until(at.into()) => {}
                },
            }
        }
    }

    /// Returns when nothing may be sent any more. While a text waits for a slow client, this is how a logout is noticed;
    /// the wake-ups it takes are made up for by the look at the queue that follows each text.
    async fn cut_off(&self) {
        while !self.session.is_cut_off() {
            self.session.ready().await;
        }
    }

    /// Obeys the client.
    async fn read(&self, input: &mut Input, mut output: Output) -> End {
        loop {
            match input.next().await {
                Incoming::Message(message) => {
                    if let Err(end) = self.obey(message).await {
                        return end;
                    }
                }
                Incoming::Bad(error) => {
                    self.session
                        .send(&ServerMessage::Error { code: error.code(), detail: &error.to_string() });
                }
                Incoming::Ping(payload) => {
                    if let Err(error) = output.pong(payload).await {
                        return error.into();
                    }
                }
                Incoming::Pong => self.pongs.set(self.pongs.get() + 1),
                Incoming::Violation(code) => return End::Close(code),
                Incoming::Close(reason) => return End::Echo(reason),
                Incoming::Gone => return End::Gone,
            }
        }
    }

    async fn obey(&self, message: ClientMessage) -> Result<(), End> {
        match message {
            ClientMessage::Ping => self.session.send(&ServerMessage::Pong),
            ClientMessage::Subscribe { events } => self.session.subscribe(events.as_deref()),
            ClientMessage::Unsubscribe { events } => self.session.unsubscribe(events.as_deref()),
            ClientMessage::Auth { .. } => {
                let detail = "this connection is authenticated already";
                self.session.send(&ServerMessage::Error { code: "already_authenticated", detail });
            }
            ClientMessage::Resume { cursor } => {
                let session = self.session.clone();
                match self.sockets.read_history(move || session.resume(&cursor)).await {
                    Ok(Ok(())) => {}
                    Ok(Err(error)) => {
                        tracing::warn!(%error, "A WebSocket was closed: its history cannot be read.");
                        return Err(End::Close(CloseCode::InternalError));
                    }
                    Err(error) => {
                        tracing::error!(%error, "A WebSocket was closed: no thread to read its history.");
                        return Err(End::Close(CloseCode::InternalError));
                    }
                }
            }
        }
        Ok(())
    }

    /// Pings once per interval, and ends when a pong does not come.
    async fn keep_alive(&self, mut output: Output) -> End {
        let pong_timeout = self.sockets.settings.pong_timeout;
        let interval = self.sockets.hub.settings().ping_interval;
        loop {
            sleep(interval.saturating_sub(pong_timeout)).await;
            let before = self.pongs.get();
            if let Err(error) = output.ping().await {
                return error.into();
            }
            sleep(pong_timeout).await;
            if self.pongs.get() == before {
                return End::Close(CloseCode::TimedOut);
            }
        }
    }

    /// Ends when the login behind the connection has ended. The first look is at once: a logout between
    /// authentication and the session's opening found no session to close.
    async fn stay_authorised(&self) -> End {
        let settings = &self.sockets.settings;
        let mut recheck = self.sockets.rechecks.of(self.caller.user_id);
        let mut confirmed = Instant::now();
        loop {
            let pause = match self.sockets.authenticator.still_valid(self.caller).await {
                Ok(()) => {
                    confirmed = Instant::now();
                    settings.reauthorise_every
                }
                Err(WsAuthError::Unavailable) if confirmed.elapsed() < 2 * settings.reauthorise_every => {
                    settings.reauthorise_retry
                }
                Err(error) => return End::Close(error.close_code()),
            };
            tokio::select! {
                () = sleep(pause) => {}
                () = recheck.called() => {}
            }
        }
    }
}
