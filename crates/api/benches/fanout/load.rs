//! A process of clients: opens sockets, counts messages, and says on its output what all of them have.

use std::cell::{Cell, RefCell};
use std::io::{Read, Write};
use std::net::{Ipv4Addr, SocketAddr};
use std::rc::Rc;
use std::time::Duration;

use plimsoll_core_domain::{Clock, SystemClock, UserId};
use plimsoll_realtime::{Cursor, Position};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpSocket, TcpStream};
use tokio::task::LocalSet;

use crate::Result;

/// Of so many connections one looks at the times.
const SAMPLED: usize = 16;
/// What stands before the time in a message, whose first digits it is.
pub(crate) const BEFORE_TIME: &str = r#"{"type":"system_alert","data":{"message":""#;
const TIME_DIGITS: usize = 16;
const AT_ONCE: usize = 64;

struct Load {
    server: SocketAddr,
    sockets: usize,
    /// The number of the first of them.
    first: usize,
    /// The last byte of the own address.
    host: u8,
    resume: bool,
    received: Cell<usize>,
    /// How many connections have at least that many messages.
    reached: RefCell<Vec<usize>>,
    times_ms: RefCell<Vec<f64>>,
}

pub(crate) fn run(words: Vec<String>) -> Result<()> {
    let [server, sockets, first, host, more @ ..] = words.as_slice() else {
        return Err("too few words".into());
    };
    let load = Rc::new(Load {
        server: server.parse()?,
        sockets: sockets.parse()?,
        first: first.parse()?,
        host: host.parse()?,
        resume: more.iter().any(|word| word == "--resume"),
        received: Cell::new(0),
        reached: RefCell::default(),
        times_ms: RefCell::default(),
    });
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    let (closed, over) = tokio::sync::oneshot::channel();
    std::thread::spawn(move || {
        // Ends when the bench closes our input.
        let _ = std::io::stdin().read_to_end(&mut Vec::new());
        let _ = closed.send(());
    });
    LocalSet::new().block_on(&runtime, async {
        let mut opening = tokio::task::JoinSet::new();
        let turns = Rc::new(tokio::sync::Semaphore::new(AT_ONCE));
        for number in 0..load.sockets {
            let (load, turns) = (Rc::clone(&load), Rc::clone(&turns));
            opening.spawn_local(async move {
                let _turn = turns.acquire().await;
                let (mut stream, mut rest) = load.open(load.first + number).await?;
                // The first frame is the `hello`: from then on whatever is published is heard.
                while frame(&rest, 0).is_none() {
                    if stream.read_buf(&mut rest).await? == 0 {
                        return Err("closed before the hello".into());
                    }
                }
                tokio::task::spawn_local(
                    async move { load.listen(stream, rest, number % SAMPLED == 0).await },
                );
                Ok::<_, Box<dyn std::error::Error + Send + Sync>>(())
            });
        }
        while let Some(opened) = opening.join_next().await {
            opened??;
        }
        say("ready");
        drop(over.await);
        let mut times = load.times_ms.take();
        times.sort_by(f64::total_cmp);
        let at = |share: f64| times.get((times.len() as f64 * share) as usize).copied().unwrap_or(0.0);
        say(&format!("end {} {} {}", load.received.get(), at(0.5), at(0.99)));
        Ok(())
    })
}

fn say(line: &str) {
    let mut out = std::io::stdout().lock();
    // The bench has gone: then nobody reads it.
    let _ = writeln!(out, "{line}").and_then(|()| out.flush());
}

impl Load {
    /// A socket after its handshake, with what came behind the answer. Told to come again, it does.
    async fn open(&self, number: usize) -> Result<(TcpStream, Vec<u8>)> {
        loop {
            let socket = TcpSocket::new_v4()?;
            socket.set_recv_buffer_size(64 * 1024)?;
            // Several addresses: one has too few ports for all.
            let address = Ipv4Addr::new(127, 0, (number / 20_000) as u8, self.host);
            socket.bind((address, 0).into())?;
            let mut stream = socket.connect(self.server).await?;
            let cursor = if self.resume {
                let user = UserId(number as i64 + 1);
                let cursor = Cursor { user, user_at: Position::UNBORN, broadcast_at: Position::UNBORN };
                format!("?cursor={}", cursor.encode())
            } else {
                String::new()
            };
            let request = format!(
                "GET /ws{cursor} HTTP/1.1\r\nHost: bench\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n\
                 Sec-WebSocket-Version: 13\r\nSec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n\
                 Authorization: Bearer {}\r\n\r\n",
                number + 1
            );
            stream.write_all(request.as_bytes()).await?;
            let mut answer = Vec::new();
            let end = loop {
                if stream.read_buf(&mut answer).await? == 0 {
                    return Err("closed during the handshake".into());
                }
                if let Some(end) = answer.windows(4).position(|window| window == b"\r\n\r\n") {
                    break end + 4;
                }
            };
            if answer.starts_with(b"HTTP/1.1 101") {
                return Ok((stream, answer.split_off(end)));
            }
            if !answer.starts_with(b"HTTP/1.1 503") {
                return Err(String::from_utf8_lossy(&answer).into());
            }
            let pause = 200 + (number as u64).wrapping_mul(7_919) % 800;
            tokio::time::sleep(Duration::from_millis(pause)).await;
        }
    }

    /// Counts until the socket ends.
    async fn listen(&self, mut stream: TcpStream, mut waiting: Vec<u8>, sampled: bool) {
        let mut count = 0;
        loop {
            let mut at = 0;
            while let Some((text, next)) = frame(&waiting, at) {
                self.take(&waiting[text], sampled, &mut count);
                at = next;
            }
            waiting.drain(..at);
            match stream.read_buf(&mut waiting).await {
                Ok(0) | Err(_) => return,
                Ok(_) => {}
            }
        }
    }

    fn take(&self, text: &[u8], sampled: bool, count: &mut usize) {
        if !text.starts_with(BEFORE_TIME.as_bytes()) {
            return;
        }
        self.received.set(self.received.get() + 1);
        let mut reached = self.reached.borrow_mut();
        if reached.len() <= *count {
            reached.resize(*count + 1, 0);
        }
        reached[*count] += 1;
        *count += 1;
        // All of them have so many now.
        if reached[*count - 1] == self.sockets && (*count).is_multiple_of(10) {
            say(&count.to_string());
        }
        if sampled
            && let Some(digits) = text.get(BEFORE_TIME.len()..BEFORE_TIME.len() + TIME_DIGITS)
            && let Some(sent) = std::str::from_utf8(digits).ok().and_then(|digits| digits.parse::<i64>().ok())
        {
            let now = SystemClock.now().timestamp_micros();
            self.times_ms.borrow_mut().push((now - sent) as f64 / 1e3);
        }
    }
}

/// The payload of the frame at `at` and where the next one begins; `None` while it is not all there.
fn frame(bytes: &[u8], at: usize) -> Option<(std::ops::Range<usize>, usize)> {
    let (header, length) = match bytes.get(at + 1)? & 0x7f {
        126 => (4, u16::from_be_bytes(bytes.get(at + 2..at + 4)?.try_into().ok()?).into()),
        127 => (10, usize::try_from(u64::from_be_bytes(bytes.get(at + 2..at + 10)?.try_into().ok()?)).ok()?),
        short => (2, usize::from(short)),
    };
    let (from, to) = (at + header, at + header + length);
    (to <= bytes.len()).then_some((from..to, to))
}
