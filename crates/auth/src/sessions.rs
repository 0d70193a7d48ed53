//! Sessions: how long they live, who a token belongs to, logout.

use std::net::IpAddr;

use chrono::{DateTime, TimeDelta, Utc};
use plimsoll_core_domain::audit::{AuditLog, AuditOutcome};
use plimsoll_core_domain::{StoreError, UserId};
use plimsoll_crypto::tokens::TokenDigest;
use serde::{Deserialize, Serialize};
use serde_json::json;
use uuid::Uuid;

use crate::login::NewSession;
use crate::ports::{AccountStore, SessionStore};
use crate::{AccountPolicy, AccountState, Act, ClientInfo, User};

/// A signed-in client.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Session {
    /// Names the session in lists and audit entries; it is no secret and opens nothing.
    pub id: Uuid,
    /// Whose it is.
    pub user_id: UserId,
    /// When the user signed in.
    pub created_at: DateTime<Utc>,
    /// When the user last did something, to within the touch interval of the policy.
    pub last_seen_at: DateTime<Utc>,
    /// When it ends unless the user does something.
    pub idle_expires_at: DateTime<Utc>,
    /// When it ends in any case.
    pub expires_at: DateTime<Utc>,
    /// When it was ended early.
    pub revoked_at: Option<DateTime<Utc>>,
    /// Where the user signed in from.
    pub ip: Option<IpAddr>,
    /// With what the user signed in.
    pub user_agent: Option<String>,
    /// Until when sensitive acts need no further factor.
    pub step_up_until: Option<DateTime<Utc>>,
    /// From where that factor was proven: a session that moves has to prove it again.
    pub step_up_ip: Option<IpAddr>,
    /// How its token travels.
    pub transport: Transport,
}

/// How a session's token travels.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Default, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Transport {
    /// In the `Authorization` header.
    #[default]
    Bearer,
    /// In a cookie of the same site.
    Cookie,
}

impl Transport {
    /// The stored and transmitted name.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Bearer => "bearer",
            Self::Cookie => "cookie",
        }
    }
}

impl std::str::FromStr for Transport {
    type Err = &'static str;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        match text {
            "bearer" => Ok(Self::Bearer),
            "cookie" => Ok(Self::Cookie),
            _ => Err("unknown transport"),
        }
    }
}

impl Session {
    /// A session that begins now.
    pub(crate) fn begin(
        id: Uuid,
        user_id: UserId,
        client: &ClientInfo,
        policy: &SessionPolicy,
        now: DateTime<Utc>,
    ) -> Self {
        let expires_at = now + policy.absolute;
        Self {
            id,
            user_id,
            created_at: now,
            last_seen_at: now,
            idle_expires_at: expires_at.min(now + policy.idle),
            expires_at,
            revoked_at: None,
            ip: client.ip(),
            user_agent: client.user_agent().map(str::to_owned),
            step_up_until: None,
            step_up_ip: None,
            transport: Transport::Bearer,
        }
    }

    /// Whether the session may be used at `now`. At the very instant of an expiry it may not.
    #[must_use]
    pub fn is_live(&self, now: DateTime<Utc>) -> bool {
        self.revoked_at.is_none() && now < self.idle_expires_at && now < self.expires_at
    }

    /// Whether a factor was proven recently enough, and from the address `ip`, for a sensitive act.
    #[must_use]
    pub fn is_stepped_up(&self, ip: Option<IpAddr>, now: DateTime<Utc>) -> bool {
        self.is_live(now) && self.step_up_ip == ip && self.step_up_until.is_some_and(|until| now < until)
    }
}

/// How long sessions live and how many a user may have.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct SessionPolicy {
    idle: TimeDelta,
    absolute: TimeDelta,
    max_per_user: usize,
}

/// 30 minutes idle, 12 hours in all, 10 sessions a user.
impl Default for SessionPolicy {
    fn default() -> Self {
        Self { idle: TimeDelta::minutes(30), absolute: TimeDelta::hours(12), max_per_user: 10 }
    }
}

/// A policy under which nobody could stay signed in.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("session limits must be positive and at most a year, and at least one session must be allowed")]
pub struct SessionPolicyError;

