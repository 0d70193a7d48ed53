//! The `Idempotency-Key` header, and replies that are kept under it.

use std::future::{Ready, ready};
use std::time::Duration;

use actix_web::dev::Payload;
use actix_web::http::StatusCode;
use actix_web::http::header::{CONTENT_TYPE, HeaderName, HeaderValue};
use actix_web::{FromRequest, HttpRequest, HttpResponse};
use plimsoll_core_domain::{StoreError, UserId};
use plimsoll_reliability::idempotency::{
    Fingerprint, IdempotencyKey, KeyClaim, Once, OnceError, StoredReply, once,
};
use plimsoll_storage::Tx;
use serde::Serialize;

use crate::problem::Problem;
use crate::state::AppState;

/// Orders' keys are kept this long.
pub const KEEP_ORDERS: Duration = Duration::from_secs(7 * 24 * 3600);
/// All others.
pub const KEEP_OTHERS: Duration = Duration::from_secs(24 * 3600);

fn key_of(request: &HttpRequest) -> Result<Option<IdempotencyKey>, ()> {
    let mut values = request.headers().get_all("idempotency-key");
    match (values.next(), values.next()) {
        (None, _) => Ok(None),
        (Some(value), None) => {
            let key = value.to_str().ok().and_then(|text| IdempotencyKey::new(text).ok());
            key.map(Some).ok_or(())
        }
        (Some(_), Some(_)) => Err(()),
    }
}

/// The request's key; its absence is a problem.
#[derive(Clone, Debug)]
pub struct RequiredKey(pub IdempotencyKey);

impl FromRequest for RequiredKey {
    type Error = Problem;
    type Future = Ready<Result<Self, Problem>>;

    fn from_request(request: &HttpRequest, _: &mut Payload) -> Self::Future {
        let missing = || {
            Problem::new(
                "idempotency_key_missing",
                "an Idempotency-Key header of 1 to 255 visible ASCII characters is required",
            )
        };
        ready(key_of(request).ok().flatten().map(Self).ok_or_else(missing))
    }
}

/// The request's key, on routes where it may be left out; one that is none is a problem.
#[derive(Clone, Debug)]
pub struct OptionalKey(pub Option<IdempotencyKey>);

impl FromRequest for OptionalKey {
    type Error = Problem;
    type Future = Ready<Result<Self, Problem>>;

    fn from_request(request: &HttpRequest, _: &mut Payload) -> Self::Future {
        let detail = "an Idempotency-Key header has 1 to 255 visible ASCII characters and stands there once";
        ready(key_of(request).map(Self).map_err(|()| Problem::new("malformed", detail)))
    }
}

/// A request that has its effect once under its key.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Asked<'a> {
    /// The route's pattern, such as `POST /webhooks/outbound`.
    pub(crate) route: &'static str,
    /// The route with its parameters filled in, such as `/webhooks/outbound`.
    pub(crate) path: &'a str,
    /// The body as it came; empty without one.
    pub(crate) body: &'a [u8],
    /// The reply shows a secret: it is kept sealed under the caller's data key.
    pub(crate) secret: bool,
}

