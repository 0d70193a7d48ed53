//! The second step of a login: a right password waits for its second factor.
//!
//! A challenge opens nothing but this step. Its token has 32 random bytes, of which only the digest is stored.

use std::net::IpAddr;
use std::time::Duration;

use chrono::{DateTime, Utc};
use plimsoll_core_domain::audit::AuditOutcome;
use plimsoll_core_domain::{StoreError, StoreErrorKind, UserId};
use plimsoll_crypto::tokens::{SecretToken, TokenDigest};
use serde_json::json;
use uuid::Uuid;

use crate::backup_codes::BackupCodes;
use crate::login::{Arrival, AttemptRecord, Factor, LoginKeys, NewArrival, NewSession, arrive};
use crate::ports::{AuthStore, ChallengeStore};
use crate::two_factor::{
    self, Attempt, Begun, CodeRefusal, Method, Purpose, Settled, SubmittedCode, Verified,
};
use crate::{AccountPolicy, AccountState, Act, Session, Transport, User, sessions};

/// A right password that waits for its second factor.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Challenge {
    /// Names it; it is no secret.
    pub id: Uuid,
    /// Whose password was right.
    pub user: UserId,
    /// How the session that it leads to will travel.
    pub transport: Transport,
    /// When the password was given.
    pub created_at: DateTime<Utc>,
    /// When it ends.
    pub expires_at: DateTime<Utc>,
    /// Whether wrong passwords came before the right one.
    pub after_failures: bool,
    /// Codes tried.
    pub tries: u32,
    /// When it led to a session or was voided.
    pub ended_at: Option<DateTime<Utc>>,
    /// Where the password was given.
    pub ip: Option<IpAddr>,
    /// With what.
    pub user_agent: Option<String>,
}

impl Challenge {
    /// Whether another code may be tried.
    #[must_use]
    pub fn is_live(&self, policy: &AccountPolicy, now: DateTime<Utc>) -> bool {
        self.ended_at.is_none()
            && now < self.expires_at
            && self.tries < policy.two_factor.challenge_wrong_codes
    }
}

/// What a login hands over.
#[derive(Debug, Clone, Copy)]
pub struct NewChallenge<'a> {
    /// Names the challenge.
    pub id: Uuid,
    /// Goes to the client; only its digest is stored.
    pub token: &'a SecretToken,
    /// How the session will travel.
    pub transport: Transport,
    /// Whether wrong passwords came before the right one.
    pub after_failures: bool,
}

/// Begins the second step for a user whose password was right and whose account is locked. Returns when it ends.
///
/// # Errors
///
/// When the store fails.
pub fn begin<S>(
    store: &mut S,
    policy: &AccountPolicy,
    user: UserId,
    new: NewChallenge<'_>,
    act: &Act,
) -> Result<DateTime<Utc>, StoreError>
where
    S: ChallengeStore + ?Sized,
{
    let expires_at = act.at + policy.two_factor.challenge;
    let challenge = Challenge {
        id: new.id,
        user,
        transport: new.transport,
        created_at: act.at,
        expires_at,
        after_failures: new.after_failures,
        tries: 0,
        ended_at: None,
        ip: act.client.ip(),
        user_agent: act.client.user_agent().map(str::to_owned),
    };
    store.insert_challenge(&new.token.digest(), &challenge)?;
    Ok(expires_at)
}

/// A code for a challenge.
#[derive(Debug)]
pub struct Answer {
    challenge: TokenDigest,
    attempt: Attempt,
}

/// Whether a code may be looked at.
#[derive(Debug)]
pub enum Opened {
    /// It may.
    Ready(Answer),
    /// The challenge is unknown, expired, used, voided or has had its wrong codes.
    Dead,
    /// Too many codes of the account were wrong.
    Throttled {
        /// When the next one may come.
        retry_after: Duration,
    },
    /// The stored secret does not open.
    Unreadable,
}

/// First step, one transaction: counts the try, of the challenge and of the account, before the code is looked at.
///
/// # Errors
///
/// When the store fails.
pub fn open<S>(
    store: &mut S,
    policy: &AccountPolicy,
    keys: LoginKeys<'_>,
    challenge: &TokenDigest,
    code: SubmittedCode,
    act: &Act,
) -> Result<Opened, StoreError>
where
    S: AuthStore + ?Sized,
{
    let Some((_, owner)) = live_owner(store, policy, challenge, act.at)? else { return Ok(Opened::Dead) };
    let (user, method) = (owner.id, code.method());
    let attempt = match two_factor::begin(store, policy, user, Purpose::Login, code, act)? {
        Begun::Ready(attempt) => attempt,
        Begun::Throttled { retry_after } => {
            let identifier = keys.identifier(owner.email.folded());
            store.record_login_attempt(&record(method, user, identifier, "throttled", act))?;
            return Ok(Opened::Throttled { retry_after });
        }
        Begun::Unreadable => return Ok(Opened::Unreadable),
        Begun::NoFactor => return Ok(Opened::Dead),
    };
    // again, now that no other writer of the account can come between
    let Some((found, _)) = live_owner(store, policy, challenge, act.at)? else { return Ok(Opened::Dead) };
    let most = policy.two_factor.challenge_wrong_codes;
    if !store.take_challenge_try(user, found.id, most, act.at)? {
        return Ok(Opened::Dead);
    }
    Ok(Opened::Ready(Answer { challenge: *challenge, attempt }))
}

