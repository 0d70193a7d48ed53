//! Whose credentials a request shows, and what was found out about them a moment ago.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use actix_web::HttpRequest;
use actix_web::http::header::AUTHORIZATION;
use chrono::{DateTime, Utc};
use plimsoll_auth::sessions::{Activity, Authenticated, authenticate};
use plimsoll_core_domain::UserId;
use plimsoll_core_domain::error::BusinessError;
use plimsoll_crypto::tokens::{SecretToken, TokenDigest};
use secrecy::SecretString;
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

/// Sessions seen a moment ago, by the digest of their token.
#[derive(Debug)]
pub struct SessionCache {
    life: Duration,
    seen: Mutex<Seen>,
}

#[derive(Debug, Default)]
struct Seen {
    sessions: HashMap<TokenDigest, (Instant, Arc<Authenticated>)>,
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

    fn get(&self, digest: &TokenDigest, now: DateTime<Utc>) -> Result<Arc<Authenticated>, Look> {
        let seen = self.seen();
        match seen.sessions.get(digest) {
            Some((at, known)) if at.elapsed() < self.life && known.session.is_live(now) => {
                Ok(Arc::clone(known))
            }
            _ => Err(Look { at: Instant::now(), forgotten: seen.forgotten }),
        }
    }

    fn put(&self, digest: TokenDigest, look: &Look, session: &Arc<Authenticated>) {
        let mut seen = self.seen();
        if !self.life.is_zero() && seen.forgotten == look.forgotten {
            seen.sessions.insert(digest, (look.at, Arc::clone(session)));
        }
    }

    fn forget(&self, which: impl Fn(&Authenticated) -> bool) {
        let mut seen = self.seen();
        seen.forgotten += 1;
        seen.sessions.retain(|_, (_, known)| !which(known));
    }

    /// Forgets a session at once.
    pub fn forget_session(&self, session: Uuid) {
        self.forget(|known| known.session.id == session);
    }

    /// Forgets every session of a user.
    pub fn forget_user(&self, user: UserId) {
        self.forget(|known| known.user.id == user);
    }

    /// Forgets everything: word of changes may have been missed.
    pub fn forget_all(&self) {
        self.forget(|_| true);
    }

    /// Forgets what is too old.
    pub fn tidy(&self) {
        self.seen().sessions.retain(|_, (at, _)| at.elapsed() < self.life);
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
    let (policy, now) = (state.settings.policy.sessions, state.clock.now());
    let look = match state.session_cache.get(&digest, now) {
        Ok(known) => return Ok(known),
        Err(look) => look,
    };
    let signed_in = state
        .db
        .read(move |tx| authenticate(tx, &digest, &policy, activity, now))
        .await
        .map_err(Problem::from)?;
    let signed_in = Arc::new(signed_in);
    state.session_cache.put(digest, &look, &signed_in);
    Ok(signed_in)
}
