//! Proving a factor again, so that sensitive acts are open for a while: the second one where there is one, else the
//! password.

use std::time::Duration;

use plimsoll_core_domain::audit::AuditOutcome;
use plimsoll_core_domain::{StoreError, UserId};
use plimsoll_crypto::passwords::{PasswordHash, Passwords};
use plimsoll_crypto::tokens::TokenDigest;
use secrecy::SecretString;
use serde_json::json;
use uuid::Uuid;

use crate::backup_codes::BackupCodes;
use crate::login::record::count_wrong_password;
use crate::ports::AuthStore;
use crate::throttle::{Verdict, hash_work, leaves_trace};
use crate::two_factor::proof::{ACCEPTED, STARTED, THROTTLED, audit, blocked};
use crate::two_factor::{
    self, Attempt, AttemptRecord, Begun, Budget, CodeRefusal, Method, Purpose, Settled, SubmittedCode,
    Verified,
};
use crate::{AccountPolicy, Act, Session};

/// What the user has to prove.
///
/// # Errors
///
/// When the store fails.
pub fn methods<S>(store: &mut S, user: UserId) -> Result<&'static [Method], StoreError>
where
    S: AuthStore + ?Sized,
{
    let enabled = two_factor::is_enabled(store, user)?;
    Ok(if enabled { &Method::SECOND } else { &[Method::Password] })
}

/// What is given as proof. With a second factor on, only the code is looked at.
#[derive(Debug, Default)]
pub struct Given {
    /// The password.
    pub password: Option<SecretString>,
    /// A code.
    pub code: Option<SubmittedCode>,
}

/// A proof to be verified.
#[derive(Debug)]
pub struct Pending(Kind);

#[derive(Debug)]
enum Kind {
    Code(Attempt),
    Password { user: UserId, attempt: i64, hash: PasswordHash, password: SecretString },
}

