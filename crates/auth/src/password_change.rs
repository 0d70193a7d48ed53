//! Changing a password that is known.

use std::time::Duration;

use plimsoll_core_domain::StoreError;
use plimsoll_core_domain::UserId;
use plimsoll_core_domain::audit::AuditOutcome;
use plimsoll_crypto::passwords::PasswordHash;
use plimsoll_crypto::tokens::TokenDigest;
use serde_json::json;
use uuid::Uuid;

use crate::login::count_wrong_password;
use crate::mail::{Circumstances, Mail};
use crate::ports::AuthStore;
use crate::throttle::{FailureRule, Verdict, hash_work};
use crate::{AccountPolicy, Act, Session, User, sessions};

/// Failures of a user to give the current password.
const BY_USER: &str = "password_change";

/// Whether the current password may be looked at.
#[derive(Debug)]
pub enum Begun {
    /// It may: this is its hash.
    Ready(PasswordHash),
    /// It is disabled until a reset by mail, and is not looked at. It is recorded; whoever asked is told that it is wrong.
    Disabled,
    /// Too many were wrong.
    Throttled {
        /// When the next one may come.
        retry_after: Duration,
    },
}

/// First step, one transaction that must be committed: counts the attempt, by the rule of logins.
///
/// # Errors
///
/// When the store fails.
pub fn begin<S>(
    store: &mut S,
    policy: &AccountPolicy,
    user: UserId,
    act: &Act,
) -> Result<Option<Begun>, StoreError>
where
    S: AuthStore + ?Sized,
{
    let login = &policy.login;
    let rule = FailureRule {
        free: login.failures,
        window: login.failure_window,
        first: login.first_block,
        longest: login.longest_block,
    };
    let Some(account) = store.lock_account_of(user)? else { return Ok(None) };
    if let Verdict::Blocked { retry_after } = hash_work(store, login.hashes_per_user, user, act.at)? {
        return Ok(Some(Begun::Throttled { retry_after }));
    }
    match store.count_failure(BY_USER, &user.0.to_be_bytes(), rule, act.at)? {
        Verdict::Blocked { retry_after } => return Ok(Some(Begun::Throttled { retry_after })),
        Verdict::Allowed => {}
    }
    if store.password_state(user)?.disabled_at.is_some() {
        denied(store, user, "disabled", act)?;
        return Ok(Some(Begun::Disabled));
    }
    Ok(Some(Begun::Ready(account.password_hash)))
}

/// What is to be stored once the current password turned out to be right.
#[derive(Debug)]
pub struct Change {
    /// The hash that the current password was compared with.
    pub verified: PasswordHash,
    /// The new password's.
    pub hash: PasswordHash,
    /// Of the session's new token.
    pub digest: TokenDigest,
    /// Whether API tokens end too.
    pub with_api_tokens: bool,
    /// Of the mail.
    pub mail: Uuid,
}

/// Records a wrong current password, which counts among those that disable it.
///
/// # Errors
///
/// When the store fails.
pub fn refuse<S>(
    store: &mut S,
    policy: &AccountPolicy,
    user: &User,
    mail: Uuid,
    act: &Act,
) -> Result<(), StoreError>
where
    S: AuthStore + ?Sized,
{
    store.lock_account_of(user.id)?;
    count_wrong_password(store, policy, user, mail, act)?;
    denied(store, user.id, "wrong_password", act)
}

fn denied<S>(store: &mut S, user: UserId, reason: &str, act: &Act) -> Result<(), StoreError>
where
    S: AuthStore + ?Sized,
{
    let detail = json!({ "reason": reason });
    let entry = act.entry("password.change", AuditOutcome::Denied, Some(user), Some(user), detail);
    store.append_audit(Some(user), &entry)
}

/// How a change ended.
#[derive(Debug)]
pub enum Finished {
    /// Done; the session has its new token, every other session has ended.
    Done(Session),
    /// The password was disabled or changed meanwhile: it is recorded, and whoever asked is told that it is wrong.
    Refused,
    /// The session is not live any more.
    SessionOver,
}

/// Last step, one transaction: sets the new password, ends everything else that was opened before, and gives the session
/// its new token.
///
/// # Errors
///
/// When the store fails.
pub fn finish<S>(
    store: &mut S,
    policy: &AccountPolicy,
    session: &Session,
    change: &Change,
    act: &Act,
) -> Result<Finished, StoreError>
where
    S: AuthStore + ?Sized,
{
    let user = session.user_id;
    let Some(account) = store.lock_account_of(user)? else { return Ok(Finished::SessionOver) };
    let stale = match (store.password_state(user)?.disabled_at, account.password_hash == change.verified) {
        (Some(_), _) => Some("disabled"),
        (None, false) => Some("password_changed"),
        (None, true) => None,
    };
    if let Some(reason) = stale {
        denied(store, user, reason, act)?;
        return Ok(Finished::Refused);
    }
    let Some(rotated) = sessions::rotate(store, policy, session, &change.digest, false, act)? else {
        return Ok(Finished::SessionOver);
    };
    store.set_password_hash(user, &change.hash, act.at)?;
    store.clear(BY_USER, &user.0.to_be_bytes())?;
    store.clear_password_failures(user)?;
    let ended = sessions::close_all_doors(store, user, Some(session.id), change.with_api_tokens, act)?;
    let told = Mail::PasswordChanged { requested: None, circumstances: Circumstances::from(act) };
    store.post_mail(change.mail, &account.user.email, Some(user), &told, act.at)?;
    let detail = json!({ "ended_sessions": ended, "api_tokens_ended": change.with_api_tokens });
    let entry = act.entry("password.change", AuditOutcome::Success, Some(user), Some(user), detail);
    store.append_audit(Some(user), &entry)?;
    Ok(Finished::Done(rotated))
}

#[cfg(test)]
mod tests;
