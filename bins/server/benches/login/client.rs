//! Clients that keep their connections. Requests are written and answers read by hand on one thread, so that the clients
//! take little from what they measure.

use std::net::SocketAddr;
use std::time::{Duration, Instant};

use futures_util::future::try_join_all;
use tokio::io::AsyncWriteExt;
use tokio::net::TcpStream;

use super::Result;
use super::answers::read_answer;

/// How long each request took, in microseconds, ascending, and how many were answered in a second.
pub(crate) struct Outcome {
    pub(crate) rate: f64,
    latencies: Vec<u32>,
}

impl Outcome {
    fn new(parts: Vec<Vec<u32>>, took: Duration) -> Self {
        let mut latencies: Vec<u32> = parts.into_iter().flatten().collect();
        latencies.sort_unstable();
        Self { rate: latencies.len() as f64 / took.as_secs_f64(), latencies }
    }

    /// In milliseconds.
    pub(crate) fn percentile(&self, percent: f64) -> f64 {
        let at = (self.latencies.len() as f64 * percent / 100.0) as usize;
        let found = self.latencies.get(at.min(self.latencies.len().saturating_sub(1)));
        found.map_or(f64::NAN, |micros| f64::from(*micros) / 1_000.0)
    }
}

/// Requests of several connections.
pub(crate) struct Load<'a> {
    pub(crate) address: SocketAddr,
    /// One per connection, sent again and again.
    pub(crate) requests: &'a [Vec<u8>],
    /// From one request of a connection to its next one, unless that is answered later; `None`: at once.
    pub(crate) every: Option<Duration>,
}

/// `GET` of a path by whom the token belongs to.
pub(crate) fn get(path: &str, token: &str) -> Vec<u8> {
    format!(
        "GET {path} HTTP/1.1\r\nHost: bench\r\nUser-Agent: bench\r\nAuthorization: Bearer {token}\r\n\r\n"
    )
    .into_bytes()
}

/// A login.
pub(crate) fn login(email: &str, password: &str) -> Vec<u8> {
    let body = format!(r#"{{"email":"{email}","password":"{password}"}}"#);
    format!(
        "POST /auth/login HTTP/1.1\r\nHost: bench\r\nUser-Agent: bench\r\nContent-Type: application/json\r\n\
         Content-Length: {}\r\n\r\n{body}",
        body.len()
    )
    .into_bytes()
}

/// Runs loads side by side; an answer that is not 200 ends them.
pub(crate) fn run<const N: usize>(loads: [&Load<'_>; N], time: Duration) -> Result<[Outcome; N]> {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    runtime.block_on(async {
        let began = Instant::now();
        let all = try_join_all(loads.map(|load| one(load, began, time))).await?;
        Ok(all.try_into().unwrap_or_else(|_| unreachable!("one outcome of each load")))
    })
}

async fn one(load: &Load<'_>, began: Instant, time: Duration) -> Result<Outcome> {
    let clients = load.requests.iter().enumerate().map(|(number, request)| {
        let offset = load.every.map_or(Duration::ZERO, |every| {
            every * u32::try_from(number).unwrap_or(0) / u32::try_from(load.requests.len()).unwrap_or(1)
        });
        client(load, request, began + offset, began + time)
    });
    let latencies = try_join_all(clients).await?;
    Ok(Outcome::new(latencies, began.elapsed()))
}

async fn client(load: &Load<'_>, request: &[u8], first: Instant, until: Instant) -> Result<Vec<u32>> {
    let mut stream = TcpStream::connect(load.address).await?;
    stream.set_nodelay(true)?;
    let (mut answer, mut latencies, mut next) = (Vec::new(), Vec::new(), first);
    loop {
        if let Some(every) = load.every {
            tokio::time::sleep_until(next.into()).await;
            next += every;
        }
        let sent = Instant::now();
        if sent >= until {
            return Ok(latencies);
        }
        stream.write_all(request).await?;
        if read_answer(&mut stream, &mut answer).await? != *b"200" {
            return Err(String::from_utf8_lossy(&answer).into());
        }
        latencies.push(u32::try_from(sent.elapsed().as_micros())?);
    }
}
