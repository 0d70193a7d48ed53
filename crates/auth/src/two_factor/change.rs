//! Turning the second factor off, and new backup codes.

use plimsoll_core_domain::audit::AuditOutcome;
use plimsoll_core_domain::{StoreError, UserId};
use plimsoll_crypto::CryptoRng;
use plimsoll_crypto::passwords::{PasswordHash, Passwords};
use plimsoll_crypto::tokens::TokenDigest;
use secrecy::SecretString;
use serde_json::json;
use uuid::Uuid;

use super::proof::audit;
use super::{Attempt, Begun, CodeRefusal, Purpose, Settled, SubmittedCode, Verified, begin, settle};
use crate::backup_codes::{BackupCode, BackupCodes, NewCodes};
use crate::login::record::count_wrong_password;
use crate::mail::{Circumstances, Mail};
use crate::ports::AuthStore;
use crate::sessions::{close_all_doors, rotate};
use crate::{AccountPolicy, Act, Session, vault};

/// What password and code are compared with.
#[derive(Debug)]
pub struct Disabling {
    begun: Begun,
    hash: Option<PasswordHash>,
}

/// First step of turning the second factor off, one transaction.
///
/// # Errors
///
/// When the store fails.
pub fn begin_disable<S>(
    store: &mut S,
    policy: &AccountPolicy,
    user: UserId,
    code: SubmittedCode,
    act: &Act,
) -> Result<Disabling, StoreError>
where
    S: AuthStore + ?Sized,
{
    let hash = store.lock_account_of(user)?.map(|account| account.password_hash);
    Ok(Disabling { begun: begin(store, policy, user, Purpose::Disable, code, act)?, hash })
}

impl Disabling {
    /// Second step: computes both, whichever is wrong.
    ///
    /// # Errors
    ///
    /// What [`begin`] said instead of being ready.
    pub fn verify(
        self,
        passwords: &Passwords,
        password: &SecretString,
        codes: &BackupCodes,
    ) -> Result<VerifiedDisabling, Begun> {
        let attempt = match self.begun {
            Begun::Ready(attempt) => attempt,
            other => return Err(other),
        };
        let right = passwords.verify(password, self.hash.as_ref());
        let verified = attempt.verify(codes);
        let verified = if right { verified } else { verified.refused(CodeRefusal::WrongPassword) };
        Ok(VerifiedDisabling { verified, hash: self.hash })
    }
}

/// Verified password and code.
#[derive(Debug)]
pub struct VerifiedDisabling {
    verified: Verified,
    hash: Option<PasswordHash>,
}

/// What became of a change.
#[derive(Debug)]
pub enum Changed {
    /// Done; the session has its new token, every other session has ended.
    Done(Session),
    /// Password or code is not valid.
    Refused(CodeRefusal),
    /// The session is not live any more; nothing may be kept: roll back.
    SessionOver,
}

/// Third step: turns the second factor off.
///
/// # Errors
///
/// When the store fails.
pub fn disable<S>(
    store: &mut S,
    policy: &AccountPolicy,
    verified: VerifiedDisabling,
    session: &Session,
    digest: &TokenDigest,
    act: &Act,
    ids: &mut dyn FnMut() -> Uuid,
) -> Result<Changed, StoreError>
where
    S: AuthStore + ?Sized,
{
    let VerifiedDisabling { mut verified, hash } = verified;
    let wrong_password = verified.is_refused_for(CodeRefusal::WrongPassword);
    let user = verified.user();
    let Some(account) = store.lock_account_of(user)? else { return Ok(Changed::SessionOver) };
    if verified.looks_right() && Some(&account.password_hash) != hash.as_ref() {
        verified = verified.refused(CodeRefusal::Stale);
    }
    if store.password_state(user)?.disabled_at.is_some() {
        verified = verified.refused(CodeRefusal::Disabled);
    } else if wrong_password {
        count_wrong_password(store, policy, &account.user, ids(), act)?;
    }
    let proof = match settle(store, policy, verified, act, ids)? {
        Settled::Refused(reason) => return Ok(Changed::Refused(reason)),
        Settled::Proven(proof) => proof,
    };
    store.remove_factor(user)?;
    let no_more_live = vault::withdraw(store, user, act.at)?;
    store.cancel_two_factor_reset(user, None, act.at)?;
    let ended = close_all_doors(store, user, Some(session.id), false, act)?;
    let Some(session) = rotate(store, policy, session, digest, true, act)? else {
        return Ok(Changed::SessionOver);
    };
    let mail = Mail::TwoFactorDisabled { circumstances: Circumstances::from(act) };
    store.post_mail(ids(), &account.user.email, Some(user), &mail, act.at)?;
    let detail = json!({ "method": proof.method.as_str(), "sessions_ended": ended });
    audit(store, user, "2fa.disable", AuditOutcome::Success, detail, act)?;
    if no_more_live {
        vault::record_withdrawn(store, user, act)?;
    }
    Ok(Changed::Done(session))
}

