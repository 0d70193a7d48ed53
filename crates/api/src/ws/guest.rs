//! A socket that has not said yet who it is.

use std::net::IpAddr;

use plimsoll_core_domain::UserId;
use plimsoll_realtime::{ClientMessage, CloseCode, ServerMessage};
use tokio::time::timeout;

use super::WebSockets;
use super::auth::{WsAuthError, WsCaller, WsCredential};
use super::socket::{Incoming, Socket};

/// Waits for the `auth` message; nothing else is obeyed before it. `Err` says how to close, `None` that nobody is there.
pub(super) async fn authenticate(
    sockets: &WebSockets,
    socket: &mut Socket,
    ip: Option<IpAddr>,
    subject: Option<UserId>,
) -> Result<WsCaller, Option<CloseCode>> {
    let credential = tokio::select! {
        credential = timeout(sockets.settings.auth_timeout, credential(socket)) => {
            credential.unwrap_or(Err(Some(CloseCode::Unauthenticated)))?
        }
        () = sockets.draining.cancelled() => return Err(Some(CloseCode::ShuttingDown)),
    };
    let refused = |error: WsAuthError| Some(error.close_code());
    let caller = sockets.authenticator.authenticate(&credential, ip).await.map_err(refused)?;
    sockets.let_in(&caller, subject, ip).await.map_err(refused)?;
    Ok(caller)
}

async fn credential(socket: &mut Socket) -> Result<WsCredential, Option<CloseCode>> {
    loop {
        let answer = match socket.input.next().await {
            Incoming::Message(ClientMessage::Auth { token }) => return Ok(WsCredential::FirstMessage(token)),
            Incoming::Message(_) => {
                ServerMessage::Error { code: "unauthenticated", detail: "the first message must be `auth`" }
                    .to_text()
            }
            Incoming::Bad(error) => {
                ServerMessage::Error { code: error.code(), detail: &error.to_string() }.to_text()
            }
            Incoming::Ping(payload) => {
                socket.output.pong(payload).await.map_err(|_| None)?;
                continue;
            }
            Incoming::Pong => continue,
            Incoming::Violation(code) => return Err(Some(code)),
            Incoming::Close(_) | Incoming::Gone => return Err(None),
        };
        socket.output.text(answer).await.map_err(|_| None)?;
    }
}
