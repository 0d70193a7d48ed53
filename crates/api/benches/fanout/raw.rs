//! The peer: a frame built once and written straight to each socket, by two threads that have half of them each.

use std::io::{Read, Write};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::sync::mpsc::{Receiver, Sender, channel};
use std::sync::{Arc, Mutex, PoisonError};
use std::thread::JoinHandle;

use plimsoll_core_domain::{Clock, SystemClock};

use crate::load::BEFORE_TIME;
use crate::{MESSAGE, Result, Side};

const THREADS: usize = 2;
/// A text frame.
const HELLO: &[u8] = b"\x81\x10{\"type\":\"hello\"}";

/// What a thread does next.
enum Turn {
    Add(TcpStream),
    Send(Arc<Vec<u8>>),
}

struct Raw {
    address: SocketAddr,
    threads: Vec<(Sender<Turn>, JoinHandle<()>)>,
    failed: Arc<Mutex<Option<String>>>,
}

pub(crate) fn start(sockets: usize) -> Result<Box<dyn Side>> {
    let listener = TcpListener::bind("127.0.0.1:0")?;
    let address = listener.local_addr()?;
    let failed = Arc::new(Mutex::new(None));
    let threads: Vec<_> = (0..THREADS)
        .map(|_| {
            let (give, take) = channel();
            let failed = Arc::clone(&failed);
            (give, std::thread::spawn(move || serve(&take, &failed)))
        })
        .collect();
    let give: Vec<_> = threads.iter().map(|(give, _)| give.clone()).collect();
    std::thread::spawn(move || {
        for (number, stream) in listener.incoming().take(sockets).flatten().enumerate() {
            if let Ok(stream) = greet(stream) {
                // The bench has ended: nobody takes it.
                let _ = give[number % THREADS].send(Turn::Add(stream));
            }
        }
    });
    Ok(Box::new(Raw { address, threads, failed }))
}

/// Answers the handshake, whose key is always the same one.
fn greet(mut stream: TcpStream) -> std::io::Result<TcpStream> {
    let mut request = Vec::new();
    let mut some = [0; 1_024];
    while !request.windows(4).any(|window| window == b"\r\n\r\n") {
        let read = stream.read(&mut some)?;
        if read == 0 {
            return Err(std::io::ErrorKind::UnexpectedEof.into());
        }
        request.extend_from_slice(&some[..read]);
    }
    stream.set_nodelay(true)?;
    stream.write_all(
        b"HTTP/1.1 101 Switching Protocols\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n\
          Sec-WebSocket-Accept: s3pPLMBiTxaQ9kYGzzhZRbK+xOo=\r\n\r\n",
    )?;
    Ok(stream)
}

fn serve(turns: &Receiver<Turn>, failed: &Mutex<Option<String>>) {
    let mut sockets: Vec<TcpStream> = Vec::new();
    while let Ok(turn) = turns.recv() {
        match turn {
            Turn::Add(mut stream) => {
                // Heard by the client, which counts as connected from then on.
                if stream.write_all(HELLO).is_ok() {
                    sockets.push(stream);
                }
            }
            Turn::Send(frame) => {
                for socket in &mut sockets {
                    if let Err(error) = socket.write_all(&frame) {
                        *failed.lock().unwrap_or_else(PoisonError::into_inner) = Some(error.to_string());
                    }
                }
            }
        }
    }
}

impl Side for Raw {
    fn address(&self) -> SocketAddr {
        self.address
    }

    fn publish(&mut self) -> Result<()> {
        if let Some(error) = self.failed.lock().unwrap_or_else(PoisonError::into_inner).take() {
            return Err(error.into());
        }
        let mut text = format!("{BEFORE_TIME}{}", SystemClock.now().timestamp_micros());
        text.push_str(&"x".repeat(MESSAGE - text.len() - 3));
        text.push_str("\"}}");
        // A text frame, unmasked, of 126 to 65,535 bytes.
        let mut frame = vec![0x81, 126];
        frame.extend(u16::try_from(text.len())?.to_be_bytes());
        frame.extend(text.into_bytes());
        let frame = Arc::new(frame);
        for (give, _) in &self.threads {
            give.send(Turn::Send(Arc::clone(&frame)))?;
        }
        Ok(())
    }

    fn stop(self: Box<Self>) {
        for (give, thread) in self.threads {
            drop(give);
            // A panic there was printed.
            drop(thread.join());
        }
    }
}
