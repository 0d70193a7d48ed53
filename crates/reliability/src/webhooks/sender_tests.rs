use std::net::{IpAddr, SocketAddr};
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Mutex, PoisonError};

use plimsoll_crypto::OsRandom;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};

use super::*;

/// What a receiver answers.
#[derive(Clone)]
enum Answer {
    /// This text, and the end of the connection.
    Text(String),
    /// Nothing, for ever.
    Silence,
    /// A good head, and then a body without end.
    Endless,
    /// The end of the connection.
    Cut,
}

/// A web server on loopback that keeps what it is sent.
struct Receiver {
    address: SocketAddr,
    seen: Arc<Mutex<Vec<String>>>,
    task: tokio::task::JoinHandle<()>,
}

impl Receiver {
    async fn start(answer: Answer) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let (address, seen) = (listener.local_addr().unwrap(), Arc::new(Mutex::new(Vec::new())));
        let keeps = Arc::clone(&seen);
        let task = tokio::spawn(async move {
            while let Ok((stream, _)) = listener.accept().await {
                tokio::spawn(serve(stream, answer.clone(), Arc::clone(&keeps)));
            }
        });
        Self { address, seen, task }
    }

    fn url(&self) -> String {
        format!("http://{}/hook?k=v", self.address)
    }

    fn seen(&self) -> Vec<String> {
        self.seen.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }
}

impl Drop for Receiver {
    fn drop(&mut self) {
        self.task.abort();
    }
}

async fn serve(mut stream: TcpStream, answer: Answer, keeps: Arc<Mutex<Vec<String>>>) {
    let mut request = Vec::new();
    let mut buffer = [0; 4096];
    while !request.ends_with(b"}") {
        match stream.read(&mut buffer).await {
            Ok(0) | Err(_) => break,
            Ok(read) => request.extend_from_slice(&buffer[..read]),
        }
    }
    keeps.lock().unwrap_or_else(PoisonError::into_inner).push(String::from_utf8_lossy(&request).into_owned());
    match answer {
        Answer::Text(text) => drop(stream.write_all(text.as_bytes()).await),
        Answer::Silence => tokio::time::sleep(Duration::from_secs(3600)).await,
        Answer::Endless => {
            let mut piece = "HTTP/1.1 200 OK\r\n\r\n".to_owned();
            while stream.write_all(piece.as_bytes()).await.is_ok() {
                piece = "word ".repeat(1000);
            }
        }
        Answer::Cut => {}
    }
}

fn answer(status: &str, headers: &str, body: &str) -> Answer {
    Answer::Text(format!(
        "HTTP/1.1 {status}\r\ncontent-length: {}\r\n{headers}connection: close\r\n\r\n{body}",
        body.len()
    ))
}

fn tls() {
    // Another test may have been first.
    drop(rustls::crypto::ring::default_provider().install_default());
}

fn loopback() -> Guard {
    Guard::allowing(|ip| ip == IpAddr::from([127, 0, 0, 1]))
}

fn quick() -> SendLimits {
    SendLimits {
        total: Duration::from_millis(300),
        body: Duration::from_millis(200),
        ..SendLimits::default()
    }
}

fn sender(guard: Guard) -> Sender {
    tls();
    Sender::new(guard, quick(), None).unwrap()
}

/// Every name leads to these addresses; counts how often one was looked up.
fn leading_to(guard: Guard, addresses: &'static [&'static str]) -> (Sender, Arc<AtomicUsize>) {
    tls();
    let count = Arc::new(AtomicUsize::new(0));
    let counted = Arc::clone(&count);
    let lookup: Arc<Lookup> = Arc::new(move |_| {
        counted.fetch_add(1, Ordering::SeqCst);
        Box::pin(async move {
            Ok(addresses.iter().map(|text| SocketAddr::new(text.parse().unwrap(), 0)).collect())
        })
    });
    (Sender::with_lookup(guard, quick(), None, &lookup).unwrap(), count)
}

const BODY: &str = r#"{"type":"webhook_test"}"#;

async fn post(sender: &Sender, url: &str, secrets: &[WebhookSecret]) -> Attempt {
    let message = Message { id: "msg_1", timestamp: 1_800_000_000, body: BODY, secrets };
    sender.send(url, &message).await
}

