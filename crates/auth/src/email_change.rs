//! Changing the address: confirmed at the new one, told to the old one, which can take it back for a while.

use std::time::Duration;

use plimsoll_core_domain::audit::AuditOutcome;
use plimsoll_core_domain::{StoreError, UserId};
use plimsoll_crypto::tokens::{SecretToken, TokenDigest};
use serde_json::json;
use uuid::Uuid;

use crate::login::LoginKeys;
use crate::mail::{Circumstances, Mail, MailToken};
use crate::ports::{AuthStore, CancelPurpose, CancelToken, EmailChange};
use crate::throttle::Verdict;
use crate::{AccountPolicy, AccountState, Act, EmailAddress, User, sessions};

/// Requests of one user.
const BY_USER: &str = "email_change";
/// Mails to the owner of an address that somebody else asked for, at registration as here.
const TOLD_OWNER: &str = "already_registered";

/// The random parts of a change.
#[derive(Debug)]
pub struct NewChange {
    /// Names it.
    pub id: Uuid,
    /// Of the link that confirms it.
    pub token: SecretToken,
    /// Names the link that takes it back.
    pub cancel_id: Uuid,
    /// Of that link.
    pub cancel: SecretToken,
    /// Of the two mails.
    pub mails: [Uuid; 2],
}

/// Asks for a change. The old address stays in force until the new one is confirmed. For an address that has an account
/// answer and notice are the same, and its owner is told instead of asked to confirm. How long to wait, when the user
/// asked too often.
///
/// # Errors
///
/// When the store fails.
pub fn request<S>(
    store: &mut S,
    policy: &AccountPolicy,
    keys: LoginKeys<'_>,
    user: UserId,
    email: &EmailAddress,
    new: &NewChange,
    act: &Act,
) -> Result<Option<Duration>, StoreError>
where
    S: AuthStore + ?Sized,
{
    let Some(account) = store.lock_account_of(user)? else { return Ok(Some(Duration::ZERO)) };
    let verdict = store.take(BY_USER, &user.0.to_be_bytes(), policy.reset.per_address, act.at)?;
    if let Verdict::Blocked { retry_after } = verdict {
        return Ok(Some(retry_after));
    }
    let old = account.user.email;
    let circumstances = Circumstances::from(act);
    let change = EmailChange {
        id: new.id,
        user,
        old: old.clone(),
        new: email.clone(),
        created_at: act.at,
        expires_at: act.at + policy.reset.email_confirmation,
        confirmed_at: None,
    };
    store.insert_email_change(&new.token.digest(), &change)?;
    let cancel = CancelToken {
        id: new.cancel_id,
        user,
        purpose: CancelPurpose::EmailChange,
        target: Some(new.id),
        created_at: act.at,
        expires_at: act.at + policy.reset.email_cancel,
    };
    store.insert_cancel_token(&new.cancel.digest(), &cancel)?;
    let owner = store.account_by_email(email)?.filter(|owner| owner.user.email_verified_at.is_some());
    match owner {
        None => {
            let confirm =
                Mail::ConfirmNewEmail { token: MailToken::from(&new.token), expires_at: change.expires_at };
            store.post_mail(new.mails[0], email, Some(user), &confirm, act.at)?;
        }
        Some(owner) => {
            let (limit, key) = (policy.registration.already_registered, keys.identifier(email.folded()));
            if store.take(TOLD_OWNER, &key, limit, act.at)? == Verdict::Allowed {
                let told = Mail::AlreadyRegistered { circumstances: circumstances.clone() };
                store.post_mail(new.mails[0], &owner.user.email, Some(owner.user.id), &told, act.at)?;
            }
        }
    }
    let asked = Mail::EmailChangeAsked {
        new_email: email.as_str().to_owned(),
        cancel: MailToken::from(&new.cancel),
        expires_at: cancel.expires_at,
        circumstances,
    };
    store.post_mail(new.mails[1], &old, Some(user), &asked, act.at)?;
    let detail = json!({ "change_id": new.id });
    let entry = act.entry("email.change_request", AuditOutcome::Success, Some(user), Some(user), detail);
    store.append_audit(Some(user), &entry)?;
    Ok(None)
}

