//! The first administrator of an installation, by a token that its operator reads at the terminal. There is no default
//! account and no default password.

use chrono::{DateTime, Utc};
use plimsoll_core_domain::StoreError;
use plimsoll_core_domain::audit::AuditOutcome;
use plimsoll_crypto::passwords::PasswordHash;
use plimsoll_crypto::tokens::{SecretToken, TokenDigest};
use serde_json::json;
use uuid::Uuid;

use crate::ports::{AccountStore, AuthStore, SetupStore};
use crate::{AccountPolicy, AccountState, Act, EmailAddress, NewUser, Role, User};

/// Issues a token that makes the first administrator, and voids every earlier one. Returns when it ends; `None` when
/// there is, or was, an administrator: then there is no such token any more.
///
/// # Errors
///
/// When the store fails.
pub fn issue<S>(
    store: &mut S,
    policy: &AccountPolicy,
    id: Uuid,
    token: &SecretToken,
    act: &Act,
) -> Result<Option<DateTime<Utc>>, StoreError>
where
    S: AuthStore + ?Sized,
{
    store.lock_setup()?;
    if store.is_set_up()? {
        return Ok(None);
    }
    let expires_at = act.at + policy.registration.setup_token;
    store.replace_setup_token(id, &token.digest(), act.at, expires_at)?;
    let entry =
        act.entry("setup.token", AuditOutcome::Success, None, None, json!({ "expires_at": expires_at }));
    store.append_audit(None, &entry)?;
    Ok(Some(expires_at))
}

/// What a setup token is good for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Standing {
    /// It can make the first administrator.
    Good,
    /// It has expired, was used or replaced, or never existed.
    Invalid,
    /// There is an administrator: setting up is over for ever.
    Over,
}

/// First step, before a password is hashed.
///
/// # Errors
///
/// When the store fails.
pub fn standing<S>(
    store: &mut S,
    digest: Option<&TokenDigest>,
    now: DateTime<Utc>,
) -> Result<Standing, StoreError>
where
    S: SetupStore + ?Sized,
{
    if store.is_set_up()? {
        return Ok(Standing::Over);
    }
    match digest {
        Some(digest) if store.setup_token_is_live(digest, now)? => Ok(Standing::Good),
        _ => Ok(Standing::Invalid),
    }
}

/// The first administrator, with the password hashed.
#[derive(Debug)]
pub struct FirstAdmin {
    /// Of the setup token.
    pub digest: TokenDigest,
    /// The address. Whoever reads the terminal vouches for it.
    pub email: EmailAddress,
    /// What others call the administrator.
    pub display_name: Option<String>,
    /// The hash of the password.
    pub password_hash: PasswordHash,
}

/// What came of it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum SetupOutcome {
    /// The first administrator.
    Made(User),
    /// See [`Standing::Invalid`].
    Invalid,
    /// See [`Standing::Over`].
    Over,
}

/// Second step, one transaction: uses the token up and makes the administrator.
///
/// # Errors
///
/// `Duplicate` when the address is taken: nothing is written, the token stays good. Others when the store fails.
pub fn first_admin<S>(store: &mut S, new: FirstAdmin, act: &Act) -> Result<SetupOutcome, StoreError>
where
    S: AuthStore + AccountStore + ?Sized,
{
    store.lock_setup()?;
    if store.is_set_up()? {
        return Ok(SetupOutcome::Over);
    }
    if !store.use_setup_token(&new.digest, act.at)? {
        return Ok(SetupOutcome::Invalid);
    }
    let FirstAdmin { email, display_name, password_hash, .. } = new;
    let id = store.insert_user(&NewUser {
        email: email.clone(),
        display_name: display_name.clone(),
        role: Role::Admin,
        password_hash,
        email_verified_at: Some(act.at),
        created_at: act.at,
    })?;
    let detail = json!({ "role": Role::Admin.as_str(), "by": "setup_token" });
    let entry = act.entry("user.create", AuditOutcome::Success, None, Some(id), detail);
    store.append_audit(Some(id), &entry)?;
    Ok(SetupOutcome::Made(User {
        id,
        email,
        display_name,
        role: Role::Admin,
        state: AccountState::Active,
        email_verified_at: Some(act.at),
    }))
}

#[cfg(test)]
mod tests;