/// What a code for new backup codes is compared with.
#[derive(Debug)]
pub struct Regenerating(Attempt);

/// First step of making new backup codes, one transaction.
///
/// # Errors
///
/// The outer one when the store fails, the inner one when the code may not be looked at.
pub fn begin_regenerate<S>(
    store: &mut S,
    policy: &AccountPolicy,
    user: UserId,
    code: SubmittedCode,
    act: &Act,
) -> Result<Result<Regenerating, Begun>, StoreError>
where
    S: AuthStore + ?Sized,
{
    Ok(match begin(store, policy, user, Purpose::Regenerate, code, act)? {
        Begun::Ready(attempt) => Ok(Regenerating(attempt)),
        other => Err(other),
    })
}

/// A verified code, and where it looks right the new codes.
#[derive(Debug)]
pub struct NewBackupCodes {
    verified: Verified,
    new: Option<NewCodes>,
}

impl Regenerating {
    /// Second step: ten password hashes, ten more for a backup code.
    #[must_use]
    pub fn verify<R>(self, codes: &BackupCodes, rng: &mut R) -> NewBackupCodes
    where
        R: CryptoRng + ?Sized,
    {
        let verified = self.0.verify(codes);
        let new = verified.looks_right().then(|| codes.generate(verified.user(), rng));
        NewBackupCodes { verified, new }
    }
}

/// What became of a regeneration.
#[derive(Debug)]
pub enum Regenerated {
    /// The new codes, to be shown once; no old one is good any more.
    Done(Vec<BackupCode>),
    /// The code is not valid.
    Refused(CodeRefusal),
}

/// Third step: replaces all backup codes.
///
/// # Errors
///
/// When the store fails.
pub fn regenerate<S>(
    store: &mut S,
    policy: &AccountPolicy,
    new: NewBackupCodes,
    act: &Act,
    ids: &mut dyn FnMut() -> Uuid,
) -> Result<Regenerated, StoreError>
where
    S: AuthStore + ?Sized,
{
    let NewBackupCodes { verified, new } = new;
    let user = verified.user();
    let account = store.lock_account_of(user)?;
    let proof = match settle(store, policy, verified, act, ids)? {
        Settled::Refused(reason) => return Ok(Regenerated::Refused(reason)),
        Settled::Proven(proof) => proof,
    };
    let (Some(account), Some(new)) = (account, new) else {
        return Ok(Regenerated::Refused(CodeRefusal::Stale));
    };
    store.replace_backup_codes(user, &new.hashes, act.at)?;
    let mail = Mail::NewBackupCodes { circumstances: Circumstances::from(act) };
    store.post_mail(ids(), &account.user.email, Some(user), &mail, act.at)?;
    let detail = json!({ "method": proof.method.as_str() });
    audit(store, user, "2fa.regenerate_codes", AuditOutcome::Success, detail, act)?;
    Ok(Regenerated::Done(new.codes))
}
