//! Clients that place orders or send signals, each of another size, by which the broker's log knows it again.

use std::net::SocketAddr;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

use tokio::io::AsyncWriteExt;
use tokio::net::TcpStream;

use super::Result;
use super::answers::read_answer;

/// Connections at a fixed pace; more than ever wait for an answer.
const PACED_CONNECTIONS: usize = 64;

/// What is asked for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Kind {
    /// An order is placed, without waiting for the broker.
    Order,
    /// A signal is sent, and once more when it was answered.
    Signal,
}

/// How fast.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Pace {
    /// So many connections, each as fast as it is answered.
    AsAnswered(usize),
    /// One request each such time, however long answers take.
    Every(Duration),
}

/// Where a user's signals go.
#[derive(Clone, Debug)]
pub(crate) struct Hook {
    id: String,
    secret: String,
}

/// A load.
pub(crate) struct Load<'a> {
    pub(crate) address: SocketAddr,
    pub(crate) tokens: &'a [String],
    pub(crate) hooks: &'a [Hook],
    pub(crate) kind: Kind,
    pub(crate) pace: Pace,
    pub(crate) time: Duration,
    /// The first order's size; the next ones follow.
    pub(crate) first: u64,
}

/// One request.
pub(crate) struct Request {
    pub(crate) size: u64,
    /// The second of two that are the same.
    pub(crate) repeat: bool,
    /// When it was sent; at a fixed pace, when it was to be sent.
    pub(crate) due: Instant,
    pub(crate) answered: Instant,
}

pub(crate) struct Outcome {
    /// Requests a second.
    pub(crate) rate: f64,
    pub(crate) requests: Vec<Request>,
}

/// The value below which so many per cent are; sorts.
pub(crate) fn percentile(values: &mut [f64], percent: f64) -> f64 {
    values.sort_by(f64::total_cmp);
    let at = (values.len() as f64 * percent / 100.0) as usize;
    values.get(at.min(values.len().saturating_sub(1))).copied().unwrap_or(f64::NAN)
}

/// A hook for each user.
pub(crate) fn hooks(address: SocketAddr, tokens: &[String]) -> Result<Vec<Hook>> {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    runtime.block_on(async {
        let mut stream = TcpStream::connect(address).await?;
        let (mut answer, mut hooks) = (Vec::new(), Vec::new());
        for token in tokens {
            let body = r#"{"name":"bench","max_age_s":null}"#;
            let head = format!("Authorization: Bearer {token}\r\n");
            stream.write_all(post("/webhooks/inbound", &head, body).as_bytes()).await?;
            let status = read_answer(&mut stream, &mut answer).await?;
            let text = String::from_utf8_lossy(&answer);
            if &status != b"201" {
                return Err(text.into());
            }
            let json: serde_json::Value =
                serde_json::from_str(text.split("\r\n\r\n").nth(1).unwrap_or_default())?;
            let word =
                |name: &str| json[name].as_str().map(str::to_owned).ok_or("a hook without id or secret");
            hooks.push(Hook { id: word("id")?, secret: word("secret")? });
        }
        Ok(hooks)
    })
}

fn post(path: &str, head: &str, body: &str) -> String {
    format!(
        "POST {path} HTTP/1.1\r\nHost: bench\r\n{head}Content-Type: application/json\r\nContent-Length: {}\r\n\r\n{body}",
        body.len()
    )
}

/// Runs a load; an answer that is not the expected one ends it.
pub(crate) fn run(load: &Load<'_>) -> Result<Outcome> {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    let (began, next) = (Instant::now(), AtomicU64::new(0));
    let connections = match load.pace {
        Pace::AsAnswered(connections) => connections,
        Pace::Every(_) => PACED_CONNECTIONS,
    };
    let requests = runtime.block_on(async {
        let clients = (0..connections).map(|_| client(load, began, &next));
        futures_util::future::try_join_all(clients).await
    })?;
    let took = began.elapsed();
    let requests: Vec<Request> = requests.into_iter().flatten().collect();
    Ok(Outcome { rate: requests.len() as f64 / took.as_secs_f64(), requests })
}

async fn client(load: &Load<'_>, began: Instant, next: &AtomicU64) -> Result<Vec<Request>> {
    let mut stream = TcpStream::connect(load.address).await?;
    stream.set_nodelay(true)?;
    let (mut answer, mut requests) = (Vec::new(), Vec::new());
    let each = if load.kind == Kind::Signal { 2 } else { 1 };
    loop {
        let number = next.fetch_add(1, Ordering::Relaxed);
        let due = match load.pace {
            Pace::AsAnswered(_) => Instant::now(),
            Pace::Every(pause) => began + pause.saturating_mul(u32::try_from(number)?) * each,
        };
        if due >= began + load.time {
            return Ok(requests);
        }
        tokio::time::sleep_until(due.into()).await;
        let (size, text) = (load.first + number, request(load, load.first + number));
        for repeat in [false, true].into_iter().take(each as usize) {
            let due = if repeat { Instant::now() } else { due };
            stream.write_all(text.as_bytes()).await?;
            let status = read_answer(&mut stream, &mut answer).await?;
            let expected: &[u8] = if repeat { b"200" } else { b"202" };
            if status != expected {
                return Err(String::from_utf8_lossy(&answer).into());
            }
            requests.push(Request { size, repeat, due, answered: Instant::now() });
        }
    }
}

fn request(load: &Load<'_>, size: u64) -> String {
    let whose = usize::try_from(size).unwrap_or_default() % load.tokens.len().max(1);
    match load.kind {
        Kind::Order => {
            let token = &load.tokens[whose];
            let body = format!(
                r#"{{"symbol":"SPY","side":"buy","type":"limit","time_in_force":"day","qty":"{size}","limit_price":"512.25"}}"#
            );
            let head = format!("Authorization: Bearer {token}\r\nIdempotency-Key: to-broker-{size}\r\n");
            post("/orders?wait_ms=0", &head, &body)
        }
        Kind::Signal => {
            let Hook { id, secret } = &load.hooks[whose];
            let body = format!(
                r#"{{"secret":"{secret}","id":"s-{size}","ticker":"SPY","action":"buy","quantity":"{size}","price":"512.25"}}"#
            );
            post(&format!("/hooks/{id}"), "", &body)
        }
    }
}
