//! The JavaScript client of the documentation, in Node, against a server that goes away and comes back.

use std::path::Path;
use std::process::{Command, Stdio};
use std::time::Duration;

use plimsoll_testkit::ChildGuard;
use reqwest::{Method, StatusCode};
use serde_json::{Value, json};

use crate::demo::{Client, Demo};

const PATIENCE: Duration = Duration::from_secs(90);

struct Script(ChildGuard);

impl Script {
    fn start(client: &Client) -> Self {
        let root = Path::new(env!("CARGO_MANIFEST_DIR"));
        let mut command = Command::new("node");
        command.arg(root.join("tests/it/example_client.js"));
        command.arg(root.join("../../docs/examples/plimsoll-ws.js")).args([&client.url, &client.token]);
        command.stdin(Stdio::piped());
        // Node makes the pipes that it inherits non-blocking, for everybody who writes to them.
        command.stderr(Stdio::null());
        Self(ChildGuard::spawn(command))
    }

    fn line(&mut self) -> Value {
        serde_json::from_str(&self.0.line(PATIENCE)).unwrap()
    }

    /// Lines up to the state of that name.
    fn until(&mut self, state: &str) -> Value {
        loop {
            let line = self.line();
            if line["state"] == state {
                return line;
            }
        }
    }

    /// The offset of the next event.
    fn offset(&mut self) -> i64 {
        loop {
            let line = self.line();
            if line["event"] == "optimization_progress" {
                return line["offset"].as_i64().unwrap();
            }
        }
    }
}

async fn publish(client: &Client) -> i64 {
    let body = json!({ "strategy": "s", "trial": 1, "total": 2 }).to_string();
    let sent = client.send(Method::POST, "/events/optimization-progress", None, Some(body)).await.unwrap();
    assert_eq!(sent.0, StatusCode::CREATED, "{sent:?}");
    sent.1["offset"].as_i64().unwrap()
}

#[tokio::test(flavor = "multi_thread")]
async fn the_javascript_client_loses_nothing() {
    if Command::new("node").arg("--version").output().is_err() {
        println!("SKIPPED: node is not installed (Debian: nodejs)");
        return;
    }
    let mut demo = Demo::start(&[]).await;
    let trader = demo.login("trader").await;
    let mut script = Script::start(&trader);
    script.until("live");
    for _ in 0..3 {
        let offset = publish(&trader).await;
        assert_eq!(script.offset(), offset);
    }

    demo.child.kill();
    script.until("waiting");
    demo.restart().await;
    let missed = [publish(&trader).await, publish(&trader).await];
    for offset in missed {
        assert_eq!(script.offset(), offset, "what was missed comes once and in order");
    }
    let live = publish(&trader).await;
    assert_eq!(script.offset(), live);

    let gone = trader.send(Method::POST, "/auth/logout", None, Some("{}".to_owned())).await.unwrap();
    assert_eq!(gone.0, StatusCode::NO_CONTENT);
    let ended = script.until("ended");
    assert_eq!(ended["code"], 4401, "{ended}");
}
