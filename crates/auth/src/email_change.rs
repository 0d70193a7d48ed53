//! Changing the address: confirmed at the new one, told to the old one, which can take it back for a while.

use plimsoll_core_domain::audit::AuditOutcome;
use plimsoll_core_domain::{StoreError, UserId};
use plimsoll_crypto::tokens::{SecretToken, TokenDigest};
use serde_json::json;
use uuid::Uuid;

use crate::mail::{Circumstances, Mail, MailToken};
use crate::ports::{AuthStore, CancelPurpose, CancelToken, EmailChange};
use crate::throttle::Verdict;
use crate::{AccountPolicy, AccountState, Act, EmailAddress, User, sessions};

/// Requests of one user.
const BY_USER: &str = "email_change";

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
/// the answer is the same, and only its owner is told. `false` when the user asked too often.
///
/// # Errors
///
/// When the store fails.
pub fn request<S>(
    store: &mut S,
    policy: &AccountPolicy,
    user: UserId,
    email: &EmailAddress,
    new: &NewChange,
    act: &Act,
) -> Result<bool, StoreError>
where
    S: AuthStore + ?Sized,
{
    let Some(account) = store.lock_account_of(user)? else { return Ok(false) };
    let verdict = store.take(BY_USER, &user.0.to_be_bytes(), policy.reset.per_address, act.at)?;
    if verdict != Verdict::Allowed {
        return Ok(false);
    }
    let old = account.user.email;
    let circumstances = Circumstances::from(act);
    if let Some(owner) = store.account_by_email(email)? {
        if owner.user.id != user {
            let told = Mail::AlreadyRegistered { circumstances };
            store.post_mail(new.mails[0], &owner.user.email, Some(owner.user.id), &told, act.at)?;
        }
    } else {
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
        let confirm =
            Mail::ConfirmNewEmail { token: MailToken::from(&new.token), expires_at: change.expires_at };
        store.post_mail(new.mails[0], email, Some(user), &confirm, act.at)?;
        let asked = Mail::EmailChangeAsked {
            new_email: email.as_str().to_owned(),
            cancel: MailToken::from(&new.cancel),
            expires_at: cancel.expires_at,
            circumstances,
        };
        store.post_mail(new.mails[1], &old, Some(user), &asked, act.at)?;
    }
    let detail = json!({ "change_id": new.id });
    let entry = act.entry("email.change_request", AuditOutcome::Success, Some(user), Some(user), detail);
    store.append_audit(Some(user), &entry)?;
    Ok(true)
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

/// Takes a change back: before its confirmation it is void, after it the old address is in force again and every session
/// ends. `false` when there is nothing to take back.
///
/// # Errors
///
/// When the store fails; `Duplicate` when somebody else took the old address meanwhile.
pub fn cancel<S>(store: &mut S, user: UserId, target: Uuid, act: &Act) -> Result<bool, StoreError>
where
    S: AuthStore + ?Sized,
{
    let Some(account) = store.lock_account_of(user)? else { return Ok(false) };
    let Some(change) = store.cancel_email_change(user, target, act.at)? else { return Ok(false) };
    let restored = change.confirmed_at.is_some() && account.user.email.folded() == change.new.folded();
    if restored {
        store.set_email(user, &change.old, act.at)?;
        sessions::close_all_doors(store, user, None, true, act)?;
    }
    let detail = json!({ "change_id": target, "restored": restored });
    let entry = act.entry("email.change_cancel", AuditOutcome::Success, Some(user), Some(user), detail);
    store.append_audit(Some(user), &entry)?;
    Ok(true)
}

#[cfg(test)]
mod tests;
