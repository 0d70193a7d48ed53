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

use crate::problem::Problem;
use crate::state::AppState;

/// Orders' keys are kept this long.
pub const KEEP_ORDERS: Duration = Duration::from_secs(7 * 24 * 3600);

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
        let mut values = request.headers().get_all("idempotency-key");
        let key = match (values.next(), values.next()) {
            (Some(value), None) => value.to_str().ok().and_then(|text| IdempotencyKey::new(text).ok()),
            _ => None,
        };
        ready(key.map(Self).ok_or_else(missing))
    }
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

/// Sends a stored reply.
#[must_use]
pub fn send(reply: StoredReply, replayed: bool) -> HttpResponse {
    let status = StatusCode::from_u16(reply.status).unwrap_or(StatusCode::INTERNAL_SERVER_ERROR);
    let json = if status.is_client_error() { "application/problem+json" } else { "application/json" };
    let mut response = HttpResponse::build(status);
    response.insert_header((CONTENT_TYPE, json));
    if replayed {
        let name = HeaderName::from_static("idempotency-replayed");
        response.insert_header((name, HeaderValue::from_static("true")));
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
    match done {
        Ok(Once::Fresh(reply)) => Ok(send(reply, false)),
        Ok(Once::Replay(reply)) => Ok(send(reply, true)),
        Err(Failed(OnceError::InFlight)) => Err(in_flight()),
        Err(Failed(OnceError::Reused)) => Err(reused()),
        Err(Failed(OnceError::Effect(problem))) => Err(problem),
        Err(Failed(OnceError::Store(error))) => Err(error.into()),
    }
}

struct Failed(OnceError<Problem>);

impl From<StoreError> for Failed {
    fn from(error: StoreError) -> Self {
        Self(error.into())
    }
}
