//! A stream that is on: reading, pinging, and handing over in order.

use futures_util::{SinkExt, StreamExt};
use plimsoll_core_domain::broker::{TradeSink, TradeUpdate};
use tokio::sync::mpsc;
use tokio::time::{Instant, MissedTickBehavior, interval_at, sleep_until, timeout};
use tokio_tungstenite::tungstenite::Message;

use super::super::failure::chain;
use super::super::wire::{Incoming, read_message};
use super::handshake::Connected;
use super::{End, Socket};
use crate::config::AlpacaConfig;

/// Runs until the connection is gone. Reading goes on while the sink catches up or works, into a bounded buffer; when
/// that is full the socket waits, so nothing is lost. What was read is handed over before this returns.
pub(super) async fn run(connected: Connected, config: &AlpacaConfig, sink: &dyn TradeSink) -> End {
    let Connected { socket, early } = connected;
    let (updates, mut buffer) = mpsc::channel(config.stream_buffer.max(1));
    let hand_over = async {
        sink.connected().await;
        for update in early {
            sink.update(update).await;
        }
        while let Some(update) = buffer.recv().await {
            sink.update(update).await;
        }
    };
    let (reason, ()) = tokio::join!(read(socket, updates, config), hand_over);
    End::lost(reason)
}

/// Tells why the connection ended.
async fn read(mut socket: Socket, updates: mpsc::Sender<TradeUpdate>, config: &AlpacaConfig) -> String {
    let timings = &config.timings;
    let mut ping = interval_at(Instant::now() + timings.ping_interval, timings.ping_interval);
    ping.set_missed_tick_behavior(MissedTickBehavior::Delay);
    let mut dead_at = Instant::now() + timings.dead_peer;
    let mut waiting: Option<TradeUpdate> = None;
    loop {
        tokio::select! {
            // The buffer was full: nothing is read until there is room, so silence says nothing either.
            room = updates.reserve(), if waiting.is_some() => match (room, waiting.take()) {
                (Ok(room), Some(update)) => {
                    room.send(update);
                    dead_at = Instant::now() + timings.dead_peer;
                }
                _ => return "the sink is gone".to_owned(),
            },
            frame = socket.next(), if waiting.is_none() => {
                dead_at = Instant::now() + timings.dead_peer;
                match frame {
                    Some(Ok(message)) => match take(message) {
                        Ok(Some(update)) => match updates.try_send(update) {
                            Ok(()) => {}
                            Err(mpsc::error::TrySendError::Full(update)) => waiting = Some(update),
                            Err(mpsc::error::TrySendError::Closed(_)) => return "the sink is gone".to_owned(),
                        },
                        Ok(None) => {}
                        Err(reason) => return reason,
                    },
                    Some(Err(error)) => return format!("the connection broke: {}", chain(&error)),
                    None => return "the broker closed the connection".to_owned(),
                }
            },
            () = sleep_until(dead_at), if waiting.is_none() => {
                return format!("no sign of life for {:?}", timings.dead_peer);
            },
            _ = ping.tick() => {
                match timeout(timings.dead_peer, socket.send(Message::Ping(Vec::new().into()))).await {
                    Ok(Ok(())) => {}
                    Ok(Err(error)) => return format!("the connection broke: {}", chain(&error)),
                    Err(_) => return format!("nothing could be sent for {:?}", timings.dead_peer),
                }
            },
        }
    }
}

fn take(message: Message) -> Result<Option<TradeUpdate>, String> {
    match message {
        Message::Text(_) | Message::Binary(_) => match read_message(&message.into_data()) {
            Ok(Incoming::Update(update)) => Ok(Some(*update)),
            Ok(Incoming::Authorization { authorized: false }) => {
                Err("the broker ended the authorization".to_owned())
            }
            Ok(_) => Ok(None),
            Err(error) => {
                // The order's timer and reconciliation fetch what it said.
                tracing::warn!(%error, "A message of the order stream was not understood");
                Ok(None)
            }
        },
        Message::Close(frame) => {
            let why = frame.map(|frame| frame.to_string()).unwrap_or_default();
            Err(format!("the broker closed the connection {why}").trim_end().to_owned())
        }
        _ => Ok(None),
    }
}
