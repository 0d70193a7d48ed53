//! One WebSocket connection.

use std::sync::Arc;

use actix_web::{HttpRequest, HttpResponse, web};
use actix_ws::{AggregatedMessage, AggregatedMessageStream, CloseCode, CloseReason, Closed, Session};
use bytes::Bytes;
use tokio::sync::mpsc::Receiver;

use super::Frames;
use super::hub::{ConnectionId, Hub, Outgoing};
use super::protocol::{self, Request, TRADE_UPDATES};
use crate::keys::Keys;

/// Longest message a client may send.
const MAX_MESSAGE: usize = 64 * 1024;

/// Answers the upgrade and serves the connection until either side ends it.
pub(crate) fn serve(
    request: &HttpRequest,
    body: web::Payload,
    hub: Arc<Hub>,
    keys: Arc<Keys>,
) -> Result<HttpResponse, actix_web::Error> {
    let (response, session, messages) = actix_ws::handle(request, body)?;
    let messages =
        messages.max_frame_size(MAX_MESSAGE).aggregate_continuations().max_continuation_size(MAX_MESSAGE);
    actix_web::rt::spawn(async move {
        let mut socket = Socket { session, frames: hub.settings().frames, hub, keys, joined: None };
        let end = socket.run(messages).await;
        if let Some((id, _)) = socket.joined.take() {
            socket.hub.leave(id);
        }
        if let Ok(End::Close(code)) = end {
            // the peer may be gone already
            drop(socket.session.close(Some(CloseReason::from(code))).await);
        }
    });
    Ok(response)
}

struct Socket {
    session: Session,
    frames: Frames,
    hub: Arc<Hub>,
    keys: Arc<Keys>,
    joined: Option<(ConnectionId, Receiver<Outgoing>)>,
}

enum End {
    Close(CloseCode),
    Cut,
}

impl Socket {
    async fn run(&mut self, mut messages: AggregatedMessageStream) -> Result<End, Closed> {
        loop {
            tokio::select! {
                incoming = messages.recv() => {
                    let Some(message) = incoming else { return Ok(End::Cut) };
                    match message {
                        Ok(AggregatedMessage::Text(text)) => self.answer(text.as_bytes()).await?,
                        Ok(AggregatedMessage::Binary(bytes)) => self.answer(&bytes).await?,
                        Ok(AggregatedMessage::Ping(bytes)) => self.session.pong(&bytes).await?,
                        Ok(AggregatedMessage::Pong(_)) => {}
                        Ok(AggregatedMessage::Close(_)) => return Ok(End::Close(CloseCode::Normal)),
                        Err(_) => return Ok(End::Close(CloseCode::Protocol)),
                    }
                }
                outgoing = next(&mut self.joined) => match outgoing {
                    Some(Outgoing::Message(message)) => self.send(message).await?,
                    Some(Outgoing::Close) => return Ok(End::Close(CloseCode::Away)),
                    Some(Outgoing::Cut) | None => return Ok(End::Cut),
                },
            }
        }
    }

    async fn answer(&mut self, text: &[u8]) -> Result<(), Closed> {
        match protocol::read(text) {
            Some(Request::Authenticate { action, key_id, secret }) => {
                let account = self.keys.authenticate(&key_id, &secret);
                if let Some(account) = account {
                    if let Some((old, _)) = self.joined.take() {
                        self.hub.leave(old);
                    }
                    self.joined = Some(self.hub.join(account));
                }
                self.send(protocol::authorization(account.is_some(), &action)).await
            }
            Some(Request::Listen { streams }) => match &self.joined {
                None => self.send(protocol::authorization(false, "listen")).await,
                Some((id, _)) => {
                    let known: Vec<&str> =
                        streams.iter().map(String::as_str).filter(|s| *s == TRADE_UPDATES).collect();
                    self.hub.listen(*id, &known);
                    self.send(protocol::listening(&known)).await
                }
            },
            None => Ok(()),
        }
    }

    async fn send(&mut self, message: Bytes) -> Result<(), Closed> {
        match self.frames {
            Frames::Binary => self.session.binary(message).await,
            // what we send is JSON, which is UTF-8
            Frames::Text => self.session.text(String::from_utf8_lossy(&message).into_owned()).await,
        }
    }
}

/// The next thing to do for a joined connection; never, before it has joined.
async fn next(joined: &mut Option<(ConnectionId, Receiver<Outgoing>)>) -> Option<Outgoing> {
    match joined {
        Some((_, outgoing)) => outgoing.recv().await,
        None => std::future::pending().await,
    }
}
