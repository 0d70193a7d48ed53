//! No secret reaches a log, at whatever level.

use std::io::Write;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use plimsoll_broker::{Alpaca, StaticCredentials, install_crypto_provider};
use plimsoll_core_domain::broker::{Broker, BrokerError};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};
use tokio_tungstenite::tungstenite::handshake::derive_accept_key;
use tracing_subscriber::filter::LevelFilter;

use super::support::{Recorder, Seen, config, order_id, request, submit};

const KEY_CANARY: &str = "PKcanary7f3a";
/// Long enough for the frame's longer form of length.
const SECRET_CANARY: &str = "canary-of-this-test-alone-0123456789-0123456789-0123456789-0123456789";

#[derive(Clone, Default)]
struct Log(Arc<Mutex<Vec<u8>>>);

impl Write for Log {
    fn write(&mut self, bytes: &[u8]) -> std::io::Result<usize> {
        self.0.lock().unwrap().extend_from_slice(bytes);
        Ok(bytes.len())
    }
    fn flush(&mut self) -> std::io::Result<()> {
        Ok(())
    }
}

async fn read_head(socket: &mut TcpStream) -> String {
    let mut head = Vec::new();
    while !head.ends_with(b"\r\n\r\n") {
        head.push(socket.read_u8().await.unwrap());
    }
    String::from_utf8(head).unwrap()
}

/// A frame as a client sends it, unmasked.
async fn read_frame(socket: &mut TcpStream) -> String {
    assert_eq!(socket.read_u8().await.unwrap(), 0x81, "a final text frame");
    let length = match socket.read_u8().await.unwrap() {
        0xfe => usize::from(socket.read_u16().await.unwrap()),
        short => usize::from(short & 0x7f),
    };
    let mut mask = [0u8; 4];
    socket.read_exact(&mut mask).await.unwrap();
    let mut payload = vec![0u8; length];
    socket.read_exact(&mut payload).await.unwrap();
    payload.iter_mut().zip(mask.iter().cycle()).for_each(|(byte, mask)| *byte ^= mask);
    String::from_utf8(payload).unwrap()
}

async fn write_frame(socket: &mut TcpStream, text: &str) {
    socket.write_all(&[0x81, u8::try_from(text.len()).unwrap()]).await.unwrap();
    socket.write_all(text.as_bytes()).await.unwrap();
}

/// Written by hand, like [`serve_stream`]: a library's own trace log would show what the server reads.
async fn serve(mut socket: TcpStream) {
    let head = read_head(&mut socket).await;
    assert!(head.contains(SECRET_CANARY), "{head}");
    let answer = b"HTTP/1.1 500 Oops\r\ncontent-length: 0\r\nconnection: close\r\n\r\n";
    socket.write_all(answer).await.unwrap();
}

async fn serve_stream(mut socket: TcpStream) {
    let head = read_head(&mut socket).await;
    let key = head
        .lines()
        .filter_map(|line| line.split_once(": "))
        .find_map(|(name, value)| name.eq_ignore_ascii_case("sec-websocket-key").then_some(value))
        .unwrap();
    let accept = derive_accept_key(key.as_bytes());
    let answer = format!(
        "HTTP/1.1 101 Switching Protocols\r\nconnection: upgrade\r\nupgrade: websocket\r\n\
         sec-websocket-accept: {accept}\r\n\r\n"
    );
    socket.write_all(answer.as_bytes()).await.unwrap();
    let said = read_frame(&mut socket).await;
    assert!(said.contains(SECRET_CANARY) && said.contains(KEY_CANARY), "{said}");
    let authorized = r#"{"stream":"authorization","data":{"status":"authorized"}}"#;
    write_frame(&mut socket, authorized).await;
    assert!(read_frame(&mut socket).await.contains("listen"));
    write_frame(&mut socket, r#"{"stream":"listening","data":{"streams":["trade_updates"]}}"#).await;
    let _ = socket.read_u8().await;
}

async fn listen<F>(serve: fn(TcpStream) -> F) -> String
where
    F: Future<Output = ()> + Send + 'static,
{
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap().to_string();
    tokio::spawn(async move {
        while let Ok((socket, _)) = listener.accept().await {
            tokio::spawn(serve(socket));
        }
    });
    address
}

#[tokio::test]
async fn trace_logs_and_errors_carry_no_credentials() {
    let log = Log::default();
    let writer = log.clone();
    tracing_subscriber::fmt().with_max_level(LevelFilter::TRACE).with_writer(move || writer.clone()).init();
    install_crypto_provider();

    let rest = listen(serve).await;
    let stream = listen(serve_stream).await;
    let config = config(&format!("http://{rest}")).with_stream_url(&format!("ws://{stream}/stream")).unwrap();
    let keys = StaticCredentials::new(KEY_CANARY, SECRET_CANARY.to_owned().into());
    let shown_keys = format!("{keys:?}");
    let broker = Alpaca::new(config, Arc::new(keys), 1).unwrap();

    let error = broker.submit(&submit(request(), "c-1")).await.unwrap_err();
    assert!(matches!(error, BrokerError::Ambiguous(_)), "{error}");
    let cancel = broker.cancel(&order_id("o-1")).await.unwrap_err();
    let sink = Recorder::default();
    tokio::select! {
        error = broker.follow(&sink) => panic!("{error}"),
        () = async {
            while sink.count(|seen| *seen == Seen::Connected) == 0 {
                tokio::time::sleep(Duration::from_millis(5)).await;
            }
        } => {}
        () = tokio::time::sleep(Duration::from_secs(10)) => panic!("{:?}", sink.seen()),
    }

    let mut shown = String::from_utf8_lossy(&log.0.lock().unwrap()).into_owned();
    assert!(shown.contains("tungstenite"), "the library's own trace log is in it");
    shown.push_str(&format!("{shown_keys} {error:?} {cancel} {broker:?}"));
    for canary in [KEY_CANARY, SECRET_CANARY] {
        let hex: String = canary.bytes().map(|byte| format!("{byte:02x}")).collect();
        for text in [canary.to_owned(), hex, format!("{:?}", canary.as_bytes()).replace(['[', ']'], "")] {
            let line = shown.lines().find(|line| line.contains(&text));
            assert!(line.is_none(), "{line:?}");
        }
    }
}