impl SessionPolicy {
    /// `idle` is the longest time without an act of the user, `absolute` the longest life of a session.
    ///
    /// # Errors
    ///
    /// A duration that is not positive or over 366 days; no sessions at all.
    pub fn new(
        idle: TimeDelta,
        absolute: TimeDelta,
        max_per_user: usize,
    ) -> Result<Self, SessionPolicyError> {
        let sane = |limit: TimeDelta| limit > TimeDelta::zero() && limit <= TimeDelta::days(366);
        if !sane(idle) || !sane(absolute) || max_per_user == 0 {
            return Err(SessionPolicyError);
        }
        Ok(Self { idle, absolute, max_per_user })
    }

    /// Longest time without an act of the user.
    #[must_use]
    pub fn idle(&self) -> TimeDelta {
        self.idle
    }

    /// Longest life of a session.
    #[must_use]
    pub fn absolute(&self) -> TimeDelta {
        self.absolute
    }

    /// Most live sessions of one user; the oldest makes room for a new one.
    #[must_use]
    pub fn max_per_user(&self) -> usize {
        self.max_per_user
    }

    /// A session seen less than this ago is not written again: one write in each thirtieth of the idle limit, so the
    /// limit may end a session that much early, never late.
    fn touch_interval(&self) -> TimeDelta {
        self.idle / 30
    }
}

/// Whether a request is the user's own act.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Activity {
    /// Something the user did: it extends the idle limit.
    User,
    /// Polling, pings, streams: they do not (NIST SP 800-63B-4, 5.2).
    Background,
}

/// A valid session and its user, both as stored now.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Authenticated {
    /// The session, with the times that this very request gave it.
    pub session: Session,
    /// Its user, active.
    pub user: User,
}