fn why(attempt: &Attempt) -> Failure {
    match attempt.outcome {
        Outcome::Failed { why, .. } => why,
        Outcome::Delivered => panic!("delivered: {attempt:?}"),
    }
}

/// The value of a header in a request.
fn header<'a>(request: &'a str, name: &str) -> &'a str {
    let line = request.lines().find(|line| line.to_ascii_lowercase().starts_with(&format!("{name}:")));
    line.unwrap_or_else(|| panic!("{name} in {request}")).split_once(':').unwrap().1.trim()
}

#[tokio::test]
async fn a_message_arrives_signed_by_every_live_secret() {
    let receiver = Receiver::start(answer("204 No Content", "", "")).await;
    let secrets = [WebhookSecret::generate(&mut OsRandom), WebhookSecret::generate(&mut OsRandom)];
    let attempt = post(&sender(loopback()), &receiver.url(), &secrets).await;
    assert_eq!((&attempt.outcome, attempt.status), (&Outcome::Delivered, Some(204)));
    let request = receiver.seen().pop().unwrap();
    assert!(request.starts_with("POST /hook?k=v HTTP/1.1\r\n"), "{request}");
    assert_eq!(header(&request, "content-type"), "application/json");
    let (id, at) = (header(&request, "webhook-id"), header(&request, "webhook-timestamp"));
    assert_eq!((id, at), ("msg_1", "1800000000"));
    let body = request.split_once("\r\n\r\n").unwrap().1;
    assert_eq!(body, BODY);
    for secret in &secrets {
        assert!(secret.verify(id, at, body.as_bytes(), header(&request, "webhook-signature")));
    }
}

/// WHK-6: a redirect is an answer, and nobody is asked at its place.
#[tokio::test]
async fn redirects_are_not_followed() {
    let inner = Receiver::start(answer("200 OK", "", "secret")).await;
    for status in ["301 Moved", "302 Found", "303 See Other", "307 Temporary", "308 Permanent"] {
        let outer = Receiver::start(answer(status, &format!("location: {}\r\n", inner.url()), "")).await;
        let attempt = post(&sender(loopback()), &outer.url(), &[]).await;
        assert_eq!(why(&attempt), Failure::Redirected, "{status}");
        assert_eq!(outer.seen().len(), 1);
    }
    assert_eq!(inner.seen(), Vec::<String>::new());
}

/// WHK-6: a name that leads into a private network is not connected to, nor one of whose addresses only one does.
#[tokio::test]
async fn names_that_lead_into_private_networks_are_refused() {
    let receiver = Receiver::start(answer("200 OK", "", "")).await;
    let url = format!("https://rebinding.example:{}/", receiver.address.port());
    for addresses in [
        &["127.0.0.1"][..],
        &["10.0.0.7"],
        &["169.254.169.254"],
        &["100.64.0.1"],
        &["::1"],
        &["fd00::1"],
        &["::ffff:127.0.0.1"],
        &["1.1.1.1", "127.0.0.1"],
        &["127.0.0.1", "1.1.1.1"],
    ] {
        let (sender, count) = leading_to(Guard::public(), addresses);
        let attempt = post(&sender, &url, &[]).await;
        assert_eq!((why(&attempt), attempt.status), (Failure::AddressRefused, None), "{addresses:?}");
        assert_eq!(count.load(Ordering::SeqCst), 1);
    }
    let plain = format!("http://rebinding.example:{}/", receiver.address.port());
    let (sender, _) = leading_to(Guard::allowing(|ip| ip == IpAddr::from([127, 0, 0, 9])), &["127.0.0.1"]);
    assert_eq!(why(&post(&sender, &plain, &[]).await), Failure::AddressRefused);
    assert_eq!(receiver.seen(), Vec::<String>::new(), "nobody connected");
}

