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
use plimsoll_auth::{Act, ClientInfo, Role};
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

    /// The circumstances of an act from here.
    #[must_use]
    pub fn act(&self, session: Option<Uuid>, at: chrono::DateTime<chrono::Utc>) -> Act {
        let client = ClientInfo::new(self.ip, self.user_agent.as_deref());
        Act { client, request_id: self.request_id, session, at }
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

    /// Forgets every session of a user.
    pub fn forget_user(&self, user: UserId) {
        let mut seen = self.seen.lock().unwrap_or_else(PoisonError::into_inner);
        seen.retain(|_, (_, known)| known.user.id != user);
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
    let (policy, now) = (state.settings.policy.sessions, state.clock.now());
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

type Extracted<T> = Pin<Box<dyn Future<Output = Result<T, Problem>>>>;

fn state_of(request: &HttpRequest) -> Result<web::Data<AppState>, Problem> {
    let state = request.app_data::<web::Data<AppState>>();
    state.cloned().ok_or_else(|| Problem::internal("the service was mounted without its state"))
}

impl Caller {
    async fn of(request: &HttpRequest) -> Result<Self, Problem> {
        let state = state_of(request)?;
        let token = bearer(request).ok_or(BusinessError::AuthenticationFailed)?;
        let signed_in = session_of(&state, token, Activity::User).await?;
        Ok(Self { user: signed_in.user.id, signed_in, origin: Origin::of(request) })
    }

    /// The circumstances of what the caller does now.
    #[must_use]
    pub fn act(&self, state: &AppState) -> Act {
        self.origin.act(Some(self.signed_in.session.id), state.clock.now())
    }
}

impl FromRequest for Caller {
    type Error = Problem;
    type Future = Extracted<Self>;

    fn from_request(request: &HttpRequest, _: &mut Payload) -> Self::Future {
        let request = request.clone();
        Box::pin(async move { Self::of(&request).await })
    }
}

/// A caller of an open route: nobody is signed in, or it does not matter.
#[derive(Clone, Debug)]
pub struct Visitor {
    /// From where.
    pub origin: Origin,
}

impl Visitor {
    /// The circumstances of what the visitor does now.
    #[must_use]
    pub fn act(&self, state: &AppState) -> Act {
        self.origin.act(None, state.clock.now())
    }
}

impl FromRequest for Visitor {
    type Error = Problem;
    type Future = Extracted<Self>;

    fn from_request(request: &HttpRequest, _: &mut Payload) -> Self::Future {
        let request = request.clone();
        Box::pin(async move { Ok(Self { origin: Origin::of(&request) }) })
    }
}

/// Callers with more to show than a valid token.
macro_rules! stricter {
    ($(#[$doc:meta])* $name:ident, $check:expr) => {
        $(#[$doc])*
        #[derive(Clone, Debug)]
        pub struct $name(pub Caller);

        impl std::ops::Deref for $name {
            type Target = Caller;

            fn deref(&self) -> &Caller {
                &self.0
            }
        }

        impl FromRequest for $name {
            type Error = Problem;
            type Future = Extracted<Self>;

            fn from_request(request: &HttpRequest, _: &mut Payload) -> Self::Future {
                let request = request.clone();
                Box::pin(async move {
                    let caller = Caller::of(&request).await?;
                    let state = state_of(&request)?;
                    let check: fn(&AppState, &Caller) -> Result<(), Problem> = $check;
                    check(&state, &caller)?;
                    Ok(Self(caller))
                })
            }
        }
    };
}

stricter!(
    /// A caller with a session: an API token may not change the account itself.
    SessionCaller,
    |_, _| Ok(())
);
stricter!(
    /// A session whose factor was proven a moment ago, from this address.
    SteppedUp,
    stepped_up
);
stricter!(
    /// An administrator.
    AdminCaller,
    admin
);
stricter!(
    /// An administrator whose factor was proven a moment ago, from this address.
    AdminSteppedUp,
    |state, caller| admin(state, caller).and_then(|()| stepped_up(state, caller))
);

fn admin(_: &AppState, caller: &Caller) -> Result<(), Problem> {
    match caller.signed_in.user.role {
        Role::Admin => Ok(()),
        Role::User => Err(Problem::new("access_denied", "this is for administrators")),
    }
}

fn stepped_up(state: &AppState, caller: &Caller) -> Result<(), Problem> {
    if caller.signed_in.session.is_stepped_up(caller.origin.ip, state.clock.now()) {
        return Ok(());
    }
    Err(Problem::new("step_up_required", "prove a factor again first: POST /auth/step-up"))
}
