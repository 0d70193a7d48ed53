//! Clients that keep their connections and send the next request when the last one is answered. Requests are written and
//! answers read by hand on one thread, so that the clients take little from what they measure.

use std::net::SocketAddr;
use std::time::{Duration, Instant};

use tokio::io::AsyncWriteExt;
use tokio::net::TcpStream;

use super::Result;
use super::answers::read_answer;

const ORDER: &str =
    r#"{"symbol":"SPY","side":"buy","type":"limit","time_in_force":"day","qty":"10","limit_price":"512.25"}"#;

/// What is asked for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Kind {
    /// An order is placed, without waiting for the broker.
    Place,
    /// The newest 50 orders of a user.
    List,
}

/// A load.
pub(crate) struct Load<'a> {
    pub(crate) address: SocketAddr,
    /// One per user; each request is of a random one.
    pub(crate) tokens: &'a [String],
    pub(crate) connections: usize,
    pub(crate) kind: Kind,
    /// Begins every idempotency key.
    pub(crate) name: &'a str,
    pub(crate) time: Duration,
}

/// How it went.
pub(crate) struct Outcome {
    /// Answers a second.
    pub(crate) rate: f64,
    /// Ascending, in microseconds.
    latencies: Vec<u32>,
}

impl Outcome {
    pub(crate) fn answers(&self) -> usize {
        self.latencies.len()
    }

    /// In milliseconds.
    pub(crate) fn percentile(&self, percent: f64) -> f64 {
        let at = (self.latencies.len() as f64 * percent / 100.0) as usize;
        let found = self.latencies.get(at.min(self.latencies.len().saturating_sub(1)));
        found.map_or(f64::NAN, |micros| f64::from(*micros) / 1_000.0)
    }

    pub(crate) fn line(&self) -> String {
        format!(
            "ours {:.0}/s (p50 {:.2} ms, p99 {:.2} ms),",
            self.rate,
            self.percentile(50.0),
            self.percentile(99.0)
        )
    }
}

/// Runs a load; an answer that is not the expected one ends it.
pub(crate) fn run(load: &Load<'_>) -> Result<Outcome> {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    let began = Instant::now();
    let latencies = runtime.block_on(async {
        let until = began + load.time;
        let clients = (0..load.connections).map(|number| client(load, number, until));
        futures_util::future::try_join_all(clients).await
    })?;
    let took = began.elapsed();
    let mut latencies: Vec<u32> = latencies.into_iter().flatten().collect();
    latencies.sort_unstable();
    Ok(Outcome { rate: latencies.len() as f64 / took.as_secs_f64(), latencies })
}

async fn client(load: &Load<'_>, number: usize, until: Instant) -> Result<Vec<u32>> {
    let mut stream = TcpStream::connect(load.address).await?;
    stream.set_nodelay(true)?;
    let (mut request, mut answer, mut latencies) = (Vec::new(), Vec::new(), Vec::new());
    let mut random = 0x9E37_79B9_7F4A_7C15_u64.wrapping_mul(number as u64 + 1);
    for turn in 0_u64.. {
        let began = Instant::now();
        if began >= until {
            break;
        }
        // xorshift: which user is next
        random ^= random << 13;
        random ^= random >> 7;
        random ^= random << 17;
        let token = &load.tokens[(random % load.tokens.len() as u64) as usize];
        write_request(&mut request, load, token, number, turn);
        stream.write_all(&request).await?;
        let status = read_answer(&mut stream, &mut answer).await?;
        let expected: &[u8] = if load.kind == Kind::Place { b"202" } else { b"200" };
        if status != expected {
            return Err(String::from_utf8_lossy(&answer).into());
        }
        latencies.push(u32::try_from(began.elapsed().as_micros())?);
    }
    Ok(latencies)
}

fn write_request(request: &mut Vec<u8>, load: &Load<'_>, token: &str, number: usize, turn: u64) {
    request.clear();
    let text = match load.kind {
        Kind::List => {
            format!("GET /orders?limit=50 HTTP/1.1\r\nHost: bench\r\nAuthorization: Bearer {token}\r\n\r\n")
        }
        Kind::Place => format!(
            "POST /orders?wait_ms=0 HTTP/1.1\r\nHost: bench\r\nAuthorization: Bearer {token}\r\n\
             Idempotency-Key: {}-{number}-{turn}\r\nContent-Type: application/json\r\n\
             Content-Length: {}\r\n\r\n{ORDER}",
            load.name,
            ORDER.len()
        ),
    };
    request.extend_from_slice(text.as_bytes());
}
