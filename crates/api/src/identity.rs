//! Whose credentials a request shows, and what was found out about them a moment ago.

use std::collections::HashMap;
use std::net::IpAddr;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use actix_web::HttpRequest;
use actix_web::http::header::AUTHORIZATION;
use chrono::{DateTime, Utc};
use plimsoll_auth::User;
use plimsoll_auth::api_tokens::{self, ApiCaller, admits};
use plimsoll_auth::sessions::{Activity, AuthenticateError, Authenticated, authenticate};
use plimsoll_core_domain::UserId;
use plimsoll_core_domain::error::BusinessError;
use plimsoll_crypto::tokens::{ApiToken, SecretToken, TokenDigest};
use plimsoll_storage::Tx;
use secrecy::{ExposeSecret, SecretString};
use uuid::Uuid;

use crate::problem::Problem;
use crate::reply::SESSION_COOKIE;
use crate::state::AppState;

/// What a request shows of its sender. `Authorization` wins: with it, cookies are not looked at.
#[derive(Debug)]
pub enum Shown {
    /// No credentials.
    Nothing,
    /// A token in the `Authorization` header.
    Bearer(SecretString),
    /// The session's cookie.
    Cookie(SecretString),
    /// An `Authorization` header of another kind.
    Unknown,
}

impl Shown {
    /// By this request.
    #[must_use]
    pub fn by(request: &HttpRequest) -> Self {
        if let Some(value) = request.headers().get(AUTHORIZATION) {
            let token = value.to_str().ok().and_then(|text| {
                let (scheme, token) = text.split_once(' ')?;
                scheme.eq_ignore_ascii_case("bearer").then(|| token.trim())
            });
            return token.map_or(Self::Unknown, |token| Self::Bearer(token.to_owned().into()));
        }
        match request.cookie(SESSION_COOKIE) {
            Some(cookie) => Self::Cookie(cookie.value().to_owned().into()),
            None => Self::Nothing,
        }
    }
}

/// Whom a token belongs to.
#[derive(Clone, Debug)]
pub enum Identity {
    /// A session and its user.
    Session(Arc<Authenticated>),
    /// An API token, its scopes and its owner.
    ApiToken(Arc<ApiCaller>),
}

impl Identity {
    /// The user as stored.
    #[must_use]
    pub fn account(&self) -> &User {
        match self {
            Self::Session(signed_in) => &signed_in.user,
            Self::ApiToken(token) => &token.user,
        }
    }

    /// The id of the session or API token, which opens nothing.
    #[must_use]
    pub fn login(&self) -> Uuid {
        match self {
            Self::Session(signed_in) => signed_in.session.id,
            Self::ApiToken(token) => token.token_id,
        }
    }

    /// Whether what was true a moment ago still holds for a request from `ip` at `now`.
    fn holds(&self, ip: Option<IpAddr>, now: DateTime<Utc>) -> bool {
        match self {
            Self::Session(signed_in) => signed_in.session.is_live(now),
            Self::ApiToken(token) => now < token.expires_at && admits(&token.allowed_ips, ip),
        }
    }
}

/// Sessions and API tokens seen a moment ago, by their digest.
#[derive(Debug)]
pub struct SessionCache {
    life: Duration,
    seen: Mutex<Seen>,
}

#[derive(Debug, Default)]
struct Seen {
    known: HashMap<TokenDigest, (Instant, Identity)>,
    /// How often something was forgotten: what was read before is not kept after.
    forgotten: u64,
}

/// When a look at the store began.
struct Look {
    at: Instant,
    forgotten: u64,
}

impl SessionCache {
    /// Keeps sessions for `life`, counted from before they were read; zero keeps none.
    #[must_use]
    pub fn new(life: Duration) -> Self {
        Self { life, seen: Mutex::default() }
    }

    fn seen(&self) -> MutexGuard<'_, Seen> {
        self.seen.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn get(&self, digest: &TokenDigest, ip: Option<IpAddr>, now: DateTime<Utc>) -> Result<Identity, Look> {
        let seen = self.seen();
        match seen.known.get(digest) {
            Some((at, known)) if at.elapsed() < self.life && known.holds(ip, now) => Ok(known.clone()),
            _ => Err(Look { at: Instant::now(), forgotten: seen.forgotten }),
        }
    }

    fn put(&self, digest: TokenDigest, look: &Look, identity: &Identity) {
        let mut seen = self.seen();
        if !self.life.is_zero() && seen.forgotten == look.forgotten {
            seen.known.insert(digest, (look.at, identity.clone()));
        }
    }

    fn forget(&self, which: impl Fn(&Identity) -> bool) {
        let mut seen = self.seen();
        seen.forgotten += 1;
        seen.known.retain(|_, (_, known)| !which(known));
    }

    /// Forgets a session or API token at once.
    pub fn forget_session(&self, login: Uuid) {
        self.forget(|known| known.login() == login);
    }

    /// Forgets every session and API token of a user.
    pub fn forget_user(&self, user: UserId) {
        self.forget(|known| known.account().id == user);
    }

    /// Forgets everything: word of changes may have been missed.
    pub fn forget_all(&self) {
        self.forget(|_| true);
    }

    /// Forgets what is too old.
    pub fn tidy(&self) {
        self.seen().known.retain(|_, (at, _)| at.elapsed() < self.life);
    }
}

/// Whom a token belongs to, shown from `ip`.
///
/// # Errors
/// 401 when the token opens nothing, 503 when the store is away.
pub async fn identity_of(
    state: &AppState,
    token: &SecretString,
    activity: Activity,
    ip: Option<IpAddr>,
) -> Result<Identity, Problem> {
    let text = token.expose_secret();
    let unknown = |_| Problem::from(BusinessError::AuthenticationFailed);
    let (is_api_token, digest) = if text.starts_with(ApiToken::PREFIX) {
        (true, ApiToken::parse(text).map_err(unknown)?.digest())
    } else {
        (false, SecretToken::parse(text).map_err(unknown)?.digest())
    };
    let (policy, now) = (state.settings.policy.sessions, state.clock.now());
    let look = match state.session_cache.get(&digest, ip, now) {
        Ok(known) => return Ok(known),
        Err(look) => look,
    };
    let read = move |tx: &mut Tx<'_>| -> Result<Identity, AuthenticateError> {
        if is_api_token {
            return Ok(Identity::ApiToken(Arc::new(api_tokens::authenticate(tx, &digest, ip, now)?)));
        }
        Ok(Identity::Session(Arc::new(authenticate(tx, &digest, &policy, activity, now)?)))
    };
    let identity = state.db.read(read).await?;
    state.session_cache.put(digest, &look, &identity);
    Ok(identity)
}