/// Whether a proof may be looked at.
#[derive(Debug)]
pub enum Started {
    /// It may.
    Ready(Pending),
    /// What is wanted is not there.
    Wanted(&'static [Method]),
    /// Too many were wrong.
    Throttled {
        /// When the next one may come.
        retry_after: Duration,
    },
    /// The stored secret does not open.
    Unreadable,
}

/// First step, one transaction: counts the attempt before anything is compared.
///
/// # Errors
///
/// When the store fails.
pub fn begin<S>(
    store: &mut S,
    policy: &AccountPolicy,
    user: UserId,
    given: Given,
    act: &Act,
) -> Result<Started, StoreError>
where
    S: AuthStore + ?Sized,
{
    let account = store.lock_account_of(user)?;
    let wanted = methods(store, user)?;
    if wanted != [Method::Password] {
        let Some(code) = given.code else { return Ok(Started::Wanted(wanted)) };
        return Ok(match two_factor::begin(store, policy, user, Purpose::StepUp, code, act)? {
            Begun::Ready(attempt) => Started::Ready(Pending(Kind::Code(attempt))),
            Begun::Throttled { retry_after } => Started::Throttled { retry_after },
            Begun::Unreadable => Started::Unreadable,
            Begun::NoFactor => Started::Wanted(wanted),
        });
    }
    if let Verdict::Blocked { retry_after } = hash_work(store, policy.login.hashes_per_user, user, act.at)? {
        return Ok(Started::Throttled { retry_after });
    }
    let (Some(account), Some(password)) = (account, given.password) else {
        return Ok(Started::Wanted(wanted));
    };
    let record = |outcome| AttemptRecord {
        method: Method::Password,
        purpose: Purpose::StepUp,
        outcome,
        client: act.client.clone(),
        at: act.at,
    };
    if let Some(retry_after) = blocked(store, &policy.two_factor, user, Budget::Passwords, act.at)? {
        if leaves_trace(store, &user.0.to_be_bytes(), act.at)? {
            store.insert_factor_attempt(user, &record(THROTTLED))?;
            let detail = json!({ "method": Method::Password.as_str(), "reason": THROTTLED });
            audit(store, user, "step_up", AuditOutcome::Denied, detail, act)?;
        }
        return Ok(Started::Throttled { retry_after });
    }
    let attempt = store.insert_factor_attempt(user, &record(STARTED))?;
    Ok(Started::Ready(Pending(Kind::Password { user, attempt, hash: account.password_hash, password })))
}

/// A verified proof, which nothing came of yet.
#[derive(Debug)]
pub struct VerifiedProof(VerifiedKind);

#[derive(Debug)]
enum VerifiedKind {
    Code(Verified),
    Password { user: UserId, attempt: i64, hash: PasswordHash, right: bool },
}

impl Pending {
    /// Second step: pure computation. Keep it off the async workers.
    #[must_use]
    pub fn verify(self, passwords: &Passwords, codes: &BackupCodes) -> VerifiedProof {
        VerifiedProof(match self.0 {
            Kind::Code(attempt) => VerifiedKind::Code(attempt.verify(codes)),
            Kind::Password { user, attempt, hash, password } => {
                let right = passwords.verify(&password, Some(&hash));
                VerifiedKind::Password { user, attempt, hash, right }
            }
        })
    }
}

/// What became of a step-up.
#[derive(Debug)]
pub enum SteppedUp {
    /// Sensitive acts are open to the session, which has its new token.
    Open(Session),
    /// The proof is not valid.
    Refused(CodeRefusal),
    /// The session is not live any more.
    SessionOver,
}

/// Third step, one transaction: uses a code up, opens sensitive acts to the session from this address, and gives it a new
/// token.
///
/// # Errors
///
/// When the store fails.
pub fn finish<S>(
    store: &mut S,
    policy: &AccountPolicy,
    proof: VerifiedProof,
    session: &Session,
    digest: &TokenDigest,
    act: &Act,
    ids: &mut dyn FnMut() -> Uuid,
) -> Result<SteppedUp, StoreError>
where
    S: AuthStore + ?Sized,
{
    let user = session.user_id;
    let Some(account) = store.lock_account_of(user)? else { return Ok(SteppedUp::SessionOver) };
    let method = match proof.0 {
        VerifiedKind::Code(verified) => match two_factor::settle(store, policy, verified, act, ids)? {
            Settled::Refused(reason) => return Ok(SteppedUp::Refused(reason)),
            Settled::Proven(proof) => proof.method,
        },
        VerifiedKind::Password { user: of, attempt, hash, right } => {
            // a second factor may have come meanwhile: then the password is not enough any more
            let enough = of == user && account.password_hash == hash && !two_factor::is_enabled(store, user)?;
            let disabled = store.password_state(user)?.disabled_at.is_some();
            let refusal = match (right, enough) {
                (true, true) if disabled => Some(CodeRefusal::Disabled),
                (true, true) => None,
                (true, false) => Some(CodeRefusal::Stale),
                (false, _) => Some(CodeRefusal::WrongPassword),
            };
            let outcome = refusal.map_or(ACCEPTED, CodeRefusal::code);
            store.finish_factor_attempt(of, attempt, outcome, None)?;
            if refusal == Some(CodeRefusal::WrongPassword) {
                count_wrong_password(store, policy, &account.user, ids(), act)?;
            }
            if let Some(reason) = refusal {
                let detail = json!({ "method": Method::Password.as_str(), "reason": reason.code() });
                audit(store, user, "step_up", AuditOutcome::Denied, detail, act)?;
                return Ok(SteppedUp::Refused(reason));
            }
            store.clear_password_failures(user)?;
            Method::Password
        }
    };
    let Some(session) = crate::sessions::rotate(store, policy, session, digest, true, act)? else {
        return Ok(SteppedUp::SessionOver);
    };
    audit(store, user, "step_up", AuditOutcome::Success, json!({ "method": method.as_str() }), act)?;
    Ok(SteppedUp::Open(session))
}

#[cfg(test)]
mod tests;
