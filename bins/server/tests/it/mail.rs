//! Mails against a real SMTP server in a process of its own: accepted, refused, put off, stalled, cut off, encrypted.

use std::io::{BufRead, BufReader, Lines};
use std::path::{Path, PathBuf};
use std::process::{Child, ChildStdin, ChildStdout, Command, Stdio};
use std::time::{Duration, Instant};

use plimsoll_auth::mail::Letter;
use plimsoll_server::mail::{Postman, SendError, SmtpSettings, SmtpTls};
use reqwest::StatusCode;
use serde_json::{Value, json};
use uuid::Uuid;

use crate::demo::Demo;

fn data(name: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/data/smtp").join(name)
}

/// A Python that has aiosmtpd: that of ./test.
fn python() -> Option<PathBuf> {
    let python = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../.venv/bin/python");
    let ready =
        Command::new(&python).args(["-c", "import aiosmtpd"]).output().is_ok_and(|ran| ran.status.success());
    if !ready {
        println!("SKIPPED: aiosmtpd is not in .venv (./test installs it)");
    }
    ready.then_some(python)
}

struct Server {
    port: u16,
    child: Child,
    lines: Lines<BufReader<ChildStdout>>,
    _stdin: ChildStdin,
}

impl Server {
    fn start(python: &Path, mode: &str, security: &str) -> Self {
        let mut child = Command::new(python)
            .arg(data("server.py"))
            .args([mode, security])
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn()
            .unwrap();
        let (stdin, stdout) = (child.stdin.take().unwrap(), child.stdout.take().unwrap());
        let mut lines = BufReader::new(stdout).lines();
        let port = lines.next().unwrap().unwrap().parse().unwrap();
        Self { port, child, lines, _stdin: stdin }
    }

    /// The next message that it took.
    fn message(&mut self) -> Value {
        serde_json::from_str(&self.lines.next().unwrap().unwrap()).unwrap()
    }

