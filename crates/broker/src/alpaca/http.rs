//! One call: credentials, budget, sending once, and what the answer means.

use std::sync::Arc;
use std::time::Duration;

use metrics::histogram;
use plimsoll_core_domain::broker::BrokerError;
use reqwest::header::{ACCEPT, CONTENT_TYPE, HeaderMap, HeaderName, HeaderValue};
use reqwest::{Client, Method, Response, StatusCode, Url, redirect, retry};
use secrecy::ExposeSecret;
use serde::de::DeserializeOwned;
use tokio::time::Instant;

use super::failure::{Effect, chain};
use super::rate::{RateBudget, RateHeaders};
use crate::config::{AlpacaConfig, ConfigError};
use crate::credentials::{CredentialSource, Credentials};

const KEY_HEADER: HeaderName = HeaderName::from_static("apca-api-key-id");
const SECRET_HEADER: HeaderName = HeaderName::from_static("apca-api-secret-key");
/// Shorter than the minute after which gateways close idle connections: a request sent into a closing one is lost.
const IDLE_CONNECTION: Duration = Duration::from_secs(30);

/// Seconds that calls took, by operation and outcome.
const DURATION: &str = "plimsoll_broker_request_duration_seconds";

/// A call to be made.
pub(super) struct Call {
    method: Method,
    url: Url,
    body: Option<Vec<u8>>,
    effect: Effect,
}

impl Call {
    pub(super) fn get(url: Url) -> Self {
        Self { method: Method::GET, url, body: None, effect: Effect::Read }
    }

    pub(super) fn post(url: Url, body: Vec<u8>) -> Self {
        Self { method: Method::POST, url, body: Some(body), effect: Effect::Write }
    }

    pub(super) fn patch(url: Url, body: Vec<u8>) -> Self {
        Self { method: Method::PATCH, url, body: Some(body), effect: Effect::Write }
    }

    pub(super) fn cancel(url: Url) -> Self {
        Self { method: Method::DELETE, url, body: None, effect: Effect::Cancel }
    }

    pub(super) fn query(mut self, name: &str, value: Option<impl AsRef<str>>) -> Self {
        if let Some(value) = value {
            self.url.query_pairs_mut().append_pair(name, value.as_ref());
        }
        self
    }
}

/// Connections to one server. Clones share them.
#[derive(Clone)]
pub(super) struct Connections {
    pub(super) config: AlpacaConfig,
    client: Client,
}

impl Connections {
    pub(super) fn new(config: AlpacaConfig) -> Result<Self, ConfigError> {
        if rustls::crypto::CryptoProvider::get_default().is_none() {
            return Err(ConfigError::NoCryptoProvider);
        }
        let timings = &config.timings;
        let client = Client::builder()
            .user_agent(concat!("plimsoll-broker/", env!("CARGO_PKG_VERSION")))
            .redirect(redirect::Policy::none())
            .retry(retry::never())
            // A proxy named by the environment would see loopback traffic, and the stream could not use it.
            .no_proxy()
            .connect_timeout(timings.connect)
            .timeout(timings.request)
            .pool_idle_timeout(IDLE_CONNECTION)
            .tcp_nodelay(true)
            .build()
            .map_err(|error| ConfigError::Client(chain(&error)))?;
        Ok(Self { config, client })
    }
}

/// The client of one account.
pub(super) struct Http {
    pub(super) config: AlpacaConfig,
    credentials: Arc<dyn CredentialSource>,
    client: Client,
    budget: RateBudget,
}

impl Http {
    pub(super) fn new(connections: &Connections, credentials: Arc<dyn CredentialSource>) -> Self {
        let Connections { config, client } = connections.clone();
        let timings = &config.timings;
        let budget = RateBudget::new(config.reserve_for_cancels, timings.rate_window, timings.rate_margin);
        Self { config, credentials, client, budget }
    }

    /// The key pair to use now, if it can belong to the environment.
    pub(super) async fn credentials(&self) -> Result<Credentials, BrokerError> {
        let credentials = self.credentials.credentials().await?;
        self.config
            .check_key(&credentials.key_id)
            .map_err(|error| BrokerError::Unauthorized(error.to_string()))?;
        Ok(credentials)
    }

    /// Makes the call once and reads its answer as JSON.
    pub(super) async fn json<T: DeserializeOwned>(&self, call: Call) -> Result<T, BrokerError> {
        let effect = call.effect;
        let body = self.send(call).await?;
        serde_json::from_slice(&body).map_err(|error| effect.unreadable(error.to_string()))
    }

    /// Makes the call once; tells the body of a successful answer. How long it took is counted by what was asked and how it
    /// ended.
    pub(super) async fn send(&self, call: Call) -> Result<Vec<u8>, BrokerError> {
        let (operation, began) = (operation(&call.method, call.url.path()), Instant::now());
        let answer = self.send_once(call).await;
        histogram!(DURATION, "operation" => operation, "outcome" => outcome(&answer))
            .record(began.elapsed().as_secs_f64());
        answer
    }