/// A live challenge and its user, who may sign in.
fn live_owner<S>(
    store: &mut S,
    policy: &AccountPolicy,
    digest: &TokenDigest,
    now: DateTime<Utc>,
) -> Result<Option<(Challenge, User)>, StoreError>
where
    S: AuthStore + ?Sized,
{
    let Some(challenge) = store.challenge_by_digest(digest)?.filter(|c| c.is_live(policy, now)) else {
        return Ok(None);
    };
    let user = store.user_by_id(challenge.user)?;
    let may = |user: &User| user.state == AccountState::Active && user.email_verified_at.is_some();
    Ok(user.filter(may).map(|user| (challenge, user)))
}

impl Answer {
    /// Second step: pure computation. Keep it off the async workers.
    #[must_use]
    pub fn verify(self, codes: &BackupCodes) -> VerifiedAnswer {
        VerifiedAnswer { challenge: self.challenge, verified: self.attempt.verify(codes) }
    }
}

/// A verified answer, which nothing is used up of yet.
#[derive(Debug)]
pub struct VerifiedAnswer {
    challenge: TokenDigest,
    verified: Verified,
}

/// What a sign-in takes with it.
#[derive(Debug)]
pub struct NewSignIn {
    /// Of the session.
    pub new: NewSession,
    /// For mails and places.
    pub arrival: NewArrival,
    /// The value of the device cookie.
    pub device: Option<String>,
}

/// A finished login with a second factor.
#[derive(Debug)]
pub struct SignedIn {
    /// The new session.
    pub session: Session,
    /// Its user.
    pub user: User,
    /// Older sessions that made room for it.
    pub evicted: Vec<Uuid>,
    /// With what the second factor was proven.
    pub method: Method,
    /// What goes with it.
    pub arrival: Arrival,
}

/// What became of an answer.
#[derive(Debug)]
pub enum Answered {
    /// Signed in.
    SignedIn(Box<SignedIn>),
    /// The code is not valid.
    Refused(CodeRefusal),
    /// The challenge ended meanwhile.
    Dead,
}

/// Third step, one transaction: uses code and challenge up and makes the session, for which sensitive acts are open at
/// once. Whatever the outcome, it is recorded. `ids` gives the ids of mails.
///
/// # Errors
///
/// When the store fails.
pub fn finish<S>(
    store: &mut S,
    policy: &AccountPolicy,
    keys: LoginKeys<'_>,
    answer: VerifiedAnswer,
    sign_in: &NewSignIn,
    act: &Act,
    ids: &mut dyn FnMut() -> Uuid,
) -> Result<Answered, StoreError>
where
    S: AuthStore + ?Sized,
{
    let VerifiedAnswer { challenge: digest, verified } = answer;
    let (user, method) = (verified.user(), verified.method());
    store.lock_account_of(user)?;
    let found = store.challenge_by_digest(&digest)?;
    // the tries are spent already; what may have happened meanwhile is an end
    let found = found.filter(|challenge| challenge.ended_at.is_none() && act.at < challenge.expires_at);
    let owner = store.user_by_id(user)?.filter(|user| user.state == AccountState::Active);
    let (Some(challenge), Some(owner)) = (found, owner) else {
        return Ok(Answered::Dead);
    };
    let identifier = keys.identifier(owner.email.folded());
    let settled = two_factor::settle(store, policy, verified, act, ids)?;
    let outcome = match &settled {
        Settled::Proven(_) => "success",
        Settled::Refused(reason) => reason.code(),
    };
    store.record_login_attempt(&record(method, user, identifier, outcome, act))?;
    let proof = match settled {
        Settled::Refused(reason) => return Ok(Answered::Refused(reason)),
        Settled::Proven(proof) => proof,
    };
    if !store.use_challenge(user, challenge.id, act.at)? {
        return Err(StoreError::new(
            StoreErrorKind::Contention,
            "a challenge ended under its account's lock",
        ));
    }
    let started = sessions::start(store, policy, user, challenge.transport, &sign_in.new, true, act)?;
    let device = sign_in.device.as_deref().and_then(|cookie| keys.devices.verify(&identifier, cookie));
    let after_failures = challenge.after_failures || challenge.tries > 1;
    let arrival = arrive(store, policy, keys, &owner, device, after_failures, &sign_in.arrival, act)?;
    let mut detail = json!({ "session_id": started.session.id, "method": method.as_str() });
    if let Some(left) = proof.backup_codes_left {
        detail["backup_codes_left"] = left.into();
    }
    let entry = act.entry("login", AuditOutcome::Success, Some(user), Some(user), detail);
    store.append_audit(Some(user), &entry)?;
    let (session, evicted) = (started.session, started.evicted);
    Ok(Answered::SignedIn(Box::new(SignedIn { session, user: owner, evicted, method, arrival })))
}

fn record(
    method: Method,
    user: UserId,
    identifier: [u8; 32],
    outcome: &'static str,
    act: &Act,
) -> AttemptRecord {
    AttemptRecord {
        at: act.at,
        user: Some(user),
        identifier,
        outcome,
        factor: match method {
            Method::BackupCode => Factor::BackupCode,
            Method::Totp | Method::Password => Factor::Totp,
        },
        ip: act.client.ip(),
        user_agent: act.client.user_agent().map(str::to_owned),
        request_id: act.request_id,
    }
}

#[cfg(test)]
mod tests;
