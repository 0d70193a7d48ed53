//! Posts one message, once.

use std::fmt;
use std::sync::Arc;
use std::time::{Duration, Instant};

use plimsoll_crypto::WebhookSecret;
use reqwest::header::{CONTENT_TYPE, HeaderMap, HeaderName, HeaderValue, RETRY_AFTER};
use reqwest::{Certificate, Client, Response, StatusCode, redirect, retry};

use super::answer::{Failure, excerpt};
use super::guard::{Guard, Target, TargetRefusal, literal};
use super::resolver::{GuardedResolver, Lookup, system};

const ID: HeaderName = HeaderName::from_static("webhook-id");
const TIMESTAMP: HeaderName = HeaderName::from_static("webhook-timestamp");
const SIGNATURE: HeaderName = HeaderName::from_static("webhook-signature");
/// No `Retry-After` is believed beyond this.
const LONGEST_RETRY_AFTER: Duration = Duration::from_secs(3600);

/// How long to wait, and how much to read.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct SendLimits {
    /// Looking the name up and connecting, TLS included.
    pub connect: Duration,
    /// From the beginning to the head of the answer.
    pub total: Duration,
    /// For the body of the answer, of which nothing depends.
    pub body: Duration,
    /// Bytes of the body that are read.
    pub body_bytes: usize,
}

impl Default for SendLimits {
    fn default() -> Self {
        Self {
            connect: Duration::from_secs(5),
            total: Duration::from_secs(10),
            body: Duration::from_secs(1),
            body_bytes: 4096,
        }
    }
}

impl SendLimits {
    /// All of the time-outs at another pace.
    ///
    /// # Panics
    /// When `factor` is negative or not finite.
    #[must_use]
    pub fn scaled(self, factor: f64) -> Self {
        Self {
            connect: self.connect.mul_f64(factor),
            total: self.total.mul_f64(factor),
            body: self.body.mul_f64(factor),
            ..self
        }
    }
}

/// A message to be posted.
#[derive(Clone, Copy, Debug)]
pub struct Message<'a> {
    /// Its id: the same at every attempt.
    pub id: &'a str,
    /// When it is sent, in seconds since 1970.
    pub timestamp: i64,
    /// JSON, as it is signed and sent.
    pub body: &'a str,
    /// Each one signs; the newest first.
    pub secrets: &'a [WebhookSecret],
}

/// What came of it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Outcome {
    /// The receiver has it.
    Delivered,
    /// It may have it, or not.
    Failed {
        /// Why.
        why: Failure,
        /// The receiver's word for when to try again; at most an hour.
        retry_after: Option<Duration>,
    },
}

/// One attempt.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Attempt {
    /// What came of it.
    pub outcome: Outcome,
    /// The answer's status, where there was one.
    pub status: Option<u16>,
    /// The beginning of the answer, without secrets.
    pub excerpt: Option<String>,
    /// From beginning to end.
    pub took: Duration,
}

/// Why there is no sender.
#[derive(Debug, thiserror::Error)]
pub enum SenderError {
    /// TLS has no cryptography to work with.
    #[error("no TLS provider is installed")]
    NoCryptoProvider,
    /// The certificates or the client are refused.
    #[error("the client cannot be built: {0}")]
    Client(#[from] reqwest::Error),
}

/// Posts messages. Clones share the connections.
#[derive(Clone)]
pub struct Sender {
    guard: Guard,
    limits: SendLimits,
    encrypted: Client,
    plain: Client,
}

impl Sender {
    /// `extra_ca`: certificates in PEM that are trusted beside the usual ones.
    ///
    /// # Errors
    /// The certificates cannot be used, or no TLS provider is installed.
    pub fn new(guard: Guard, limits: SendLimits, extra_ca: Option<&[u8]>) -> Result<Self, SenderError> {
        Self::with_lookup(guard, limits, extra_ca, &system())
    }

    fn with_lookup(
        guard: Guard,
        limits: SendLimits,
        extra_ca: Option<&[u8]>,
        lookup: &Arc<Lookup>,
    ) -> Result<Self, SenderError> {
        if rustls::crypto::CryptoProvider::get_default().is_none() {
            return Err(SenderError::NoCryptoProvider);
        }
        let client = |encrypted| {
            let resolver = GuardedResolver { guard: guard.clone(), encrypted, lookup: Arc::clone(lookup) };
            let mut builder = Client::builder()
                .user_agent(concat!("plimsoll-webhooks/", env!("CARGO_PKG_VERSION")))
                .redirect(redirect::Policy::none())
                .retry(retry::never())
                .no_proxy()
                .no_gzip()
                .https_only(encrypted)
                .dns_resolver(Arc::new(resolver))
                .connect_timeout(limits.connect)
                // Each message's connection is checked anew.
                .pool_max_idle_per_host(0)
                .tcp_nodelay(true);
            if let Some(pem) = extra_ca {
                builder = builder.tls_certs_merge(Certificate::from_pem_bundle(pem)?);
            }
            builder.build()
        };
        let (encrypted, plain) = (client(true)?, client(false)?);
        Ok(Self { guard, limits, encrypted, plain })
    }

