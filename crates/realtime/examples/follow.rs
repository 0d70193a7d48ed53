//! Follows a server's WebSocket over reconnects, restarts and restores, each event once and in order:
//! `PLIMSOLL_TOKEN=… cargo run -p plimsoll-realtime --example follow -- ws://127.0.0.1:8080/ws`
//!
//! It prints a line per event. What to do with a gap that only a snapshot closes stands at [`Follower::snapshot`].

#![expect(
    clippy::disallowed_methods,
    reason = "a program of its own: it takes time, randomness and settings itself"
)]

use std::collections::HashMap;
use std::time::{Duration, Instant};

use futures_util::{SinkExt, StreamExt};
use rand::RngExt;
use serde_json::{Value, json};
use tokio_tungstenite::connect_async;
use tokio_tungstenite::tungstenite::protocol::Message;

type Failure = Box<dyn std::error::Error + Send + Sync>;

const FIRST_PAUSE: Duration = Duration::from_millis(500);
const LONGEST_PAUSE: Duration = Duration::from_secs(30);
/// A connection that lasted so long was a good one: the next pause is the first again.
const GOOD_AFTER: Duration = Duration::from_secs(10);
/// With these codes coming back changes nothing.
const TERMINAL: [u16; 6] = [1003, 1007, 1009, 4400, 4401, 4403];

struct Follower {
    url: String,
    token: String,
    /// After the last event that was handed out.
    cursor: Option<String>,
}

/// How a connection ended.
enum End {
    /// Come back, after this long if the server said so.
    Again(Option<Duration>),
    /// Coming back is in vain.
    Never(u16),
}

#[tokio::main]
async fn main() -> Result<(), Failure> {
    let url = std::env::args().nth(1).ok_or("give the address of the WebSocket")?;
    let token = std::env::var("PLIMSOLL_TOKEN")?;
    let mut follower = Follower { url, token, cursor: None };
    let mut attempt = 0;
    loop {
        let began = Instant::now();
        let retry = match follower.connection().await {
            Ok(End::Never(code)) => return Err(format!("closed with {code}").into()),
            Ok(End::Again(retry)) => retry,
            Err(error) => {
                eprintln!("disconnected: {error}");
                None
            }
        };
        if began.elapsed() > GOOD_AFTER {
            attempt = 0;
        }
        let longest = LONGEST_PAUSE.min(FIRST_PAUSE * 2u32.pow(attempt));
        attempt = (attempt + 1).min(8);
        // Half of the pause is fixed, half at random: clients that were cut off together do not come back together.
        let pause = longest / 2 + longest.mul_f64(rand::rng().random::<f64>() / 2.0);
        tokio::time::sleep(retry.unwrap_or(pause)).await;
    }
}

impl Follower {
    /// One connection, from where the last one ended.
    async fn connection(&mut self) -> Result<End, Failure> {
        if self.cursor.is_none() {
            self.cursor = self.snapshot().await?;
        }
        let url = match &self.cursor {
            Some(cursor) => format!("{}?cursor={cursor}", self.url),
            None => self.url.clone(),
        };
        let (mut socket, _) = connect_async(url).await?;
        socket.send(Message::text(json!({ "type": "auth", "token": self.token }).to_string())).await?;
        let mut offsets: HashMap<String, i64> = HashMap::new();
        // Events count once it is known from where on.
        let mut listening = false;
        let mut retry = None;
        while let Some(message) = socket.next().await {
            let text = match message? {
                Message::Text(text) => text,
                Message::Close(Some(frame)) if TERMINAL.contains(&frame.code.into()) => {
                    return Ok(End::Never(frame.code.into()));
                }
                Message::Close(_) => break,
                _ => continue, // pings are answered by themselves
            };
            let message: Value = serde_json::from_str(&text)?;
            match message["type"].as_str().unwrap_or_default() {
                "hello" if self.cursor.is_none() => {
                    self.cursor = message["cursor"].as_str().map(str::to_owned);
                    for (stream, head) in message["streams"].as_object().into_iter().flatten() {
                        offsets.insert(stream.clone(), head["head"].as_i64().unwrap_or(0));
                    }
                    listening = true;
                }
                "recovered" => {
                    let stream = message["stream"].as_str().unwrap_or_default();
                    offsets.insert(stream.to_owned(), message["from"].as_i64().unwrap_or(1) - 1);
                    listening = true;
                }
                "snapshot_required" => {
                    self.cursor = None;
                    return Ok(End::Again(None));
                }
                "error" if message["code"] == "invalid_cursor" => {
                    self.cursor = None;
                    return Ok(End::Again(None));
                }
                "server_closing" => retry = message["retry_ms"].as_u64().map(Duration::from_millis),
                "hello" | "pong" | "error" => {}
                // a hole: the cursor makes it good
                _ if listening && !self.event(&message, &mut offsets) => return Ok(End::Again(None)),
                _ => {}
            }
        }
        Ok(End::Again(retry))
    }

    /// Hands an event out unless it was; `false` when one is missing before it.
    fn event(&mut self, event: &Value, offsets: &mut HashMap<String, i64>) -> bool {
        let (Some(offset), Some(stream)) = (event["offset"].as_i64(), event["stream"].as_str()) else {
            println!("price {} {}", event["type"], event["data"]);
            return true;
        };
        let last = offsets.entry(stream.to_owned()).or_insert(offset - 1);
        if offset <= *last {
            return true;
        }
        if offset > *last + 1 {
            return false;
        }
        *last = offset;
        self.cursor = event["id"].as_str().map(str::to_owned);
        println!("{stream}#{offset} {} {}", event["type"], event["data"]);
        true
    }

    /// Loads what there is, with `GET /orders` and the like, and gives the `Plimsoll-Cursor` header of the first answer.
    /// This example only prints what happens, so it begins at the present.
    async fn snapshot(&self) -> Result<Option<String>, Failure> {
        Ok(None)
    }
}
