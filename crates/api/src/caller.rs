//! Who calls: the session behind a bearer token.

use std::collections::HashMap;
use std::future::Future;
use std::net::IpAddr;
use std::pin::Pin;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use actix_web::dev::Payload;
use actix_web::http::header::{AUTHORIZATION, USER_AGENT};
use actix_web::{FromRequest, HttpMessage, HttpRequest, web};
use plimsoll_auth::sessions::{Activity, Authenticated, authenticate};
use plimsoll_core_domain::UserId;
use plimsoll_core_domain::audit::{AuditEntry, AuditOutcome};
use plimsoll_core_domain::error::BusinessError;
use plimsoll_crypto::tokens::{SecretToken, TokenDigest};
use uuid::Uuid;

use crate::problem::Problem;
use crate::request_id::RequestId;
use crate::state::{AppState, client_ip};

/// Where a request came from, for audit entries.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Origin {
    /// The client's address.
    pub ip: Option<IpAddr>,
    /// Its user agent, at most 400 characters.
    pub user_agent: Option<String>,
    /// The request's id.
    pub request_id: Option<Uuid>,
}

impl Origin {
    /// From a request.
    #[must_use]
    pub fn of(request: &HttpRequest) -> Self {
        let user_agent = request.headers().get(USER_AGENT).and_then(|value| value.to_str().ok());
        Self {
            ip: client_ip(request),
            user_agent: user_agent.map(|text| text.chars().take(400).collect()),
            request_id: request.extensions().get::<RequestId>().map(|id| id.0),
        }
    }

    /// An audit entry of an act of `actor`.
    #[must_use]
    pub fn audit(
        &self,
        action: &str,
        outcome: AuditOutcome,
        actor: Option<UserId>,
        at: chrono::DateTime<chrono::Utc>,
        detail: serde_json::Value,
    ) -> AuditEntry {
        AuditEntry {
            at,
            action: action.to_owned(),
            outcome,
            actor_id: actor,
            subject_id: actor,
            ip: self.ip.map(|ip| ip.to_string()),
            user_agent: self.user_agent.clone(),
            request_id: self.request_id,
            detail,
        }
    }
}

/// The signed-in caller of a request.
#[derive(Clone, Debug)]
pub struct Caller {
    /// Who.
    pub user: UserId,
    /// The session and its user.
    pub signed_in: Arc<Authenticated>,
    /// From where.
    pub origin: Origin,
}

/// Sessions seen a moment ago, by the digest of their token.
#[derive(Debug)]
pub struct SessionCache {
    life: Duration,
    seen: Mutex<HashMap<TokenDigest, (Instant, Arc<Authenticated>)>>,
}

impl SessionCache {
    /// Keeps sessions for `life`; zero keeps none.
    #[must_use]
    pub fn new(life: Duration) -> Self {
        Self { life, seen: Mutex::default() }
    }

    fn get(&self, digest: &TokenDigest) -> Option<Arc<Authenticated>> {
        let seen = self.seen.lock().unwrap_or_else(PoisonError::into_inner);
        seen.get(digest).filter(|(at, _)| at.elapsed() < self.life).map(|(_, session)| Arc::clone(session))
    }

    fn put(&self, digest: TokenDigest, session: &Arc<Authenticated>) {
        if !self.life.is_zero() {
            let mut seen = self.seen.lock().unwrap_or_else(PoisonError::into_inner);
            seen.insert(digest, (Instant::now(), Arc::clone(session)));
        }
    }

    /// Forgets a session at once.
    pub fn forget_session(&self, session: Uuid) {
        let mut seen = self.seen.lock().unwrap_or_else(PoisonError::into_inner);
        seen.retain(|_, (_, known)| known.session.id != session);
    }

    /// Forgets what is too old.
    pub fn tidy(&self) {
        let mut seen = self.seen.lock().unwrap_or_else(PoisonError::into_inner);
        seen.retain(|_, (at, _)| at.elapsed() < self.life);
    }
}

/// The session of a token.
///
/// # Errors
/// 401 when the token opens nothing, 503 when the store is away.
pub async fn session_of(
    state: &AppState,
    token: &str,
    activity: Activity,
) -> Result<Arc<Authenticated>, Problem> {
    let token = SecretToken::parse(token).map_err(|_| Problem::from(BusinessError::AuthenticationFailed))?;
    let digest = token.digest();
    if let Some(known) = state.session_cache.get(&digest) {
        return Ok(known);
    }
    let (policy, now) = (state.settings.sessions, state.clock.now());
    let signed_in = state
        .db
        .read(move |tx| authenticate(tx, &digest, &policy, activity, now))
        .await
        .map_err(Problem::from)?;
    let signed_in = Arc::new(signed_in);
    state.session_cache.put(digest, &signed_in);
    Ok(signed_in)
}

fn bearer(request: &HttpRequest) -> Option<&str> {
    let value = request.headers().get(AUTHORIZATION)?.to_str().ok()?;
    let (scheme, token) = value.split_once(' ')?;
    scheme.eq_ignore_ascii_case("bearer").then_some(token.trim())
}

impl FromRequest for Caller {
    type Error = Problem;
    type Future = Pin<Box<dyn Future<Output = Result<Self, Problem>>>>;

    fn from_request(request: &HttpRequest, _: &mut Payload) -> Self::Future {
        let request = request.clone();
        Box::pin(async move {
            let state = request
                .app_data::<web::Data<AppState>>()
                .ok_or_else(|| Problem::internal("the service was mounted without its state"))?;
            let token = bearer(&request).ok_or(BusinessError::AuthenticationFailed)?;
            let signed_in = session_of(state, token, Activity::User).await?;
            Ok(Self { user: signed_in.user.id, signed_in, origin: Origin::of(&request) })
        })
    }
}
