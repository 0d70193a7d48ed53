//! Turning the second factor on, or binding it anew.

use chrono::{DateTime, Utc};
use plimsoll_core_domain::audit::AuditOutcome;
use plimsoll_core_domain::{StoreError, UserId};
use plimsoll_crypto::passwords::PasswordHash;
use plimsoll_crypto::tokens::TokenDigest;
use serde_json::json;
use uuid::Uuid;

use super::proof::audit;
use super::{CodeRefusal, Settled, Verified, settle};
use crate::mail::{Circumstances, Mail};
use crate::ports::AuthStore;
use crate::sessions::{close_all_doors, rotate};
use crate::totp::TotpSecret;
use crate::{AccountPolicy, Act, Session};

/// Keeps a new secret and the hashes of its backup codes until a code confirms them; what is in force stays in force.
/// Returns until when. The caller has asked for a fresh factor.
///
/// # Errors
///
/// When the store fails.
pub fn setup<S>(
    store: &mut S,
    policy: &AccountPolicy,
    user: UserId,
    secret: &TotpSecret,
    codes: &[PasswordHash],
    act: &Act,
) -> Result<DateTime<Utc>, StoreError>
where
    S: AuthStore + ?Sized,
{
    store.lock_account_of(user)?;
    let expires_at = act.at + policy.two_factor.setup;
    store.set_pending_factor(user, secret, expires_at, codes, act.at)?;
    audit(store, user, "2fa.setup", AuditOutcome::Success, json!({ "expires_at": expires_at }), act)?;
    Ok(expires_at)
}

/// What became of a confirmation.
#[derive(Debug)]
pub enum Enabled {
    /// The second factor is on; the session has its new token, every other session has ended.
    Enabled(Session),
    /// The code is not valid.
    Refused(CodeRefusal),
    /// The session is not live any more; nothing may be kept: roll back.
    SessionOver,
}

/// Puts the pending secret in force (a code begun with [`Purpose::Enable`](super::Purpose::Enable)). The code counts as
/// used.
///
/// # Errors
///
/// When the store fails.
pub fn enable<S>(
    store: &mut S,
    policy: &AccountPolicy,
    verified: Verified,
    session: &Session,
    digest: &TokenDigest,
    act: &Act,
    ids: &mut dyn FnMut() -> Uuid,
) -> Result<Enabled, StoreError>
where
    S: AuthStore + ?Sized,
{
    let user = verified.user();
    let Some(account) = store.lock_account_of(user)? else { return Ok(Enabled::SessionOver) };
    let before = store.two_factor_status(user)?.enabled_at.is_some();
    match settle(store, policy, verified, act, ids)? {
        Settled::Refused(reason) => return Ok(Enabled::Refused(reason)),
        Settled::Proven(_) => {}
    }
    store.cancel_two_factor_reset(user, None, act.at)?;
    let ended = close_all_doors(store, user, Some(session.id), false, act)?;
    let Some(session) = rotate(store, policy, session, digest, true, act)? else {
        return Ok(Enabled::SessionOver);
    };
    let mail = Mail::TwoFactorEnabled { circumstances: Circumstances::from(act) };
    store.post_mail(ids(), &account.user.email, Some(user), &mail, act.at)?;
    let detail = json!({ "replaced": before, "sessions_ended": ended });
    audit(store, user, "2fa.enable", AuditOutcome::Success, detail, act)?;
    Ok(Enabled::Enabled(session))
}
