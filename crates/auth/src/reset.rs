//! Forgotten passwords: a mailed link to choose a new one.
//!
//! A reset never signs anybody in and never touches the second factor (OWASP ASVS 5.0, 6.4.3).

use std::time::Duration;

use chrono::{DateTime, Utc};
use plimsoll_core_domain::StoreError;
use plimsoll_core_domain::audit::AuditOutcome;
use plimsoll_crypto::passwords::PasswordHash;
use plimsoll_crypto::tokens::{SecretToken, TokenDigest};
use serde_json::json;
use uuid::Uuid;

use crate::login::{LoginKeys, forget_failures};
use crate::mail::{Circumstances, Mail, MailToken};
use crate::ports::{AuthStore, CancelPurpose, CancelToken, PasswordReset};
use crate::throttle::{Verdict, network_key};
use crate::{AccountPolicy, AccountState, Act, EmailAddress, User, sessions};

/// Requests of one network.
const BY_NETWORK: &str = "reset_network";
/// Requests for one address.
const BY_ADDRESS: &str = "reset_address";

/// Counts a request of a network. The answer does not depend on the address.
///
/// # Errors
///
/// When the store fails.
pub fn admit<S>(
    store: &mut S,
    policy: &AccountPolicy,
    keys: LoginKeys<'_>,
    act: &Act,
) -> Result<Option<Duration>, StoreError>
where
    S: AuthStore + ?Sized,
{
    let network = network_key(keys.pepper, act.client.ip());
    Ok(match store.take(BY_NETWORK, &network, policy.reset.per_ip, act.at)? {
        Verdict::Allowed => None,
        Verdict::Blocked { retry_after } => Some(retry_after),
    })
}

/// The random parts of a reset.
#[derive(Debug)]
pub struct NewReset {
    /// Names it.
    pub id: Uuid,
    /// Of its link.
    pub token: SecretToken,
    /// Names the link that voids it.
    pub cancel_id: Uuid,
    /// Of that link.
    pub cancel: SecretToken,
    /// Of the mail.
    pub mail: Uuid,
}

/// Mails a link to the owner of an address, and voids older ones. Nothing happens, and nobody is told so, when no
/// account that may sign in has the address, or when too many links were asked for. Requests do not lock an account.
///
/// # Errors
///
/// When the store fails.
pub fn request<S>(
    store: &mut S,
    policy: &AccountPolicy,
    keys: LoginKeys<'_>,
    email: &EmailAddress,
    new: &NewReset,
    act: &Act,
) -> Result<(), StoreError>
where
    S: AuthStore + ?Sized,
{
    let key = keys.identifier(email.folded());
    if store.take(BY_ADDRESS, &key, policy.reset.per_address, act.at)? != Verdict::Allowed {
        return Ok(());
    }
    let Some(found) = store.account_by_email(email)? else { return Ok(()) };
    let Some(account) = store.lock_account_of(found.user.id)? else { return Ok(()) };
    let user = account.user;
    if user.state != AccountState::Active || user.email_verified_at.is_none() {
        return Ok(());
    }
    let expires_at = act.at + policy.reset.link;
    let reset = PasswordReset {
        id: new.id,
        user: user.id,
        created_at: act.at,
        expires_at,
        requested: act.client.clone(),
    };
    store.insert_password_reset(&new.token.digest(), &reset)?;
    let cancel = CancelToken {
        id: new.cancel_id,
        user: user.id,
        purpose: CancelPurpose::PasswordReset,
        target: Some(new.id),
        created_at: act.at,
        expires_at,
    };
    store.insert_cancel_token(&new.cancel.digest(), &cancel)?;
    let mail = Mail::ResetPassword {
        token: MailToken::from(&new.token),
        cancel: MailToken::from(&new.cancel),
        expires_at,
        circumstances: Circumstances::from(act),
    };
    store.post_mail(new.mail, &user.email, Some(user.id), &mail, act.at)?;
    let detail = json!({ "reset_id": new.id });
    let entry = act.entry("password.reset_request", AuditOutcome::Success, None, Some(user.id), detail);
    store.append_audit(Some(user.id), &entry)
}

/// The user whose password an open link may change; it stays open.
///
/// # Errors
///
/// When the store fails.
pub fn owner<S>(store: &mut S, digest: &TokenDigest, now: DateTime<Utc>) -> Result<Option<User>, StoreError>
where
    S: AuthStore + ?Sized,
{
    let Some(reset) = store.open_password_reset(digest, now)? else { return Ok(None) };
    Ok(store.user_by_id(reset.user)?.filter(|user| user.state == AccountState::Active))
}

/// Uses a link up and sets the new password, which was checked and hashed before: every session, challenge, other link and
/// API token of the user ends in the same transaction. `None`, and nothing changed, when the link is not open.
///
/// # Errors
///
/// When the store fails.
pub fn reset_password<S>(
    store: &mut S,
    keys: LoginKeys<'_>,
    digest: &TokenDigest,
    hash: &PasswordHash,
    mail: Uuid,
    act: &Act,
) -> Result<Option<User>, StoreError>
where
    S: AuthStore + ?Sized,
{
    let Some(found) = owner(store, digest, act.at)? else { return Ok(None) };
    let Some(account) = store.lock_account_of(found.id)? else { return Ok(None) };
    let user = account.user;
    if user.state != AccountState::Active {
        return Ok(None);
    }
    let Some(reset) = store.take_password_reset(digest, &act.client, act.at)? else { return Ok(None) };
    store.set_password_hash(user.id, hash, act.at)?;
    forget_failures(store, keys, &user)?;
    let ended = sessions::close_all_doors(store, user.id, None, true, act)?;
    let requested = Circumstances {
        at: reset.created_at,
        ip: reset.requested.ip().map(|ip| ip.to_string()),
        user_agent: reset.requested.user_agent().map(str::to_owned),
    };
    let told = Mail::PasswordChanged { requested: Some(requested), circumstances: Circumstances::from(act) };
    store.post_mail(mail, &user.email, Some(user.id), &told, act.at)?;
    let detail = json!({ "reset_id": reset.id, "ended_sessions": ended });
    let entry = act.entry("password.reset", AuditOutcome::Success, None, Some(user.id), detail);
    store.append_audit(Some(user.id), &entry)?;
    Ok(Some(user))
}

#[cfg(test)]
mod tests;