    async fn send_once(&self, call: Call) -> Result<Vec<u8>, BrokerError> {
        let credentials = self.credentials().await?;
        let headers = headers(&credentials)?;
        drop(credentials);
        let Call { method, url, body, effect } = call;
        let admission = self
            .budget
            .admit(effect == Effect::Cancel, Instant::now())
            .map_err(|retry_after| BrokerError::Throttled { retry_after })?;

        let (started, path) = (Instant::now(), url.path().to_owned());
        let mut request = self.client.request(method.clone(), url).headers(headers);
        if let Some(body) = body {
            request = request.header(CONTENT_TYPE, "application/json").body(body);
        }
        let duration_ms = || u64::try_from(started.elapsed().as_millis()).unwrap_or(u64::MAX);
        let mut response = match request.send().await {
            Ok(response) => response,
            Err(error) => {
                let error = effect.failed(error);
                tracing::warn!(
                    http.method = %method, http.path = path, duration_ms = duration_ms(), %error,
                    "A call to the broker brought no answer"
                );
                return Err(error);
            }
        };
        let rate = RateHeaders::read(response.headers());
        self.budget.observe(admission, &rate, Instant::now());
        let status = response.status();
        let request_id = request_id(response.headers());
        tracing::debug!(
            http.method = %method, http.path = path, http.status = status.as_u16(), duration_ms = duration_ms(),
            broker.request_id = request_id, "The broker answered a call"
        );
        if status == StatusCode::TOO_MANY_REQUESTS {
            let retry_after = self.budget.throttled(&rate, Instant::now());
            return Err(BrokerError::Throttled { retry_after });
        }
        let body = self.body(&mut response, effect).await?;
        if status.is_success() { Ok(body) } else { Err(effect.refused(status, &body, request_id.as_deref())) }
    }

    async fn body(&self, response: &mut Response, effect: Effect) -> Result<Vec<u8>, BrokerError> {
        let mut body = Vec::new();
        loop {
            match response.chunk().await {
                Ok(Some(chunk)) if body.len() + chunk.len() > self.config.max_body_bytes => {
                    let limit = self.config.max_body_bytes;
                    let why = format!("the answer is longer than {limit} bytes");
                    let answered = response.status().is_success();
                    return Err(if answered { effect.unreadable(why) } else { effect.no_answer(why) });
                }
                Ok(Some(chunk)) => body.extend_from_slice(&chunk),
                Ok(None) => return Ok(body),
                Err(error) => {
                    return Err(
                        effect.no_answer(format!("the answer broke off: {}", chain(&error.without_url())))
                    );
                }
            }
        }
    }
}

/// What is asked, in few words: paths hold ids.
fn operation(method: &Method, path: &str) -> &'static str {
    let mut segments = path.split('/').filter(|segment| !segment.is_empty()).skip(1);
    let (what, one) = (segments.next().unwrap_or_default(), segments.next().is_some());
    match (method.as_str(), what, one) {
        ("POST", "orders", _) => "submit_order",
        ("PATCH", "orders", _) => "replace_order",
        ("DELETE", "orders", _) => "cancel_order",
        ("GET", "orders", false) => "list_orders",
        ("GET", "orders" | "orders:by_client_order_id", _) => "get_order",
        ("GET", "positions", _) => "list_positions",
        ("GET", "account", true) => "list_activities",
        ("GET", "account", false) => "get_account",
        ("GET", "assets", _) => "get_asset",
        ("GET", "clock", _) => "get_clock",
        _ => "other",
    }
}

fn outcome<T>(answer: &Result<T, BrokerError>) -> &'static str {
    match answer {
        Ok(_) => "ok",
        Err(BrokerError::Throttled { .. }) => "throttled",
        Err(BrokerError::Unauthorized(_)) => "unauthorized",
        Err(BrokerError::Refused { .. } | BrokerError::NotFound | BrokerError::DuplicateClientOrderId) => {
            "refused"
        }
        Err(_) => "failed",
    }
}

fn headers(credentials: &Credentials) -> Result<HeaderMap, BrokerError> {
    let value = |text: &str| {
        let mut value = HeaderValue::from_str(text).map_err(|_| {
            BrokerError::Unauthorized("the credentials have characters that a header cannot carry".to_owned())
        })?;
        value.set_sensitive(true);
        Ok::<_, BrokerError>(value)
    };
    Ok(HeaderMap::from_iter([
        (ACCEPT, HeaderValue::from_static("application/json")),
        (KEY_HEADER, value(&credentials.key_id)?),
        (SECRET_HEADER, value(credentials.secret.expose_secret())?),
    ]))
}

fn request_id(headers: &HeaderMap) -> Option<String> {
    let text = headers.get("x-request-id")?.to_str().ok()?;
    Some(text.chars().take(80).collect())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn operations_hold_no_ids() {
        for (method, path, named) in [
            (Method::POST, "/v2/orders", "submit_order"),
            (Method::GET, "/v2/orders", "list_orders"),
            (Method::GET, "/v2/orders/61e69015-8549-4bfd-b9c3-01e75843f47d", "get_order"),
            (Method::GET, "/v2/orders:by_client_order_id", "get_order"),
            (Method::PATCH, "/v2/orders/61e69015-8549-4bfd-b9c3-01e75843f47d", "replace_order"),
            (Method::DELETE, "/v2/orders/61e69015-8549-4bfd-b9c3-01e75843f47d", "cancel_order"),
            (Method::GET, "/v2/account", "get_account"),
            (Method::GET, "/v2/account/activities/FILL", "list_activities"),
            (Method::GET, "/v2/assets/SPY", "get_asset"),
            (Method::GET, "/v2/calendar", "other"),
        ] {
            assert_eq!(operation(&method, path), named, "{method} {path}");
        }
    }
}