/// Why a token does not authenticate.
#[derive(Debug, thiserror::Error)]
pub enum AuthenticateError {
    /// Unknown, revoked or expired session, or disabled user: a client cannot tell which.
    #[error("not signed in")]
    NotAuthenticated,
    /// The store failed.
    #[error(transparent)]
    Store(#[from] StoreError),
}

/// Finds who a session token belongs to, and notes the user's act.
///
/// One read; a write at most once in each thirtieth of the idle limit.
///
/// # Errors
///
/// See [`AuthenticateError`].
pub fn authenticate<S>(
    store: &mut S,
    digest: &TokenDigest,
    policy: &SessionPolicy,
    activity: Activity,
    now: DateTime<Utc>,
) -> Result<Authenticated, AuthenticateError>
where
    S: SessionStore + ?Sized,
{
    let (mut session, user) = store.session_by_digest(digest)?.ok_or(AuthenticateError::NotAuthenticated)?;
    let may_sign_in = user.state == AccountState::Active && user.email_verified_at.is_some();
    if !session.is_live(now) || !may_sign_in {
        return Err(AuthenticateError::NotAuthenticated);
    }
    let due = now - session.last_seen_at >= policy.touch_interval();
    if activity == Activity::User && due {
        session.last_seen_at = now;
        session.idle_expires_at = session.expires_at.min(now + policy.idle).max(session.idle_expires_at);
        store.touch_session(user.id, session.id, session.last_seen_at, session.idle_expires_at)?;
    }
    Ok(Authenticated { session, user })
}

/// Ends one session of the user and records it. `false` when it had ended before, or is none of the user's.
///
/// # Errors
///
/// When the store fails.
pub fn revoke<S>(store: &mut S, user: UserId, session: Uuid, act: &Act) -> Result<bool, StoreError>
where
    S: SessionStore + AuditLog + ?Sized,
{
    let live = store.live_sessions_of(user, act.at)?.iter().any(|known| known.id == session);
    if !live || !store.revoke_session(user, session, act.at)? {
        return Ok(false);
    }
    let detail = json!({ "ended_session_id": session });
    let entry = act.entry("session.end", AuditOutcome::Success, Some(user), Some(user), detail);
    store.append_audit(Some(user), &entry)?;
    Ok(true)
}

/// Ends the session of the act itself and records it. `false` when it had ended before.
///
/// # Errors
///
/// When the store fails.
pub fn logout<S>(store: &mut S, user: UserId, session: Uuid, act: &Act) -> Result<bool, StoreError>
where
    S: SessionStore + AuditLog + ?Sized,
{
    if !store.revoke_session(user, session, act.at)? {
        return Ok(false);
    }
    let detail = json!({ "session_id": session });
    let entry = act.entry("logout", AuditOutcome::Success, Some(user), Some(user), detail);
    store.append_audit(Some(user), &entry)?;
    Ok(true)
}

/// Ends every session of a user but `keep`, records it, and returns which. Logins of the same moment wait for it or come
/// after.
///
/// # Errors
///
/// When the store fails.
pub fn revoke_others<S>(store: &mut S, user: UserId, keep: Uuid, act: &Act) -> Result<Vec<Uuid>, StoreError>
where
    S: AccountStore + SessionStore + AuditLog + ?Sized,
{
    store.lock_account_of(user)?;
    let live = store.live_sessions_of(user, act.at)?;
    let others: Vec<Uuid> = live.iter().map(|known| known.id).filter(|id| *id != keep).collect();
    store.revoke_all_sessions_of(user, Some(keep), act.at)?;
    let detail = json!({ "ended": others.len() });
    let entry = act.entry("session.end_others", AuditOutcome::Success, Some(user), Some(user), detail);
    store.append_audit(Some(user), &entry)?;
    Ok(others)
}

/// A new session, and the older ones that made room for it.
#[derive(Debug)]
pub struct Started {
    /// The session.
    pub session: Session,
    /// Ended for it, oldest first.
    pub evicted: Vec<Uuid>,
}

/// Makes a session of a user whose account is locked, ends the oldest ones beyond the cap and records those. With
/// `factor_proven` (a login with a second factor), sensitive acts are open at once.
///
/// # Errors
///
/// When the store fails.
pub fn start<S>(
    store: &mut S,
    policy: &AccountPolicy,
    user: UserId,
    transport: Transport,
    new: &NewSession,
    factor_proven: bool,
    act: &Act,
) -> Result<Started, StoreError>
where
    S: SessionStore + AuditLog + ?Sized,
{
    let live = store.live_sessions_of(user, act.at)?;
    let beyond = (live.len() + 1).saturating_sub(policy.sessions.max_per_user());
    let evicted: Vec<Uuid> = live.iter().take(beyond).map(|session| session.id).collect();
    for id in &evicted {
        store.revoke_session(user, *id, act.at)?;
    }
    let mut session = Session::begin(new.id, user, &act.client, &policy.sessions, act.at);
    session.transport = transport;
    if factor_proven {
        session.step_up_until = Some(act.at + policy.step_up);
        session.step_up_ip = act.client.ip();
    }
    store.insert_session(&new.token.digest(), &session)?;
    for id in &evicted {
        let detail = json!({ "evicted_session_id": id, "reason": "too_many_sessions" });
        let entry = act.entry("session.end", AuditOutcome::Success, Some(user), Some(user), detail);
        store.append_audit(Some(user), &entry)?;
    }
    Ok(Started { session, evicted })
}

/// Gives a session a new token: after each change of what the session may do. With `step_up`, a factor was proven now.
/// The session keeps its id. `None` when it is not live any more.
///
/// # Errors
///
/// When the store fails.
pub fn rotate<S>(
    store: &mut S,
    policy: &AccountPolicy,
    session: &Session,
    digest: &TokenDigest,
    step_up: bool,
    act: &Act,
) -> Result<Option<Session>, StoreError>
where
    S: SessionStore + ?Sized,
{
    let proven = step_up.then(|| (act.at + policy.step_up, act.client.ip()));
    if !store.rotate_session(session.user_id, session.id, digest, proven, act.at)? {
        return Ok(None);
    }
    let mut session = session.clone();
    if let Some((until, ip)) = proven {
        (session.step_up_until, session.step_up_ip) = (Some(until), ip);
    }
    Ok(Some(session))
}

/// Ends everything that was opened for the user before: every session but `keep`, login challenges, reset links, and
/// API tokens when asked. For each change of password, factors, address, role or state, in its transaction. Returns how
/// many sessions ended.
///
/// # Errors
///
/// When the store fails.
pub fn close_all_doors<S>(
    store: &mut S,
    user: UserId,
    keep: Option<Uuid>,
    with_api_tokens: bool,
    act: &Act,
) -> Result<u64, StoreError>
where
    S: SessionStore + ?Sized,
{
    store.close_doors(user, keep, with_api_tokens, act.at)
}

#[cfg(test)]
mod tests;
