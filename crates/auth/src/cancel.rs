//! Links of mails that stop something; the purpose is with the token.

use plimsoll_core_domain::audit::AuditOutcome;
use plimsoll_core_domain::{StoreError, UserId};
use plimsoll_crypto::tokens::TokenDigest;
use serde_json::json;
use uuid::Uuid;

use crate::ports::{AuthStore, CancelPurpose};
use crate::{Act, email_change, sessions, two_factor_reset};

/// Uses a link up and stops what it stops. `None`, and nothing changed, when it is unknown, expired or used. A link whose
/// target has ended by itself is used up all the same. The ids are for mails that tell of it.
///
/// # Errors
///
/// When the store fails.
pub fn use_token<S>(
    store: &mut S,
    digest: &TokenDigest,
    mails: [Uuid; 2],
    act: &Act,
) -> Result<Option<(UserId, CancelPurpose)>, StoreError>
where
    S: AuthStore + ?Sized,
{
    let Some(token) = store.cancel_token_owner(digest, act.at)? else { return Ok(None) };
    store.lock_account_of(token)?;
    let Some(token) = store.take_cancel_token(digest, act.at)? else { return Ok(None) };
    let user = token.user;
    match (token.purpose, token.target) {
        (CancelPurpose::PasswordReset, Some(target)) => {
            let stopped = store.void_password_reset(user, target, act.at)?;
            let detail = json!({ "reset_id": target, "was_open": stopped });
            let entry =
                act.entry("password.reset_cancel", AuditOutcome::Success, Some(user), Some(user), detail);
            store.append_audit(Some(user), &entry)?;
        }
        (CancelPurpose::TwoFactorReset, Some(target)) => {
            two_factor_reset::cancel(store, user, target, act)?;
        }
        (CancelPurpose::EmailChange, Some(target)) => {
            email_change::cancel(store, user, target, mails, act)?;
        }
        (CancelPurpose::LogoutEverywhere, _) => {
            let ended = sessions::close_all_doors(store, user, None, true, act)?;
            let detail = json!({ "ended_sessions": ended });
            let entry = act.entry("session.end_all", AuditOutcome::Success, Some(user), Some(user), detail);
            store.append_audit(Some(user), &entry)?;
        }
        (_, None) => {}
    }
    Ok(Some((user, token.purpose)))
}