impl OptionalKey {
    /// Runs an effect in one transaction and sends its reply; with a key, once, the reply being kept under it.
    ///
    /// # Errors
    /// The effect's own, 409 while a twin runs, 422 when the key belongs to another request.
    pub(crate) async fn run<F>(
        self,
        state: &AppState,
        user: UserId,
        asked: Asked<'_>,
        effect: F,
    ) -> Result<HttpResponse, Problem>
    where
        F: FnOnce(&mut Tx<'_>) -> Result<StoredReply, Problem> + Send + 'static,
    {
        self.run_noting(state, user, asked, |tx| effect(tx).map(Ok)).await
    }

    /// The same of an effect that may refuse and still have something to write, such as an audit entry: the inner error is
    /// answered, and what was written stays; nothing is kept under the key.
    ///
    /// # Errors
    /// As [`run`](Self::run).
    pub(crate) async fn run_noting<F>(
        self,
        state: &AppState,
        user: UserId,
        asked: Asked<'_>,
        effect: F,
    ) -> Result<HttpResponse, Problem>
    where
        F: FnOnce(&mut Tx<'_>) -> Result<Result<StoredReply, Problem>, Problem> + Send + 'static,
    {
        let Some(key) = self.0 else { return Ok(send(state.db.run(effect).await??, false)) };
        let method = asked.route.split(' ').next().unwrap_or_default();
        let fingerprint = fingerprint(method, asked.path, asked.body)?;
        let (route, secret, now) = (asked.route.to_owned(), asked.secret, state.clock.now());
        let claim = KeyClaim { user, key, route, fingerprint, keep: KEEP_OTHERS };
        let done = state.db.run(move |tx| {
            let mut refused = None;
            let once = once(tx, &claim, |tx| match effect(tx)? {
                Ok(reply) if secret => tx.seal_reply(user, &claim.key, reply, now)?.ok_or_else(unreadable),
                Ok(reply) => Ok(reply),
                Err(problem) => {
                    refused = Some(problem);
                    Ok(StoredReply { status: 0, body: Vec::new() })
                }
            });
            let (reply, replayed) = match once.map_err(Failed)? {
                Once::Fresh(reply) => (reply, false),
                Once::Replay(reply) => (reply, true),
            };
            if let Some(problem) = refused {
                tx.release_key(user, &claim.key)?;
                return Ok(Err(problem));
            }
            let plain = if secret { tx.open_reply(user, &claim.key, reply)? } else { Some(reply) };
            let plain = plain.ok_or_else(|| Failed(OnceError::Effect(unreadable())))?;
            Ok::<_, Failed>(Ok((plain, replayed)))
        });
        let (reply, replayed) = done.await.map_err(Problem::from)??;
        Ok(send(reply, replayed))
    }
}

/// A reply to be sent and kept.
///
/// # Errors
/// The body does not serialise.
pub(crate) fn reply(status: StatusCode, body: &impl Serialize) -> Result<StoredReply, Problem> {
    let body = serde_json::to_vec(body).map_err(|error| Problem::internal(error.to_string()))?;
    Ok(StoredReply { status: status.as_u16(), body })
}

/// A secret of the caller's does not open, so none is sealed either.
fn unreadable() -> Problem {
    Problem::new("credential_unavailable", "the account's secrets cannot be used at the moment")
        .retry_after(60)
}

/// The fingerprint of a request.
///
/// # Errors
/// 400 when the body is no JSON.
pub fn fingerprint(method: &str, path: &str, body: &[u8]) -> Result<Fingerprint, Problem> {
    Fingerprint::of(method, path, body).map_err(|_| Problem::new("malformed", "the body is not valid JSON"))
}

/// A request with this key still runs.
#[must_use]
pub fn in_flight() -> Problem {
    Problem::new("idempotency_in_flight", "a request with this idempotency key still runs").retry_after(1)
}

/// The key belongs to another request.
#[must_use]
pub fn reused() -> Problem {
    Problem::new("idempotency_key_reused", "the idempotency key was used for another request")
}

/// Says that an answer is not the first one.
pub(crate) const REPLAYED: HeaderName = HeaderName::from_static("idempotency-replayed");

/// Sends a stored reply.
#[must_use]
pub fn send(reply: StoredReply, replayed: bool) -> HttpResponse {
    let status = StatusCode::from_u16(reply.status).unwrap_or(StatusCode::INTERNAL_SERVER_ERROR);
    let json = if status.is_client_error() { "application/problem+json" } else { "application/json" };
    let mut response = HttpResponse::build(status);
    response.insert_header((CONTENT_TYPE, json));
    if replayed {
        response.insert_header((REPLAYED, HeaderValue::from_static("true")));
    }
    response.body(reply.body)
}

/// Runs an effect under a key, in one transaction with its reply, and sends the reply.
///
/// # Errors
/// The effect's own, 409 while a twin runs, 422 when the key belongs to another request.
pub async fn run_once<F>(
    state: &AppState,
    user: UserId,
    key: IdempotencyKey,
    route: &'static str,
    fingerprint: Fingerprint,
    effect: F,
) -> Result<HttpResponse, Problem>
where
    F: FnOnce(&mut Tx<'_>) -> Result<StoredReply, Problem> + Send + 'static,
{
    let claim = KeyClaim { user, key, route: route.to_owned(), fingerprint, keep: KEEP_ORDERS };
    let done = state.db.run(move |tx| once(tx, &claim, effect).map_err(Failed)).await;
    match done.map_err(Problem::from)? {
        Once::Fresh(reply) => Ok(send(reply, false)),
        Once::Replay(reply) => Ok(send(reply, true)),
    }
}

struct Failed(OnceError<Problem>);

impl From<StoreError> for Failed {
    fn from(error: StoreError) -> Self {
        Self(error.into())
    }
}

impl From<Failed> for Problem {
    fn from(Failed(error): Failed) -> Self {
        match error {
            OnceError::InFlight => in_flight(),
            OnceError::Reused => reused(),
            OnceError::Effect(problem) => problem,
            OnceError::Store(error) => error.into(),
        }
    }
}