    /// Reads an address, as it will be read again before each message.
    ///
    /// # Errors
    /// Nothing is ever posted there.
    pub fn target(&self, url: &str) -> Result<Target, TargetRefusal> {
        self.guard.target(url)
    }

    /// The longest time that [`send`](Self::send) takes.
    #[must_use]
    pub fn longest(&self) -> Duration {
        self.limits.total + self.limits.body
    }

    /// Posts a message once. Dropping the future gives the attempt up; the message may have arrived.
    pub async fn send(&self, url: &str, message: &Message<'_>) -> Attempt {
        let began = Instant::now();
        let failed = |why, status, excerpt, retry_after| Attempt {
            outcome: Outcome::Failed { why, retry_after },
            status,
            excerpt,
            took: began.elapsed(),
        };
        let Ok(target) = self.target(url) else {
            return failed(Failure::AddressRefused, None, None, None);
        };
        // Addresses instead of names pass by the resolver: they were checked with the target, for its own scheme.
        debug_assert!(
            literal(target.host()).is_none_or(|ip| self.guard.permits(ip, target.encrypted())),
            "a target is checked when it is read"
        );
        let client = if target.encrypted() { &self.encrypted } else { &self.plain };
        let request = client.post(target.url.clone()).headers(headers(message)).body(message.body.to_owned());
        let mut response = match tokio::time::timeout(self.limits.total, request.send()).await {
            Err(_) => return failed(Failure::TimedOut, None, None, None),
            Ok(Err(error)) => return failed(Failure::of(&error), None, None, None),
            Ok(Ok(response)) => response,
        };
        let status = response.status();
        let retry_after = retry_after(response.headers());
        let text = excerpt(&self.beginning(&mut response).await);
        let text = (!text.is_empty()).then_some(text);
        let why = match status {
            status if status.is_success() => {
                let took = began.elapsed();
                return Attempt {
                    outcome: Outcome::Delivered,
                    status: Some(status.as_u16()),
                    excerpt: text,
                    took,
                };
            }
            StatusCode::GONE => Failure::Gone,
            status if status.is_redirection() => Failure::Redirected,
            _ => Failure::Status,
        };
        failed(why, Some(status.as_u16()), text, retry_after)
    }

    /// The first bytes of the body, as far as they come in time.
    async fn beginning(&self, response: &mut Response) -> Vec<u8> {
        let mut body = Vec::new();
        let until = tokio::time::Instant::now() + self.limits.body;
        while body.len() < self.limits.body_bytes {
            match tokio::time::timeout_at(until, response.chunk()).await {
                Ok(Ok(Some(chunk))) => {
                    let room = self.limits.body_bytes - body.len();
                    body.extend_from_slice(&chunk[..chunk.len().min(room)]);
                }
                _ => break,
            }
        }
        body
    }
}

fn headers(message: &Message<'_>) -> HeaderMap {
    let timestamp = message.timestamp.to_string();
    let signatures: Vec<String> = message
        .secrets
        .iter()
        .map(|secret| secret.sign(message.id, &timestamp, message.body.as_bytes()))
        .collect();
    let value = |text: &str| HeaderValue::from_str(text).unwrap_or_else(|_| HeaderValue::from_static(""));
    let mut signature = value(&signatures.join(" "));
    signature.set_sensitive(true);
    HeaderMap::from_iter([
        (CONTENT_TYPE, HeaderValue::from_static("application/json")),
        (ID, value(message.id)),
        (TIMESTAMP, value(&timestamp)),
        (SIGNATURE, signature),
    ])
}

/// Seconds only: the other form, a date, says when by the receiver's clock.
fn retry_after(headers: &HeaderMap) -> Option<Duration> {
    let seconds = headers.get(RETRY_AFTER)?.to_str().ok()?.trim().parse().ok()?;
    Some(Duration::from_secs(seconds).min(LONGEST_RETRY_AFTER))
}

impl fmt::Debug for Sender {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Sender")
            .field("guard", &self.guard)
            .field("limits", &self.limits)
            .finish_non_exhaustive()
    }
}

#[cfg(test)]
#[path = "sender_tests.rs"]
mod tests;