/// WHK-6: the connection goes to the address that was checked; the name is not looked up a second time for it.
#[tokio::test]
async fn the_checked_address_is_the_one_connected_to() {
    let receiver = Receiver::start(answer("200 OK", "", "ok")).await;
    let (sender, count) = leading_to(loopback(), &["127.0.0.1"]);
    let url = format!("http://nobody-knows-this.example:{}/", receiver.address.port());
    for sent in 1..=2 {
        let attempt = post(&sender, &url, &[]).await;
        assert_eq!(attempt.outcome, Outcome::Delivered);
        assert_eq!(count.load(Ordering::SeqCst), sent, "each message has a look and a connection of its own");
    }
    let seen = receiver.seen();
    assert_eq!(seen.len(), 2);
    assert!(header(&seen[0], "host").starts_with("nobody-knows-this.example:"));
}

#[tokio::test]
async fn an_address_that_is_not_fit_is_not_connected_to() {
    let receiver = Receiver::start(answer("200 OK", "", "")).await;
    for guard in [Guard::public(), Guard::allowing(|_| false)] {
        assert_eq!(why(&post(&sender(guard), &receiver.url(), &[]).await), Failure::AddressRefused);
    }
    assert_eq!(receiver.seen(), Vec::<String>::new());
}

#[tokio::test]
async fn answers_are_told_apart() {
    for (status, headers, expected, after) in [
        ("400 Bad Request", "", Failure::Status, None),
        ("404 Not Found", "", Failure::Status, None),
        ("410 Gone", "", Failure::Gone, None),
        ("429 Too Many Requests", "retry-after: 30\r\n", Failure::Status, Some(30)),
        ("503 Service Unavailable", "retry-after: 99999999\r\n", Failure::Status, Some(3600)),
        ("503 Service Unavailable", "retry-after: Wed, 21 Oct 2026 07:28:00 GMT\r\n", Failure::Status, None),
        ("500 Internal Server Error", "retry-after: -1\r\n", Failure::Status, None),
        ("304 Not Modified", "", Failure::Redirected, None),
    ] {
        let receiver = Receiver::start(answer(status, headers, "no\nthanks")).await;
        let attempt = post(&sender(loopback()), &receiver.url(), &[]).await;
        let retry_after = after.map(Duration::from_secs);
        assert_eq!(attempt.outcome, Outcome::Failed { why: expected, retry_after }, "{status}");
        assert_eq!(attempt.status.map(|status| status.to_string()).as_deref(), status.split(' ').next());
        if status != "304 Not Modified" {
            assert_eq!(attempt.excerpt.as_deref(), Some("no thanks"));
        }
    }
}

#[tokio::test]
async fn silence_ends_and_bodies_without_end_are_cut() {
    let silent = Receiver::start(Answer::Silence).await;
    let attempt = post(&sender(loopback()), &silent.url(), &[]).await;
    assert_eq!((why(&attempt), attempt.status), (Failure::TimedOut, None));
    let endless = Receiver::start(Answer::Endless).await;
    let attempt = post(&sender(loopback()), &endless.url(), &[]).await;
    assert_eq!(attempt.outcome, Outcome::Delivered, "its head said so");
    assert_eq!(attempt.excerpt.unwrap().chars().count(), 200);
    let cut = Receiver::start(Answer::Cut).await;
    assert_eq!(why(&post(&sender(loopback()), &cut.url(), &[]).await), Failure::BrokenOff);
    let garbage = Receiver::start(Answer::Text("no HTTP at all\r\n\r\n".to_owned())).await;
    assert_eq!(why(&post(&sender(loopback()), &garbage.url(), &[]).await), Failure::BrokenOff);
}

#[tokio::test]
async fn nobody_there_and_names_of_nobody() {
    let free = TcpListener::bind("127.0.0.1:0").await.unwrap().local_addr().unwrap();
    let attempt = post(&sender(loopback()), &format!("http://{free}/"), &[]).await;
    assert_eq!(why(&attempt), Failure::NotConnected);
    let (sender, _) = leading_to(Guard::public(), &[]);
    assert_eq!(why(&post(&sender, "https://example.com/", &[]).await), Failure::NameUnknown);
}

/// An answer over a connection that is not encrypted is none for an https address.
#[tokio::test]
async fn https_is_not_spoken_in_the_clear() {
    let receiver = Receiver::start(answer("200 OK", "", "")).await;
    let attempt = post(&sender(loopback()), &format!("https://{}/", receiver.address), &[]).await;
    assert!(matches!(why(&attempt), Failure::NotConnected | Failure::TimedOut), "{attempt:?}");
}
