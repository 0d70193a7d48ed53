//! The socket itself: texts out, messages in, with the limits of both.

use std::time::{Duration, Instant};

use actix_web::error::PayloadError;
use actix_web::web::Bytes;
use actix_ws::{
    AggregatedMessage, AggregatedMessageStream, CloseReason, Message, MessageStream, ProtocolError, Session,
};
use futures_util::SinkExt;
use plimsoll_realtime::{ClientMessage, ClientMessageError, CloseCode};
use tokio::time::timeout;

use super::WsSettings;
use super::limits::Rate;

/// Both halves of a socket.
pub(super) struct Socket {
    pub(super) output: Output,
    pub(super) input: Input,
}

/// Where messages to the client go. Clones share the socket.
#[derive(Clone)]
pub(super) struct Output {
    session: Session,
    write_timeout: Duration,
    close_timeout: Duration,
}

/// Why nothing more can be written.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum WriteError {
    /// The client does not read.
    TimedOut,
    /// The connection is gone.
    Gone,
}

/// What comes from the client.
pub(super) struct Input {
    messages: AggregatedMessageStream,
    rate: Rate,
    bad: u32,
    max_bad: u32,
    max_message_bytes: usize,
}

/// One thing that came from the client.
#[derive(Debug)]
pub(super) enum Incoming {
    Message(ClientMessage),
    /// Not understood, but not yet too often: to be answered with an error.
    Bad(ClientMessageError),
    Ping(Bytes),
    Pong,
    /// The client broke a rule; close with this.
    Violation(CloseCode),
    /// The client closes.
    Close(Option<CloseReason>),
    /// The connection is gone.
    Gone,
}

impl Socket {
    pub(super) fn new(session: Session, messages: MessageStream, settings: &WsSettings) -> Self {
        let max = settings.max_message_bytes;
        let output =
            Output { session, write_timeout: settings.write_timeout, close_timeout: settings.close_timeout };
        let input = Input {
            messages: messages.max_frame_size(max).aggregate_continuations().max_continuation_size(max),
            rate: Rate::new(settings.max_messages_per_minute, Duration::from_secs(60)),
            bad: 0,
            max_bad: settings.max_bad_messages,
            max_message_bytes: max,
        };
        Self { output, input }
    }
}

impl Output {
    /// Sends a text, which is UTF-8.
    pub(super) async fn text(&mut self, text: Bytes) -> Result<(), WriteError> {
        let text = text.try_into().map_err(|_| WriteError::Gone)?;
        self.write(Message::Text(text)).await
    }

    pub(super) async fn ping(&mut self) -> Result<(), WriteError> {
        self.write(Message::Ping(Bytes::new())).await
    }

    pub(super) async fn pong(&mut self, payload: Bytes) -> Result<(), WriteError> {
        self.write(Message::Pong(payload)).await
    }

    async fn write(&mut self, message: Message) -> Result<(), WriteError> {
        let sent = timeout(self.write_timeout, self.session.send(message)).await;
        sent.map_err(|_| WriteError::TimedOut)?.map_err(|_| WriteError::Gone)
    }

    /// Sends a close frame if the client reads it soon, and ends the socket in any case.
    pub(super) async fn close(self, code: CloseCode) {
        let reason = CloseReason::from((code.number().into(), code.reason()));
        self.close_with(Some(reason)).await;
    }

    pub(super) async fn close_with(self, reason: Option<CloseReason>) {
        // Whether it was read in time or not, the socket ends here.
        let _ = timeout(self.close_timeout, self.session.close(reason)).await;
    }
}

impl Input {
    pub(super) async fn next(&mut self) -> Incoming {
        let message = match self.messages.recv().await {
            None => return Incoming::Gone,
            Some(Err(error)) => return protocol_violation(&error),
            Some(Ok(message)) => message,
        };
        match message {
            AggregatedMessage::Close(reason) => Incoming::Close(reason),
            AggregatedMessage::Pong(_) => Incoming::Pong,
            AggregatedMessage::Binary(_) => Incoming::Violation(CloseCode::Binary),
            _ if !self.rate.allows(Instant::now()) => Incoming::Violation(CloseCode::TooMany),
            AggregatedMessage::Ping(payload) => Incoming::Ping(payload),
            AggregatedMessage::Text(text) if text.len() > self.max_message_bytes => {
                Incoming::Violation(CloseCode::TooBig)
            }
            AggregatedMessage::Text(text) => match ClientMessage::parse(&text) {
                Ok(message) => {
                    self.bad = 0;
                    Incoming::Message(message)
                }
                Err(error) => {
                    self.bad += 1;
                    if self.bad >= self.max_bad {
                        Incoming::Violation(CloseCode::Malformed)
                    } else {
                        Incoming::Bad(error)
                    }
                }
            },
        }
    }
}

fn protocol_violation(error: &ProtocolError) -> Incoming {
    Incoming::Violation(match error {
        ProtocolError::Overflow => CloseCode::TooBig,
        ProtocolError::Io(error) if error.get_ref().is_some_and(|inner| inner.is::<PayloadError>()) => {
            return Incoming::Gone;
        }
        ProtocolError::Io(error) => match error.kind() {
            // actix-ws gives these two kinds to text that is not UTF-8 and to fragments that grow too long.
            std::io::ErrorKind::InvalidData => CloseCode::InvalidText,
            std::io::ErrorKind::Other => CloseCode::TooBig,
            _ => return Incoming::Gone,
        },
        _ => CloseCode::Protocol,
    })
}