    fn postman(&self, tls: SmtpTls, trusted: bool) -> Postman {
        let extra_ca = trusted.then(|| std::fs::read(data("ca.pem")).unwrap());
        Postman::new(&SmtpSettings {
            host: "localhost".to_owned(),
            port: self.port,
            login: None,
            from: "Plimsoll <noreply@example.com>".parse().unwrap(),
            tls,
            extra_ca,
        })
        .unwrap()
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

fn letter() -> Letter {
    Letter {
        to: "ann@example.com".parse().unwrap(),
        subject: "Grüße, not a header\u{2026}".to_owned(),
        text: "Plain words.\n".to_owned(),
        html: "<p>Plain words.</p>\n".to_owned(),
    }
}

async fn send(postman: &Postman, id: Uuid) -> Result<(), SendError> {
    postman.send(id, &letter(), chrono::DateTime::from_timestamp(1_800_000_000, 0).unwrap()).await
}

#[tokio::test]
async fn an_smtp_server_takes_mails_plain_and_encrypted() {
    let Some(python) = python() else { return };
    plimsoll_broker::install_crypto_provider();
    for (security, tls) in [("none", SmtpTls::None), ("starttls", SmtpTls::Starttls), ("tls", SmtpTls::Tls)] {
        let mut server = Server::start(&python, "accept", security);
        let postman = server.postman(tls, true);
        let id = Uuid::from_u128(7);
        send(&postman, id).await.unwrap();
        let took = server.message();
        assert_eq!(took["to"], json!(["ann@example.com"]));
        assert_eq!(took["subject"], letter().subject.as_str());
        assert_eq!(took["message_id"], format!("<{id}@example.com>"));
        assert_eq!(took["auto"], "auto-generated");
        assert_eq!(took["tls"], security != "none");
        assert!(took["text"].as_str().unwrap().contains("Plain words."));
        if tls != SmtpTls::None {
            let distrusting = server.postman(tls, false);
            assert!(matches!(send(&distrusting, id).await, Err(SendError::Down(_))), "{security}");
        }
    }
    // A server without encryption is not spoken to when encryption is asked for.
    let server = Server::start(&python, "accept", "none");
    assert!(send(&server.postman(SmtpTls::Starttls, true), Uuid::nil()).await.is_err());
}

#[tokio::test]
async fn answers_of_an_smtp_server_are_told_apart() {
    let Some(python) = python() else { return };
    plimsoll_broker::install_crypto_provider();
    let refusing = Server::start(&python, "refuse", "none");
    let error = send(&refusing.postman(SmtpTls::None, false), Uuid::nil()).await.unwrap_err();
    assert!(matches!(&error, SendError::Refused(why) if why.contains("550")), "{error}");
    assert!(!error.to_string().contains("ann@"), "no address in an error");

    let mut busy = Server::start(&python, "busy", "none");
    let postman = busy.postman(SmtpTls::None, false);
    assert!(matches!(send(&postman, Uuid::nil()).await, Err(SendError::Later(_))));
    send(&postman, Uuid::nil()).await.unwrap();
    assert_eq!(busy.message()["message_id"], busy.message()["message_id"], "a repeat is recognisable");

    let dropping = Server::start(&python, "drop", "none");
    let postman = dropping.postman(SmtpTls::None, false);
    assert!(matches!(send(&postman, Uuid::nil()).await, Err(SendError::Down(_))));
    send(&postman, Uuid::nil()).await.unwrap();

    let stalling = Server::start(&python, "stall", "none");
    assert!(matches!(
        send(&stalling.postman(SmtpTls::None, false), Uuid::nil()).await,
        Err(SendError::Down(_))
    ));

    let gone = {
        let server = Server::start(&python, "accept", "none");
        server.postman(SmtpTls::None, false)
    };
    assert!(matches!(send(&gone, Uuid::nil()).await, Err(SendError::Down(_))));
}

/// REG-2: the answer does not wait for the mail; the mail comes when the SMTP server takes it again, and its content goes.
#[tokio::test]
async fn the_server_s_jobs_send_until_a_mail_is_taken() {
    let Some(python) = python() else { return };
    let mut smtp = Server::start(&python, "busy", "none");
    let port = smtp.port.to_string();
    let settings = [
        ("SMTP_HOST", "localhost"),
        ("SMTP_PORT", &*port),
        ("SMTP_FROM", "noreply@example.com"),
        ("SMTP_TLS", "none"),
        ("TIME_SCALE", "0.1"),
    ];
    let demo = Demo::start(&settings).await;
    let body = json!({ "email": "newcomer@example.com", "password": "umbrella-Kestrel 41 pavement" });
    let answer = demo.http.post(format!("{}/auth/register", demo.url)).json(&body).send().await.unwrap();
    assert_eq!(answer.status(), StatusCode::ACCEPTED);
    // The server stays: it tells of a message before it confirms it, and what is not confirmed is sent again.
    let (_smtp, first, second) = tokio::task::spawn_blocking(move || {
        let (first, second) = (smtp.message(), smtp.message());
        (smtp, first, second)
    })
    .await
    .unwrap();
    assert_eq!(first["message_id"], second["message_id"]);
    assert!(second["subject"].as_str().unwrap().starts_with("Verify your e-mail"));
    assert!(second["text"].as_str().unwrap().contains("/verify#token="));
    let deadline = Instant::now() + Duration::from_secs(30);
    loop {
        let outbox = demo.http.get(demo.logins["outbox_url"].as_str().unwrap());
        let mails: Value =
            outbox.header("accept", "application/json").send().await.unwrap().json().await.unwrap();
        if mails["items"].as_array().unwrap().is_empty() {
            return;
        }
        assert!(Instant::now() < deadline, "the content of a sent mail stays: {mails}");
        tokio::time::sleep(Duration::from_millis(100)).await;
    }
}