/// Confirms a change and ends every session of the user but `keep`, and every open link. `None`, and nothing changed, when
/// the link is not open or somebody else has the address by now.
///
/// # Errors
///
/// When the store fails; `Duplicate` when somebody took the address in this very moment.
pub fn confirm<S>(
    store: &mut S,
    digest: &TokenDigest,
    keep: Option<(UserId, Uuid)>,
    mails: [Uuid; 2],
    act: &Act,
) -> Result<Option<User>, StoreError>
where
    S: AuthStore + ?Sized,
{
    let Some(found) = store.open_email_change(digest, act.at)? else { return Ok(None) };
    let Some(account) = store.lock_account_of(found.user)? else { return Ok(None) };
    let user = account.user;
    // Whoever uses the link has the mailbox: an account that never confirmed it gives it up.
    store.release_unconfirmed_email(&found.new, act.at)?;
    let taken = store.account_by_email(&found.new)?.is_some();
    if taken || user.state != AccountState::Active || user.email.folded() != found.old.folded() {
        return Ok(None);
    }
    if !store.confirm_email_change(user.id, found.id, act.at)? {
        return Ok(None);
    }
    store.set_email(user.id, &found.new, act.at)?;
    let keep = keep.filter(|(of, _)| *of == user.id).map(|(_, session)| session);
    let ended = sessions::close_all_doors(store, user.id, keep, false, act)?;
    let told = Mail::EmailChanged {
        old_email: found.old.as_str().to_owned(),
        new_email: found.new.as_str().to_owned(),
        circumstances: Circumstances::from(act),
    };
    store.post_mail(mails[0], &found.old, Some(user.id), &told, act.at)?;
    store.post_mail(mails[1], &found.new, Some(user.id), &told, act.at)?;
    let detail = json!({ "change_id": found.id, "ended_sessions": ended });
    let entry = act.entry("email.change", AuditOutcome::Success, Some(user.id), Some(user.id), detail);
    store.append_audit(Some(user.id), &entry)?;
    Ok(Some(User { email: found.new, ..user }))
}

/// Takes a change back, with every later one: before its confirmation it is void; after it the old address is in force
/// again, and the password, which the new address could have reset, is disabled until it is reset from the old one. Either
/// way everything that was opened ends: it was asked for by somebody else. `false` when there is nothing to take back.
///
/// # Errors
///
/// When the store fails; `Duplicate` when somebody else took the old address meanwhile.
pub fn cancel<S>(
    store: &mut S,
    user: UserId,
    target: Uuid,
    mails: [Uuid; 2],
    act: &Act,
) -> Result<bool, StoreError>
where
    S: AuthStore + ?Sized,
{
    let Some(account) = store.lock_account_of(user)? else { return Ok(false) };
    let Some(change) = store.cancel_email_change(user, target, act.at)? else { return Ok(false) };
    let restored = change.confirmed_at.is_some();
    sessions::close_all_doors(store, user, None, true, act)?;
    if restored {
        store.release_unconfirmed_email(&change.old, act.at)?;
        store.set_email(user, &change.old, act.at)?;
        store.disable_password(user, act.at)?;
        let told = Mail::EmailChanged {
            old_email: account.user.email.as_str().to_owned(),
            new_email: change.old.as_str().to_owned(),
            circumstances: Circumstances::from(act),
        };
        store.post_mail(mails[0], &change.old, Some(user), &told, act.at)?;
        store.post_mail(mails[1], &account.user.email, Some(user), &told, act.at)?;
    }
    let detail = json!({ "change_id": target, "restored": restored });
    let entry = act.entry("email.change_cancel", AuditOutcome::Success, Some(user), Some(user), detail);
    store.append_audit(Some(user), &entry)?;
    Ok(true)
}

#[cfg(test)]
mod tests;
