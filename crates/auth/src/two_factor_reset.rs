//! A second factor that its owner has lost: an administrator starts a reset, the owner is told and may stop it, and only
//! after the delay does it take effect.

use chrono::{DateTime, Utc};
use plimsoll_core_domain::audit::AuditOutcome;
use plimsoll_core_domain::{StoreError, UserId};
use plimsoll_crypto::tokens::SecretToken;
use serde_json::json;
use uuid::Uuid;

use crate::mail::{Circumstances, Mail, MailToken};
use crate::ports::{AuthStore, CancelPurpose, CancelToken};
use crate::sessions::close_all_doors;
use crate::two_factor::{OpenReset, is_enabled};
use crate::{AccountPolicy, Act, vault};

/// Resets that one call completes at most.
const BATCH: u32 = 50;

/// What became of a request.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Requested {
    /// It waits; the owner was told.
    Begun {
        /// When it takes effect.
        due_at: DateTime<Utc>,
    },
    /// One waits already; nothing was changed.
    AlreadyBegun {
        /// When that takes effect.
        due_at: DateTime<Utc>,
    },
    /// The user has no second factor.
    NotEnabled,
    /// There is no such user.
    NoSuchUser,
}

/// The random parts of a new reset.
#[derive(Debug)]
pub struct NewReset {
    /// Names it.
    pub id: Uuid,
    /// Of the link that stops it.
    pub cancel: SecretToken,
}

/// Starts a reset. The owner gets a mail with a link that stops it until it is due. Without `by` an operator acts from the
/// command line.
///
/// # Errors
///
/// When the store fails.
pub fn request<S>(
    store: &mut S,
    policy: &AccountPolicy,
    by: Option<UserId>,
    user: UserId,
    new: &NewReset,
    act: &Act,
    ids: &mut dyn FnMut() -> Uuid,
) -> Result<Requested, StoreError>
where
    S: AuthStore + ?Sized,
{
    let Some(account) = store.lock_account_of(user)? else { return Ok(Requested::NoSuchUser) };
    if !is_enabled(store, user)? {
        return Ok(Requested::NotEnabled);
    }
    if let Some(open) = store.open_reset_of(user)? {
        return Ok(Requested::AlreadyBegun { due_at: open.due_at });
    }
    let due_at = act.at + policy.two_factor.reset_delay;
    store.insert_two_factor_reset(&OpenReset { user, id: new.id, due_at }, by, act.at)?;
    let link = CancelToken {
        id: ids(),
        user,
        purpose: CancelPurpose::TwoFactorReset,
        target: Some(new.id),
        created_at: act.at,
        expires_at: due_at,
    };
    store.insert_cancel_token(&new.cancel.digest(), &link)?;
    let mail = Mail::TwoFactorResetBegun { due_at, cancel: MailToken::from(&new.cancel) };
    store.post_mail(ids(), &account.user.email, Some(user), &mail, act.at)?;
    let detail = json!({ "reset_id": new.id, "due_at": due_at });
    let entry = act.entry("2fa.reset_request", AuditOutcome::Success, by, Some(user), detail);
    store.append_audit(Some(user), &entry)?;
    Ok(Requested::Begun { due_at })
}

/// Stops the reset `target` of the user. `false` when it is not open any more.
///
/// # Errors
///
/// When the store fails.
pub fn cancel<S>(store: &mut S, user: UserId, target: Uuid, act: &Act) -> Result<bool, StoreError>
where
    S: AuthStore + ?Sized,
{
    store.lock_account_of(user)?;
    if !store.cancel_two_factor_reset(user, Some(target), act.at)? {
        return Ok(false);
    }
    let detail = json!({ "reset_id": target });
    let entry = act.entry("2fa.reset_cancel", AuditOutcome::Success, Some(user), Some(user), detail);
    store.append_audit(Some(user), &entry)?;
    Ok(true)
}

/// Completes resets that are due at `now`, and returns whose; call it again while it returns any. The second factor goes,
/// every session and open link of the user ends, and the owner is told. Whoever calls it late completes late; nothing
/// else depends on it.
///
/// # Errors
///
/// When the store fails.
pub fn complete_due<S>(
    store: &mut S,
    now: DateTime<Utc>,
    ids: &mut dyn FnMut() -> Uuid,
) -> Result<Vec<UserId>, StoreError>
where
    S: AuthStore + ?Sized,
{
    let act = Act::without_request(now);
    let due = store.due_two_factor_resets(now, BATCH)?;
    // one order for everybody: all accounts, then what is theirs, then the audit log
    let mut accounts = Vec::with_capacity(due.len());
    for reset in due {
        if let Some(account) = store.lock_account_of(reset.user)? {
            accounts.push((reset, account));
        }
    }
    let mut done = Vec::with_capacity(accounts.len());
    for (reset, account) in accounts {
        if !store.finish_two_factor_reset(reset.user, reset.id, now)? {
            continue;
        }
        let removed = store.remove_factor(reset.user)?;
        let no_more_live = vault::withdraw(store, reset.user, now)?;
        let ended = close_all_doors(store, reset.user, None, false, &act)?;
        if removed {
            let mail = Mail::TwoFactorDisabled { circumstances: Circumstances::from(&act) };
            store.post_mail(ids(), &account.user.email, Some(reset.user), &mail, now)?;
        }
        done.push((reset, ended, no_more_live));
    }
    for (reset, ended, no_more_live) in &done {
        let detail = json!({ "reset_id": reset.id, "sessions_ended": ended });
        let entry = act.entry("2fa.reset", AuditOutcome::Success, None, Some(reset.user), detail);
        store.append_audit(Some(reset.user), &entry)?;
        if *no_more_live {
            vault::record_withdrawn(store, reset.user, &act)?;
        }
    }
    Ok(done.into_iter().map(|(reset, ..)| reset.user).collect())
}

#[cfg(test)]
mod tests;
