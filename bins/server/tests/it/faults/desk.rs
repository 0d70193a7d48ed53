//! A trader with clients: everything that was promised to them is written down for the oracle.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use plimsoll_core_domain::UserId;
use reqwest::Method;
use serde_json::{Value, json};

use super::world::PATIENCE;

/// A user with an account of their own at the simulator.
#[derive(Clone)]
pub(crate) struct Desk(Arc<Inner>);

struct Inner {
    user: UserId,
    /// At the simulator.
    account: String,
    /// Key id and secret of that account.
    keys: (String, String),
    token: String,
    http: reqwest::Client,
    promised: Mutex<BTreeMap<String, Promise>>,
}

/// A request under a key, and the first final answer to it.
#[derive(Clone, Debug)]
pub(super) struct Promise {
    pub(super) method: Method,
    pub(super) path: String,
    pub(super) body: Option<String>,
    pub(super) answer: Answer,
}

/// What a client got.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Answer {
    pub(crate) status: u16,
    pub(crate) text: String,
    pub(crate) replayed: bool,
    pub(crate) retry_after: Option<String>,
}

impl Answer {
    pub(crate) fn json(&self) -> Value {
        serde_json::from_str(&self.text).unwrap_or(Value::Null)
    }

    /// A member of the body that is a text; empty where it is none.
    pub(crate) fn text_of(&self, member: &str) -> String {
        self.json()[member].as_str().unwrap_or_default().to_owned()
    }

    /// Whether the platform has answered for good: a retry would change nothing.
    pub(crate) fn is_final(&self) -> bool {
        (200..300).contains(&self.status) || (self.status == 422 && self.json()["order_id"].is_string())
    }
}

/// A market order for one share.
pub(crate) fn market(side: &str) -> Value {
    json!({"symbol": "SPY", "side": side, "type": "market", "time_in_force": "day", "qty": "1"})
}

/// A limit order that rests: everything trades at 100.
pub(crate) fn resting() -> Value {
    json!({"symbol": "AAPL", "side": "buy", "type": "limit", "time_in_force": "gtc", "qty": "1", "limit_price": "50"})
}

impl Desk {
    pub(super) fn new(
        user: UserId,
        account: String,
        keys: (String, String),
        token: String,
        http: reqwest::Client,
    ) -> Self {
        Self(Arc::new(Inner { user, account, keys, token, http, promised: Mutex::default() }))
    }

    pub(crate) fn user(&self) -> UserId {
        self.0.user
    }

    /// The account's id at the simulator.
    pub(crate) fn account(&self) -> &str {
        &self.0.account
    }

    pub(super) fn keys(&self) -> (&str, &str) {
        (&self.0.keys.0, &self.0.keys.1)
    }

    pub(super) fn token(&self) -> &str {
        &self.0.token
    }

    pub(super) fn promised(&self) -> MutexGuard<'_, BTreeMap<String, Promise>> {
        self.0.promised.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// What was promised under a key does not hold any more: a disaster has taken it.
    pub(crate) fn forget(&self, key: &str) {
        self.promised().remove(key);
    }

    /// One request to the server at `url`. A final answer under a key is a promise that the oracle holds it to.
    pub(crate) async fn send(
        &self,
        url: &str,
        method: Method,
        path: &str,
        key: Option<&str>,
        body: Option<String>,
    ) -> Result<Answer, reqwest::Error> {
        let mut request =
            self.0.http.request(method.clone(), format!("{url}{path}")).bearer_auth(&self.0.token);
        if let Some(key) = key {
            request = request.header("Idempotency-Key", key);
        }
        if let Some(body) = &body {
            request = request.header("Content-Type", "application/json").body(body.clone());
        }
        let answer = request.send().await?;
        let header = |name: &str| Some(answer.headers().get(name)?.to_str().unwrap().to_owned());
        let (status, retry_after) = (answer.status().as_u16(), header("retry-after"));
        let replayed = header("idempotency-replayed").is_some();
        let answer = Answer { status, text: answer.text().await?, replayed, retry_after };
        if let Some(key) = key
            && answer.is_final()
        {
            let promise = Promise { method, path: path.to_owned(), body, answer: answer.clone() };
            self.promised().entry(key.to_owned()).or_insert(promise);
        }
        Ok(answer)
    }

    /// One try to place an order.
    pub(crate) async fn order(&self, url: &str, key: &str, body: &Value) -> Result<Answer, reqwest::Error> {
        self.send(url, Method::POST, "/orders", Some(key), Some(body.to_string())).await
    }

    /// Places an order, trying the servers one after another with the same key until one has answered for good. An answer
    /// that is neither good nor "later" fails the test.
    pub(crate) async fn insist(&self, urls: &[&str], key: &str, body: &Value) -> Answer {
        self.insist_on(urls, Method::POST, "/orders", key, Some(body.to_string())).await
    }

    /// As [`insist`](Self::insist), with any request.
    pub(crate) async fn insist_on(
        &self,
        urls: &[&str],
        method: Method,
        path: &str,
        key: &str,
        body: Option<String>,
    ) -> Answer {
        let deadline = Instant::now() + PATIENCE;
        for url in urls.iter().cycle() {
            match self.send(url, method.clone(), path, Some(key), body.clone()).await {
                Ok(answer) if answer.is_final() => return answer,
                Ok(answer) => {
                    assert!(matches!(answer.status, 409 | 503), "{key}: {answer:?}");
                    assert!(Instant::now() < deadline, "{key}: {answer:?}");
                }
                Err(error) => assert!(Instant::now() < deadline, "{key}: {error}"),
            }
            tokio::time::sleep(Duration::from_millis(50)).await;
        }
        unreachable!("there is a server to ask")
    }

    /// Places an order without waiting for the broker; its id and client order id.
    pub(crate) async fn place(&self, url: &str, key: &str, body: &Value) -> (String, String) {
        let body = Some(body.to_string());
        let answer = self.insist_on(&[url], Method::POST, "/orders?wait_ms=0", key, body).await;
        (answer.text_of("id"), answer.text_of("client_order_id"))
    }

    /// The body of a GET that must succeed.
    pub(crate) async fn get(&self, url: &str, path: &str) -> Value {
        let answer = self.send(url, Method::GET, path, None, None).await.unwrap();
        assert_eq!(answer.status, 200, "{path}: {answer:?}");
        answer.json()
    }
}
