//! From nothing to the listening acknowledgement.

use futures_util::{SinkExt, StreamExt};
use plimsoll_core_domain::broker::{BrokerError, TradeUpdate};
use secrecy::zeroize::Zeroizing;
use tokio::io::AsyncWriteExt;
use tokio_tungstenite::connect_async_with_config;
use tokio_tungstenite::tungstenite::protocol::WebSocketConfig;
use tokio_tungstenite::tungstenite::{Error, Message};

use super::super::failure::chain;
use super::super::http::Http;
use super::super::rate::RateHeaders;
use super::super::wire::{Command, Incoming, read_message};
use super::{End, Socket};
use crate::config::AlpacaConfig;
use crate::credentials::Credentials;

const STREAM: &str = "trade_updates";
const READ_BUFFER: usize = 16 * 1024;

/// A stream that is listened to, with what came in before the acknowledgement.
pub(super) struct Connected {
    pub(super) socket: Socket,
    pub(super) early: Vec<TradeUpdate>,
}

/// `mask` hides the first frame from intermediaries (RFC 6455 section 5.3).
pub(super) async fn connect(http: &Http, mask: [u8; 4]) -> Result<Connected, End> {
    let credentials = http.credentials().await.map_err(|error| match error {
        BrokerError::Unauthorized(why) => End::Unauthorized(why),
        other => End::lost(other.to_string()),
    })?;
    let within = http.config.timings.stream_handshake;
    match tokio::time::timeout(within, handshake(&http.config, &credentials, mask)).await {
        Ok(result) => result,
        Err(_) => Err(End::lost(format!("the stream's handshake took longer than {within:?}"))),
    }
}

async fn handshake(
    config: &AlpacaConfig,
    credentials: &Credentials,
    mask: [u8; 4],
) -> Result<Connected, End> {
    let limits = WebSocketConfig::default()
        .read_buffer_size(READ_BUFFER)
        .max_message_size(Some(config.max_body_bytes))
        .max_frame_size(Some(config.max_body_bytes));
    let (mut socket, _) =
        connect_async_with_config(config.stream_url(), Some(limits), true).await.map_err(refused)?;

    authenticate(&mut socket, credentials, mask).await?;
    let mut early = Vec::new();
    loop {
        match hear(&mut socket).await? {
            Incoming::Authorization { authorized: true } => break,
            Incoming::Authorization { authorized: false } => {
                return Err(End::Unauthorized("the order stream refused the key".to_owned()));
            }
            _ => {}
        }
    }
    say(&mut socket, &Command::Listen { streams: &[STREAM] }).await?;
    loop {
        match hear(&mut socket).await? {
            Incoming::Listening { streams } if streams.iter().any(|stream| stream == STREAM) => {
                return Ok(Connected { socket, early });
            }
            Incoming::Listening { .. } => {
                return Err(End::lost("the broker does not offer the order stream"));
            }
            Incoming::Authorization { authorized: false } => {
                return Err(End::Unauthorized("the order stream refused to listen".to_owned()));
            }
            Incoming::Update(_) if early.len() >= config.stream_buffer => {
                return Err(End::lost("too many updates before the listening acknowledgement"));
            }
            Incoming::Update(update) => early.push(*update),
            Incoming::Authorization { .. } | Incoming::Other => {}
        }
    }
}

fn refused(error: Error) -> End {
    match &error {
        Error::Http(response) if matches!(response.status().as_u16(), 401 | 403) => {
            End::Unauthorized(format!("the order stream answered {}", response.status()))
        }
        Error::Http(response) => End::Lost {
            reason: format!("the order stream answered {}", response.status()),
            retry_after: RateHeaders::read(response.headers()).retry_after(),
        },
        _ => End::lost(format!("no connection to the order stream: {}", chain(&error))),
    }
}

/// Writes the frame to the connection itself: the WebSocket library writes every frame that it sends into its trace log.
async fn authenticate(socket: &mut Socket, credentials: &Credentials, mask: [u8; 4]) -> Result<(), End> {
    let text = Zeroizing::new(Command::authenticate(credentials).to_json());
    let frame = masked_text_frame(text.as_bytes(), mask)
        .ok_or_else(|| End::Unauthorized("the credentials are too long".to_owned()))?;
    let connection = socket.get_mut();
    let sent = async {
        connection.write_all(&frame).await?;
        connection.flush().await
    };
    sent.await.map_err(|error| End::lost(format!("the connection broke during the handshake: {error}")))
}

/// One final text frame from a client (RFC 6455 section 5.2), of at most 65,535 bytes.
fn masked_text_frame(payload: &[u8], mask: [u8; 4]) -> Option<Zeroizing<Vec<u8>>> {
    const FINAL_TEXT: u8 = 0x81;
    const MASKED: u8 = 0x80;
    let length = u16::try_from(payload.len()).ok()?;
    let mut frame = Zeroizing::new(Vec::with_capacity(payload.len() + 8));
    frame.push(FINAL_TEXT);
    match u8::try_from(length) {
        Ok(short) if short < 126 => frame.push(MASKED | short),
        _ => {
            frame.push(MASKED | 126);
            frame.extend_from_slice(&length.to_be_bytes());
        }
    }
    frame.extend_from_slice(&mask);
    frame.extend(payload.iter().zip(mask.iter().cycle()).map(|(byte, mask)| byte ^ mask));
    Some(frame)
}

async fn say(socket: &mut Socket, command: &Command<'_>) -> Result<(), End> {
    let sent = socket.send(Message::text(command.to_json())).await;
    sent.map_err(|error| End::lost(format!("the connection broke during the handshake: {}", chain(&error))))
}

/// The next message that is understood.
async fn hear(socket: &mut Socket) -> Result<Incoming, End> {
    loop {
        let message = match socket.next().await {
            Some(Ok(message)) => message,
            Some(Err(error)) => {
                return Err(End::lost(format!(
                    "the connection broke during the handshake: {}",
                    chain(&error)
                )));
            }
            None => return Err(End::lost("the broker closed the connection during the handshake")),
        };
        match &message {
            Message::Text(_) | Message::Binary(_) => match read_message(&message.into_data()) {
                Ok(incoming) => return Ok(incoming),
                Err(error) => tracing::warn!(%error, "A message of the order stream was not understood"),
            },
            Message::Close(frame) => {
                let why = frame.as_ref().map(ToString::to_string).unwrap_or_default();
                return Err(End::lost(format!(
                    "the broker closed the connection during the handshake {why}"
                )));
            }
            _ => {}
        }
    }
}
