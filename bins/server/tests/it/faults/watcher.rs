//! A WebSocket client that comes back with its cursor whenever it is thrown out, and writes down what it got.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use futures_util::{SinkExt, StreamExt};
use serde_json::Value;
use tokio::task::JoinHandle;
use tokio_tungstenite::tungstenite::Message;
use tokio_tungstenite::tungstenite::client::IntoClientRequest;

use super::desk::Desk;

/// A client of one user's stream over one or more servers. Dropping it ends it.
pub(crate) struct Watcher {
    pub(super) stream: String,
    heard: Arc<Mutex<Heard>>,
    task: JoinHandle<()>,
}

#[derive(Debug, Default)]
pub(super) struct Heard {
    /// The offset after which it began to listen.
    pub(super) began: Option<i64>,
    /// Offsets as they came.
    pub(super) offsets: Vec<i64>,
    /// Kinds of events and control messages, counted.
    pub(super) kinds: BTreeMap<String, usize>,
    cursor: Option<String>,
    /// How often it had to connect.
    pub(super) connected: usize,
}

impl Watcher {
    /// Begins to listen; events of the trader's stream are written down from now on.
    pub(crate) async fn start(desk: &Desk, urls: &[&str]) -> Self {
        let heard = Arc::new(Mutex::new(Heard::default()));
        let stream = format!("user:{}", desk.user());
        let urls: Vec<String> = urls.iter().map(|url| url.replace("http://", "ws://")).collect();
        let task = {
            let (heard, desk, stream) = (Arc::clone(&heard), desk.clone(), stream.clone());
            tokio::spawn(async move {
                for url in urls.iter().cycle() {
                    listen(url, &desk, &stream, &heard).await;
                    tokio::time::sleep(Duration::from_millis(50)).await;
                }
            })
        };
        let this = Self { stream, heard, task };
        super::world::until("the watcher is connected", async || this.heard().began.is_some()).await;
        this
    }

    pub(super) fn heard(&self) -> MutexGuard<'_, Heard> {
        self.heard.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// How many messages of this kind came.
    pub(crate) fn count(&self, kind: &str) -> usize {
        self.heard().kinds.get(kind).copied().unwrap_or_default()
    }

    /// The newest offset that came.
    pub(crate) fn newest(&self) -> i64 {
        let heard = self.heard();
        heard.offsets.last().copied().or(heard.began).unwrap_or_default()
    }

    /// As if an event had come twice: for the oracle's own test.
    pub(super) fn mishear(&self) {
        let mut heard = self.heard();
        let last = heard.offsets.last().copied();
        heard.offsets.extend(last);
    }

    /// How often it had to connect.
    pub(crate) fn connected(&self) -> usize {
        self.heard().connected
    }
}

impl Drop for Watcher {
    fn drop(&mut self) {
        self.task.abort();
    }
}

/// One connection, until it ends.
async fn listen(url: &str, desk: &Desk, stream: &str, heard: &Mutex<Heard>) {
    let lock = || heard.lock().unwrap_or_else(PoisonError::into_inner);
    let query = lock().cursor.as_ref().map(|cursor| format!("?cursor={cursor}")).unwrap_or_default();
    let mut request = format!("{url}/ws{query}").into_client_request().unwrap();
    request.headers_mut().insert("authorization", format!("Bearer {}", desk.token()).parse().unwrap());
    let connecting = tokio::time::timeout(Duration::from_secs(10), tokio_tungstenite::connect_async(request));
    let Ok(Ok((mut socket, _))) = connecting.await else { return };
    lock().connected += 1;
    while let Some(Ok(message)) = socket.next().await {
        let text = match message {
            Message::Text(text) => text,
            Message::Ping(data) => {
                if socket.send(Message::Pong(data)).await.is_err() {
                    return;
                }
                continue;
            }
            Message::Close(_) => return,
            _ => continue,
        };
        let event: Value = serde_json::from_str(&text).unwrap();
        let mut heard = lock();
        *heard.kinds.entry(event["type"].as_str().unwrap().to_owned()).or_default() += 1;
        if event["type"] == "hello" && heard.began.is_none() {
            heard.began = event["streams"][stream]["head"].as_i64();
            heard.cursor = event["cursor"].as_str().map(str::to_owned);
        }
        if let Some(cursor) = event["id"].as_str() {
            heard.cursor = Some(cursor.to_owned());
        }
        if event["stream"] == stream {
            heard.offsets.extend(event["offset"].as_i64());
        }
    }
}
